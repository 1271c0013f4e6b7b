//! What a build said it did not find: compilers', linkers', shells', interpreters' and build systems' words for it. Pure.
//!
//! The lines are hostile. What is taken from one is a name in the letters that such names have, bounded, and never more
//! than a reason to look who would provide something of that name.

/// The longest name that is believed, in bytes.
const LONGEST: usize = 200;

/// Something that was not there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// A header: `zlib.h`, `sys/queue.h`.
    Header(String),
    /// A library to link with: `z` of `-lz`.
    Library(String),
    /// A shared library that a program needs to run, and that program, if it was named.
    Shared(String, Option<String>),
    /// A program.
    Tool(String),
    /// A Python module: `a.b`.
    Module(String),
    /// A module of pkg-config(1).
    PkgConfig(String),
    /// A package of cmake(1).
    Cmake(String),
}

impl Missing {
    /// Returns what a line says is missing.
    pub(super) fn in_line(line: &str) -> Option<Self> {
        let line = line.trim_end();
        header(line).or_else(|| shared(line)).or_else(|| library(line)).or_else(|| tool(line)).or_else(|| module(line))
    }

    /// Returns what an answer of `configure` says is missing: it may have been looked for in vain for good reasons, so this
    /// means something only right before the error that ended it.
    pub(super) fn in_check(line: &str) -> Option<Self> {
        let what = line.trim().strip_prefix("checking for ")?.strip_suffix("... no")?;
        if let Some((_, library)) = what.rsplit_once(" in -l") {
            return name(library, "").map(Self::Library);
        }
        if what.ends_with(".h") {
            return name(what, "/").map(Self::Header);
        }
        name(what, "").map(Self::Tool)
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Header(name) | Self::Library(name) | Self::Shared(name, _) | Self::Tool(name) => name,
            Self::Module(name) | Self::PkgConfig(name) | Self::Cmake(name) => name,
        }
    }

    /// Returns whether a file is it, by its path from the root, with a slash at the beginning.
    pub fn is_at(&self, path: &str) -> bool {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let in_lib = || folder.split('/').any(|part| part.starts_with("lib"));
        match self {
            Self::Header(name) => path.contains("/include/") && path.ends_with(&format!("/{name}")),
            Self::Library(name) => in_lib() && (file == format!("lib{name}.so") || file == format!("lib{name}.a")),
            Self::Shared(name, _) => in_lib() && file == name,
            Self::Tool(name) => file == name && (folder.ends_with("/bin") || folder.ends_with("/sbin")),
            Self::Module(name) => module_is_at(name, path),
            Self::PkgConfig(name) => folder.ends_with("/pkgconfig") && file == format!("{name}.pc"),
            Self::Cmake(name) => {
                let lower = format!("{}-config.cmake", name.to_lowercase());
                (in_lib() || folder.contains("/share/")) && (file == format!("{name}Config.cmake") || file == lower)
            }
        }
    }

    /// Returns how the paths that it may be at end.
    pub fn ends(&self) -> Vec<String> {
        match self {
            Self::Header(name) | Self::Shared(name, _) | Self::Tool(name) => vec![format!("/{name}")],
            Self::Library(name) => vec![format!("/lib{name}.so"), format!("/lib{name}.a")],
            Self::Module(name) => {
                let path = name.replace('.', "/");
                vec![format!("/{path}.py"), format!("/{path}/__init__.py"), ".so".to_string()]
            }
            Self::PkgConfig(name) => vec![format!("/{name}.pc")],
            Self::Cmake(name) => vec![format!("/{name}Config.cmake"), format!("/{}-config.cmake", name.to_lowercase())],
        }
    }
}

/// A module is a file or folder in one of the interpreter's folders: `site-packages`, or the standard library's.
fn module_is_at(name: &str, path: &str) -> bool {
    let Some((_, below)) = path.split_once("/python3") else { return false };
    let below = below.split_once('/').map_or("", |(_, below)| below);
    let below = ["site-packages/", "dist-packages/", "lib-dynload/"]
        .iter()
        .find_map(|dir| below.strip_prefix(dir))
        .unwrap_or(below);
    let wanted = name.replace('.', "/");
    let Some(rest) = below.strip_prefix(&wanted) else { return false };
    rest == ".py" || rest == "/__init__.py" || (rest.starts_with('.') && rest.ends_with(".so") && !rest.contains('/'))
}

fn header(line: &str) -> Option<Missing> {
    let (_, rest) = line.split_once("fatal error: ")?;
    let gcc = rest.strip_suffix(": No such file or directory");
    let clang = rest.strip_suffix(" file not found").and_then(quoted);
    name(gcc.or(clang)?, "/").map(Missing::Header)
}

fn library(line: &str) -> Option<Missing> {
    if let Some((_, rest)) = line.split_once("cannot find -l").or_else(|| line.split_once("unable to find library -l"))
    {
        return name(rest.split([':', ' ']).next()?, "").map(Missing::Library);
    }
    if let Some((_, rest)) = line.split_once("package configuration file provided by \"") {
        return name(rest.split('"').next()?, "").map(Missing::Cmake);
    }
    // pkg-config(1), pkgconf(1) and meson(1).
    let named =
        |before: &str, after: &str| Some(line.split_once(before)?.1.split_once(after)?.0.trim_matches(['\'', '"']));
    let found = named("Package ", " was not found in the pkg-config search path")
        .or_else(|| named("No package '", "' found"))
        .or_else(|| named("Package '", "', required by "))
        .or_else(|| named("Dependency \"", "\" not found"))
        .or_else(|| named("ependency '", "' not found"));
    name(found?, "").map(Missing::PkgConfig)
}

/// ld.so(8), and dlopen(3) as Python tells of it.
fn shared(line: &str) -> Option<Missing> {
    let (before, _) = line.split_once(": cannot open shared object file")?;
    let (program, library) = match before.split_once(": error while loading shared libraries: ") {
        Some((program, library)) => (program.rsplit(['/', ' ']).next().and_then(|program| name(program, "")), library),
        None => (None, before.rsplit([' ', ':']).next()?),
    };
    Some(Missing::Shared(name(library.rsplit('/').next()?, "")?, program))
}

fn tool(line: &str) -> Option<Missing> {
    const NO_FILE: &str = ": No such file or directory";
    let last = |text: &str| text.rsplit(": ").next().and_then(command);
    if let Some(before) = line.strip_suffix(": command not found") {
        return last(before).map(Missing::Tool);
    }
    if let Some(before) = line.strip_suffix(": not found") {
        // dash(1) says `sh: 1: NAME: not found`; others say it of anything.
        let (shell, _) = before.rsplit_once(": ")?;
        return shell
            .rsplit(": ")
            .next()?
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| last(before).map(Missing::Tool))?;
    }
    if let Some((before, _)) = line.split_once(": bad interpreter: ") {
        return last(before).map(Missing::Tool);
    }
    if let Some(before) = line.strip_suffix(NO_FILE) {
        let rest = before.split_once(": ").filter(|(who, _)| {
            let who = who.rsplit('/').next().unwrap_or(who).split('[').next().unwrap_or(who);
            matches!(who, "make" | "gmake" | "env")
        });
        // One word, or make(1) tells of an included file (`Makefile:1: x.mk: No such file …`).
        return rest.and_then(|(_, rest)| command(rest.trim_matches(['\'', '‘', '’']))).map(Missing::Tool);
    }
    if let Some((_, rest)) = line.split_once("FileNotFoundError: [Errno 2] No such file or directory: ") {
        return quoted(rest).and_then(command).map(Missing::Tool);
    }
    let (_, rest) = line.split_once("ERROR: Program ")?;
    let (program, _) = rest.split_once(" not found")?;
    command(program.split(['\'', ' ']).find(|word| !word.is_empty())?).map(Missing::Tool)
}

fn module(line: &str) -> Option<Missing> {
    let (_, rest) = line.split_once("No module named ")?;
    let module = rest.split(';').next()?.trim_matches(['\'', '"', ' ']);
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    (module.len() <= LONGEST && module.split('.').all(plain)).then(|| Missing::Module(module.to_string()))
}

fn quoted(text: &str) -> Option<&str> {
    text.trim().strip_prefix(['\'', '"'])?.strip_suffix(['\'', '"'])
}

/// Returns the name of a command, if it is one that PATH is searched for, or of a folder of PATH.
fn command(text: &str) -> Option<String> {
    const FOLDERS: [&str; 4] = ["/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"];
    name(FOLDERS.iter().find_map(|folder| text.strip_prefix(folder)).unwrap_or(text), "")
}

/// Returns a name in the letters that names have, and these.
fn name(text: &str, more: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c) || more.contains(c);
    let plain = !text.is_empty() && text.len() <= LONGEST && text.chars().all(fits);
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    (plain && starts && !text.split('/').any(|part| matches!(part, "" | "." | ".."))).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_say_is_understood() {
        use Missing::{Cmake, Header, Library, Module, PkgConfig, Shared, Tool};
        let s = |text: &str| text.to_string();
        for (line, missing) in [
            ("use.c:1:10: fatal error: bzlib.h: No such file or directory", Header(s("bzlib.h"))),
            ("x.cc:3:10: fatal error: 'sys/queue.h' file not found", Header(s("sys/queue.h"))),
            ("/usr/bin/ld: cannot find -lbz2: No such file or directory", Library(s("bz2"))),
            ("/usr/bin/ld: cannot find -lstdc++", Library(s("stdc++"))),
            ("ld.lld: error: unable to find library -lfoo", Library(s("foo"))),
            ("/var/tmp/x/temp/environment: line 412: ninja: command not found", Tool(s("ninja"))),
            ("/bin/sh: 1: msgfmt: not found", Tool(s("msgfmt"))),
            ("make[2]: help2man: No such file or directory", Tool(s("help2man"))),
            ("env: ‘perl’: No such file or directory", Tool(s("perl"))),
            ("./gen: /usr/bin/perl: bad interpreter: No such file or directory", Tool(s("perl"))),
            ("meson.build:3:0: ERROR: Program 'xsltproc' not found or not executable", Tool(s("xsltproc"))),
            ("FileNotFoundError: [Errno 2] No such file or directory: 'git'", Tool(s("git"))),
            ("ModuleNotFoundError: No module named 'setuptools.build'", Module(s("setuptools.build"))),
            ("/usr/bin/python3: No module named flit_core", Module(s("flit_core"))),
            (
                "app: error while loading shared libraries: libown.so.1: cannot open shared object file: No such file",
                Shared(s("libown.so.1"), Some(s("app"))),
            ),
            (
                "ImportError: libmagic.so.1: cannot open shared object file: No such file or directory",
                Shared(s("libmagic.so.1"), None),
            ),
            ("Package zlib was not found in the pkg-config search path.", PkgConfig(s("zlib"))),
            ("Package 'glib-2.0', required by 'virtual:world', not found", PkgConfig(s("glib-2.0"))),
            ("No package 'gtk+-3.0' found", PkgConfig(s("gtk+-3.0"))),
            ("meson.build:9:0: ERROR: Dependency \"serd-0\" not found, tried pkgconfig", PkgConfig(s("serd-0"))),
            ("  Could not find a package configuration file provided by \"Qt6Core\" with any", Cmake(s("Qt6Core"))),
        ] {
            assert_eq!(Missing::in_line(line), Some(missing), "{line}");
        }
    }

    #[test]
    fn what_is_no_name_is_not_taken() {
        let long = format!("x.c:1: fatal error: {}.h: No such file or directory", "a".repeat(300));
        for line in [
            "fatal error: ../../x.h: No such file or directory",
            "fatal error: /etc/passwd: No such file or directory",
            "x.c:1: fatal error: `rm -rf`.h: No such file or directory",
            "ld: cannot find -l",
            "the answer: not found",
            "sh: 1: ./configure: not found",
            "Makefile:3: rules.mk: No such file or directory",
            "cp: x: No such file or directory",
            "No module named '../x'",
            ": cannot open shared object file",
            "Package  was not found in the pkg-config search path",
            long.as_str(),
            "",
        ] {
            assert_eq!(Missing::in_line(line), None, "{line}");
        }
    }

    #[test]
    fn an_answer_of_configure_is_understood() {
        let check = |line: &str| Missing::in_check(line);
        assert_eq!(check("checking for bzlib.h... no"), Some(Missing::Header("bzlib.h".into())));
        assert_eq!(check("checking for main in -lbz2... no"), Some(Missing::Library("bz2".into())));
        assert_eq!(check("checking for pkg-config... no"), Some(Missing::Tool("pkg-config".into())));
        assert_eq!(check("checking for a reason to go on... no"), None);
        assert_eq!(check("checking for bzlib.h... yes"), None);
    }

    #[test]
    fn a_file_is_known_by_its_place() {
        let is = |missing: Missing, path: &str| {
            let expected = missing.is_at(path);
            assert!(!expected || missing.ends().iter().any(|end| path.ends_with(end)), "{missing:?} {path}");
            expected
        };
        let s = |text: &str| text.to_string();
        for path in ["/usr/include/a/x.h", "/usr/include/lib-2.0/a/x.h"] {
            assert!(is(Missing::Header(s("a/x.h")), path));
        }
        assert!(!is(Missing::Header(s("x.h")), "/usr/share/doc/x.h"));
        assert!(
            is(Missing::Library(s("z")), "/usr/lib64/libz.so") && is(Missing::Library(s("z")), "/usr/lib/x/libz.a")
        );
        assert!(!is(Missing::Library(s("z")), "/usr/lib64/libz.so.1"));
        assert!(is(Missing::Shared(s("libz.so.1"), None), "/usr/lib64/libz.so.1"));
        assert!(is(Missing::Tool(s("ninja")), "/usr/bin/ninja") && !is(Missing::Tool(s("ninja")), "/usr/share/ninja"));
        let module = |name: &str, path: &str| is(Missing::Module(s(name)), path);
        assert!(module("a.b", "/usr/lib/python3.13/site-packages/a/b.py"));
        assert!(module("a", "/usr/lib/python3/dist-packages/a/__init__.py"));
        assert!(module("_a", "/usr/lib/python3.13/lib-dynload/_a.cpython-313-x86_64-linux-gnu.so"));
        assert!(!module("a", "/usr/lib/python3.13/site-packages/b/a.py") && !module("a", "/usr/share/a.py"));
        assert!(is(Missing::PkgConfig(s("x")), "/usr/lib64/pkgconfig/x.pc"));
        assert!(is(Missing::Cmake(s("Foo")), "/usr/lib64/cmake/Foo/FooConfig.cmake"));
        assert!(!is(Missing::Cmake(s("Foo")), "/usr/lib64/cmake/Foo/Other.cmake"));
    }
}
