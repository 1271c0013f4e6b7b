//! The step that builds one package: one start of the sandbox puts its dependencies into the root and builds it.
//!
//! The dependencies are finished packages in [`PACKAGES`], which holds them and their [index](super::index) and nothing
//! else; dependencies are not resolved again (`--nodeps`), because the plan has done it. `emerge --buildpkgonly` runs
//! the phases up to `package`, and checks REQUIRED_USE, digests and `pkg_pretend`; its whole output is the log.

use crate::atom::{Cpv, RootPath};
use crate::backend::{BUILT, Build, PACKAGES, Step};

const PROGRAM: &str = include_str!("build.sh");

/// What stands before packages of the build side, in a cross build.
const TOOL: &str = "build-side:";

/// Returns the step.
pub(super) fn step(build: &Build<'_>) -> Step {
    let mut args: Vec<String> = ["/bin/sh", "-c", PROGRAM, "build", PACKAGES, BUILT].map(str::to_string).to_vec();
    args.push(format!("={}", build.cpv));
    args.extend(build.needs.iter().map(|cpv| format!("={cpv}")));
    let (cross, tools) = build.cross.unzip();
    for tool in tools.into_iter().flatten() {
        args.push(format!("{TOOL}={tool}"));
    }
    let mut env = super::across(cross);
    env.push(("SOURCE_DATE_EPOCH".to_string(), build.source_date.to_string()));
    Step { args, env }
}

/// Returns where the package is: the only one in a folder that was empty has the number 1.
pub(super) fn artefact(cpv: &Cpv) -> RootPath {
    let path = format!("{BUILT}/{}/{}-1.gpkg.tar", cpv.cp(), cpv.pf());
    path.parse().expect("categories, names and versions are components of a path")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Cross, DEPENDENCY_FAILED, TOOLS};

    #[test]
    fn dependencies_follow_the_package_in_their_order() {
        let cpv: Cpv = "app-misc/hello-2.10".parse().unwrap();
        let needs: Vec<Cpv> = ["dev-libs/a-1", "dev-libs/b-2-r1"].map(|cpv| cpv.parse().unwrap()).to_vec();
        let build = Build { cpv: &cpv, needs: &needs, source_date: 7, cross: None };
        let step = step(&build);
        assert_eq!(step.args[4..], [PACKAGES, BUILT, "=app-misc/hello-2.10", "=dev-libs/a-1", "=dev-libs/b-2-r1"]);
        assert!(step.env.contains(&("SOURCE_DATE_EPOCH".to_string(), "7".to_string())));
        assert!(step.env.iter().all(|(name, _)| name != "PKGDIR" && name != "ROOT"));
        let cross =
            Cross { cbuild: "x86_64-pc-linux-gnu".to_string(), sysroot: "/usr/s".parse().unwrap(), emulated: false };
        let step = super::step(&Build { cross: Some((&cross, &needs[..1])), needs: &needs[1..], ..build });
        assert_eq!(step.args[6..], ["=app-misc/hello-2.10", "=dev-libs/b-2-r1", "build-side:=dev-libs/a-1"]);
        for (name, value) in [("ROOT", "/usr/s"), ("SYSROOT", "/usr/s"), ("PORTAGE_CONFIGROOT", "/etc/bindery/target")]
        {
            assert!(step.env.contains(&(name.to_string(), value.to_string())), "{name}");
        }
    }

    #[test]
    fn the_artefact_is_found_by_the_packages_name() {
        let cpv: Cpv = "dev-libs/b-2-r1".parse().unwrap();
        assert_eq!(artefact(&cpv).to_string(), "/var/cache/bindery/built/dev-libs/b/b-2-r1-1.gpkg.tar");
    }

    #[test]
    fn the_program_tells_a_failed_dependency_apart() {
        assert!(PROGRAM.contains(&format!("exit {DEPENDENCY_FAILED}")));
        assert!(PROGRAM.contains(TOOL) && PROGRAM.contains(TOOLS));
    }
}
