use std::path::Path;

use super::*;
use crate::config::{At, Search, Source};
use crate::fs;

mod refusals;

/// A project with the profiles `(name, text)`, an image `img` and a tree `tree`.
pub(super) struct Project(pub(super) tempfile::TempDir);

pub(super) const BASE: &str = "version = 1\nchost = \"x86_64-pc-linux-gnu\"\nportage-profile = \"default\"\n";

impl Project {
    pub(super) fn new(profiles: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = "version = 1\n[defaults]\nimage = \"img\"\ntrees = [\"tree\"]\n[trees.tree]\npath = \"t\"\n[sets]\nworld = [\"app-misc/hello\"]\n";
        fs::create_dir_all(&dir.path().join("profiles")).unwrap();
        fs::create_dir_all(&dir.path().join("images")).unwrap();
        fs::write(&dir.path().join("images/img.toml"), "").unwrap();
        fs::write(&dir.path().join("bindery.toml"), config).unwrap();
        let project = Self(dir);
        for (name, text) in profiles {
            project.write(&format!("profiles/{name}.toml"), text);
        }
        project
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }

    pub(super) fn config(&self) -> Config {
        Config::load(Search::of(vec![self.0.path().to_path_buf()])).unwrap()
    }

    pub(super) fn load(&self, name: &str) -> Result<Profile, ProfileError> {
        Profile::load(&self.config(), &name.parse().unwrap())
    }

    /// What a person sees, without the temporary folder.
    fn complaint(&self, name: &str) -> String {
        let error = self.load(name).unwrap_err();
        error.diagnostic().unwrap().render(false).replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

#[test]
fn what_a_profile_does_not_say_comes_from_what_it_inherits_and_then_from_the_defaults() {
    let project = Project::new(&[
        ("base", &format!("{BASE}use = [\"a\", \"b\"]\n[flags]\ncflags = \"-O1\"\n[limits]\ncpus = 2\n")),
        ("left", "version = 1\ninherits = \"base\"\nuse = [\"-a\"]\nkey = \"left\"\n[flags]\ncflags = \"-O2\"\n"),
        ("right", "version = 1\ninherits = [\"base\"]\nkey = \"right\"\n[limits]\nmemory = \"1GiB\"\n"),
        ("own", "version = 1\ninherits = [\"left\", \"right\"]\nuse = [\"c\", \"-b\"]\n[env]\nL10N = \"de\"\n"),
    ]);
    let profile = project.load("own").unwrap();
    // `base` is applied once, before both: what `left` says stays although `right` inherits `base` too.
    assert_eq!(profile.flags.cflags.as_ref().unwrap().as_str(), "-O2");
    assert_eq!(profile.flags.cxxflags, profile.flags.cflags);
    assert_eq!(profile.flags.ldflags, None);
    assert_eq!(texts(&profile.use_), ["-a", "c", "-b"]);
    assert_eq!(profile.key.as_str(), "right");
    assert_eq!(profile.image.as_str(), "img");
    assert_eq!(texts(&profile.trees), ["tree"]);
    assert_eq!(profile.arch.as_str(), "amd64");
    assert_eq!((profile.limits.cpus, profile.limits.memory), (Some(2.0), Some(1 << 30)));
    assert!(profile.limits.time.is_some() && profile.limits.silence.is_some() && profile.limits.idle.is_some());
    let files: Vec<_> = profile.files.iter().map(|file| file.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(files, ["base", "left", "right", "own"]);
    let place = |file: &str| format!("{}/{file}", project.0.path().display());
    assert_eq!(profile.places.of("flags.cflags"), [place("profiles/left.toml:6")]);
    assert_eq!(
        profile.places.of("use"),
        [place("profiles/left.toml:3"), place("profiles/own.toml:3"), place("profiles/own.toml:3")]
    );
    assert_eq!(profile.places.of("image"), [place("bindery.toml:3")]);
    assert!(profile.places.of("limits.time").is_empty());
}

#[test]
fn minus_star_forgets_what_came_before() {
    let project = Project::new(&[
        ("base", &format!("{BASE}use = [\"a\", \"b\"]\n[flags]\ncpu-flags = [\"sse\", \"avx\"]\n")),
        ("own", "version = 1\ninherits = \"base\"\nuse = [\"-*\", \"c\"]\n[flags]\ncpu-flags = [\"-avx\", \"avx2\"]\n"),
    ]);
    let profile = project.load("own").unwrap();
    assert_eq!(texts(&profile.use_), ["-*", "c"]);
    assert_eq!(texts(&profile.flags.cpu_flags), ["sse", "avx2"]);
}

#[test]
fn native_configuration_and_patches_come_from_every_file() {
    let project = Project::new(&[
        ("base", &format!("{BASE}patches = \"../fixes\"\n")),
        ("own", "version = 1\ninherits = \"base\"\npatches = [\"own/patches\"]\n"),
    ]);
    for file in ["fixes/x", "profiles/base/portage/make.conf", "profiles/own/portage/bashrc", "profiles/own/patches/x"]
    {
        project.write(file, "");
    }
    let profile = project.load("own").unwrap();
    let below = |path: &str| project.0.path().join("profiles").join(path);
    assert_eq!(profile.native, [below("base/portage"), below("own/portage")]);
    assert_eq!(profile.patches, [below("../fixes"), below("own/patches")]);
}

#[test]
fn a_wide_inheritance_is_read_once_each() {
    let mut profiles = vec![("p0".to_string(), BASE.to_string())];
    // Read again for every path through it, this would take 2^30 steps.
    for i in 0..15 {
        let (down, a, b) = (if i == 0 { "p0".into() } else { format!("j{}", i - 1) }, format!("a{i}"), format!("b{i}"));
        profiles.push((a.clone(), format!("version = 1\ninherits = \"{down}\"\n")));
        profiles.push((b.clone(), format!("version = 1\ninherits = \"{down}\"\n")));
        profiles.push((format!("j{i}"), format!("version = 1\ninherits = [\"{a}\", \"{b}\"]\n")));
    }
    let profiles: Vec<(&str, &str)> = profiles.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(Project::new(&profiles).load("j14").unwrap().files.len(), 46);
}

#[test]
fn sets_are_expanded_and_cannot_contain_themselves() {
    let project = Project::new(&[(
        "p",
        &format!(
            "{BASE}[sets]\nall = [\"@world\", \"a/b\", \"app-misc/hello\", \"@system\"]\nx = [\"@y\"]\ny = [\"@x\"]\n"
        ),
    )]);
    let profile = project.load("p").unwrap();
    let expand = |text: &str| profile.expand(&[text.parse().unwrap()]);
    assert_eq!(texts(&expand("@all").unwrap()), ["app-misc/hello", "a/b", "@system"]);
    assert_eq!(expand("@x").unwrap_err().to_string(), "a set contains itself: @x → @y → @x");
    let unknown = expand("@al").unwrap_err();
    assert_eq!(unknown.to_string(), "there is no set `@al` for profile `p`");
    assert_eq!(unknown.hints()[0], "did you mean `@all`?");
}

#[test]
fn what_show_prints_is_a_profile_that_means_the_same() {
    let project = Project::new(&[
        (
            "base",
            &format!(
                "{BASE}use = [\"a\", \"-b\"]\ndescription = \"with \\\"quotes\\\" # and more\"\n[limits]\nmemory = \"1.5kB\"\ndisk = \"2GB\"\ntime = \"90min\"\ncpus = 1.5\n"
            ),
        ),
        (
            "own",
            "version = 1\ninherits = \"base\"\nmirrors = [\"dist\", \"https://m.example\"]\n[flags]\ncflags = \"-O2 -pipe\"\ncpu-flags = [\"avx\"]\n[package]\nuse = [\"a/b c\", \"a/c d\"]\n[sets]\n\"a.b\" = [\"x/y\"]\n[env]\nL10N = \"de \\\\ $x\"\n",
        ),
    ]);
    let own = project.load("own").unwrap();
    let text = own.to_toml();
    project.write("profiles/again.toml", &text);
    let mut again = project.load("again").unwrap_or_else(|e| panic!("{e}\n{text}"));
    (again.name, again.files, again.places) = (own.name.clone(), own.files.clone(), own.places.clone());
    assert_eq!(again, own);
    let text = text.replace(&format!("{}/", project.0.path().display()), "");
    insta::assert_snapshot!(text, @r#"
    # profile own, read from
    #   profiles/base.toml
    #   profiles/own.toml
    version = 1
    description = 'with "quotes" # and more'  # profiles/base.toml:5
    image = "img"  # bindery.toml:3
    backend = "portage"  # not set: bindery's default
    trees = ["tree"]  # bindery.toml:4
    portage-profile = "default"  # profiles/base.toml:3
    arch = "amd64"  # profiles/base.toml:2
    chost = "x86_64-pc-linux-gnu"  # profiles/base.toml:2
    method = "auto"  # not set: bindery's default
    use = [
        "a",  # profiles/base.toml:4
        "-b",  # profiles/base.toml:4
    ]
    mirrors = ["profiles/dist", "https://m.example"]  # profiles/own.toml:3
    key = "default"  # <bindery>/bindery.toml:6
    share = true  # not set: bindery's default

    [flags]
    cflags = "-O2 -pipe"  # profiles/own.toml:5
    cpu-flags = ["avx"]  # profiles/own.toml:6

    [package]
    use = [
        "a/b c",  # profiles/own.toml:8
        "a/c d",  # profiles/own.toml:8
    ]

    [sets]
    "a.b" = ["x/y"]  # profiles/own.toml:10
    world = ["app-misc/hello"]  # bindery.toml:8

    [env]
    L10N = 'de \ $x'  # profiles/own.toml:12

    [rebuild]
    archives = "any"  # not set: bindery's default
    tools = "any"  # not set: bindery's default

    [isa]
    # packages may need x86-64 and avx

    [limits]
    cpus = 1.5  # profiles/base.toml:10
    memory = "1.500000000kB"  # profiles/base.toml:7
    disk = "1953125KiB"  # profiles/base.toml:8
    time = "1h 30m"  # profiles/base.toml:9
    silence = "30m"  # not set: bindery's default
    idle = "15m"  # not set: bindery's default
    "#);
}

#[test]
fn what_is_shared_and_what_rebuilds_is_inherited_and_checked() {
    let parent = format!("{BASE}share = false\n[rebuild]\ntools = \"abi\"\n");
    let own = "version = 1\ninherits = \"base\"\n[rebuild]\narchives = \"never\"\n";
    let project = Project::new(&[("base", &parent), ("own", own), ("plain", BASE)]);
    let own = project.load("own").unwrap();
    assert_eq!((own.share, own.rebuild.archives, own.rebuild.tools), (false, Archives::Never, Tools::Abi));
    let plain = project.load("plain").unwrap();
    assert_eq!((plain.share, plain.rebuild), (true, Rebuild::default()));
    for (text, said) in [
        ("[rebuild]\ntools = \"content\"\n", "unknown variant `content`, expected one of `any`, `abi`, `never`"),
        ("[rebuild]\narchives = \"abi\"\n", "unknown variant `abi`, expected `any` or `never`"),
        ("[rebuild]\nheaders = \"any\"\n", "unknown field `headers`"),
    ] {
        project.write("profiles/plain.toml", &format!("{BASE}{text}"));
        let error = project.load("plain").unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn the_method_is_inherited_and_single_packages_may_have_another() {
    let parent = format!("{BASE}method = \"cross\"\nbuild-side = \"amd64\"\n[package]\nmethod = [\"a/b native\"]\n");
    let own = "version = 1\ninherits = \"base\"\n[package]\nmethod = [\"a/c emulated\", \"a/b auto\"]\n";
    let project = Project::new(&[("base", &parent), ("own", own), ("plain", BASE)]);
    let own = project.load("own").unwrap();
    assert_eq!(
        ["a/b", "a/c", "a/d"].map(|package| own.method_of(package)),
        [Method::Auto, Method::Emulated, Method::Cross]
    );
    assert_eq!(own.build_side.unwrap().as_str(), "amd64");
    assert_eq!(project.load("plain").unwrap().method, Method::Auto);
    for (text, said) in [
        ("method = \"fast\"\n", "unknown variant `fast`, expected one of `auto`, `native`, `cross`, `emulated`"),
        ("[package]\nmethod = [\"hello cross\"]\n", "`hello cross` is not `CATEGORY/NAME METHOD`"),
    ] {
        project.write("profiles/plain.toml", &format!("{BASE}{text}"));
        let error = project.load("plain").unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn the_json_form_says_where_each_value_is_from() {
    let project = Project::new(&[("p", BASE)]);
    let json = serde_json::to_value(project.load("p").unwrap()).unwrap();
    assert_eq!(json["chost"], "x86_64-pc-linux-gnu");
    assert!(json["from"]["chost"][0].as_str().unwrap().ends_with("profiles/p.toml:2"));
    assert_eq!(json["limits"]["silence"], 1800);
}

#[test]
fn a_wrong_profile_is_listed_with_what_is_wrong() {
    let project =
        Project::new(&[("bad", "version = 1\nx = 1\n"), ("good", &format!("{BASE}description = \"fine\"\n"))]);
    let list = list(&project.config()).unwrap();
    let names: Vec<_> = list.iter().map(|listed| (listed.name.as_str(), listed.description.is_ok())).collect();
    // The ones built in need an image or tree that is there: `img` and `tree` are.
    let own = names.iter().filter(|(name, _)| ["bad", "good"].contains(name));
    assert_eq!(own.collect::<Vec<_>>(), [&("bad", false), &("good", true)]);
    assert!(names.iter().all(|(name, good)| *good || *name == "bad") && names.contains(&("arm64", true)), "{names:?}");
    assert!(names.is_sorted() && names.contains(&("sparc64", true)), "{names:?}");
}

#[test]
fn every_shipped_file_parses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let search = Search::of(vec![root.to_path_buf()]);
    let shipped = search.list(Kind::Profile).unwrap();
    assert!(shipped.len() >= 2);
    for found in shipped {
        assert!(found.path.starts_with(root), "{} is built in only", found.name);
        ProfileFile::parse(&found.read().unwrap()).unwrap();
    }
}

#[test]
fn every_shipped_profile_resolves_in_the_project() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Stands behind the project's own images, for a test of profiles alone.
    let images = Project::new(&[]);
    images.write("images/debian-portage.toml", "");
    for name in ["arm64", "armhf", "cross-i386", "cross-sparc64", "ppc64el", "riscv64", "s390x"] {
        images.write(&format!("images/debian-portage-{name}.toml"), "");
    }
    let config = Config::load(Search::of(vec![root.to_path_buf(), images.0.path().to_path_buf()])).unwrap();
    for found in config.search.list(Kind::Profile).unwrap() {
        let profile = Profile::load(&config, &found.name).unwrap_or_else(|e| panic!("{e}"));
        let image = match found.name.as_str() {
            "arm64" => "debian-portage-arm64",
            "armv7" => "debian-portage-armhf",
            "i686" => "debian-portage-cross-i386",
            "ppc64le" => "debian-portage-ppc64el",
            "riscv64" => "debian-portage-riscv64",
            "s390x" => "debian-portage-s390x",
            "sparc64" => "debian-portage-cross-sparc64",
            _ => "debian-portage",
        };
        assert_eq!((profile.image.as_str(), profile.key.as_str()), (image, "default"));
        assert!(profile.description.is_some(), "{} has no description", found.name);
    }
}

#[test]
fn the_shipped_profiles_differ_by_what_the_compiler_may_use() {
    let project = Project::new(&[]);
    let levels = ["amd64", "x86-64-v2", "x86-64-v3", "x86-64-v4"].map(|name| project.load(name).unwrap());
    for (lower, higher) in levels.iter().zip(&levels[1..]) {
        assert!(lower.flags.cpu_flags.iter().all(|flag| higher.flags.cpu_flags.contains(flag)), "{}", higher.name);
        // What the flags name is what the level is: the audit lets nothing beyond it pass.
        let cflags = higher.flags.cflags.as_ref().unwrap().as_str();
        assert_eq!(cflags, format!("-O2 -pipe -march={}", higher.name));
        assert_eq!(higher.isa.target.level.as_deref(), Some(higher.name.as_str()));
    }
    let [amd64, _, v3, _] = levels;
    assert_eq!(amd64.flags.cflags.unwrap().as_str(), "-O2 -pipe -march=x86-64");
    assert_eq!(v3.flags.cxxflags.unwrap().as_str(), "-O2 -pipe -march=x86-64-v3");
    assert_eq!(v3.chost, amd64.chost);
    assert!(amd64.flags.cpu_flags.iter().all(|flag| v3.flags.cpu_flags.contains(flag)));
    assert!(v3.flags.cpu_flags.iter().any(|flag| flag.as_str() == "avx2"));
    assert_eq!(v3.files, [Path::new("<bindery>/profiles/amd64.toml"), Path::new("<bindery>/profiles/x86-64-v3.toml")]);
}

#[test]
fn a_place_names_file_and_line() {
    let source = std::sync::Arc::new(Source { path: "f".into(), text: "a\nb".into() });
    assert_eq!(At { value: (), span: 2..3, source }.place(), "f:2");
}

#[test]
fn what_packages_may_need_follows_from_the_flags_unless_the_profile_says_it() {
    let second = format!("{BASE}key = \"k\"\n[flags]\ncflags = \"-O2 -march=x86-64-v2\"\ncpu-flags = [\"aes\"]\n");
    let project = Project::new(&[
        ("derived", &second),
        ("said", "version = 1\ninherits = \"derived\"\n[isa]\nlevel = \"x86-64-v3\"\nfeatures = [\"sha\"]\n"),
        ("more", "version = 1\ninherits = \"derived\"\n[isa]\nfeatures = [\"sha\"]\n"),
        ("native", &format!("{BASE}key = \"k\"\n[flags]\ncflags = \"-march=native\"\n")),
    ]);
    let target = |name: &str| project.load(name).unwrap().isa.target;
    assert_eq!(target("derived").to_string(), "x86-64-v2 and aes");
    assert_eq!(target("said").to_string(), "x86-64-v3 and sha");
    assert_eq!(target("more").to_string(), "x86-64-v2 and aes and sha");
    assert_eq!(target("native").to_string(), "x86-64");
    assert!(project.load("native").unwrap().to_toml().contains("# `-march=native` says no level that bindery knows"));
    assert!(project.load("derived").unwrap().to_toml().contains("\n[isa]\n# packages may need x86-64-v2 and aes\n"));
}

#[test]
fn exceptions_from_the_level_are_inherited_and_add_up() {
    let exception = |package: &str, symbol: &str| {
        format!(
            "[[isa.exceptions]]\npackage = \"{package}\"\nfile = \"/usr/lib64/*\"\n{symbol}reason = \"a \\\"quoted\\\" one\"\n"
        )
    };
    let project = Project::new(&[
        ("base", &format!("{BASE}key = \"k\"\n{}", exception("app-arch/zstd", "symbol = \"*_bmi2\"\n"))),
        ("own", &format!("version = 1\ninherits = \"base\"\n{}", exception("a/b", ""))),
    ]);
    let own = project.load("own").unwrap();
    let of = |package: &str| own.isa.wanted(package).exceptions;
    assert_eq!((of("app-arch/zstd").len(), of("a/b").len(), of("a/c").len()), (1, 1, 0));
    assert_eq!((of("app-arch/zstd")[0].symbol.as_deref(), of("a/b")[0].symbol.as_deref()), (Some("*_bmi2"), None));
    // What is shown is a profile.
    project.write("profiles/shown.toml", &own.to_toml());
    assert_eq!(project.load("shown").unwrap().isa, own.isa);
}
