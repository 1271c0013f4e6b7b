//! Where a package lies below a pool, a generation and a client's cache: `CATEGORY/PACKAGE/PF-BUILD_ID.gpkg.tar`, the
//! layout of Portage's `FEATURES=binpkg-multi-instance`.

use std::fmt;
use std::str::FromStr;

use crate::atom::{BuildId, Cpv};

const SUFFIX: &str = ".gpkg.tar";

/// The relative path of a package file; parsed strictly, so that it can never lead out of the folder it is joined to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PackagePath {
    /// The package.
    pub cpv: Cpv,
    /// Which build of it.
    pub build_id: BuildId,
}

impl PackagePath {
    /// Returns the path of one build.
    pub fn new(cpv: &Cpv, build_id: BuildId) -> Self {
        Self { cpv: cpv.clone(), build_id }
    }

    /// Returns the folder, `CATEGORY/PACKAGE`.
    pub fn folder(&self) -> String {
        self.cpv.cp()
    }

    /// Returns the path of the record that lies beside the package in a pool.
    pub fn record(&self) -> String {
        format!("{}/{}.json", self.folder(), self.stem())
    }

    /// Returns the build whose record lies at a path relative to a pool.
    pub fn of_record(text: &str) -> Result<Self, PathTextError> {
        Self::split(text, ".json")
    }

    fn stem(&self) -> String {
        format!("{}-{}", self.cpv.pf(), self.build_id)
    }

    fn split(text: &str, suffix: &str) -> Result<Self, PathTextError> {
        let parse = || {
            let (folder, file) = text.rsplit_once('/')?;
            let (pf, build_id) = file.strip_suffix(suffix)?.rsplit_once('-')?;
            let (category, _) = folder.split_once('/')?;
            let cpv = format!("{category}/{pf}").parse::<Cpv>().ok()?;
            Some(Self { cpv, build_id: BuildId(build_id.parse().ok()?) })
        };
        // Written again and compared: `+1`, `01` and every other way to say the same are refused.
        parse()
            .filter(|path| path.build_id.0 > 0 && text == format!("{}/{}{suffix}", path.folder(), path.stem()))
            .ok_or_else(|| PathTextError(text.chars().take(200).flat_map(char::escape_debug).collect()))
    }
}

impl fmt::Display for PackagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{SUFFIX}", self.folder(), self.stem())
    }
}

impl FromStr for PackagePath {
    type Err = PathTextError;
    fn from_str(text: &str) -> Result<Self, PathTextError> {
        Self::split(text, SUFFIX)
    }
}

impl TryFrom<String> for PackagePath {
    type Error = PathTextError;
    fn try_from(text: String) -> Result<Self, PathTextError> {
        text.parse()
    }
}

impl From<PackagePath> for String {
    fn from(path: PackagePath) -> Self {
        path.to_string()
    }
}

/// Some text is not the path of a package.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the path of a package (as `app-misc/hello/hello-2.10-1.gpkg.tar`)")]
pub struct PathTextError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_package_and_build() {
        let text = "x11-libs/gtk+/gtk+-3.24.1-r2-17.gpkg.tar";
        let path: PackagePath = text.parse().unwrap();
        assert_eq!(path.cpv.to_string(), "x11-libs/gtk+-3.24.1-r2");
        assert_eq!(path.build_id, BuildId(17));
        assert_eq!(path.to_string(), text);
        assert_eq!(PackagePath::of_record(&path.record()).unwrap(), path);
    }

    #[test]
    fn a_path_cannot_lead_elsewhere_and_has_one_spelling() {
        for text in [
            "../../../../srv/pwn.gpkg.tar",
            "/app-misc/hello/hello-2.10-1.gpkg.tar",
            "app-misc/hello/../hello/hello-2.10-1.gpkg.tar",
            "app-misc/world/hello-2.10-1.gpkg.tar",
            "app-misc//hello/hello-2.10-1.gpkg.tar",
            "app-misc/hello/hello-2.10-01.gpkg.tar",
            "app-misc/hello/hello-2.10-+1.gpkg.tar",
            "app-misc/hello/hello-2.10-0.gpkg.tar",
            "app-misc/hello/hello-2.10-99999999999.gpkg.tar",
            "app-misc/hello/hello-2.10.gpkg.tar",
            "app-misc/hello/hello-2.10-1.xpak",
            "app-misc/hello/hello-2.10-1.gpkg.tar\n",
            "hello-2.10-1.gpkg.tar",
            "",
        ] {
            assert!(text.parse::<PackagePath>().is_err(), "{text}");
        }
    }
}
