//! INSTALL_MASK, as Portage reads it (portage/util/install_mask.py, 3.0.83).
//!
//! Patterns in the order given; the last that matches decides, and one that begins with `-` keeps what it matches. With a
//! slash at the beginning a pattern is a path, or a folder above it; else it is a file's name. `*` matches slashes, too.

/// The patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mask {
    text: String,
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    masks: bool,
    text: String,
}

impl Mask {
    /// Reads patterns that are separated by white space.
    pub(super) fn new(text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let pattern = |word: &&str| match word.strip_prefix('-') {
            Some(rest) => Pattern { masks: false, text: rest.to_string() },
            None => Pattern { masks: true, text: word.to_string() },
        };
        Self { text: words.join(" "), patterns: words.iter().map(pattern).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Returns the patterns with one space between.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether a path, without a slash at its beginning, is left out; a folder's ends with a slash.
    pub(super) fn matches(&self, path: &str) -> bool {
        self.patterns.iter().rev().find(|pattern| pattern.matches(path)).is_some_and(|pattern| pattern.masks)
    }
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        let Some(anchored) = self.text.strip_prefix('/') else {
            return glob(&self.text, path.rsplit('/').next().unwrap_or_default());
        };
        // Portage looks patterns up by their first components, up to one with an asterisk: these are no patterns.
        let mut components = path.split('/').filter(|c| !c.is_empty());
        let plain = anchored.split('/').filter(|c| !c.is_empty()).take_while(|c| !c.contains('*'));
        if !plain.into_iter().all(|component| components.next() == Some(component)) {
            return false;
        }
        let bare = anchored.trim_end_matches('/');
        let whole = if path.ends_with('/') { format!("{bare}/") } else { anchored.to_string() };
        glob(&whole, path) || glob(&format!("{bare}/*"), path)
    }
}

/// Matches as Python's `fnmatch`: `*`, `?`, `[…]` and `[!…]`, slashes being like any other character.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last asterisk does not match.
    let mut back = None;
    loop {
        let step = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some('*'), _) => {
                back = Some((p + 1, t));
                p += 1;
                continue;
            }
            (Some(_), Some(c)) => one(&pattern, p, *c),
            _ => None,
        };
        match (step, back) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((after, from))) if from < text.len() => {
                back = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Matches one character; returns where the pattern goes on.
fn one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => {
            let negated = pattern.get(at + 1) == Some(&'!');
            let start = at + 1 + usize::from(negated);
            // A bracket that comes first is one of the characters.
            let end = pattern.iter().skip(start + 1).position(|c| *c == ']').map(|n| start + 1 + n);
            let Some(end) = end else { return (c == '[').then_some(at + 1) };
            let mut set = pattern.get(start..end)?;
            let mut found = false;
            while let Some((first, rest)) = set.split_first() {
                match rest {
                    ['-', last, after @ ..] => {
                        found |= (*first..=*last).contains(&c);
                        set = after;
                    }
                    _ => {
                        found |= *first == c;
                        set = rest;
                    }
                }
            }
            (found != negated).then_some(end + 1)
        }
        plain => (*plain == c).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_pythons_fnmatch() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*.la", "libx.la", true),
            ("*.la", "libx.la.gz", false),
            ("a*b*c", "a/x/b/y/c", true),
            ("a*b*c", "a/x/b/y", false),
            ("a?c", "a/c", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]x]", "]", true),
            ("[x", "[x", true),
            ("[a-]", "-", true),
            ("", "", true),
            ("", "a", false),
            ("**a", "bba", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn masks_match_as_portages() {
        for (mask, path, expected) in [
            ("/usr/share/doc", "usr/share/doc/x/y", true),
            ("/usr/share/doc", "usr/share/doc/", true),
            ("/usr/share/doc", "usr/share/docs", false),
            ("/usr/share/doc/", "usr/share/doc/x", true),
            ("*.la", "usr/lib64/libx.la", true),
            ("doc", "usr/share/doc/", false),
            ("/usr/*/doc", "usr/share/doc/x", true),
            // No pattern in a component without an asterisk.
            ("/usr/sha?e/doc", "usr/share/doc/x", false),
            ("/usr/share/doc -/usr/share/doc/keep", "usr/share/doc/keep/x", false),
            ("-*.h /usr/include", "usr/include/x.h", true),
            ("/usr/include -*.h", "usr/include/x.h", false),
            ("", "usr", false),
        ] {
            assert_eq!(Mask::new(mask).matches(path), expected, "{mask} {path}");
        }
    }
}
