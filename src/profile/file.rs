//! A profile as it is written: `profiles/NAME.toml`, version 1.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::isa::IsaTable;
use super::limits::{Cpus, IoWeight, Size, Span, Swap};
use super::text::{
    Arch, Chost, Description, Feature, Folder, Keyword, License, Options, PackageLine, UseWord, Variable, VariableValue,
};
use super::{Archives, Backend, Method, MethodLine, Tools};
use crate::atom::{Atom, CpuList, Name, NameError};
use crate::config::{self, Diagnostic, Mirror, PortageProfile, Source};

/// One file, parsed: every value is well formed in itself and knows where it is written. What must agree with other
/// values, files or folders is checked when the profile is resolved.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProfileFile {
    #[expect(dead_code, reason = "checked before the rest, named here so that it is a known field")]
    version: u32,
    pub(super) description: Option<Spanned<Description>>,
    pub(super) inherits: Option<Spanned<OneOrMany<Name>>>,
    pub(super) image: Option<Spanned<Name>>,
    pub(super) backend: Option<Spanned<Backend>>,
    pub(super) trees: Option<Spanned<Vec<Spanned<Name>>>>,
    pub(super) portage_profile: Option<Spanned<PortageProfile>>,
    pub(super) arch: Option<Spanned<Arch>>,
    pub(super) chost: Option<Spanned<Chost>>,
    pub(super) method: Option<Spanned<Method>>,
    pub(super) cross_image: Option<Spanned<Name>>,
    pub(super) build_side: Option<Spanned<Name>>,
    #[serde(default)]
    pub(super) flags: FlagsTable,
    #[serde(default, rename = "use")]
    pub(super) use_: Vec<Spanned<UseWord>>,
    #[serde(default)]
    pub(super) accept_keywords: Vec<Spanned<Keyword>>,
    #[serde(default)]
    pub(super) accept_license: Vec<Spanned<License>>,
    #[serde(default)]
    pub(super) package: PackageTable,
    pub(super) patches: Option<Spanned<OneOrMany<Folder>>>,
    #[serde(default)]
    pub(super) sets: BTreeMap<Name, Spanned<Vec<Spanned<Atom>>>>,
    #[serde(default)]
    pub(super) env: BTreeMap<Variable, Spanned<VariableValue>>,
    #[serde(default)]
    pub(super) features: Vec<Spanned<Feature>>,
    #[serde(default)]
    pub(super) limits: LimitsTable,
    pub(super) mirrors: Option<Spanned<Vec<Spanned<Mirror>>>>,
    pub(super) key: Option<Spanned<Name>>,
    pub(super) source_date_epoch: Option<Spanned<u64>>,
    pub(super) share: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) rebuild: RebuildTable,
    #[serde(default)]
    pub(super) isa: IsaTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RebuildTable {
    pub(super) archives: Option<Spanned<Archives>>,
    pub(super) tools: Option<Spanned<Tools>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct FlagsTable {
    pub(super) cflags: Option<Spanned<Options>>,
    pub(super) cxxflags: Option<Spanned<Options>>,
    pub(super) fflags: Option<Spanned<Options>>,
    pub(super) fcflags: Option<Spanned<Options>>,
    pub(super) ldflags: Option<Spanned<Options>>,
    pub(super) rustflags: Option<Spanned<Options>>,
    pub(super) goflags: Option<Spanned<Options>>,
    #[serde(default)]
    pub(super) cpu_flags: Vec<Spanned<UseWord>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct PackageTable {
    #[serde(rename = "use")]
    pub(super) use_: Vec<Spanned<PackageLine>>,
    pub(super) accept_keywords: Vec<Spanned<PackageLine>>,
    pub(super) license: Vec<Spanned<PackageLine>>,
    pub(super) mask: Vec<Spanned<PackageLine>>,
    pub(super) unmask: Vec<Spanned<PackageLine>>,
    pub(super) env: Vec<Spanned<PackageLine>>,
    pub(super) provided: Vec<Spanned<PackageLine>>,
    pub(super) method: Vec<Spanned<MethodLine>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LimitsTable {
    pub(super) cpus: Option<Spanned<Cpus>>,
    pub(super) cpuset: Option<Spanned<CpuList>>,
    pub(super) memory: Option<Spanned<Size>>,
    pub(super) swap: Option<Spanned<Swap>>,
    pub(super) pids: Option<Spanned<std::num::NonZeroU32>>,
    pub(super) io_weight: Option<Spanned<IoWeight>>,
    pub(super) disk: Option<Spanned<Size>>,
    pub(super) time: Option<Spanned<Span>>,
    pub(super) silence: Option<Spanned<Span>>,
    pub(super) idle: Option<Spanned<Span>>,
    #[serde(rename = "yield")]
    pub(super) gives_way: Option<Spanned<bool>>,
}

/// One value, or a list of them.
#[derive(Debug)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<Spanned<T>>),
}

impl<T> OneOrMany<T> {
    /// Returns the values, each with its place.
    pub(super) fn each(this: Option<Spanned<Self>>) -> Vec<Spanned<T>> {
        let Some(this) = this else { return Vec::new() };
        let span = this.span();
        match this.into_inner() {
            Self::One(value) => vec![Spanned::new(span, value)],
            Self::Many(values) => values,
        }
    }
}

impl<'de, T> Deserialize<'de> for OneOrMany<T>
where
    T: Deserialize<'de> + FromStr<Err = NameError>,
{
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T> serde::de::Visitor<'de> for Visitor<T>
        where
            T: Deserialize<'de> + FromStr<Err = NameError>,
        {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or a list of strings")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMany<T>, E> {
                text.parse().map(OneOrMany::One).map_err(E::custom)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany<T>, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(OneOrMany::Many(values))
            }
        }
        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

impl ProfileFile {
    /// Parses a profile's text; what is wrong is named with its place.
    pub fn parse(source: &Arc<Source>) -> Result<Self, Diagnostic> {
        config::parse(source)
    }
}
