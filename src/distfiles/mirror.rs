//! From what an ebuild and a user say to the addresses that are tried, in order. Pure.

use std::collections::BTreeMap;

use super::Restrict;

/// `profiles/thirdpartymirrors` of one or several trees: for each name the addresses that `mirror://NAME/` stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThirdParty(BTreeMap<String, Vec<String>>);

impl ThirdParty {
    /// Adds what a tree's file says: lines of a name and addresses, separated by white space. As with everything else of
    /// trees, what comes later replaces what an earlier tree says of the same name.
    pub fn add(&mut self, text: &str) {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace().map(String::from);
            if let Some(name) = words.next() {
                self.0.insert(name, words.collect());
            }
        }
    }
}

/// Returns the addresses that the URIs of an ebuild's `SRC_URI` stand for; what cannot be fetched, with the reason.
/// `mirror://NAME/PATH` becomes every third-party mirror's address. Under RESTRICT=fetch only URIs that are exempt from
/// it remain (`fetch+` and `mirror+`, EAPI 8, PMS 7.3.2).
pub fn addresses(uris: &[String], third_party: &ThirdParty, restrict: Restrict) -> Vec<Result<String, Failure>> {
    let mut all = Vec::new();
    for uri in uris {
        let exempt = uri.strip_prefix("fetch+").or_else(|| uri.strip_prefix("mirror+"));
        if restrict.fetch && exempt.is_none() {
            continue;
        }
        let plain = exempt.unwrap_or(uri);
        let failed = |why: &str| Err(Failure { uri: shown(uri), why: why.to_string() });
        match plain.split_once("://") {
            _ if plain.len() > 4000 || !plain.chars().all(|c| c.is_ascii_graphic()) => all.push(failed("not a URI")),
            Some(("http" | "https", _)) => all.push(Ok(plain.to_string())),
            Some(("mirror", rest)) => {
                let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
                match third_party.0.get(name).map(Vec::as_slice) {
                    None | Some([]) => all.push(failed("no tree's `profiles/thirdpartymirrors` knows this mirror")),
                    Some(bases) => all.extend(bases.iter().map(|base| {
                        // What stands for a mirror is no more trusted than a plain URI.
                        let http = base.starts_with("http://") || base.starts_with("https://");
                        let address = format!("{}/{path}", base.trim_end_matches('/'));
                        if http { Ok(address) } else { Err(Failure { uri: shown(&address), why: ONLY_HTTP.into() }) }
                    })),
                }
            }
            Some(_) => all.push(failed(ONLY_HTTP)),
            None => all.push(failed("a bare name: it must be put there by hand, or be on a mirror")),
        }
    }
    all
}

/// `file://` least of all: an ebuild has no business reading the host's files.
const ONLY_HTTP: &str = "only http and https are fetched";

/// An address that did not do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The address.
    pub uri: String,
    /// What was wrong with it.
    pub why: String,
}

/// Returns an address as it can be shown: short, without control characters.
fn shown(uri: &str) -> String {
    uri.chars().take(300).flat_map(char::escape_debug).collect()
}

/// Returns a text with everything but letters, digits and `-._~+/` percent-encoded (RFC 3986), for the path of a URL.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn third_party() -> ThirdParty {
        let mut all = ThirdParty::default();
        all.add("# comment\ngnu\thttps://ftp.gnu.org/gnu/ http://mirror.example/gnu # more\nnone\nlocal file:///etc\n");
        all
    }

    fn expand(uri: &str, restrict: Restrict) -> Vec<String> {
        let all = addresses(&[uri.to_string()], &third_party(), restrict);
        all.into_iter().map(|a| a.unwrap_or_else(|f| format!("{}: {}", f.uri, f.why))).collect()
    }

    #[test]
    fn mirrors_stand_for_addresses() {
        let open = Restrict::default();
        assert_eq!(
            expand("mirror://gnu/hello/hello-2.10.tar.gz", open),
            ["https://ftp.gnu.org/gnu/hello/hello-2.10.tar.gz", "http://mirror.example/gnu/hello/hello-2.10.tar.gz"]
        );
        assert_eq!(expand("https://a.example/x?y=z", open), ["https://a.example/x?y=z"]);
        assert!(expand("mirror://kde/x", open)[0].ends_with("knows this mirror"));
        assert!(expand("mirror://none/x", open)[0].ends_with("knows this mirror"));
        assert_eq!(expand("mirror+https://a.example/x", open), ["https://a.example/x"]);
    }

    #[test]
    fn what_is_no_web_address_is_not_fetched() {
        let open = Restrict::default();
        for uri in ["file:///etc/shadow", "ftp://a.example/x", "mirror://local/passwd", "gopher://x"] {
            assert!(expand(uri, open)[0].ends_with(ONLY_HTTP), "{uri}");
        }
        assert!(expand("x.tar.gz", open)[0].contains("by hand"));
        assert_eq!(expand("https://a/\u{1b}[2J", open), ["https://a/\\u{1b}[2J: not a URI"]);
    }

    #[test]
    fn under_restrict_fetch_only_exempt_addresses_remain() {
        let restrict = Restrict { fetch: true, mirror: true };
        assert!(expand("https://a.example/x", restrict).is_empty());
        assert_eq!(expand("fetch+https://a.example/x", restrict), ["https://a.example/x"]);
    }

    #[test]
    fn a_later_tree_replaces_what_an_earlier_one_says() {
        let mut all = third_party();
        all.add("gnu https://other.example");
        assert_eq!(
            addresses(&["mirror://gnu/x".into()], &all, Restrict::default()),
            [Ok("https://other.example/x".into())]
        );
    }

    #[test]
    fn names_are_encoded_for_urls() {
        assert_eq!(encoded("a+b~1 %#?ä"), "a+b~1%20%25%23%3F%C3%A4");
    }
}
