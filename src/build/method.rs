//! How a profile's packages are built: by the image's own compiler, emulated or not, or by its cross compiler. Decided before anything is made.

use crate::atom::Name;
use crate::backend::{Cross, Resolution};
use crate::build::{BuildError, Host};
use crate::config;
use crate::image::{self, Definition};
use crate::profile::{Method, Profile};
use crate::sandbox;

/// Debian's names of architectures, Portage's, and what the CHOST of their profiles begins with; `*` stands for any more.
const ARCHITECTURES: [(&str, &str, &str); 16] = [
    ("alpha", "alpha", "alpha*"),
    ("amd64", "amd64", "x86_64"),
    ("arm64", "arm64", "aarch64"),
    ("armel", "arm", "arm*"),
    ("armhf", "arm", "arm*"),
    ("hppa", "hppa", "hppa*"),
    ("i386", "x86", "i*"),
    ("loong64", "loong", "loongarch64"),
    ("m68k", "m68k", "m68k"),
    ("mips64el", "mips", "mips64*"),
    ("powerpc", "ppc", "powerpc"),
    ("ppc64", "ppc64", "powerpc64"),
    ("ppc64el", "ppc64", "powerpc64le"),
    ("riscv64", "riscv", "riscv64"),
    ("s390x", "s390", "s390x"),
    ("sparc64", "sparc", "sparc64"),
];

/// Returns Portage's name of a Debian architecture, if it is known.
fn arch(debian: &str) -> Option<&'static str> {
    ARCHITECTURES.iter().find(|(known, ..)| *known == debian).map(|(_, arch, _)| *arch)
}

/// Returns whether what is for a Debian architecture is for a profile with this ARCH and CHOST.
fn is_for(debian: &str, profile_arch: &str, chost: &str) -> bool {
    let processor = chost.split('-').next().unwrap_or_default();
    ARCHITECTURES.iter().any(|(known, arch, begins)| {
        let same = match begins.strip_suffix('*') {
            Some(begins) => processor.starts_with(begins),
            None => processor == *begins,
        };
        *known == debian && *arch == profile_arch && same
    })
}

/// Returns how a profile's packages are cross built; nothing where they are built natively. What the profile and its image
/// do not agree on is refused.
pub(super) fn choose(
    host: &Host<'_>,
    profile: &Profile,
    definition: &Definition,
) -> Result<Option<(Cross, Profile)>, BuildError> {
    let is_for = |debian: &str| is_for(debian, profile.arch.as_str(), profile.chost.as_str());
    let native = is_for(definition.recipe.architecture.as_str());
    let cross = definition.recipe.cross.as_ref();
    let cross =
        cross.filter(|cross| cross.chost.as_str() == profile.chost.as_str() && is_for(cross.architecture.as_str()));
    let cross = match (profile.method, native, cross) {
        (Method::Auto | Method::Native, true, _) => return Ok(None),
        (Method::Emulated, true, _) if is_emulated(definition) => return Ok(None),
        (Method::Auto | Method::Cross, _, Some(cross)) => cross,
        (Method::Emulated, ..) => return Err(MethodError::Emulated { profile: profile.name.clone() }.into()),
        (Method::Auto | Method::Native | Method::Cross, ..) => return Err(elsewhere(host, profile, definition).into()),
    };
    let side = side(host, profile, definition)?;
    Ok(Some((Cross { cbuild: cross.cbuild.to_string(), sysroot: cross.sysroot.clone(), emulated: false }, side)))
}

/// Returns whether an image's programs are emulated on this machine.
pub(super) fn is_emulated(definition: &Definition) -> bool {
    sandbox::foreign(definition.recipe.architecture.as_str()).is_some()
}

/// Returns the profile whose packages run while those of `profile` are cross built.
fn side(host: &Host<'_>, profile: &Profile, definition: &Definition) -> Result<Profile, BuildError> {
    let own = || profile.name.clone();
    let arch = arch(definition.recipe.architecture.as_str()).unwrap_or("amd64").to_string();
    let Some(name) = profile.build_side.clone() else {
        return Err(MethodError::NoSide { profile: own(), arch }.into());
    };
    let side = Profile::load(host.config, &name).map_err(|error| MethodError::Side {
        profile: own(),
        side: name.clone(),
        source: Box::new(error),
    })?;
    if side.arch.as_str() != arch {
        return Err(MethodError::SideArch { profile: own(), side: name, has: side.arch.to_string(), arch }.into());
    }
    // What runs is put on top of the one and was made on top of the other.
    if ![Some(&definition.name), definition.inherits.as_ref()].contains(&Some(&side.image)) {
        let (image, has) = (definition.name.clone(), side.image);
        return Err(MethodError::SideImage { profile: own(), side: name, has, image: Box::new(image) }.into());
    }
    Ok(side)
}

/// Returns the refusal of a profile that is not for what its image builds, with the images that would do.
fn elsewhere(host: &Host<'_>, profile: &Profile, definition: &Definition) -> MethodError {
    let folders = host.config.search.folders_of(config::Kind::Image);
    let does = |name: &Name| {
        let found = Definition::find(name, &folders).ok();
        let cross = found.and_then(|definition| definition.recipe.cross);
        cross.is_some_and(|cross| cross.chost.as_str() == profile.chost.as_str())
    };
    // That one cannot be read is told to whoever names it.
    let images = Definition::names(&folders).unwrap_or_default().into_iter().filter(does).collect();
    let arch = definition.recipe.architecture.to_string();
    let own = if arch == "amd64" { arch } else { self::arch(&arch).map_or(arch.clone(), str::to_string) };
    let cross = definition.recipe.cross.as_ref().map(|cross: &image::Cross| cross.chost.to_string());
    MethodError::Elsewhere(Box::new(Elsewhere {
        profile: profile.name.clone(),
        method: profile.method,
        chost: profile.chost.to_string(),
        image: definition.name.clone(),
        builds: [Some(own), cross].into_iter().flatten().collect(),
        images,
    }))
}

/// Refuses packages that the profile wants built in another way than it is itself, and those that cannot be cross built.
pub(super) fn check(profile: &Profile, used: Method, resolution: &Resolution) -> Result<(), MethodError> {
    let cross = used == Method::Cross;
    for package in &resolution.packages {
        let cpv = package.cpv.to_string();
        let wanted = profile.method_of(&package.cpv.cp());
        let same = wanted == used || (used == Method::Emulated && wanted == Method::Native);
        if wanted != Method::Auto && !same && wanted != profile.method {
            return Err(MethodError::Package { cpv, wanted, used });
        }
        let old = package.eapi.as_str().parse::<u32>().is_ok_and(|eapi| eapi < 7);
        if cross && old && !package.depend.depend.as_str().is_empty() {
            return Err(MethodError::Eapi { cpv, eapi: package.eapi.to_string() });
        }
    }
    Ok(())
}

/// A profile and its image that do not agree.
#[derive(Debug)]
pub struct Elsewhere {
    profile: Name,
    method: Method,
    chost: String,
    image: Name,
    /// What the image builds for.
    builds: Vec<String>,
    /// Those that cross build for the profile.
    images: Vec<Name>,
}

/// Packages cannot be built in the way that is asked for.
#[derive(Debug, thiserror::Error)]
pub enum MethodError {
    /// The image does not build for the profile's CHOST.
    #[error(
        "profile `{}` is for `{}` (method `{}`), and its image `{}` builds for {}",
        .0.profile, .0.chost, .0.method, .0.image, .0.builds.join(" and ")
    )]
    Elsewhere(Box<Elsewhere>),
    /// Nobody can.
    #[error("profile `{profile}` has `method = \"emulated\"`, and its image is not one of another machine's for it")]
    Emulated {
        /// The profile.
        profile: Name,
    },
    /// A profile that is cross built lacks the other side.
    #[error("profile `{profile}` is cross built and does not say whose packages run meanwhile")]
    NoSide {
        /// The profile.
        profile: Name,
        /// The image's architecture.
        arch: String,
    },
    /// The other side is no profile.
    #[error("the build side `{side}` of profile `{profile}` cannot be used")]
    Side {
        /// The profile.
        profile: Name,
        /// The other one.
        side: Name,
        /// Why not.
        source: Box<crate::profile::ProfileError>,
    },
    /// The other side's packages do not run in the image.
    #[error("the build side `{side}` of profile `{profile}` is for {has}, and in the image runs what is for {arch}")]
    SideArch {
        /// The profile.
        profile: Name,
        /// The other one.
        side: Name,
        /// Its architecture.
        has: String,
        /// The image's.
        arch: String,
    },
    /// The other side's packages are made for another image.
    #[error(
        "the build side `{side}` of profile `{profile}` has the image `{has}`, which `{image}` does not inherit: its packages may not \
         run there"
    )]
    SideImage {
        /// The profile.
        profile: Name,
        /// The other one.
        side: Name,
        /// Its image.
        has: Name,
        /// The profile's.
        image: Box<Name>,
    },
    /// A bundle of emulated programs.
    #[error(
        "programs of the image `{image}` are emulated on this machine, and no other runtime has the emulator: no bundle is made"
    )]
    Bundle {
        /// The image.
        image: Name,
    },
    /// A single package is to be built in another way.
    #[error("`{cpv}` is to be built by the method `{wanted}`, and what it belongs to is built by `{used}`")]
    Package {
        /// The package.
        cpv: String,
        /// As the profile says.
        wanted: Method,
        /// As all others are.
        used: Method,
    },
    /// An ebuild that does not tell what runs from what is linked with.
    #[error("`{cpv}` has EAPI {eapi}, which does not tell what runs while it is built from what it is linked with")]
    Eapi {
        /// The package.
        cpv: String,
        /// Its EAPI.
        eapi: String,
    },
}

impl MethodError {
    /// Returns what to do about it.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Elsewhere(elsewhere) => {
                let named: Vec<String> = elsewhere.images.iter().map(|name| format!("`image = \"{name}\"`")).collect();
                let image = match named.as_slice() {
                    [] => format!(
                        "no image cross builds for `{}`: write one whose `[cross]` has that `chost` (docs/cross.md)",
                        elsewhere.chost
                    ),
                    names => format!("name an image that cross builds for it: {}", names.join(" or ")),
                };
                vec![image, "or correct the profile's `chost`, `arch` or `method`".to_string()]
            }
            Self::Emulated { .. } => {
                vec![
                    "name an image of the profile's architecture, with an `emulator` (docs/emulation.md)".into(),
                    "or `method = \"cross\"`, with an image that has a cross compiler (docs/cross.md)".into(),
                ]
            }
            Self::NoSide { arch, .. } | Self::SideArch { arch, .. } => {
                vec![format!("add `build-side = \"NAME\"` with a profile for {arch}, such as `amd64`")]
            }
            Self::SideImage { image, has, .. } => {
                vec![format!("write an image that has `inherits = \"{has}\"` and the `[cross]` of `{image}`")]
            }
            Self::Package { .. } => {
                vec!["remove its line of `[package] method`, or build it for a profile of its own".into()]
            }
            Self::Eapi { .. } => {
                vec!["cross building takes EAPI 7 or later: take a newer version, or port the ebuild".into()]
            }
            Self::Bundle { .. } => {
                vec!["`bindery build` without `--bundle-only` builds it; or make the bundle on such a machine".into()]
            }
            Self::Side { source, .. } => source.hints(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::resolution;

    #[test]
    fn every_architecture_is_one_of_portages() {
        assert!(ARCHITECTURES.iter().all(|(_, arch, _)| arch.parse::<crate::profile::Arch>().is_ok()));
        assert_eq!((arch("ppc64el"), arch("sparc64"), arch("x")), (Some("ppc64"), Some("sparc"), None));
    }

    #[test]
    fn arch_and_chost_must_both_be_the_images() {
        for (debian, arch, chost, wanted) in [
            ("amd64", "amd64", "x86_64-pc-linux-gnu", true),
            ("amd64", "amd64", "aarch64-unknown-linux-gnu", false),
            ("amd64", "x86", "i686-pc-linux-gnu", false),
            ("armhf", "arm", "armv7a-unknown-linux-gnueabihf", true),
            ("i386", "x86", "i686-pc-linux-gnu", true),
            ("ppc64el", "ppc64", "powerpc64le-unknown-linux-gnu", true),
            ("ppc64el", "ppc64", "powerpc64-unknown-linux-gnu", false),
            ("sparc64", "arm64", "sparc64-unknown-linux-gnu", false),
            ("unknown", "amd64", "x86_64-pc-linux-gnu", false),
        ] {
            assert_eq!(is_for(debian, arch, chost), wanted, "{debian} {arch} {chost}");
        }
    }

    #[test]
    fn an_eapi_that_has_one_list_for_both_sides_is_refused_in_a_cross_build_only() {
        let mut resolution = resolution("app", &[]);
        let project = tempfile::tempdir().unwrap();
        let search = config::Search::of(vec![project.path().to_path_buf()]);
        let config = "version = 1\n[defaults]\ntrees = [\"t\"]\n[trees.t]\npath = \"t\"\n";
        crate::fs::write(&project.path().join("bindery.toml"), config).unwrap();
        let config = config::Config::load(search).unwrap();
        let mut profile = Profile::load(&config, &"sparc64".parse().unwrap()).unwrap_or_else(|e| panic!("{e}"));
        let said = |profile: &Profile, cross: bool, resolution: &Resolution| {
            let used = if cross { Method::Cross } else { Method::Native };
            check(profile, used, resolution).map_err(|e| e.to_string())
        };
        resolution.packages[0].eapi = "6".parse().unwrap();
        assert_eq!(said(&profile, true, &resolution), Ok(()));
        resolution.packages[0].depend.depend = "c/lib".parse().unwrap();
        assert_eq!(said(&profile, false, &resolution), Ok(()));
        assert!(said(&profile, true, &resolution).unwrap_err().contains("`c/app-1` has EAPI 6"));
        resolution.packages[0].eapi = "7".parse().unwrap();
        assert_eq!(said(&profile, true, &resolution), Ok(()));
        profile.package.method = vec!["c/app native".parse().unwrap()];
        let error = said(&profile, true, &resolution).unwrap_err();
        assert!(error.contains("`c/app-1` is to be built by the method `native`"), "{error}");
        profile.package.method.push("c/app auto".parse().unwrap());
        assert_eq!(said(&profile, true, &resolution), Ok(()));
    }
}
