//! What a client needs to install from a profile: a folder to be copied to it, with one script to be run there.
//!
//! ```text
//! binrepos.conf    the section for /etc/portage/binrepos.conf/NAME.conf
//! key.asc          the public key that packages are signed with
//! setup            puts both in place; POSIX shell, run as root, as often as one likes
//! README           what it does, how to do it by hand, and the lines for make.conf
//! ```
//!
//! There is a script because trust cannot be shipped as a file that fits every client: Portage (3.0.83, gpkg.py) lets
//! gpg verify as nobody:nogroup with `--no-auto-check-trustdb` in the one keyring `/etc/portage/gnupg` and wants
//! `TRUST_ULTIMATE` or `TRUST_FULLY`, so a trust database must be there, be worked out, and be readable; and on Gentoo
//! the same keyring is getuto's, which must have made it before anything else is put into it.

use std::path::Path;

use crate::atom::Name;
use crate::fs::{self, PathError};
use crate::package::certificate::Certificate;

/// A client's view of one binary host.
#[derive(Debug, Clone)]
pub struct Subscription<'a> {
    /// The profile, shown to people.
    pub profile: &'a Name,
    /// What the client calls the binary host.
    pub name: &'a Name,
    /// Where the index lies: `http://HOST[:PORT]/PROFILE` from our server, or `file:///…/profiles/PROFILE/current`.
    pub uri: &'a str,
    /// The key that its packages are signed with.
    pub certificate: &'a Certificate,
    /// `ARCH` of the packages.
    pub arch: &'a str,
    /// `CHOST` of the packages.
    pub chost: &'a str,
    /// The keywords a client has to accept.
    pub accept_keywords: &'a str,
    /// Among several binary hosts that have a package the one with the highest wins.
    pub priority: i32,
}

/// One file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// Its permission bits.
    pub mode: u32,
    /// Its content.
    pub text: String,
}

/// Returns the files of the folder.
pub fn config(subscription: &Subscription<'_>) -> Result<Vec<File>, ClientError> {
    let s = subscription;
    // configparser's own section, whose values would hold for every other one.
    if s.name.as_str() == "DEFAULT" {
        return Err(ClientError::Name);
    }
    let uri = s.uri.trim_end_matches('/');
    let known =
        ["http://", "https://", "file:///"].iter().any(|scheme| uri.len() > scheme.len() && uri.starts_with(scheme));
    // What RFC 3986 allows, and of that nothing a shell or a configuration file would read its own way.
    if !known || !uri.chars().all(|c| c.is_ascii_alphanumeric() || "-._~:/[]@+,=%".contains(c)) {
        return Err(ClientError::Uri(shown(s.uri)));
    }
    let fingerprint = s.certificate.fingerprint();
    for text in [s.arch, s.chost, s.accept_keywords] {
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || " -_.*~".contains(c)) {
            return Err(ClientError::Word(shown(text)));
        }
    }
    let fill = |template: &str, uri: &str| {
        [
            ("@NAME@", s.name.as_str()),
            ("@PROFILE@", s.profile.as_str()),
            ("@FINGERPRINT@", &fingerprint),
            ("@ARCH@", s.arch),
            ("@CHOST@", s.chost),
            ("@KEYWORDS@", s.accept_keywords),
            ("@PRIORITY@", &s.priority.to_string()),
            // Last: it is the only one that may hold an `@`.
            ("@URI@", uri),
        ]
        .iter()
        .fold(template.to_string(), |text, (mark, value)| text.replace(mark, value))
    };
    Ok(vec![
        // Portage reads this with Python's configparser, where a percent sign begins a reference.
        File {
            name: "binrepos.conf",
            mode: 0o644,
            text: fill(include_str!("client/binrepos.conf"), &uri.replace('%', "%%")),
        },
        File { name: "key.asc", mode: 0o644, text: s.certificate.armored() },
        File { name: "setup", mode: 0o755, text: fill(include_str!("client/setup.sh"), uri) },
        File { name: "README", mode: 0o644, text: fill(include_str!("client/readme.txt"), uri) },
    ])
}

/// Writes the folder, over an earlier one if there is one.
pub fn write(folder: &Path, files: &[File]) -> Result<(), PathError> {
    fs::create_dir_all(folder)?;
    for file in files {
        fs::write_atomic(&folder.join(file.name), &file.text, file.mode)?;
    }
    Ok(())
}

fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

/// What a client needs cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The name means something else to Portage.
    #[error(
        "a binary host cannot be called `DEFAULT`: Portage would take it for the defaults of all; use another name"
    )]
    Name,
    /// The address is not one that a client can use.
    #[error("`{0}` is not where a client finds packages (as `http://host:8080/amd64`, `https://…` or `file:///…`)")]
    Uri(String),
    /// A setting has odd characters.
    #[error("`{0}` is not an ARCH, a CHOST or a list of keywords")]
    Word(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::key::SecretKey;

    fn certificate() -> Certificate {
        SecretKey::generate("Test", std::time::UNIX_EPOCH, None).unwrap().certificate()
    }

    fn with(name: &str, change: impl FnOnce(&mut Subscription<'_>)) -> Result<Vec<File>, ClientError> {
        let mut subscription = Subscription {
            profile: &"amd64".parse().unwrap(),
            name: &name.parse().unwrap(),
            uri: "http://127.0.0.1:8080/amd64/",
            certificate: &certificate(),
            arch: "amd64",
            chost: "x86_64-pc-linux-gnu",
            accept_keywords: "amd64 ~amd64",
            priority: 10,
        };
        change(&mut subscription);
        config(&subscription)
    }

    fn text(files: &[File], name: &str) -> String {
        files.iter().find(|file| file.name == name).unwrap().text.clone()
    }

    #[test]
    fn the_section_says_where_and_that_signatures_are_required() {
        let files = with("bindery-amd64", |_| ()).unwrap();
        let conf = text(&files, "binrepos.conf");
        let section = conf.split_once("\n\n").unwrap().1;
        insta::assert_snapshot!(section, @r"
        [bindery-amd64]
        priority = 10
        sync-uri = http://127.0.0.1:8080/amd64
        verify-signature = true
        location = /var/cache/binhost/bindery-amd64
        ");
        let fingerprint = Certificate::parse(&text(&files, "key.asc")).unwrap().fingerprint();
        assert!(text(&files, "setup").contains(&format!("\nfingerprint={fingerprint}\n")));
    }

    #[test]
    fn no_mark_is_left_in_any_file() {
        for file in with("bindery-amd64", |_| ()).unwrap() {
            for line in file.text.lines() {
                let mark = line.split('@').nth(1).is_some_and(|word| word.chars().all(|c| c.is_ascii_uppercase()));
                assert!(!mark || line.contains("$@"), "{}: {line}", file.name);
            }
        }
    }

    #[test]
    fn a_percent_sign_is_doubled_where_it_would_be_a_reference() {
        let files = with("x", |s| s.uri = "file:///srv/a%20b").unwrap();
        assert!(text(&files, "binrepos.conf").contains("sync-uri = file:///srv/a%%20b\n"));
        assert!(text(&files, "setup").contains("subscribed to file:///srv/a%20b;"));
    }

    #[test]
    fn odd_input_is_refused() {
        for uri in [
            "",
            "ftp://x/y",
            "http://",
            "file:///",
            "file://x",
            "http://x/\nfetchcommand = evil",
            "http://x/a b",
            "http://x/$(id)",
            "http://x/`id`",
        ] {
            assert!(matches!(with("x", |s| s.uri = uri), Err(ClientError::Uri(_))), "{uri}");
        }
        assert!(matches!(with("x", |s| s.chost = "x\ny"), Err(ClientError::Word(_))));
        assert!(matches!(with("x", |s| s.accept_keywords = "`id`"), Err(ClientError::Word(_))));
        assert!(matches!(with("DEFAULT", |_| ()), Err(ClientError::Name)));
    }

    #[test]
    fn the_folder_is_written_with_a_script_that_runs() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let files = with("bindery-amd64", |_| ()).unwrap();
        write(&folder, &files).unwrap();
        write(&folder, &files).unwrap();
        assert_eq!(fs::metadata(&folder.join("setup")).unwrap().permissions().mode() & 0o7777, 0o755);
        let script = folder.join("setup");
        crate::process::run(crate::process::command("sh").arg("-n").arg(&script)).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().len(), 4);
    }
}
