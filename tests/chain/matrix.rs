//! Changes against rebuilds, with real packages: the table in `docs/keys.md` is what this test finds.
//!
//! Each change is made on top of those before it, and everything is built: what came of each package is a row.

use std::path::Path;

use crate::bench::Bench;

/// A library with a header, a static archive and a manual page.
const LIB: &str = r#"
IUSE="extra"
src_compile() {
	${CC:-gcc} ${CFLAGS} ${LDFLAGS} -shared -fPIC -Wl,-soname,libown.so.1 -o libown.so.1 "${FILESDIR}"/own.c || die
	${CC:-gcc} ${CFLAGS} -c -o static.o "${FILESDIR}"/static.c || die
	ar Dcr libstatic.a static.o || die
}
src_install() {
	dolib.so libown.so.1
	dosym libown.so.1 /usr/$(get_libdir)/libown.so
	dolib.a libstatic.a
	doheader "${FILESDIR}"/own.h
	doman "${FILESDIR}"/own.3
}
"#;
/// A program that is linked with it.
const APP: &str = r#"
DEPEND="own/lib"
RDEPEND="own/lib"
src_compile() { ${CC:-gcc} ${CFLAGS} ${LDFLAGS} -o app "${FILESDIR}"/app.c -L"${ESYSROOT}"/usr/$(get_libdir) -lown || die; }
src_install() { dobin app; }
"#;
/// A text that the program writes while it is built.
const TABLE: &str = r#"
# Of this test.
BDEPEND="own/app"
src_compile() { app > table || die; }
src_install() { insinto /usr/share/own; doins table; }
"#;
/// A text that is built with nothing, of an eclass.
const TEXT: &str = r#"
inherit thing
src_unpack() { echo text > text || die; }
src_install() { insinto /usr/share/own; doins text; }
"#;

const APP_C: &str = "#include <own.h>\n#include <stdio.h>\nint main(void) { return printf(\"%d\\n\", own()) < 0; }\n";
/// The packages, in the order of building.
const PACKAGES: [&str; 4] = ["lib", "app", "table", "text"];

struct Matrix {
    bench: Bench,
    rows: Vec<String>,
    /// What the profile says, by and by.
    profile: String,
    flags: String,
}

impl Matrix {
    /// Builds everything once.
    fn new() -> Self {
        let bench = Bench::new("matrix");
        let matrix = Self { bench, rows: Vec::new(), profile: String::new(), flags: String::new() };
        matrix.bench.write_tree(&[("lib", LIB), ("app", APP), ("table", TABLE), ("text", TEXT)]);
        matrix.own("eclass/thing.eclass", "thing() { :; }\n");
        matrix.own("own/lib/files/own.c", "int own(void) { return 1; }\n");
        matrix.own("own/lib/files/static.c", "int fixed(void) { return 1; }\n");
        matrix.own("own/lib/files/own.h", "int own(void);\n");
        matrix.own("own/lib/files/own.3", ".TH OWN 3\n");
        matrix.own("own/app/files/app.c", APP_C);
        matrix.write_profile();
        let said = matrix.bench.build(&["own/table", "own/text"]);
        said.works();
        assert_eq!(said.err.matches("  built own/").count(), PACKAGES.len(), "{said}");
        matrix
    }

    fn write_profile(&self) {
        let Self { profile, flags, .. } = self;
        let name = &self.bench.profile;
        // What is shared with nobody else is used again for other flags: no other profile has these packages.
        let text = format!(
            "version = 1\ninherits = \"amd64\"\ntrees = [\"bindery-test\", \"own\"]\n{profile}[flags]\n{flags}"
        );
        self.bench.write(&format!("profiles/{name}.toml"), &text);
    }

    /// Writes a file of the tree's.
    fn own(&self, path: &str, text: &str) {
        self.bench.write(&format!("own/{path}"), text);
    }

    /// Writes a file of the profile's native configuration.
    fn native(&self, path: &str, text: &str) {
        self.bench.write(&format!("profiles/{}/portage/{path}", self.bench.profile), text);
    }

    /// Builds what is to be built after a change, and notes which packages those were.
    fn row(&mut self, change: &str) {
        let said = self.bench.build(&["own/table", "own/text"]);
        said.works();
        let cell = |package: &&str| {
            let built = said.err.contains(&format!("  built own/{package}-1,"));
            if built { "built" } else { "" }
        };
        let cells: Vec<&str> = PACKAGES.iter().map(cell).collect();
        self.rows.push(format!("| {change} | {} |", cells.join(" | ")));
        // Whatever it was, it is settled.
        let said = self.bench.build(&["own/table", "own/text"]);
        assert!(said.works().err.contains("nothing to build; 4 packages are unchanged"), "{change}: {said}");
    }
}

#[test]
fn changes_rebuild_what_the_documentation_says() {
    let mut m = Matrix::new();
    m.profile = "# A comment.\n".to_string();
    m.native("package.use/own", "# A comment.\n");
    m.write_profile();
    m.row("a comment in the profile, in `package.use`");
    m.flags = "cflags = \"-O1\"\n".to_string();
    m.write_profile();
    m.row("CFLAGS");
    m.native("package.use/own", "own/lib extra\n");
    m.row("USE of `lib`, to no effect on what it offers");
    m.own("eclass/thing.eclass", "thing() { echo; }\n");
    m.row("an eclass that `text` inherits");
    m.own(
        "own/lib/lib-1.ebuild",
        &std::fs::read_to_string(m.bench.config.path().join("own/own/lib/lib-1.ebuild"))
            .map(|text| format!("{text}# A comment.\n"))
            .unwrap(),
    );
    m.row("a comment in `lib`'s ebuild");
    m.own("own/lib/files/own.3", ".TH OWN 3\nThe answer.\n");
    m.row("a manual page of `lib`");
    m.own("own/lib/files/own.c", "int own(void) { return 42; }\n");
    m.row("code of `lib`");
    m.own("own/lib/files/own.h", "/* The answer. */\nint own(void);\n");
    m.row("a header of `lib`, a comment in it");
    m.own("own/lib/files/own.c", "int own(void) { return 42; }\nint more(void) { return 7; }\n");
    m.row("an exported symbol of `lib`");
    m.own("own/lib/files/static.c", "int fixed(void) { return 2; }\n");
    m.row("a static archive of `lib`");
    m.own("own/app/files/app.c", &APP_C.replace("%d", "own %d"));
    m.row("code of `app`, which runs while `table` is built");
    m.profile = "[rebuild]\ntools = \"abi\"\narchives = \"never\"\n".to_string();
    m.write_profile();
    m.row("`tools = \"abi\"`, `archives = \"never\"` in the profile");
    m.own("own/app/files/app.c", &APP_C.replace("%d", "so %d"));
    m.row("so: code of `app`");
    m.own("own/lib/files/static.c", "int fixed(void) { return 3; }\n");
    m.row("so: a static archive of `lib`");
    m.native("patches/own/text/new.patch", "--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+new\n");
    m.row("a user patch for `text`");
    m.native("bashrc", "# A comment.\n");
    m.row("a `bashrc`");
    m.profile.push_str("[env]\nOWN = \"1\"\n");
    m.write_profile();
    m.row("a variable in `[env]`");
    let found = m.rows.join("\n");
    println!("{found}");
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/keys.md")).unwrap();
    let rows = text.split("| change | `lib` | `app` | `table` | `text` |\n|---|---|---|---|---|\n").nth(1).unwrap();
    let documented = rows.split("\n\n").next().unwrap().trim_end();
    assert_eq!(found, documented, "the table in docs/keys.md should be:\n{found}");
}
