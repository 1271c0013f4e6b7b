//! How a profile's packages are built: by the image's own compiler, emulated or not, or by its cross compiler. Decided before anything is made.

use std::collections::BTreeMap;

use crate::atom::{Cpv, Name};
use crate::backend::{Cross, Resolution};
use crate::build::BuildError;
use crate::config::{Config, Kind};
use crate::image::{self, Definition, ImageError};
use crate::profile::{Method, Profile, Tools};
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

/// How the packages of a run are built.
#[derive(Debug)]
pub(super) struct Way {
    /// What the image is made from that they are built in.
    pub(super) definition: Definition,
    /// How they are cross built, and whose packages run meanwhile; nothing where they are not.
    pub(super) cross: Option<(Cross, Profile)>,
    /// Likewise `definition`, of the image of the profile's own architecture for what cannot be cross built.
    pub(super) fallback: Option<Definition>,
}

impl Way {
    /// Returns the way in an image of the profile's own architecture.
    pub(super) fn within(definition: Definition) -> Self {
        Self { definition, cross: None, fallback: None }
    }

    /// Returns what packages are built by, as far as that is the same for all.
    pub(super) fn method(&self) -> Method {
        match self.cross {
            Some(_) => Method::Cross,
            None if is_emulated(&self.definition) => Method::Emulated,
            None => Method::Native,
        }
    }
}

/// Returns how a profile's packages are built. What the profile and its images do not agree on is refused.
pub(super) fn choose(config: &Config, profile: &Profile) -> Result<Way, BuildError> {
    let folders = config.search.folders_of(Kind::Image);
    let find = |name: &Name| Definition::find(name, &folders).map_err(ImageError::from);
    let is_for = |debian: &str| is_for(debian, profile.arch.as_str(), profile.chost.as_str());
    let own = find(&profile.image)?;
    let native = is_for(own.recipe.architecture.as_str());
    let other = profile.cross_image.as_ref().map(find).transpose()?;
    let there = match profile.method {
        Method::Cross => other.as_ref(),
        // What this machine runs by itself is built by it.
        Method::Auto => other.as_ref().filter(|other| (!native || is_emulated(&own)) && !is_emulated(other)),
        Method::Native | Method::Emulated => None,
    };
    let crosses = |definition: &Definition| {
        let cross = definition.recipe.cross.as_ref()?;
        let fits = cross.chost.as_str() == profile.chost.as_str() && is_for(cross.architecture.as_str());
        let (cbuild, sysroot) = (cross.cbuild.to_string(), cross.sysroot.clone());
        fits.then_some(Cross { cbuild, sysroot, emulated: false })
    };
    if let Some(there) = there {
        // What is built in the one is to run in the other.
        let Some(cross) = crosses(there) else { return Err(elsewhere(config, profile, there).into()) };
        if profile.method == Method::Auto && !native {
            return Err(elsewhere(config, profile, &own).into());
        }
        let side = side(config, profile, there)?;
        let fallback = (profile.method == Method::Auto).then_some(own);
        return Ok(Way { definition: there.clone(), cross: Some((cross, side)), fallback });
    }
    match (profile.method, native, crosses(&own)) {
        (Method::Auto | Method::Native, true, _) => Ok(Way::within(own)),
        (Method::Emulated, true, _) if is_emulated(&own) => Ok(Way::within(own)),
        (Method::Auto | Method::Cross, _, Some(cross)) => {
            let side = side(config, profile, &own)?;
            Ok(Way { definition: own, cross: Some((cross, side)), fallback: None })
        }
        (Method::Emulated, ..) => Err(MethodError::Emulated { profile: profile.name.clone() }.into()),
        (Method::Auto | Method::Native | Method::Cross, ..) => Err(elsewhere(config, profile, &own).into()),
    }
}

/// Returns whether an image's programs are emulated on this machine.
pub(super) fn is_emulated(definition: &Definition) -> bool {
    sandbox::foreign(definition.recipe.architecture.as_str()).is_some()
}

/// Returns the profile whose packages run while those of `profile` are cross built.
fn side(config: &Config, profile: &Profile, definition: &Definition) -> Result<Profile, BuildError> {
    let own = || profile.name.clone();
    let arch = arch(definition.recipe.architecture.as_str()).unwrap_or("amd64").to_string();
    let Some(name) = profile.build_side.clone() else {
        return Err(MethodError::NoSide { profile: own(), arch }.into());
    };
    let side = Profile::load(config, &name).map_err(|error| MethodError::Side {
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
fn elsewhere(config: &Config, profile: &Profile, definition: &Definition) -> MethodError {
    let folders = config.search.folders_of(Kind::Image);
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

/// Returns the packages that cannot be cross built, or are not to be, each with why. Where there is no other way for them,
/// and where the profile wants one that there is not, they are refused.
pub(super) fn check(
    profile: &Profile,
    way: &Way,
    resolution: &Resolution,
) -> Result<BTreeMap<Cpv, String>, MethodError> {
    let (used, mut aside) = (way.method(), BTreeMap::new());
    for package in &resolution.packages {
        let cpv = package.cpv.to_string();
        let wanted = profile.method_of(&package.cpv.cp());
        let falls_back = way.fallback.is_some() && matches!(wanted, Method::Native | Method::Emulated);
        let same = wanted == used || (used == Method::Emulated && wanted == Method::Native);
        if wanted != Method::Auto && !same && wanted != profile.method && !falls_back {
            return Err(MethodError::Package { cpv, wanted, used });
        }
        let old = package.eapi.as_str().parse::<u32>().is_ok_and(|eapi| eapi < 7);
        let old = used == Method::Cross && old && !package.depend.depend.as_str().is_empty();
        let error = MethodError::Eapi { cpv, eapi: package.eapi.to_string() };
        if falls_back {
            aside.insert(package.cpv.clone(), format!("the profile has it built by the method `{wanted}`"));
        } else if old && way.fallback.is_some() && wanted == Method::Auto && profile.rebuild.tools == Tools::Any {
            // What it is linked with stands in its request as what runs, all of which must count then.
            aside.insert(package.cpv.clone(), error.to_string());
        } else if old {
            return Err(error);
        }
    }
    Ok(aside)
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
    use crate::config::Search;
    use crate::plan::fixture::resolution;
    use crate::profile::Rebuild;

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

    /// A profile like another, with these lines more, beside an image `cross` that cross builds for arm64.
    struct Project {
        config: Config,
        profile: Profile,
        _folder: tempfile::TempDir,
    }

    impl Project {
        fn new(like: &str, more: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let write = |name: &str, text: String| {
                let path = folder.path().join(name);
                crate::fs::create_dir_all(path.parent().unwrap()).unwrap();
                crate::fs::write(&path, text).unwrap();
            };
            write("bindery.toml", "version = 1\n[defaults]\ntrees = [\"t\"]\n[trees.t]\npath = \"t\"\n".to_string());
            write("profiles/own.toml", format!("version = 1\ninherits = \"{like}\"\n{more}"));
            let cross = "[cross]\nchost = \"aarch64-unknown-linux-gnu\"\narchitecture = \"arm64\"\n\
                         cbuild = \"x86_64-pc-linux-gnu\"\nsysroot = \"/usr/aarch64-linux-gnu\"\n";
            write("images/cross.toml", format!("version = 1\ninherits = \"debian-portage\"\n{cross}"));
            let config = Config::load(Search::of(vec![folder.path().to_path_buf()])).unwrap();
            let profile = Profile::load(&config, &"own".parse().unwrap()).unwrap_or_else(|e| panic!("{e}"));
            Self { config, profile, _folder: folder }
        }

        fn chosen(&self) -> Result<Way, String> {
            choose(&self.config, &self.profile).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn an_eapi_that_has_one_list_for_both_sides_is_refused_in_a_cross_build_only() {
        let mut resolution = resolution("app", &[]);
        let project = Project::new("sparc64", "");
        let mut profile = project.profile.clone();
        let said = |profile: &Profile, cross: bool, resolution: &Resolution| {
            let mut way = project.chosen().unwrap();
            way.cross = way.cross.filter(|_| cross);
            check(profile, &way, resolution).map(|aside| aside.len()).map_err(|e| e.to_string())
        };
        resolution.packages[0].eapi = "6".parse().unwrap();
        assert_eq!(said(&profile, true, &resolution), Ok(0));
        resolution.packages[0].depend.depend = "c/lib".parse().unwrap();
        assert_eq!(said(&profile, false, &resolution), Ok(0));
        assert!(said(&profile, true, &resolution).unwrap_err().contains("`c/app-1` has EAPI 6"));
        resolution.packages[0].eapi = "7".parse().unwrap();
        assert_eq!(said(&profile, true, &resolution), Ok(0));
        profile.package.method = vec!["c/app native".parse().unwrap()];
        let error = said(&profile, true, &resolution).unwrap_err();
        assert!(error.contains("`c/app-1` is to be built by the method `native`"), "{error}");
        profile.package.method.push("c/app auto".parse().unwrap());
        assert_eq!(said(&profile, true, &resolution), Ok(0));
    }

    /// What a profile for arm64 has that is cross built where that can be.
    const BOTH: &str = "cross-image = \"cross\"\nbuild-side = \"amd64\"\n";

    #[test]
    fn what_cannot_be_cross_built_falls_back_to_the_image_of_its_own_architecture() {
        let project = Project::new("arm64", BOTH);
        let (way, mut profile) = (project.chosen().unwrap(), project.profile.clone());
        assert_eq!((way.method(), way.definition.name.as_str()), (Method::Cross, "cross"));
        assert_eq!(way.fallback.as_ref().unwrap().name.as_str(), "debian-portage-arm64");
        let mut resolution = resolution("app other", &[]);
        assert_eq!(check(&profile, &way, &resolution).unwrap(), BTreeMap::new());
        resolution.packages[0].eapi = "6".parse().unwrap();
        resolution.packages[0].depend.depend = "c/lib".parse().unwrap();
        profile.package.method = vec!["c/other emulated".parse().unwrap()];
        let aside: Vec<_> = check(&profile, &way, &resolution).unwrap().into_iter().collect();
        let [(app, old), (other, said)] = aside.as_slice() else { panic!("{aside:?}") };
        assert!(app.to_string() == "c/app-1" && old.contains("has EAPI 6"), "{old}");
        assert!(other.to_string() == "c/other-1" && said.contains("by the method `emulated`"), "{said}");
        // What it is linked with would not count.
        let lax = Profile { rebuild: Rebuild { tools: Tools::Abi, ..profile.rebuild }, ..profile.clone() };
        assert!(check(&lax, &way, &resolution).unwrap_err().to_string().contains("has EAPI 6"));
        // Who insists on cross building gets it or nothing.
        profile.package.method = vec!["c/app cross".parse().unwrap()];
        assert!(check(&profile, &way, &resolution).unwrap_err().to_string().contains("has EAPI 6"));
        let project = Project::new("arm64", &format!("{BOTH}method = \"cross\"\n"));
        let way = project.chosen().unwrap();
        assert!(way.method() == Method::Cross && way.fallback.is_none());
        assert!(check(&project.profile, &way, &resolution).unwrap_err().to_string().contains("has EAPI 6"));
    }

    #[test]
    fn the_method_says_which_image_of_two_is_used() {
        for (method, wanted) in [
            ("native", "debian-portage-arm64"),
            ("emulated", "debian-portage-arm64"),
            ("auto", "cross"),
            ("cross", "cross"),
        ] {
            let project = Project::new("arm64", &format!("{BOTH}method = \"{method}\"\n"));
            assert_eq!(project.chosen().unwrap().definition.name.as_str(), wanted, "{method}");
        }
        // What this machine runs by itself is not cross built.
        let project = Project::new("amd64", "cross-image = \"debian-portage-cross-sparc64\"\n");
        assert_eq!(project.chosen().unwrap().method(), Method::Native);
    }

    #[test]
    fn two_images_that_are_not_for_the_same_are_refused() {
        let refused = |like: &str, more: &str| Project::new(like, more).chosen().unwrap_err();
        let cross = "method = \"auto\"\ncross-image = \"debian-portage-cross-sparc64\"\nbuild-side = \"amd64\"\n";
        let error = refused("sparc64", cross);
        assert!(error.contains("its image `debian-portage-cross-sparc64` builds for amd64 and sparc64"), "{error}");
        let error = refused("arm64", cross);
        assert!(error.contains("its image `debian-portage-cross-sparc64` builds for amd64 and sparc64"), "{error}");
        let own = "image = \"debian-portage-arm64\"\narch = \"arm64\"\nchost = \"aarch64-unknown-linux-gnu\"\n";
        let error = refused("amd64", &format!("{own}cross-image = \"cross\"\n"));
        assert!(error.contains("does not say whose packages run meanwhile"), "{error}");
    }
}
