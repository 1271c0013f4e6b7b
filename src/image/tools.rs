//! Native tools: programs of this machine's over those of an image for another, which do the same and need no emulator.
//!
//! They lie in a layer directly on top of the image's own: packages that are built bring their own versions of programs, and
//! those count. What is the same in both must come of the same sources, or the output would not be the same.

use super::{Deb, Image, ImageError};
use crate::digest::Digest;

/// Where the native tools have an interpreter for the package manager, which is for no build to find.
pub const FOLDER: &str = "/usr/lib/bindery/native";

/// How many packages that differ are named.
const SHOWN: usize = 6;

impl Image {
    /// Returns the image with native tools on top.
    pub fn with_tools(self, tools: &Image) -> Result<Self, ImageError> {
        let differing: Vec<String> = tools
            .origin
            .debs
            .iter()
            .filter_map(|tool| {
                let own = self.origin.debs.iter().find(|deb| deb.name == tool.name)?;
                let same = source(own.version.as_str()) == source(tool.version.as_str());
                (!same).then(|| format!("`{}` {} and {}", own.name, own.version, tool.version))
            })
            .collect();
        if !differing.is_empty() {
            let (image, tools) = (self.name, tools.name.clone());
            return Err(ImageError::OtherTools { image, tools, differing: differing.join(", ") });
        }
        let ground = Digest::of(format!("{} {}", self.digest, tools.digest));
        let layers = tools.layers.iter().chain(&self.layers).cloned().collect();
        Ok(Self { ground, layers, plain: Some(Box::new(self.clone())), ..self })
    }
}

impl Image {
    /// Refuses to have run in this image what was built in another: each of the other's packages must be here, of the same
    /// version but for what Debian has mended since.
    pub fn runs_what_is_built_in(&self, other: &Image) -> Result<(), ImageError> {
        if self.digest == other.digest {
            return Ok(());
        }
        let differs = |theirs: &Deb| {
            let own = self.origin.debs.iter().find(|deb| deb.name == theirs.name);
            match own.map(|own| own.version.as_str()) {
                Some(own) if upstream(own) == upstream(theirs.version.as_str()) => None,
                own => Some(format!("`{}` {} and {}", theirs.name, own.unwrap_or("(none)"), theirs.version)),
            }
        };
        let differing: Vec<String> = other.origin.debs.iter().filter_map(differs).collect();
        if differing.is_empty() {
            return Ok(());
        }
        let (image, other, more) = (self.name.clone(), other.name.clone(), differing.len().saturating_sub(SHOWN));
        let shown = differing.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let differing = if more == 0 { shown } else { format!("{shown} and {more} more") };
        Err(ImageError::OtherGround { image, other, differing })
    }
}

/// Returns a version without Debian's revision (Debian policy 5.6.12).
fn upstream(version: &str) -> &str {
    version.rsplit_once('-').map_or(version, |(upstream, _)| upstream)
}

/// Returns the version of the source package: a rebuild of a binary one adds `+bN` (Debian policy 5.6.12), and a cross compiler
/// is built of the compiler's source as `crossN`.
fn source(version: &str) -> &str {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let strip = |version: &'_ str, mark: &str| {
        version.rfind(mark).filter(|at| number(&version[at + mark.len()..])).unwrap_or(version.len())
    };
    let version = &version[..strip(version, "+b")];
    &version[..strip(version, "cross")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, debs: &[(&str, &str)]) -> Image {
        let debs: Vec<_> = debs
            .iter()
            .map(|(name, version)| {
                serde_json::json!({"name": name, "version": version, "architecture": "arm64", "sha256": Digest::of(name)})
            })
            .collect();
        let origin = serde_json::json!({"definition": Digest::of("d"), "debs": debs, "wheels": []});
        Image {
            name: name.parse().unwrap(),
            digest: Digest::of(name),
            ground: Digest::of(name),
            plain: None,
            layers: vec![format!("l/{name}").into()],
            env: Vec::new(),
            origin: serde_json::from_value(origin).unwrap(),
            emulator: None,
        }
    }

    #[test]
    fn tools_of_the_same_sources_lie_on_top() {
        let own = image("own", &[("gcc-14", "14.2.0-19"), ("grep", "3.11-4+b1"), ("python3", "3.13.5-1")]);
        let tools = image("tools", &[("gcc-14", "14.2.0-19cross1"), ("grep", "3.11-4"), ("libc6", "2.41-12")]);
        let both = own.clone().with_tools(&tools).unwrap();
        assert_eq!(both.layers, [std::path::Path::new("l/tools"), std::path::Path::new("l/own")]);
        assert!(both.ground != own.ground && both.digest == own.digest);
        assert_eq!(*both.plain.unwrap(), own);
    }

    #[test]
    fn tools_of_other_sources_are_refused_by_name() {
        let (own, tools) = (image("own", &[("sed", "4.9-2")]), image("tools", &[("sed", "4.9-2+deb13u1")]));
        let error = own.with_tools(&tools).unwrap_err().to_string();
        assert!(
            error.contains("`sed` 4.9-2 and 4.9-2+deb13u1") && error.contains("bindery image make tools"),
            "{error}"
        );
    }

    #[test]
    fn what_was_built_in_another_image_runs_where_all_of_that_is() {
        let side = image("side", &[("libc6", "2.41-12"), ("sed", "4.9-2")]);
        let own = |debs| image("own", debs);
        assert!(side.runs_what_is_built_in(&side).is_ok());
        let more = own(&[("libc6", "2.41-12+deb13u1"), ("sed", "4.9-2"), ("gcc-cross", "14")]);
        assert!(more.runs_what_is_built_in(&side).is_ok());
        let error = own(&[("libc6", "2.42-1")]).runs_what_is_built_in(&side).unwrap_err().to_string();
        assert!(error.contains("`libc6` 2.42-1 and 2.41-12, `sed` (none) and 4.9-2"), "{error}");
        assert!(error.contains("`bindery image make side` and `bindery image make own`"), "{error}");
    }

    #[test]
    fn a_rebuild_has_the_same_source() {
        for (version, wanted) in [
            ("1:5.46-5", "1:5.46-5"),
            ("5.2.37-2+b10", "5.2.37-2"),
            ("14.2.0-19cross1", "14.2.0-19"),
            ("1.35+dfsg-3.1", "1.35+dfsg-3.1"),
            ("4.9-2+deb13u1", "4.9-2+deb13u1"),
            ("1+b", "1+b"),
        ] {
            assert_eq!(source(version), wanted);
        }
    }
}
