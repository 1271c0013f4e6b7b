use super::*;
use crate::backend::{Cross, PackageList, Tree};

fn settings() -> Settings {
    Settings {
        cross: None,
        arch: "amd64".to_string(),
        chost: "x86_64-pc-linux-gnu".to_string(),
        flags: [("CFLAGS", "-O2 -pipe"), ("LDFLAGS", "-Wl,-O1")].map(|(n, v)| (n.to_string(), v.to_string())).into(),
        use_flags: vec!["nls".to_string(), "-X".to_string()],
        keywords: vec!["amd64".to_string()],
        licenses: vec!["*".to_string(), "-@EULA".to_string()],
        package: [
            (PackageList::Use, vec!["app-misc/hello -nls".to_string()]),
            (PackageList::Provided, vec!["sys-libs/glibc-2.41".to_string()]),
        ]
        .into(),
        env: [("CPU_FLAGS_X86".to_string(), "avx2 sse4_2".to_string())].into(),
        features: vec!["test".to_string()],
        trees: vec![
            Tree { name: "gentoo".parse().unwrap(), priority: 0 },
            Tree { name: "overlay".parse().unwrap(), priority: 50 },
        ],
        portage_profile: "default/linux/amd64".to_string(),
        jobs: 2,
    }
}

#[test]
fn the_whole_configuration() {
    let Configuration { files, links } = configuration(&settings()).unwrap();
    let file = |path: &str| files[std::path::Path::new(path)].as_str();
    insta::assert_snapshot!(file("make.conf"), @r#"
    # Written by bindery from a profile.
    CPU_FLAGS_X86="avx2 sse4_2"
    CHOST="x86_64-pc-linux-gnu"
    CFLAGS="-O2 -pipe"
    LDFLAGS="-Wl,-O1"
    USE="nls -X"
    ACCEPT_KEYWORDS="amd64"
    ACCEPT_LICENSE="* -@EULA"
    FEATURES="-* binpkg-docompress binpkg-dostrip binpkg-multi-instance fixlafiles pkgdir-index-trusted protect-owned strict unknown-features-warn userpriv test"
    MAKEOPTS="-j2"
    DISTDIR="/var/cache/distfiles"
    PKGDIR="/var/cache/bindery/built"
    PORTAGE_TMPDIR="/var/tmp"
    BINPKG_FORMAT="gpkg"
    BINPKG_COMPRESS="zstd"
    BINPKG_COMPRESS_FLAGS="-1"
    CONFIG_PROTECT_MASK="/etc"
    PORTAGE_ELOG_CLASSES=""
    PORTAGE_ELOG_SYSTEM=""
    EMERGE_DEFAULT_OPTS=""
    GENTOO_MIRRORS=""
    "#);
    insta::assert_snapshot!(file("repos.conf"), @r"
    [DEFAULT]
    main-repo = gentoo

    [gentoo]
    location = /var/db/repos/gentoo
    priority = 0
    auto-sync = no
    sync-type =

    [overlay]
    location = /var/db/repos/overlay
    priority = 50
    auto-sync = no
    sync-type =
    ");
    assert_eq!(file("profile/make.defaults"), "ARCH=\"amd64\"\n");
    assert_eq!(file("profile/package.provided"), "sys-libs/glibc-2.41\n");
    assert_eq!(file("package.use"), "app-misc/hello -nls\n");
    assert_eq!(
        links[std::path::Path::new("make.profile")].to_string(),
        "/var/db/repos/gentoo/profiles/default/linux/amd64"
    );
}

#[test]
fn what_a_profile_leaves_open_is_left_to_the_portage_profile() {
    let settings = Settings { use_flags: vec![], keywords: vec![], licenses: vec![], ..settings() };
    let files = configuration(&settings).unwrap().files;
    let make_conf = &files[std::path::Path::new("make.conf")];
    for name in ["USE=", "ACCEPT_KEYWORDS=", "ACCEPT_LICENSE="] {
        assert!(!make_conf.contains(&format!("\n{name}")), "{name}");
    }
}

#[test]
fn values_cannot_leave_their_quotes() {
    // Each was read back by Portage 3.0.83's `getconfig` as what it was.
    for (value, quoted) in [
        ("-O2 -pipe", "-O2 -pipe"),
        (r#"a "b" c"#, r#"a \"b\" c"#),
        ("$(id) ${HOME} $x", r"\\$(id) \\${HOME} \\$x"),
        ("`id`", "`id`"),
        (r"a\b", r"a\\\\b"),
        ("it's $x", "it's $x"),
        ("it's $x it's $x", r"it's $x it's \\$x"),
        (r#""'$x'""#, r#"\"'\\$x'\""#),
        (r#"\" $x"#, r#"\\\\\" \\$x"#),
        (r"\", r"\\\\"),
        ("#; x=1", "#; x=1"),
        ("", ""),
    ] {
        assert_eq!(quote(value), quoted, "{value}");
    }
}

#[test]
fn control_characters_are_refused() {
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        configuration(&settings).unwrap_err().to_string()
    };
    assert_eq!(
        with(&|s| s.chost = "x\nFEATURES=\"\"".to_string()),
        "`CHOST` holds a control character in `x\\nFEATURES=\\\"\\\"`; remove it"
    );
    assert!(with(&|s| s.use_flags.push("a\rb".to_string())).starts_with("`USE` holds"));
    let line = "a/b c\n*/* d".to_string();
    assert!(with(&|s| s.package = [(PackageList::Use, vec![line.clone()])].into()).starts_with("`package.use` holds"));
}

#[test]
fn names_of_variables_are_names() {
    for name in ["", "1X", "A B", "A=B", "A\"", "Ä", "source", "export"] {
        let settings = Settings { env: [(name.to_string(), "x".to_string())].into(), ..settings() };
        assert!(matches!(configuration(&settings), Err(SettingsError::Variable(_))), "{name:?}");
    }
}

#[test]
fn features_that_cannot_be_are_refused_with_the_reason() {
    let settings = Settings { features: vec!["test".to_string(), "ccache".to_string()], ..settings() };
    let error = configuration(&settings).unwrap_err().to_string();
    assert_eq!(
        error,
        "FEATURES=`ccache` cannot be honoured: a build reaches nothing but its root; remove it from `features`"
    );
}

#[test]
fn the_portage_profile_is_in_a_tree() {
    let with = |portage_profile: &str| {
        super::portage_profile(&Settings { portage_profile: portage_profile.to_string(), ..settings() })
    };
    assert_eq!(with("overlay:x/y").unwrap().to_string(), "/var/db/repos/overlay/profiles/x/y");
    for path in ["", "../x", "x/../y", "/etc", "x//y", "other:x", "a:b:../c", "x\ny"] {
        assert!(with(path).is_err(), "{path:?}");
    }
    assert!(matches!(super::portage_profile(&Settings::default()), Err(SettingsError::NoTree)));
}

#[test]
fn only_the_number_of_jobs_changes_and_only_where_we_wrote_it() {
    let dir = tempfile::tempdir().unwrap();
    let written = configuration(&settings()).unwrap();
    written.write(dir.path()).unwrap();
    let (name, text) = with_jobs(dir.path(), 7).unwrap().unwrap();
    assert_eq!(name, std::path::Path::new("make.conf"));
    assert_eq!(text, written.files[&name].replace("MAKEOPTS=\"-j2\"", "MAKEOPTS=\"-j7\""));
    assert!(text.contains("\nMAKEOPTS=\"-j7\"\n"));
    // The administrator's own file is the administrator's.
    for own in ["MAKEOPTS=\"-j2\"\n", "# Written by bindery from a profile.\nMAKEOPTS=\"--load 2\"\n", ""] {
        fs::write(&dir.path().join("make.conf"), own).unwrap();
        assert_eq!(with_jobs(dir.path(), 7).unwrap(), None, "{own}");
    }
    fs::remove_file(&dir.path().join("make.conf")).unwrap();
    fs::create_dir(&dir.path().join("make.conf"), 0o755).unwrap();
    assert_eq!(with_jobs(dir.path(), 7).unwrap(), None);
}

#[test]
fn configure_is_told_that_programs_of_a_cross_build_run_only_where_they_do() {
    let cross =
        |emulated| Cross { cbuild: "x86_64-pc-linux-gnu".to_string(), sysroot: "/usr/s".parse().unwrap(), emulated };
    let of = |emulated: bool, env: &[(&str, &str)]| {
        let env = env.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        let Configuration { mut files, .. } =
            configuration(&Settings { cross: Some(cross(emulated)), env, ..settings() }).unwrap();
        let make_conf = files.remove(Path::new(MAKE_CONF)).unwrap();
        let set = make_conf.lines().find_map(|line| line.strip_prefix("CONFIG_SITE=")).map(str::to_string);
        (set, files.remove(Path::new("config.site")))
    };
    let (set, text) = of(true, &[]);
    assert_eq!(set.unwrap(), "\"/etc/bindery/target/etc/portage/config.site\"");
    // As `configure` reads it; one that checks the command line by that variable is told nothing.
    let dir = tempfile::tempdir().unwrap();
    fs::write(&dir.path().join("config.site"), text.unwrap()).unwrap();
    for (own, found) in [("", "maybe"), ("if test \"x$cross_compiling\" = xmaybe; then exit 1; fi\n", "yes")] {
        let configure = dir.path().join("configure");
        let script = format!("cross_compiling=yes\n. ./config.site\n{own}echo \"$cross_compiling\"\n");
        fs::write(&configure, script).unwrap();
        let said = crate::process::command("sh").arg("configure").current_dir(dir.path()).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap().trim(), found);
    }
    assert_eq!(of(false, &[]), (None, None));
    // What the profile says comes first.
    assert_eq!(of(true, &[(SITE, "/etc/own")]).0.unwrap(), "\"/etc/own\"");
}
