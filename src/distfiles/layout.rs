//! Where a mirror keeps an archive: `layout.conf` (GLEP 75).
//!
//! ```text
//! [structure]
//! 0=filename-hash BLAKE2B 8
//! 1=flat
//! ```

use blake2::{Blake2b512, Digest as _};
use sha2::Sha512;

use crate::digest::hex;

/// The longest `layout.conf` that is read, in bytes.
pub(super) const LONGEST: u64 = 64 * 1024;

/// How a mirror turns a name into a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Layout {
    /// The name itself.
    Flat,
    /// Folders named by the first digits of the name's digest.
    FilenameHash { digest: Algorithm, digits: Vec<usize> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Blake2b,
    Sha512,
}

impl Layout {
    /// Returns the first layout of a `layout.conf` that is understood. A mirror without one that is, or without the file,
    /// is flat, as all were before there was a choice.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).skip_while(|line| *line != "[structure]").skip(1);
        let mut structures: Vec<(u32, &str)> = lines
            .take_while(|line| !line.starts_with('['))
            .filter_map(|line| line.split_once('='))
            .filter_map(|(number, what)| Some((number.trim().parse().ok()?, what.trim())))
            .collect();
        structures.sort_by_key(|(number, _)| *number);
        structures.iter().find_map(|(_, what)| Self::structure(what)).unwrap_or(Self::Flat)
    }

    fn structure(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["flat"] => Some(Self::Flat),
            ["filename-hash", digest, cutoffs] => {
                let digest = match *digest {
                    "BLAKE2B" => Algorithm::Blake2b,
                    "SHA512" => Algorithm::Sha512,
                    _ => return None,
                };
                // Bits, four to a digit; a digest has 128 digits.
                let digits: Option<Vec<usize>> = cutoffs
                    .split(':')
                    .map(|bits| {
                        bits.parse::<usize>()
                            .ok()
                            .filter(|bits| bits % 4 == 0 && (4..=64).contains(bits))
                            .map(|bits| bits / 4)
                    })
                    .collect();
                digits.filter(|digits| digits.len() <= 8).map(|digits| Self::FilenameHash { digest, digits })
            }
            _ => None,
        }
    }

    /// Returns the path of an archive below the mirror's folder.
    pub(super) fn path(&self, name: &str) -> String {
        let Self::FilenameHash { digest, digits } = self else { return name.to_string() };
        let digest = match digest {
            Algorithm::Blake2b => hex(&Blake2b512::digest(name)),
            Algorithm::Sha512 => hex(&Sha512::digest(name)),
        };
        let (mut path, mut rest) = (String::new(), digest.as_str());
        for count in digits {
            let (folder, after) = rest.split_at_checked(*count).unwrap_or((rest, ""));
            path.push_str(folder);
            path.push('/');
            rest = after;
        }
        path + name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_gentoos_mirrors() {
        let layout = Layout::parse("[structure]\n0=filename-hash BLAKE2B 8\n");
        // The first example of GLEP 75's own mirrors: `b2sum` of the name begins with these digits.
        let digest = hex(&Blake2b512::digest("hello-2.10.tar.gz"));
        assert_eq!(layout.path("hello-2.10.tar.gz"), format!("{}/hello-2.10.tar.gz", &digest[..2]));
        let deep = Layout::parse("[structure]\n1=flat\n0=filename-hash SHA512 8:4\n");
        let digest = hex(&Sha512::digest("x"));
        assert_eq!(deep.path("x"), format!("{}/{}/x", &digest[..2], &digest[2..3]));
    }

    #[test]
    fn what_is_not_understood_is_passed_over() {
        for text in [
            "",
            "<html>404</html>",
            "[structure]\n0=flat\n",
            "[structure]\n0=content-hash SHA512 8\n1=flat\n",
            "[structure]\n0=filename-hash BLAKE2B 7\n",
            "[structure]\n0=filename-hash BLAKE2B 8:8:8:8:8:8:8:8:8\n",
            "[structure]\n0=filename-hash BLAKE2B 99999999999999999999\n",
            "0=filename-hash BLAKE2B 8\n",
            "[structure]\n[other]\n0=filename-hash BLAKE2B 8\n",
        ] {
            assert_eq!(Layout::parse(text), Layout::Flat, "{text}");
        }
    }
}
