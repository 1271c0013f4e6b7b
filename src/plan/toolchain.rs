//! Which packages of the image can change what is built, by their role. Pure.
//!
//! The image holds far more than what builds use: a new version of what only boots, logs in or fetches must rebuild
//! nothing. What counts is listed here by Debian's names; Python packages count whether they are Debian's or wheels.
//! An image in which no compiler is found is none of Debian's: there, every package counts.

use std::collections::BTreeMap;

/// Roles, and the names that have them: `*` at the end or the beginning stands for anything. The first that fits counts,
/// and a change names the first in this order.
const ROLES: [(&str, &[&str]); 9] = [
    // With the libraries of its own that it links into programs, or computes constants with.
    (
        "compiler",
        &[
            "gcc-*",
            "g++-*",
            "gcc",
            "g++",
            "cpp*",
            "libgcc-*",
            "libstdc++*",
            "libcc1-*",
            "libgomp*",
            "libatomic*",
            "libitm*",
            "libasan*",
            "liblsan*",
            "libtsan*",
            "libubsan*",
            "libhwasan*",
            "libquadmath*",
            "libgmp*",
            "libmpfr*",
            "libmpc*",
            "libisl*",
            "clang*",
            "libclang*",
            "llvm*",
            "libllvm*",
            "gfortran*",
            "libgfortran*",
            "gnat*",
            "rustc*",
            "libstd-rust*",
            "cargo*",
            "golang*",
            "gdc*",
            "gobjc*",
            "gccgo*",
        ],
    ),
    ("binutils", &["binutils*", "libbinutils*", "libctf*", "libgprofng*", "libsframe*", "lld*", "mold*", "elfutils*"]),
    ("C library", &["libc6*", "libc-bin*", "libc-dev-bin*", "libcrypt*", "musl*"]),
    ("kernel headers", &["linux-libc-dev*"]),
    (
        "make",
        &["make", "make-guile", "ninja-build", "cmake*", "meson", "scons", "autoconf*", "automake*", "libtool*", "m4"],
    ),
    ("Portage", &["portage", "sandbox"]),
    ("Python", &["python3*", "python-*", "libpython3*"]),
    // What phases and build scripts call.
    (
        "tools",
        &[
            "bash",
            "dash",
            "coreutils",
            "sed",
            "grep",
            "gawk",
            "mawk",
            "original-awk",
            "findutils",
            "diffutils",
            "patch",
            "tar",
            "gzip",
            "bzip2",
            "xz-utils",
            "zstd",
            "file",
            "libmagic*",
            "pax-utils",
            "perl*",
            "libperl*",
            "debianutils",
            "util-linux*",
            "pkgconf*",
            "pkg-config*",
            "libpkgconf*",
            "bison",
            "flex",
            "gettext*",
            "gperf",
            "help2man",
            "texinfo*",
            "groff*",
            "doxygen*",
            "swig*",
            "nasm",
            "yasm",
            "valac*",
            "intltool*",
            "itstool*",
            "xsltproc*",
            "docbook*",
            "gtk-doc*",
            "patchelf",
            "git",
            "nodejs*",
            "ruby*",
            "lua*",
            "tcl*",
            "openjdk*",
            "default-jdk*",
        ],
    ),
    // A compiler finds what is in them before what was built.
    ("headers", &["*-dev", "*-dev-bin"]),
];

/// The role of what is in an image's base for a reason that this list does not know.
const OTHERS: &str = "tools";

/// Returns the packages of an image that count, by role, as `NAME=VERSION` with spaces between. `debs` and `wheels` are
/// names and versions, of what builds see; what is `named` in the image's base counts even if the list does not have it.
pub fn toolchain<'a>(
    debs: impl IntoIterator<Item = (&'a str, &'a str)>,
    wheels: impl IntoIterator<Item = (&'a str, &'a str)>,
    named: impl Fn(&str) -> bool,
) -> BTreeMap<String, String> {
    let mut found: BTreeMap<&str, Vec<(usize, &str, &str)>> = BTreeMap::new();
    let debs: Vec<_> = debs.into_iter().collect();
    for (name, version) in &debs {
        if let Some((role, place)) = role(name).or_else(|| named(name).then_some((OTHERS, usize::MAX))) {
            found.entry(role).or_default().push((place, name, version));
        }
    }
    if !found.contains_key("compiler") {
        found = BTreeMap::from([("image", debs.iter().map(|(name, version)| (0, *name, *version)).collect())]);
    }
    for (name, version) in wheels {
        let role = if name == "portage" { "Portage" } else { "Python" };
        found.entry(role).or_default().push((usize::MAX, name, version));
    }
    let text = |mut packages: Vec<(usize, &str, &str)>| {
        packages.sort_unstable();
        packages.dedup();
        packages.iter().map(|(_, name, version)| format!("{name}={version}")).collect::<Vec<_>>().join(" ")
    };
    found.into_iter().map(|(role, packages)| (role.to_string(), text(packages))).collect()
}

/// Returns a package's role, and its place in it.
fn role(name: &str) -> Option<(&'static str, usize)> {
    let fits = |pattern: &&str| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(beginning)) => name.starts_with(beginning),
        _ => name == *pattern,
    };
    ROLES.iter().find_map(|(role, patterns)| Some((*role, patterns.iter().position(&fits)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBS: &[(&str, &str)] = &[
        ("base-files", "13.8"),
        ("cpp-14", "14.2.0-19"),
        ("gcc-14", "14.2.0-19"),
        ("libc6", "2.41-12"),
        ("make", "4.4"),
    ];

    fn of(debs: &[(&'static str, &'static str)]) -> BTreeMap<String, String> {
        toolchain(debs.iter().copied(), [("portage", "3.0.83")], |_| false)
    }

    #[test]
    fn packages_are_sorted_into_roles_and_the_rest_is_left_out() {
        let text: Vec<String> = of(DEBS).into_iter().map(|(role, packages)| format!("{role}: {packages}")).collect();
        let expected = [
            "C library: libc6=2.41-12",
            "Portage: portage=3.0.83",
            "compiler: gcc-14=14.2.0-19 cpp-14=14.2.0-19",
            "make: make=4.4",
        ];
        assert_eq!(text, expected);
    }

    #[test]
    fn a_package_that_no_build_uses_changes_nothing() {
        for name in
            ["openssh-client", "ca-certificates", "wget", "login", "systemd", "apt", "gpg", "libssl3t64", "mount"]
        {
            assert_eq!(of(&[DEBS, &[(name, "1")]].concat()), of(DEBS), "{name}");
        }
        let reversed: Vec<_> = DEBS.iter().rev().copied().collect();
        assert_eq!(of(&reversed), of(DEBS));
    }

    #[test]
    fn what_the_base_names_counts_in_any_case() {
        let named = |name: &str| name == "netbase";
        let found = toolchain([DEBS, &[("netbase", "6.5"), ("tzdata", "1")]].concat(), [], named);
        assert_eq!(found["tools"], "netbase=6.5");
    }

    #[test]
    fn a_package_that_builds_may_use_changes_its_role() {
        for (name, role) in [
            ("g++", "compiler"),
            ("libstdc++-14-dev", "compiler"),
            ("binutils-x86-64-linux-gnu", "binutils"),
            ("libc6-dev", "C library"),
            ("linux-libc-dev", "kernel headers"),
            ("python3.13-minimal", "Python"),
            ("python3-yaml", "Python"),
            ("perl-base", "tools"),
            ("zlib1g-dev", "headers"),
        ] {
            let changed = of(&[DEBS, &[(name, "1")]].concat());
            let before = of(DEBS);
            let roles: Vec<&String> = changed.keys().filter(|role| changed.get(*role) != before.get(*role)).collect();
            assert_eq!(roles, [role], "{name}");
        }
    }

    #[test]
    fn in_an_image_of_an_unknown_kind_every_package_counts() {
        let found = of(&[("sys-devel/gcc", "14"), ("app-misc/hello", "1")]);
        assert_eq!(found["image"], "app-misc/hello=1 sys-devel/gcc=14");
    }
}
