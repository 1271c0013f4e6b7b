//! The index of the packages that a build root starts with, as `emerge --usepkgonly` reads it from a folder that it
//! trusts (`pkgdir-index-trusted`). It needs only what tells one file from another; all else comes from the packages.
//!
//! ```text
//! PACKAGES/Packages
//! PACKAGES/CATEGORY/NAME/NAME-VERSION-BUILD_ID.gpkg.tar
//! ```

use std::fmt::Write as _;

use crate::atom::{BuildId, Cpv, Name};

/// A finished package that a build root may start with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    /// The package.
    pub cpv: Cpv,
    /// Its number, as its own metadata say.
    pub build_id: BuildId,
    /// When it was built, as its own metadata say: seconds since 1970.
    pub build_time: u64,
    /// The tree it was built from.
    pub repo: Name,
    /// The slot with its sub-slot.
    pub slot: String,
    /// The EAPI.
    pub eapi: String,
    /// `DEFINED_PHASES` of its metadata: Portage starts a shell for every phase that it is not told is missing.
    pub defined_phases: String,
    /// Length in bytes.
    pub size: u64,
    /// `PROVIDES` of its metadata: the SONAMEs it has. Portage complains about libraries without.
    pub provides: String,
    /// `REQUIRES` of its metadata: the SONAMEs it needs.
    pub requires: String,
}

/// Returns where a package lies in the folder.
pub fn package_path(cpv: &Cpv, build_id: BuildId) -> String {
    format!("{}/{}-{build_id}.gpkg.tar", cpv.cp(), cpv.pf())
}

/// Returns the index's text.
pub(super) fn text(packages: &[PackageFile]) -> String {
    let mut text = format!("PACKAGES: {}\nTIMESTAMP: 1\nVERSION: 0\n", packages.len());
    for PackageFile { cpv, build_id, build_time, repo, slot, eapi, defined_phases, size, provides, requires } in
        packages
    {
        let path = package_path(cpv, *build_id);
        let _ = write!(
            text,
            "\nBUILD_ID: {build_id}\nBUILD_TIME: {build_time}\nCPV: {cpv}\nDEFINED_PHASES: {defined_phases}\n\
             EAPI: {eapi}\nPATH: {path}\nPROVIDES: {provides}\nREQUIRES: {requires}\nSIZE: {size}\nSLOT: {slot}\n\
             MTIME: {build_time}\nREPO: {repo}\n"
        );
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_a_block_of_its_own() {
        let package = PackageFile {
            cpv: "app-misc/hello-2.10".parse().unwrap(),
            build_id: BuildId(3),
            build_time: 1700000000,
            repo: "tree".parse().unwrap(),
            slot: "0/1".to_string(),
            defined_phases: "compile postinst".to_string(),
            eapi: "8".to_string(),
            size: 10240,
            provides: "x86_64: libx.so.1".to_string(),
            requires: String::new(),
        };
        insta::assert_snapshot!(text(&[package]), @r"
        PACKAGES: 1
        TIMESTAMP: 1
        VERSION: 0

        BUILD_ID: 3
        BUILD_TIME: 1700000000
        CPV: app-misc/hello-2.10
        DEFINED_PHASES: compile postinst
        EAPI: 8
        PATH: app-misc/hello/hello-2.10-3.gpkg.tar
        PROVIDES: x86_64: libx.so.1
        REQUIRES: 
        SIZE: 10240
        SLOT: 0/1
        MTIME: 1700000000
        REPO: tree
        ");
        assert_eq!(text(&[]), "PACKAGES: 0\nTIMESTAMP: 1\nVERSION: 0\n\n");
    }
}
