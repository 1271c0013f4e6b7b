use std::path::PathBuf;

use super::{Definition, Recipe};
use crate::fs;

fn shipped() -> Definition {
    Definition::find(&"debian-portage".parse().unwrap(), &[]).unwrap()
}

/// The smallest definition, with one more line.
fn with(line: &str) -> Result<Recipe, String> {
    let text = format!(
        "{line}\nversion = 1\nkind = \"debian\"\narchitecture = \"amd64\"\nsuite = \"trixie\"\ncomponents = [\"main\"]\n\
         source-date = \"2025-08-09T00:00:00Z\"\npackages = []\n[[archive]]\nlabel = \"Debian\"\nsuites = [\"trixie\"]\n\
         default = \"http://deb.example/debian\"\nkeyring = \"/k.gpg\"\n"
    );
    Recipe::parse(&text).map_err(|e| e.to_string())
}

#[test]
fn the_cross_image_is_the_default_one_with_a_compiler_more() {
    let cross = Definition::find(&"debian-portage-cross-sparc64".parse().unwrap(), &[]).unwrap();
    let plain = shipped();
    assert_eq!(cross.inherits.as_ref(), Some(&plain.name));
    assert_eq!(cross.recipe.wheels, plain.recipe.wheels);
    assert!(cross.recipe.packages.starts_with(&plain.recipe.packages));
    let target = cross.recipe.cross.as_ref().unwrap();
    for tool in ["gcc", "g++", "ar", "strip", "pkg-config"] {
        let path = format!("/usr/bin/{}-{tool}", target.chost).parse().unwrap();
        assert!(cross.recipe.links.contains_key(&path), "{tool}");
    }
    // What it is for counts in requests, and makes no other image.
    let mut other = cross.clone();
    other.recipe.cross = None;
    assert!(other.digest() == cross.digest() && other.setup() != cross.setup());
}

#[test]
fn every_shipped_definition_reads_and_what_is_shared_is_no_image() {
    for (name, _) in super::IMAGES {
        let found = Definition::find(&name.parse().unwrap(), &[]).unwrap_or_else(|e| panic!("{e}"));
        assert!(!format!("{:?}", found.recipe).contains("@triplet"), "{name}");
        // What it names is there, too, and for the right machine.
        let named = |other: &Option<crate::atom::Name>| other.as_ref().map(|n| Definition::find(n, &[]).unwrap());
        if let Some(tools) = named(&found.recipe.native_tools) {
            let triplet = tools.inherits.is_none() && tools.recipe.architecture.as_str() == "amd64";
            assert!(triplet && tools.name.as_str().ends_with(found.recipe.architecture.as_str()), "{name}");
        }
        named(&found.recipe.emulator);
    }
    for (name, said) in [("debian-portage-cross", "`architecture`, `chost`"), ("native-tools", "`triplet`")] {
        let error = Definition::find(&name.parse().unwrap(), &[]).unwrap_err();
        let error = crate::process::chain(&error);
        assert!(error.contains("no image by itself") && error.contains(said), "{error}");
        assert!(!Definition::names(&[]).unwrap().iter().any(|known| known.as_str() == name));
    }
}

#[test]
fn what_each_machine_has_of_a_shared_definition_is_whole() {
    let path = |text: String| text.parse::<crate::atom::RootPath>().unwrap();
    for (debian, triplet, chost, machine) in [
        ("sparc64", "sparc64-linux-gnu", "sparc64-unknown-linux-gnu", "sparc64"),
        ("arm64", "aarch64-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64"),
        ("armhf", "arm-linux-gnueabihf", "armv7a-unknown-linux-gnueabihf", "arm"),
        ("i386", "i686-linux-gnu", "i686-pc-linux-gnu", "i386"),
        ("ppc64el", "powerpc64le-linux-gnu", "powerpc64le-unknown-linux-gnu", "ppc64le"),
        ("riscv64", "riscv64-linux-gnu", "riscv64-unknown-linux-gnu", "riscv64"),
        ("s390x", "s390x-linux-gnu", "s390x-ibm-linux-gnu", "s390x"),
    ] {
        let recipe = Definition::find(&format!("debian-portage-cross-{debian}").parse().unwrap(), &[]).unwrap().recipe;
        let cross = recipe.cross.as_ref().unwrap();
        assert_eq!((cross.architecture.as_str(), cross.chost.as_str()), (debian, chost));
        assert_eq!(cross.sysroot.to_string(), format!("/usr/{triplet}"));
        assert!(recipe.base.unwrap().packages.iter().any(|name| name.as_str() == format!("gcc-{triplet}")));
        // As many as when each had a list of its own.
        let more = recipe.links.len() - shipped().recipe.links.len();
        assert_eq!((more, recipe.files.len()), (if debian == "i386" { 41 } else { 36 }, 4), "{debian}");
        let link = |from: String| recipe.links[&path(from)].to_str().unwrap();
        assert_eq!(link(format!("/usr/bin/{chost}-gcc")), "../lib/bindery/cross-compiler");
        assert_eq!(link(format!("/usr/bin/{chost}-strip")), format!("{triplet}-strip"));
        assert_eq!(link(format!("/etc/qemu-binfmt/{machine}")), format!("../../usr/gnemul/qemu-{machine}"));
        let script = &recipe.files.iter().find(|file| file.path.to_string().ends_with("cross-compiler")).unwrap().text;
        for line in [format!("sysroot=/usr/{triplet}"), format!("tool=${{0##*/{chost}-}}")] {
            assert!(script.lines().any(|known| known == line), "{line}");
        }
        assert!(script.contains(&format!("\"/usr/bin/{triplet}-$tool\" --sysroot")));
        if ["i386", "sparc64"].contains(&debian) {
            continue;
        }
        let recipe = Definition::find(&format!("native-tools-{debian}").parse().unwrap(), &[]).unwrap().recipe;
        assert_eq!((recipe.keep.len(), recipe.moves.len(), recipe.strings.len(), recipe.files.len()), (140, 7, 14, 1));
        let cc1 = path(format!("/usr/libexec/gcc-cross/{triplet}/14/cc1"));
        assert!(
            recipe.keep.contains(&cc1)
                && recipe.moves[&cc1].to_string() == format!("/usr/libexec/gcc/{triplet}/14/cc1")
        );
        assert!(recipe.packages.iter().any(|name| name.as_str() == format!("g++-14-{triplet}")));
    }
}

#[test]
fn the_shipped_definition_reads() {
    let recipe = shipped().recipe;
    assert_eq!(recipe.suite.as_str(), "trixie");
    assert_eq!(recipe.source_date.seconds(), 1_754_697_600);
    assert_eq!(recipe.wheels[0].version.as_str(), "3.0.83");
    assert_eq!(recipe.replacements.len(), 4);
}

#[test]
fn the_digest_is_of_the_meaning_not_of_the_text() {
    let first = shipped();
    let mut second = first.clone();
    second.file = Some(PathBuf::from("/elsewhere/debian-portage.toml"));
    second.recipe.description = "another".to_string();
    assert_eq!(first.digest(), second.digest());
    second.recipe.packages.pop();
    assert_ne!(first.digest(), second.digest());
}

#[test]
fn a_misspelt_key_is_named() {
    let error = with("pakages = []").unwrap_err();
    assert!(error.contains("unknown field `pakages`, expected one of"), "{error}");
    assert!(error.contains("line 1"), "{error}");
}

#[test]
fn an_unknown_kind_and_version_are_named() {
    let error = Recipe::parse("version = 1\nkind = \"slackware\"\n").unwrap_err().to_string();
    assert!(error.contains("unknown variant `slackware`, expected `debian` or `debian-files`"), "{error}");
    let text = include_str!("../../../images/debian-portage.toml").replace("version = 1\n", "version = 7\n");
    assert!(Recipe::parse(&text).unwrap_err().to_string().contains("version 7 is not known here, only 1"));
}

#[test]
fn what_a_program_could_take_for_an_option_is_refused() {
    let error = with("").unwrap().packages.len();
    assert_eq!(error, 0);
    let text = include_str!("../../../images/debian-portage.toml").replace("\"gcc\"", "\"--allow-unauthenticated\"");
    let error = Recipe::parse(&text).unwrap_err().to_string();
    assert!(error.contains("`--allow-unauthenticated` is not a name or version"), "{error}");
}

#[test]
fn a_relative_path_or_one_with_dot_dot_is_refused() {
    for path in ["etc/x", "/etc/../x"] {
        let error = with(&format!("drop = [\"{path}\"]")).unwrap_err();
        assert!(error.contains("is not an absolute path without `..`"), "{error}");
    }
}

#[test]
fn a_user_that_would_break_passwd_is_refused() {
    let user = |comment: &str| {
        let text = include_str!("../../../images/debian-portage.toml");
        Recipe::parse(&text.replace("comment = \"Portage\"", &format!("comment = \"{comment}\"")))
    };
    assert!(user("a:b").unwrap_err().to_string().contains("comment of user `portage` cannot stand in /etc/passwd"));
    assert!(user("a\\nb").is_err());
}

#[test]
fn a_wrong_date_is_refused() {
    let text = include_str!("../../../images/debian-portage.toml").replace("2025-08-09T00:00:00Z", "yesterday");
    assert!(Recipe::parse(&text).unwrap_err().to_string().contains("not a time such as"));
}

#[test]
fn an_unknown_image_lists_the_known_and_the_folders() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(&dir.path().join("mine.toml"), "").unwrap();
    // No image by itself.
    fs::write(&dir.path().join("shared.toml"), "parameters = [\"a\"]\n").unwrap();
    let folders = [dir.path().to_path_buf(), PathBuf::from("/nowhere/images")];
    let error = Definition::find(&"gentoo".parse().unwrap(), &folders).unwrap_err().to_string();
    let mut known: Vec<&str> = super::IMAGES.iter().map(|(name, _)| *name).chain(["mine"]).collect();
    known.sort_unstable();
    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    assert_eq!(
        error,
        format!(
            "there is no image `gentoo`; known are {}; definitions are looked for in `{}`, \
             `/nowhere/images`",
            known.join(", "),
            dir.path().display()
        )
    );
}

#[test]
fn a_folder_comes_before_what_is_shipped() {
    let dir = tempfile::tempdir().unwrap();
    let text = include_str!("../../../images/debian-portage.toml").replace("\"gcc\", ", "");
    fs::write(&dir.path().join("debian-portage.toml"), text).unwrap();
    let found = Definition::find(&"debian-portage".parse().unwrap(), &[dir.path().to_path_buf()]).unwrap();
    assert_ne!(found.digest(), shipped().digest());
    assert_eq!(found.file, Some(dir.path().join("debian-portage.toml")));
}
