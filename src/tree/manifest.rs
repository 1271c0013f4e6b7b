//! Manifests: what an ebuild's source archives must be (GLEP 74, as far as thin Manifests go).
//!
//! ```text
//! DIST hello-2.10.tar.gz 725946 BLAKE2B 0af5… SHA512 e301…
//! ```

use crate::atom::text_type;

text_type! {
    /// The name of a source archive: one component of a path, printable, not hidden, at most 255 bytes.
    FileName, "the name of a source archive (printable, without `/`, not starting with `.` or `-`)", |text| {
        !text.is_empty()
            && text.len() <= 255
            && !text.starts_with(['.', '-'])
            && text.chars().all(|c| !c.is_control() && !c.is_whitespace() && !"/\\\"'`$".contains(c))
    }
}

/// What one source archive must be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Dist {
    /// Its name among the distfiles.
    pub name: FileName,
    /// Its length in bytes.
    pub size: u64,
    /// 128 hexadecimal digits, lower case.
    pub blake2b: String,
    /// 128 hexadecimal digits, lower case.
    pub sha512: String,
}

/// What a package manager inside a sandbox says of an archive: whatever it likes.
#[derive(serde::Deserialize)]
struct Unchecked {
    name: String,
    size: u64,
    blake2b: String,
    sha512: String,
}

impl TryFrom<Unchecked> for Dist {
    type Error = String;
    fn try_from(text: Unchecked) -> Result<Self, String> {
        Self::new(&text.name, text.size, &text.blake2b, &text.sha512)
    }
}

/// Words that begin lines about other things than source archives.
const OTHER: &[&str] = &["AUX", "DATA", "EBUILD", "IGNORE", "MANIFEST", "MISC", "OPTIONAL", "TIMESTAMP"];

impl Dist {
    /// Checks and puts together what a Manifest or a package manager says of an archive.
    pub fn new(name: &str, size: u64, blake2b: &str, sha512: &str) -> Result<Self, String> {
        let name: FileName = name.parse().map_err(|e: crate::atom::NameError| e.to_string())?;
        let digest = |what: &str, text: &str| {
            let good = text.len() == 128 && text.bytes().all(|b| b.is_ascii_hexdigit());
            if good {
                Ok(text.to_ascii_lowercase())
            } else {
                Err(format!("the {what} of `{name}` is not 128 hexadecimal digits"))
            }
        };
        Ok(Self { blake2b: digest("BLAKE2B", blake2b)?, sha512: digest("SHA512", sha512)?, name, size })
    }
}

/// Returns the source archives that a Manifest's text lists. Each must have both BLAKE2B and SHA512; other digests are
/// passed over.
pub fn parse(text: &str) -> Result<Vec<Dist>, ManifestError> {
    let mut all: Vec<Dist> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let error = |what: String| ManifestError { line: number, what };
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            None => continue,
            Some("DIST") => {}
            Some(word) if OTHER.contains(&word) => continue,
            Some(_) => return Err(error("it begins with none of the words of a Manifest".into())),
        }
        let (Some(name), Some(size)) = (words.next(), words.next()) else {
            return Err(error("expected `DIST NAME SIZE` and digests".into()));
        };
        // Digits only: a sign would parse, too.
        let size =
            Some(size).filter(|size| size.bytes().all(|b| b.is_ascii_digit())).and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| error("the size is not a number of bytes".into()))?;
        let (mut blake2b, mut sha512) = (None, None);
        while let Some(kind) = words.next() {
            let digest = words.next().ok_or_else(|| error("a digest is missing at the end".into()))?;
            let slot = match kind {
                "BLAKE2B" => &mut blake2b,
                "SHA512" => &mut sha512,
                _ => continue,
            };
            if slot.replace(digest).is_some() {
                return Err(error("a digest is given twice".into()));
            }
        }
        let (Some(blake2b), Some(sha512)) = (blake2b, sha512) else {
            return Err(error("expected both BLAKE2B and SHA512".into()));
        };
        let dist = Dist::new(name, size, blake2b, sha512).map_err(error)?;
        if all.iter().any(|other| other.name == dist.name) {
            return Err(error(format!("`{}` is listed twice", dist.name)));
        }
        all.push(dist);
    }
    Ok(all)
}

/// A line of a Manifest is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the Manifest: {what}")]
pub struct ManifestError {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, size: &str) -> String {
        format!("DIST {name} {size} BLAKE2B {} SHA512 {}", "a".repeat(128), "B".repeat(128))
    }

    #[test]
    fn source_archives_are_read_and_other_lines_passed_over() {
        let text =
            format!("AUX x.patch 1 BLAKE2B zz\n{}\n\n{} WHIRLPOOL zz\n", line("a-1.tar.gz", "0"), line("b", "12"));
        let all = parse(&text).unwrap();
        assert_eq!(
            all.iter().map(|dist| (dist.name.as_str(), dist.size)).collect::<Vec<_>>(),
            [("a-1.tar.gz", 0), ("b", 12)]
        );
        assert_eq!(all[0].sha512, "b".repeat(128));
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn malformed_lines_are_named() {
        let short = format!("DIST a 1 BLAKE2B {} SHA512 {}", "a".repeat(127), "b".repeat(128));
        for (text, what) in [
            ("-----BEGIN PGP SIGNED MESSAGE-----", "begins with none of the words"),
            ("DIST", "expected `DIST NAME SIZE`"),
            ("DIST a", "expected `DIST NAME SIZE`"),
            ("DIST a 1", "expected both BLAKE2B and SHA512"),
            ("DIST a 1 SHA512", "a digest is missing"),
            (&format!("DIST a 1 SHA512 {}", "b".repeat(128)), "expected both"),
            (&short, "the BLAKE2B of `a` is not 128 hexadecimal digits"),
            (&format!("{} SHA512 {}", line("a", "1"), "b".repeat(128)), "given twice"),
            (&line("a", "-1"), "not a number of bytes"),
            (&line("a", "+1"), "not a number of bytes"),
            (&line("a", "99999999999999999999"), "not a number of bytes"),
            (&line("../a", "1"), "is not the name of a source archive"),
            (&line("/etc/passwd", "1"), "is not the name of a source archive"),
            (&line("a\u{1b}[2J", "1"), "is not the name of a source archive"),
            (&format!("{}\n{}", line("a", "1"), line("a", "1")), "line 2 of the Manifest: `a` is listed twice"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn names_of_archives_are_one_plain_component() {
        for text in ["", ".", "..", ".part", "-rf", "a/b", "a b", "a\n", "a\0", "$(id)", "a\\b", &"x".repeat(256)] {
            assert!(text.parse::<FileName>().is_err(), "{text:?}");
        }
        assert!("procServ-2.8.0+x~1%20,ä.tar.gz".parse::<FileName>().is_ok());
    }
}
