//! What several files say together: single values are replaced by later files, lists are continued.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;

use super::file::{OneOrMany, ProfileFile};
use super::limits::{Cpus, IoWeight, Size, Span, Swap};
use super::text::{
    Arch, Chost, Description, Feature, Folder, Keyword, License, Options, PackageLine, UseWord, Variable, VariableValue,
};
use super::{Archives, Backend, Excused, Method, MethodLine, Tools};
use crate::atom::{Atom, CpuList, Name};
use crate::config::{At, Mirror, PortageProfile, Source, plain};

/// The files of one profile, taken one after the other.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) description: Option<At<Description>>,
    pub(super) image: Option<At<Name>>,
    pub(super) backend: Option<At<Backend>>,
    pub(super) trees: Option<At<Vec<Spanned<Name>>>>,
    pub(super) portage_profile: Option<At<PortageProfile>>,
    pub(super) arch: Option<At<Arch>>,
    pub(super) chost: Option<At<Chost>>,
    pub(super) method: Option<At<Method>>,
    pub(super) cross_image: Option<At<Name>>,
    pub(super) build_side: Option<At<Name>>,
    pub(super) cflags: Option<At<Options>>,
    pub(super) cxxflags: Option<At<Options>>,
    pub(super) fflags: Option<At<Options>>,
    pub(super) fcflags: Option<At<Options>>,
    pub(super) ldflags: Option<At<Options>>,
    pub(super) rustflags: Option<At<Options>>,
    pub(super) goflags: Option<At<Options>>,
    pub(super) cpu_flags: Vec<At<UseWord>>,
    pub(super) use_: Vec<At<UseWord>>,
    pub(super) accept_keywords: Vec<At<Keyword>>,
    pub(super) accept_license: Vec<At<License>>,
    pub(super) package_use: Vec<At<PackageLine>>,
    pub(super) package_accept_keywords: Vec<At<PackageLine>>,
    pub(super) package_license: Vec<At<PackageLine>>,
    pub(super) package_mask: Vec<At<PackageLine>>,
    pub(super) package_unmask: Vec<At<PackageLine>>,
    pub(super) package_env: Vec<At<PackageLine>>,
    pub(super) package_provided: Vec<At<PackageLine>>,
    pub(super) package_method: Vec<At<MethodLine>>,
    pub(super) patches: Vec<At<Folder>>,
    pub(super) sets: BTreeMap<Name, At<Vec<Atom>>>,
    pub(super) env: BTreeMap<Variable, At<VariableValue>>,
    pub(super) features: Vec<At<Feature>>,
    pub(super) cpus: Option<At<Cpus>>,
    pub(super) cpuset: Option<At<CpuList>>,
    pub(super) memory: Option<At<Size>>,
    pub(super) swap: Option<At<Swap>>,
    pub(super) pids: Option<At<std::num::NonZeroU32>>,
    pub(super) io_weight: Option<At<IoWeight>>,
    pub(super) disk: Option<At<Size>>,
    pub(super) time: Option<At<Span>>,
    pub(super) silence: Option<At<Span>>,
    pub(super) idle: Option<At<Span>>,
    pub(super) gives_way: Option<At<bool>>,
    pub(super) mirrors: Option<At<Vec<Mirror>>>,
    pub(super) key: Option<At<Name>>,
    pub(super) source_date_epoch: Option<At<u64>>,
    pub(super) share: Option<At<bool>>,
    pub(super) archives: Option<At<Archives>>,
    pub(super) tools: Option<At<Tools>>,
    pub(super) isa_level: Option<At<UseWord>>,
    pub(super) isa_features: Vec<At<UseWord>>,
    pub(super) isa_exceptions: Vec<At<Excused>>,
}

impl Merged {
    /// Takes the next file, which wins over those before.
    pub(super) fn take(&mut self, file: ProfileFile, source: &Arc<Source>) {
        let (flags, package, limits) = (file.flags, file.package, file.limits);
        over(&mut self.description, file.description, source);
        over(&mut self.image, file.image, source);
        over(&mut self.backend, file.backend, source);
        over(&mut self.trees, file.trees, source);
        over(&mut self.portage_profile, file.portage_profile, source);
        over(&mut self.arch, file.arch, source);
        over(&mut self.chost, file.chost, source);
        over(&mut self.method, file.method, source);
        over(&mut self.cross_image, file.cross_image, source);
        over(&mut self.build_side, file.build_side, source);
        over(&mut self.cflags, flags.cflags, source);
        over(&mut self.cxxflags, flags.cxxflags, source);
        over(&mut self.fflags, flags.fflags, source);
        over(&mut self.fcflags, flags.fcflags, source);
        over(&mut self.ldflags, flags.ldflags, source);
        over(&mut self.rustflags, flags.rustflags, source);
        over(&mut self.goflags, flags.goflags, source);
        incremental(&mut self.cpu_flags, flags.cpu_flags, source);
        incremental(&mut self.use_, file.use_, source);
        incremental(&mut self.accept_keywords, file.accept_keywords, source);
        incremental(&mut self.accept_license, file.accept_license, source);
        incremental(&mut self.features, file.features, source);
        more(&mut self.package_use, package.use_, source);
        more(&mut self.package_accept_keywords, package.accept_keywords, source);
        more(&mut self.package_license, package.license, source);
        more(&mut self.package_mask, package.mask, source);
        more(&mut self.package_unmask, package.unmask, source);
        more(&mut self.package_env, package.env, source);
        more(&mut self.package_provided, package.provided, source);
        more(&mut self.package_method, package.method, source);
        more(&mut self.patches, OneOrMany::each(file.patches), source);
        self.sets.extend(file.sets.into_iter().map(|(name, atoms)| (name, At::new(plain(atoms), source))));
        self.env.extend(file.env.into_iter().map(|(name, value)| (name, At::new(value, source))));
        over(&mut self.cpus, limits.cpus, source);
        over(&mut self.cpuset, limits.cpuset, source);
        over(&mut self.memory, limits.memory, source);
        over(&mut self.swap, limits.swap, source);
        over(&mut self.pids, limits.pids, source);
        over(&mut self.io_weight, limits.io_weight, source);
        over(&mut self.disk, limits.disk, source);
        over(&mut self.time, limits.time, source);
        over(&mut self.silence, limits.silence, source);
        over(&mut self.idle, limits.idle, source);
        over(&mut self.gives_way, limits.gives_way, source);
        over(&mut self.mirrors, file.mirrors.map(plain), source);
        over(&mut self.key, file.key, source);
        over(&mut self.source_date_epoch, file.source_date_epoch, source);
        over(&mut self.share, file.share, source);
        over(&mut self.archives, file.rebuild.archives, source);
        over(&mut self.tools, file.rebuild.tools, source);
        over(&mut self.isa_level, file.isa.level, source);
        incremental(&mut self.isa_features, file.isa.features, source);
        more(&mut self.isa_exceptions, file.isa.exceptions, source);
    }
}

fn over<T>(slot: &mut Option<At<T>>, new: Option<Spanned<T>>, source: &Arc<Source>) {
    if let Some(new) = new {
        *slot = Some(At::new(new, source));
    }
}

fn more<T>(list: &mut Vec<At<T>>, new: impl IntoIterator<Item = Spanned<T>>, source: &Arc<Source>) {
    list.extend(new.into_iter().map(|new| At::new(new, source)));
}

/// Continues a list as Portage does with incremental variables: of `x` and `-x` the later counts, `-*` forgets all
/// before. What is switched off stays in the list, because it may be on by default elsewhere.
fn incremental<T: ToString>(list: &mut Vec<At<T>>, new: Vec<Spanned<T>>, source: &Arc<Source>) {
    for new in new {
        let text = new.get_ref().to_string();
        let word = text.strip_prefix('-').unwrap_or(&text);
        if text == "-*" {
            list.clear();
        } else {
            list.retain(|old| old.value.to_string().trim_start_matches('-') != word);
        }
        list.push(At::new(new, source));
    }
}
