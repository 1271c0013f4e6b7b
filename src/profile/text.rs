//! The texts a profile is made of, each checked as it is read.
//!
//! All of them end up in files that Portage reads line by line or as shell assignments: none may hold a control
//! character, and where a quote, `$` or backslash has no meaning, none may hold that either. Whoever writes such a file
//! quotes all the same.

use crate::atom::text_type;

/// Returns whether all characters are ASCII letters, digits, or of `more`.
fn made_of(text: &str, more: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

fn starts_alphanumeric(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Returns whether the text is one line that a person can read.
fn is_line(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c))
}

text_type! {
    /// Compiler or linker options, such as `-O2 -pipe`.
    Options, "compiler options on one line, without quotes, `$`, backslash or backtick", |text| {
        text.len() <= 4096 && is_line(text) && !text.contains(['"', '\'', '`', '$', '\\'])
    }
}

text_type! {
    /// A USE flag, `-flag` to switch it off, or `-*` to forget all before (PMS 3.1.4).
    UseWord, "a USE flag (as `nls`, `-nls` or `-*`, see PMS 3.1.4)", |text| {
        let flag = text.strip_prefix('-').unwrap_or(text);
        text == "-*" || (text.len() <= 128 && starts_alphanumeric(flag) && made_of(flag, "+_@-"))
    }
}

text_type! {
    /// A keyword to accept, such as `amd64`, `~amd64`, `**` (make.conf(5), `ACCEPT_KEYWORDS`).
    Keyword, "a keyword (as `amd64`, `~amd64`, `-~amd64` or `**`)", |text| {
        let word = text.strip_prefix('-').unwrap_or(text);
        let word = word.strip_prefix('~').unwrap_or(word);
        ["*", "**"].contains(&word) || (text.len() <= 64 && starts_alphanumeric(word) && made_of(word, "_-"))
    }
}

text_type! {
    /// A licence, or `@GROUP` of licences, to accept, or with `-` to refuse (make.conf(5), `ACCEPT_LICENSE`).
    License, "a licence or group (as `MIT`, `@FREE`, `-@EULA` or `*`)", |text| {
        let word = text.strip_prefix('-').unwrap_or(text);
        let name = word.strip_prefix('@').unwrap_or(word);
        word == "*" || (text.len() <= 128 && starts_alphanumeric(name) && made_of(name, "+_.-"))
    }
}

text_type! {
    /// One of Portage's FEATURES, or with `-` switched off (make.conf(5)).
    Feature, "one of Portage's FEATURES (as `test` or `-test`)", |text| {
        let word = text.strip_prefix('-').unwrap_or(text);
        text.len() <= 64 && starts_alphanumeric(word) && made_of(word, "_-")
    }
}

text_type! {
    /// A line of one of Portage's `package.*` files: an atom, then what the file says of it (portage(5)).
    PackageLine, "a line that begins with an atom (as `app-misc/hello nls`)", |text| {
        let atom = text.split(' ').next().unwrap_or_default();
        // For package.mask and its like `-atom` takes back what an earlier line said.
        let atom = atom.strip_prefix('-').unwrap_or(atom);
        text.len() <= 4096
            && is_line(text)
            && atom.contains('/')
            && atom.starts_with(|c: char| c.is_ascii_alphanumeric() || "_<>=~*".contains(c))
            && made_of(atom, "/+_.-=<>~*:@[],()?!")
    }
}

text_type! {
    /// The name of a variable that builds see.
    Variable, "a variable that a profile may set (letters, digits, `_`; not one that bindery sets, or a key of its own says)", |text| {
        text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && made_of(text, "_")
            && !OURS.contains(&text)
            && !OUR_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
    }
}

/// Variables that other keys of a profile say, or that must be what bindery sets them to.
const OURS: &[&str] = &[
    // keys of a profile
    "ACCEPT_KEYWORDS",
    "ACCEPT_LICENSE",
    "ARCH",
    "CFLAGS",
    "CHOST",
    "CPU_FLAGS_ARM",
    "CPU_FLAGS_PPC",
    "CPU_FLAGS_X86",
    "CXXFLAGS",
    "FCFLAGS",
    "FEATURES",
    "FFLAGS",
    "GENTOO_MIRRORS",
    "GOFLAGS",
    "LDFLAGS",
    "RUSTFLAGS",
    "SOURCE_DATE_EPOCH",
    "USE",
    // where things are in a root, and how many jobs run
    "BROOT",
    "CBUILD",
    "D",
    "DISTDIR",
    "ED",
    "EPREFIX",
    "EROOT",
    "HOME",
    "MAKEOPTS",
    "PATH",
    "PKGDIR",
    "PORTDIR",
    "ROOT",
    "RPMDIR",
    "S",
    "SHELL",
    "SYSROOT",
    "T",
    "TMPDIR",
    "USER",
    "WORKDIR",
];

/// Likewise, whole families: Portage's own settings, its package format and signing, the loader's.
const OUR_PREFIXES: &[&str] = &["BINPKG_", "EMERGE_", "GPG_", "LD_", "PORTAGE_", "PORTDIR_", "__"];

text_type! {
    /// The value of a variable.
    VariableValue, "text on one line, of at most 4096 bytes", |text| text.len() <= 4096 && is_line(text)
}

text_type! {
    /// The path of a folder, absolute or from the folder of the file that says it.
    Folder, "a folder's path on one line", |text| !text.is_empty() && text.len() <= 4000 && is_line(text)
}

text_type! {
    /// What a profile is for, in one line.
    Description, "a description on one line, of at most 200 bytes", |text| text.len() <= 200 && is_line(text)
}

text_type! {
    /// What programs are compiled for, such as `x86_64-pc-linux-gnu` (a GNU configuration triplet).
    Chost, "a CHOST (as `x86_64-pc-linux-gnu`)", |text| {
        text.len() <= 64
            && (3..=4).contains(&text.split('-').count())
            && text.split('-').all(|part| starts_alphanumeric(part) && made_of(part, "_."))
    }
}

text_type! {
    /// A package in whatever version, such as `app-misc/hello`.
    PackageName, "a package without version (as `app-misc/hello`)", |text| {
        text.len() <= 200
            && text.split('/').count() == 2
            && text.split('/').all(|part| starts_alphanumeric(part) && made_of(part, "+_.-"))
    }
}

text_type! {
    /// Files by their absolute path, in which `*` stands for any text.
    FilePattern, "a file's absolute path (as `/usr/lib64/libx.so.*`)", |text| {
        text.starts_with('/') && text.len() <= 4000 && is_line(text)
    }
}

text_type! {
    /// Functions by their name, in which `*` stands for any text.
    SymbolPattern, "a function's name (as `scale_avx2` or `*_avx2`)", |text| {
        !text.is_empty() && text.len() <= 4000 && is_line(text)
    }
}

text_type! {
    /// Why something is right.
    Reason, "a reason on one line, of at most 400 bytes", |text| {
        !text.trim().is_empty() && text.len() <= 400 && is_line(text)
    }
}

impl Chost {
    /// Returns the processor: what is before the first hyphen.
    pub fn cpu(&self) -> &str {
        self.as_str().split('-').next().unwrap_or_default()
    }
}

/// Portage's word for each processor family, and how the processor in a CHOST of that family begins
/// (Gentoo's `profiles/arch.list`; config.sub).
const ARCHS: &[(&str, &[&str])] = &[
    ("alpha", &["alpha"]),
    ("amd64", &["x86_64"]),
    ("arm", &["arm"]),
    ("arm64", &["aarch64"]),
    ("hppa", &["hppa"]),
    ("loong", &["loongarch"]),
    ("m68k", &["m68k"]),
    ("mips", &["mips"]),
    ("ppc", &["powerpc"]),
    ("ppc64", &["powerpc64"]),
    ("riscv", &["riscv"]),
    ("s390", &["s390"]),
    ("sparc", &["sparc"]),
    ("x86", &["i386", "i486", "i586", "i686", "x86"]),
];

text_type! {
    /// Portage's word for a processor family, such as `amd64`.
    Arch, "one of Portage's ARCHs (alpha, amd64, arm, arm64, hppa, loong, m68k, mips, ppc, ppc64, riscv, s390, sparc, x86)", |text| {
        ARCHS.iter().any(|(arch, _)| *arch == text)
    }
}

impl Arch {
    /// Returns the family that a CHOST's processor is of.
    pub fn of(chost: &Chost) -> Option<Self> {
        // `powerpc64` begins with `powerpc`, `x86_64` with `x86`: the longest beginning decides.
        let beginnings = ARCHS.iter().flat_map(|(arch, all)| all.iter().map(move |beginning| (arch, beginning)));
        let matching = beginnings.filter(|(_, beginning)| chost.cpu().starts_with(**beginning));
        matching.max_by_key(|(_, beginning)| beginning.len()).map(|(arch, _)| Self((*arch).to_string()))
    }

    /// Returns the variable that holds the processor's instruction sets (`USE_EXPAND` in the Gentoo tree), if it has one.
    pub fn cpu_flags_variable(&self) -> Option<&'static str> {
        match self.as_str() {
            "amd64" | "x86" => Some("CPU_FLAGS_X86"),
            "arm" | "arm64" => Some("CPU_FLAGS_ARM"),
            "ppc" | "ppc64" => Some("CPU_FLAGS_PPC"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good<T: std::str::FromStr>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_ok(), "{text:?}");
        }
    }

    fn bad<T: std::str::FromStr>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn compiler_options_cannot_end_their_line_or_be_expanded() {
        good::<Options>(&["", "-O2 -pipe -march=x86-64-v3", "-Wl,-O1 -Wl,--as-needed", "-C target-cpu=native"]);
        bad::<Options>(&["-O2\nFEATURES=x", "-O2\" x=\"", "$(id)", "`id`", "-D'x'", "a\\", "\u{1b}[2J", "a\u{202e}b"]);
    }

    #[test]
    fn use_flags_and_keywords_and_licences_are_single_words() {
        good::<UseWord>(&["nls", "-nls", "-*", "cpu_flags_x86_avx2", "python_targets_python3_13", "c++"]);
        bad::<UseWord>(&["", "-", "*", "--x", "a b", "a\n", "_x", "${X}"]);
        good::<Keyword>(&["amd64", "~amd64", "-~amd64", "**", "~*", "*", "-*"]);
        bad::<Keyword>(&["", "~", "a b", "!x", "a\n"]);
        good::<License>(&["MIT", "@FREE", "-@EULA", "*", "-*", "GPL-2+"]);
        bad::<License>(&["", "@", "a b", "|| ( a )"]);
        good::<Feature>(&["test", "-test", "multilib-strict"]);
        bad::<Feature>(&["", "-", "a b", "$x"]);
    }

    #[test]
    fn a_package_line_begins_with_an_atom() {
        good::<PackageLine>(&[
            "app-misc/hello nls -x",
            "*/* PYTHON_TARGETS: python3_13",
            ">=a/b-1:0/1[x] **",
            "-a/b",
            "~a/b-1",
        ]);
        bad::<PackageLine>(&["", "hello", " app-misc/hello", "app-misc/hello\n*/* x", "# x/y", "$(x)/y", "-"]);
    }

    #[test]
    fn variables_that_bindery_sets_cannot_be_set_by_a_profile() {
        good::<Variable>(&["VIDEO_CARDS", "L10N", "_x", "LINGUAS", "ABI_X86"]);
        bad::<Variable>(&[
            "CFLAGS",
            "PORTAGE_TMPDIR",
            "LD_PRELOAD",
            "1x",
            "",
            "A-B",
            "A=B",
            "A\n",
            "BINPKG_GPG_SIGNING_KEY",
            "ROOT",
        ]);
        good::<VariableValue>(&["", "a \"b\" $c", "ä"]);
        bad::<VariableValue>(&["a\nb", "a\0b", "\u{1b}"]);
    }

    #[test]
    fn the_arch_follows_from_the_longest_beginning_of_the_chosts_processor() {
        for (chost, arch) in [
            ("x86_64-pc-linux-gnu", "amd64"),
            ("i686-pc-linux-gnu", "x86"),
            ("powerpc64le-unknown-linux-gnu", "ppc64"),
            ("powerpc-unknown-linux-gnu", "ppc"),
            ("aarch64-unknown-linux-musl", "arm64"),
            ("armv7a-hardfloat-linux-gnueabihf", "arm"),
            ("sparc64-unknown-linux-gnu", "sparc"),
            ("loongarch64-unknown-linux-gnu", "loong"),
        ] {
            let chost: Chost = chost.parse().unwrap();
            assert_eq!(Arch::of(&chost).unwrap().as_str(), arch);
        }
        assert_eq!(Arch::of(&"vax-dec-ultrix".parse().unwrap()), None);
        bad::<Chost>(&["", "x86_64", "x86_64-linux", "a-b-c-d-e", "x86_64-pc-linux-gnu\n", "-a-b-c", "a/b-c-d"]);
        bad::<Arch>(&["x86_64", "AMD64", ""]);
    }
}
