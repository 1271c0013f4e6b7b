//! Packages that hold no compiled code are shared between profiles that differ in flags for the compiler, and only those.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::bench::{Bench, Said, Who};
use crate::started::Own;

/// Looks at what it should not, so that the same request comes out otherwise.
const TEXT: &str = r#"
src_compile() { echo "int main(void) { return 0; }" > main.c; ${CC:-gcc} ${CFLAGS} -o compiled main.c || die; }
src_install() {
	insinto /usr/share/own
	doins "${FILESDIR}"/text
	if [[ -e /var/cache/distfiles/own-compiled ]]; then dobin compiled; fi
}
"#;
const APP: &str = r#"
src_compile() { echo "int main(void) { return 0; }" > main.c; ${CC:-gcc} ${CFLAGS} -o app main.c || die; }
src_install() { dobin app; }
"#;
/// Notes how it was compiled, as some packages do for those that are built with them.
const CONFIG: &str = r#"src_install() { newbin - own-config <<< "echo ${CFLAGS}"; }"#;
/// What is asked for: of the Python packages `six` brings all that build it.
const ATOMS: [&str; 4] = ["dev-python/six", "own/app", "own/config", "own/text"];
/// Those that are proven to hold no code; the others bring programs for Windows.
const PYTHON: [&str; 2] = ["dev-python/flit-core-3.12.0", "dev-python/six-1.17.0"];

/// A state with two profiles and nothing else: `one` for any processor, `two` for newer ones, with another key.
struct Two {
    own: Own,
}

impl Two {
    fn new() -> Self {
        let own = Own::new(Who::Me, "share");
        let shared = Bench::new("share").state;
        let shared = shared.join("cache/distfiles");
        let folder = own.bench.state.join("cache/distfiles");
        std::fs::create_dir_all(&folder).unwrap();
        for file in std::fs::read_dir(shared).unwrap().flatten() {
            let name = file.file_name().into_string().unwrap();
            if ["flit_core", "installer", "setuptools", "six"].iter().any(|wanted| name.starts_with(wanted)) {
                std::fs::copy(file.path(), folder.join(name)).unwrap();
            }
        }
        let two = Self { own };
        two.bench().write_tree(&[("app", APP), ("config", CONFIG), ("text", TEXT)]);
        two.bench().write("own/own/text/files/text", "one\n");
        two.bench().run(&["key", "new", "other"]).works();
        two.write_profile("one", "amd64", "default", "");
        two.write_profile("two", "x86-64-v3", "other", "");
        two
    }

    fn bench(&self) -> &Bench {
        &self.own.bench
    }

    fn write_profile(&self, name: &str, inherits: &str, key: &str, more: &str) {
        let text = "trees = [\"bindery-test\", \"own\"]";
        let text = format!("version = 1\ninherits = \"{inherits}\"\nkey = \"{key}\"\n{text}\n{more}");
        self.bench().write(&format!("profiles/{name}.toml"), &text);
    }

    fn build(&self, profile: &str, more: &[&str]) -> Said {
        self.bench().run(&[&["build", "--profile", profile], &ATOMS[..], more].concat())
    }

    fn pool(&self, profile: &str) -> PathBuf {
        self.bench().state.join("state/profiles").join(profile).join("pool")
    }

    fn record(&self, profile: &str, path: &str) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.pool(profile).join(path)).unwrap()).unwrap()
    }

    /// Returns what the plan says of a package for `two`.
    fn why(&self, package: &str) -> String {
        let said = self.build("two", &["--pretend"]);
        let line = said.works().out.lines().find(|line| line.contains(package)).map(str::to_string);
        line.unwrap_or_else(|| panic!("no `{package}` in:\n{said}"))
    }
}

#[test]
fn packages_without_code_are_shared_until_they_hold_some() {
    let two = Two::new();
    two.build("one", &[]).works();
    // A second build there: numbers are each pool's own.
    two.bench().write("own/own/text/files/text", "two\n");
    two.build("one", &[]).fails(0, &["built own/text-1, build 2"]);

    assert!(two.why("dev-python/flit-core").contains("share"));
    let said = two.build("two", &[]);
    said.works().fails(0, &["built own/app-1, build 1", "built own/config-1, build 1"]);
    for package in PYTHON {
        let line = format!("shared {package}, build 1");
        assert!(said.err.contains(&line) && !said.err.contains(&format!("built {package}")), "{said}");
    }
    said.fails(0, &["shared own/text-1, build 1", "the same in one, no compiled code"]);
    let (theirs, ours) = (two.record("one", "own/text/text-1-2.json"), two.record("two", "own/text/text-1-1.json"));
    assert_eq!(theirs["facts"]["content"], ours["facts"]["content"]);
    assert_eq!(ours["facts"]["build_time"].as_u64().unwrap() + 1, theirs["facts"]["build_time"].as_u64().unwrap());
    assert_eq!(ours["origin"]["shared"]["profile"], "one");
    assert_eq!(ours["origin"]["shared"]["build-id"], 2);
    // What notes its flags is not proven, though it is text.
    assert_eq!(two.record("one", "own/config/config-1-1.json")["facts"]["offers"]["code"]["why"], "flags");
    // Signed with this profile's key, published, and listed.
    let package = two.pool("two").join("own/text/text-1-1.gpkg.tar");
    two.bench().run(&["verify", "--profile", "two", package.to_str().unwrap()]).works();
    assert!(two.pool("two").with_file_name("current").join("own/text/text-1-1.gpkg.tar").exists());
    two.bench().run(&["log", "--run", "last"]).works().prints(&["shared dev-python/six-1.17.0, build 1"]);
    let said = two.build("two", &[]);
    assert!(said.works().err.contains("nothing to build; 7 packages are unchanged"), "{said}");

    // The first profile builds it once more, and it comes out with a program in it. It must not take the other's back.
    two.write_profile("one", "amd64", "default", "share = false\n");
    std::fs::write(two.bench().state.join("cache/distfiles/own-compiled"), "").unwrap();
    flip(&two.pool("one").join("own/text/text-1-2.gpkg.tar"));
    two.build("one", &[]).works().fails(0, &["built own/text-1, build 3"]);
    let why = two.why("own/text-1");
    assert!(why.contains("which is not so any more in one: `/usr/bin/compiled` is compiled"), "{why}");
    two.build("two", &[]).works().fails(0, &["built own/text-1, build 2"]).lacks("built dev-python");
    assert!(two.why("own/text-1").contains("unchanged since build 2"));

    // Who does not share builds everything itself, and then looks at what is built with that.
    two.write_profile("two", "x86-64-v3", "other", "share = false\n");
    let why = two.why("dev-python/flit-core");
    assert!(why.contains("it was taken over from one, and `share` is now false in the profile"), "{why}");
}

fn flip(file: &Path) {
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let open = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    open.read_exact_at(&mut byte, 3000).unwrap();
    open.write_all_at(&[byte[0] ^ 1], 3000).unwrap();
}
