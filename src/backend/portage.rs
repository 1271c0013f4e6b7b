//! Portage: plans with its own resolver, builds with `emerge`, leaves GPKGs.

mod build;
mod config;
pub(super) mod index;
mod log;
mod merge;
mod resolve;

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::atom::{Atom, Cpv, RootPath};
use crate::backend::{
    Backend, Build, Configuration, Cross, Failure, PackageFile, Resolution, ResolutionError, Settings, SettingsError,
    Step,
};
use crate::fs::PathError;

/// The backend.
#[derive(Debug)]
pub(super) struct Portage;

impl Backend for Portage {
    fn name(&self) -> &'static str {
        "portage"
    }

    fn configuration_path(&self, cross: Option<&Cross>) -> RootPath {
        directory(cross).parse().expect("it is an absolute path")
    }

    fn configuration(&self, settings: &Settings) -> Result<Configuration, SettingsError> {
        config::configuration(settings)
    }

    fn with_jobs(&self, dir: &Path, jobs: u32) -> Result<Option<(PathBuf, String)>, PathError> {
        config::with_jobs(dir, jobs)
    }

    fn resolve(&self, atoms: &[Atom], cross: Option<&Cross>) -> Step {
        resolve::step(atoms, cross)
    }

    fn resolution(&self, output: &[u8]) -> Result<Resolution, ResolutionError> {
        Resolution::parse(output)
    }

    fn build(&self, build: &Build<'_>) -> Step {
        build::step(build)
    }

    fn merge(&self, cpv: &Cpv, source_date: u64) -> Step {
        merge::step(cpv, source_date)
    }

    fn index(&self, packages: &[PackageFile]) -> String {
        index::text(packages)
    }

    fn artefact(&self, cpv: &Cpv) -> RootPath {
        build::artefact(cpv)
    }

    fn failure(&self, log: &mut dyn Read) -> std::io::Result<Failure> {
        log::read(log)
    }
}

/// Below which folder Portage looks for the configuration of what is cross built (`PORTAGE_CONFIGROOT`).
const TARGET: &str = "/etc/bindery/target";

/// Returns the folder of the root that holds the configuration.
fn directory(cross: Option<&Cross>) -> String {
    if cross.is_some() { format!("{TARGET}/etc/portage") } else { "/etc/portage".to_string() }
}

/// The variables that have Portage work for another root than its own (emerge(1), make.conf(5)).
const CROSS: [&str; 3] = ["PORTAGE_CONFIGROOT", "ROOT", "SYSROOT"];

/// Returns the environment of a cross build: what is built is put together, and looked for, below the sysroot.
fn across(cross: Option<&Cross>) -> Vec<(String, String)> {
    let mut env = environment();
    if let Some(cross) = cross {
        let sysroot = cross.sysroot.to_string();
        env.extend(CROSS.map(str::to_string).into_iter().zip([TARGET.to_string(), sysroot.clone(), sysroot]));
    }
    env
}

/// Returns the environment that Portage runs in: nothing of the host's, no colours, no terminal, the same everywhere.
fn environment() -> Vec<(String, String)> {
    let fixed = [
        ("HOME", "/root"),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("LC_ALL", "C.UTF-8"),
        ("TERM", "dumb"),
        ("NOCOLOR", "true"),
        // Portage from PyPI takes its own prefix, `/usr`, for a Gentoo Prefix unless told that there is none.
        ("PORTAGE_OVERRIDE_EPREFIX", ""),
        // Sets are ordered by it, and with them what is written.
        ("PYTHONHASHSEED", "0"),
        // Byte code of Portage would be written into every root anew.
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ];
    fixed.map(|(name, value)| (name.to_string(), value.to_string())).to_vec()
}
