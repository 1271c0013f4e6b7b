//! Native tools: programs of this machine's over those of an image for another, which do the same and need no emulator.
//!
//! They lie in a layer directly on top of the image's own: packages that are built bring their own versions of programs, and
//! those count. What is the same in both must come of the same sources, or the output would not be the same.

use super::{Image, ImageError};
use crate::digest::Digest;

/// Where the native tools have an interpreter for the package manager, which is for no build to find.
pub const FOLDER: &str = "/usr/lib/bindery/native";

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
