//! From a name to a profile that can be used: inheritance, defaults, and whether the values agree with each other and
//! with what there is.
//!
//! 1. Read the file and what it inherits, parents first and each once; refuse circles.
//! 2. Merge: later wins over earlier, own wins over all ([`super::merge`]).
//! 3. Fill in what `bindery.toml` says for all profiles.
//! 4. Check against images, trees, folders, and the values against each other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;

use super::file::{OneOrMany, ProfileFile};
use super::limits::Limits;
use super::merge::Merged;
use super::text::{Arch, Options};
use super::{Backend, Flags, Isa, PackageLines, Places, Profile, ProfileError, Rebuild, isa};
use crate::atom::Name;
use crate::config::{At, Config, Diagnostic, Found, Kind, SearchError, Source, closest, listed, tidy};

/// How many profiles may stand between one and its farthest ancestor: more is a mistake, and the walk is recursive.
const DEEPEST: usize = 32;

/// The largest `source-date-epoch`: the last second of the year 9999, the last that formats of archives can say.
const LAST_SECOND: u64 = 253_402_300_799;

impl Profile {
    /// Reads a profile with everything it inherits, fills in the defaults and checks it.
    pub fn load(config: &Config, name: &Name) -> Result<Self, ProfileError> {
        let mut walk = Walk { config, chain: Vec::new(), done: Vec::new() };
        walk.visit(config.search.find(Kind::Profile, name)?, None)?;
        let mut merged = Merged::default();
        let (mut files, mut native, mut own) = (Vec::new(), Vec::new(), None);
        for Read { found, source, file } in walk.done {
            native.extend(found.folder().map(|dir| dir.join("portage")).filter(|dir| dir.is_dir()));
            files.push(found.path);
            merged.take(file, &source);
            own = Some(source);
        }
        let own = own.expect("the walk visited the profile itself");
        finish(merged, config, name, &own, files, native)
    }
}

struct Read {
    found: Found,
    source: Arc<Source>,
    file: ProfileFile,
}

/// A walk over what a profile inherits.
struct Walk<'a> {
    config: &'a Config,
    /// From the profile asked for to the one being read.
    chain: Vec<Name>,
    /// Read, parents before children.
    done: Vec<Read>,
}

impl Walk<'_> {
    fn visit(&mut self, found: Found, named: Option<&At<Name>>) -> Result<(), ProfileError> {
        if self.done.iter().any(|read| read.found.name == found.name) {
            return Ok(());
        }
        if let Some(named) = named {
            let circle = self.chain.iter().position(|name| *name == found.name);
            if circle.is_some() || self.chain.len() >= DEEPEST {
                let chain = self.chain.iter().skip(circle.unwrap_or(0)).chain([&found.name]);
                let chain = chain.map(Name::as_str).collect::<Vec<_>>().join(" → ");
                let message = match circle {
                    Some(_) => format!("profile `{}` inherits itself", found.name),
                    None => format!("more than {DEEPEST} profiles inherit each other"),
                };
                return Err(named.complain(message, chain).into());
            }
        }
        let source = found.read()?;
        let mut file = ProfileFile::parse(&source)?;
        self.chain.push(found.name.clone());
        for parent in OneOrMany::each(file.inherits.take()) {
            let parent = At::new(parent, &source);
            let next = match self.config.search.find(Kind::Profile, &parent.value) {
                Ok(next) => next,
                Err(SearchError::Unknown(unknown)) => {
                    let complaint = parent.complain(unknown.to_string(), "expected the name of a profile");
                    return Err(unknown.hints().into_iter().fold(complaint, Diagnostic::hint).into());
                }
                Err(SearchError::Path(error)) => return Err(error.into()),
            };
            self.visit(next, Some(&parent))?;
        }
        self.chain.pop();
        self.done.push(Read { found, source, file });
        Ok(())
    }
}

fn finish(
    merged: Merged,
    config: &Config,
    name: &Name,
    own: &Arc<Source>,
    files: Vec<PathBuf>,
    native: Vec<PathBuf>,
) -> Result<Profile, ProfileError> {
    let mut places = Places::default();
    let missing = |key: &str, example: &str| {
        // What depends on the hardware has no default for all profiles.
        let or = if key == "chost" { "" } else { ", or to [defaults] in `bindery.toml`" };
        Diagnostic::of_file(own, format!("profile `{name}` has no `{key}`"))
            .hint(format!("add `{key} = {example}` to it or to a profile that it inherits{or}"))
    };
    let defaults = &config.defaults;

    let image = merged.image.or(defaults.image.clone()).ok_or_else(|| missing("image", "\"NAME\""))?;
    check_image(&image, config)?;
    if let Some(cross) = &merged.cross_image {
        check_image(cross, config)?;
    }

    let trees = merged.trees.or(defaults.trees.clone()).ok_or_else(|| {
        let folder = config.search.folders().first().map(|dir| dir.display().to_string()).unwrap_or_default();
        missing("trees", "[\"NAME\"]").hint(format!(
            "say where it is in a `bindery.toml`, such as `{folder}/bindery.toml`: [trees.NAME] and path = \"FOLDER\""
        ))
    })?;
    check_trees(&trees, config)?;
    let tree_names: Vec<Name> = trees.value.iter().map(|tree| tree.get_ref().clone()).collect();
    let portage_profile = merged.portage_profile.or(defaults.portage_profile.clone());
    let portage_profile = portage_profile.ok_or_else(|| missing("portage-profile", "\"default/linux/amd64\""))?;
    if let Some(tree) = portage_profile.value.tree.as_ref().filter(|tree| !tree_names.contains(tree)) {
        let label = format!("expected one of {}", listed(tree_names.iter().map(Name::as_str)));
        let message = format!("the Portage profile is in tree `{tree}`, which is none of this profile's trees");
        return Err(portage_profile.complain(message, label).into());
    }

    let chost = merged.chost.ok_or_else(|| missing("chost", "\"x86_64-pc-linux-gnu\""))?;
    let implied = Arch::of(&chost.value);
    let arch = match (&merged.arch, implied) {
        (Some(arch), Some(implied)) if arch.value != implied => {
            let message = format!("arch `{}` does not go with chost `{}`", arch.value, chost.value);
            // The one that is written nearer to the profile asked for is the likelier mistake; both are shown.
            return Err(arch
                .complain(message, format!("expected `{implied}`"))
                .hint(format!("`chost` is said in {}", chost.place()))
                .into());
        }
        (Some(arch), _) => {
            places.note("arch", arch);
            arch.value.clone()
        }
        (None, Some(implied)) => {
            places.note("arch", &chost);
            implied
        }
        (None, None) => {
            let message = format!("the processor `{}` of this chost is unknown", chost.value.cpu());
            return Err(chost.complain(message, "expected a known processor, or say `arch` too").into());
        }
    };

    let mut patches = Vec::new();
    for at in merged.patches {
        let folder = at.source.folder().map(|folder| tidy(&folder.join(at.value.as_str())));
        let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
            let message = format!("there is no folder `{}`", at.value);
            return Err(at.complain(message, "expected a folder, from the folder of this file").into());
        };
        places.note("patches", &at);
        patches.push(folder);
    }

    let mirrors = match (merged.mirrors, &defaults.mirrors) {
        (Some(mirrors), _) => {
            let folder = mirrors.source.folder().map(PathBuf::from).unwrap_or_default();
            let value = mirrors.value.iter().map(|mirror| mirror.clone().below(&folder)).collect::<Result<_, _>>();
            let value = value.map_err(|e| mirrors.complain(e.to_string(), "from this file's folder"))?;
            Some(At { value, ..mirrors })
        }
        (None, defaults) => defaults.clone(),
    };

    let epoch = merged.source_date_epoch.or(defaults.source_date_epoch.clone());
    if let Some(epoch) = epoch.as_ref().filter(|epoch| epoch.value > LAST_SECOND) {
        return Err(epoch
            .complain("this time is not in our era", "expected seconds since 1970, up to the year 9999")
            .into());
    }

    let mut sets: BTreeMap<_, _> = config.sets.clone();
    sets.extend(merged.sets);
    for (name, set) in &sets {
        places.note(&format!("sets.{name}"), set);
    }
    for (variable, value) in &merged.env {
        places.note(&format!("env.{variable}"), value);
    }

    places.note("image", &image);
    places.note("trees", &trees);
    places.note("portage-profile", &portage_profile);
    places.note("chost", &chost);
    let key = merged.key.or(defaults.key.clone()).ok_or_else(|| missing("key", "\"NAME\""))?;
    places.note("key", &key);
    let backend = places.take("backend", merged.backend).unwrap_or(Backend::Portage);
    let cflags = places.take("flags.cflags", merged.cflags);
    let mut like_c = |key: &str, options: Option<At<Options>>| places.take(key, options).or(cflags.clone());
    let flags = Flags {
        cxxflags: like_c("flags.cxxflags", merged.cxxflags),
        fflags: like_c("flags.fflags", merged.fflags),
        fcflags: like_c("flags.fcflags", merged.fcflags),
        ldflags: places.take("flags.ldflags", merged.ldflags),
        rustflags: places.take("flags.rustflags", merged.rustflags),
        goflags: places.take("flags.goflags", merged.goflags),
        // What is switched off here is on nowhere else.
        cpu_flags: places.list(
            "flags.cpu-flags",
            merged.cpu_flags.into_iter().filter(|at| !at.value.as_str().starts_with('-')).collect(),
        ),
        cflags,
    };
    // What is switched off is no feature of any processor.
    let features = merged.isa_features.into_iter().filter(|at| !at.value.as_str().starts_with('-')).collect::<Vec<_>>();
    let target = isa::target(merged.isa_level.as_ref(), &features, &chost.value, &flags)?;
    let isa = Isa {
        level: places.take("isa.level", merged.isa_level),
        features: places.list("isa.features", features),
        target,
        exceptions: places.list("isa.exceptions", merged.isa_exceptions),
    };
    let usual = Limits::default();
    if let (Some(swap), None) = (&merged.swap, &merged.memory) {
        return Err(swap
            .complain(
                "swap is limited together with memory",
                "expected `memory` beside it, in this table or an inherited one",
            )
            .into());
    }
    Ok(Profile {
        name: name.clone(),
        description: places.take("description", merged.description),
        image: image.value,
        backend,
        trees: tree_names,
        portage_profile: portage_profile.value,
        arch,
        chost: chost.value,
        method: places.take("method", merged.method).unwrap_or_default(),
        cross_image: places.take("cross-image", merged.cross_image),
        build_side: places.take("build-side", merged.build_side),
        flags,
        use_: places.list("use", merged.use_),
        accept_keywords: places.list("accept-keywords", merged.accept_keywords),
        accept_license: places.list("accept-license", merged.accept_license),
        package: PackageLines {
            use_: places.list("package.use", merged.package_use),
            accept_keywords: places.list("package.accept-keywords", merged.package_accept_keywords),
            license: places.list("package.license", merged.package_license),
            mask: places.list("package.mask", merged.package_mask),
            unmask: places.list("package.unmask", merged.package_unmask),
            env: places.list("package.env", merged.package_env),
            provided: places.list("package.provided", merged.package_provided),
            method: places.list("package.method", merged.package_method),
        },
        patches,
        sets: sets.into_iter().map(|(name, set)| (name, set.value)).collect(),
        env: merged.env.into_iter().map(|(variable, value)| (variable, value.value)).collect(),
        features: places.list("features", merged.features),
        limits: Limits {
            cpus: places.take("limits.cpus", merged.cpus).map(|cpus| cpus.0),
            cpuset: places.take("limits.cpuset", merged.cpuset),
            memory: places.take("limits.memory", merged.memory).map(|size| size.0),
            swap: places.take("limits.swap", merged.swap).map(|swap| swap.0),
            pids: places.take("limits.pids", merged.pids).map(|pids| pids.get().into()),
            io_weight: places.take("limits.io-weight", merged.io_weight).map(|weight| weight.0),
            disk: places.take("limits.disk", merged.disk).map(|size| size.0),
            time: places.take("limits.time", merged.time).map(|span| span.0).or(usual.time),
            silence: places.take("limits.silence", merged.silence).map(|span| span.0).or(usual.silence),
            idle: places.take("limits.idle", merged.idle).map(|span| span.0).or(usual.idle),
            gives_way: places.take("limits.yield", merged.gives_way).or(defaults.gives_way).unwrap_or(false),
        },
        mirrors: places.take("mirrors", mirrors).unwrap_or_default(),
        key: key.value,
        source_date_epoch: places.take("source-date-epoch", epoch),
        share: places.take("share", merged.share).unwrap_or(true),
        rebuild: Rebuild {
            archives: places.take("rebuild.archives", merged.archives).unwrap_or_default(),
            tools: places.take("rebuild.tools", merged.tools).unwrap_or_default(),
        },
        isa,
        native,
        files,
        places,
    })
}

/// Refuses an image without a definition.
fn check_image(image: &At<Name>, config: &Config) -> Result<(), ProfileError> {
    match config.search.find(Kind::Image, &image.value) {
        Ok(_) => Ok(()),
        Err(SearchError::Unknown(unknown)) => {
            let complaint = image.complain(unknown.to_string(), "expected the name of an image");
            Err(unknown.hints().into_iter().fold(complaint, Diagnostic::hint).into())
        }
        Err(SearchError::Path(error)) => Err(error.into()),
    }
}

/// Refuses an empty list of trees, a tree listed twice, and one that no `bindery.toml` knows.
fn check_trees(trees: &At<Vec<Spanned<Name>>>, config: &Config) -> Result<(), Diagnostic> {
    if trees.value.is_empty() {
        return Err(trees.complain("a profile needs a tree", "expected at least one name"));
    }
    for (i, tree) in trees.value.iter().enumerate() {
        let at = At { value: tree.get_ref(), span: tree.span(), source: trees.source.clone() };
        if trees.value.iter().take(i).any(|other| other.get_ref() == at.value) {
            return Err(at.complain(format!("tree `{}` is listed twice", at.value), "expected each tree once"));
        }
        if !config.trees.contains_key(at.value) {
            let known = || config.trees.keys().map(Name::as_str);
            let complaint =
                at.complain(format!("there is no tree `{}`", at.value), "expected a tree that `bindery.toml` names");
            let complaint = match closest(at.value.as_str(), known()) {
                Some(name) => complaint.hint(format!("did you mean `{name}`?")),
                None => complaint,
            };
            return Err(complaint
                .hint(format!("known trees: {}", listed(known())))
                .hint(format!("say where it is in `bindery.toml`: [trees.{}] and path = \"FOLDER\"", at.value)));
        }
    }
    Ok(())
}
