//! Uses the host's own apt, in a folder of its own, to find and fetch Debian packages.
//!
//! ```text
//! DIR/apt.conf      read after the host's configuration: its proxies and certificates count, its sources do not
//!     sources.list  the definition's suites, each from where the host gets that archive
//!     lists/ cache/ status (empty)
//! ```
//!
//! 1. ask the host's apt where it has the archives from that `bindery.toml` does not name, by their labels (their names differ
//!    from mirror to mirror);
//! 2. update: apt verifies the Release files' signatures, and the indices by them;
//! 3. resolve what is wanted, as if nothing were installed; or find what a lock names;
//! 4. download: apt verifies every file by the indices, and we do so again.
//!
//! None of it needs root, and where root does it apt drops to its own user. apt's hooks are switched off: they are meant
//! for the host. No path is ever `/dev/null`, because apt as root changes the mode of what it is given for a log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use super::Context;
use super::definition::{Archive, Recipe, Word};
use super::lock::Deb;
use crate::config::Uri;
use crate::digest::Digest;
use crate::fs::{self, PathError};
use crate::process::{self, ProcessError};

/// An apt with a folder of its own.
#[derive(Debug)]
pub(super) struct Apt<'a> {
    dir: PathBuf,
    program: PathBuf,
    archives: &'a BTreeMap<String, Uri>,
    cancel: &'a AtomicBool,
}

/// What the indices say of some packages: for each name and architecture the versions with their files' digests.
#[derive(Debug, Default)]
pub(super) struct Index(HashMap<(String, String), BTreeMap<String, Vec<Digest>>>);

impl<'a> Apt<'a> {
    /// Sets up apt in the folder `dir`, for the archives of a definition.
    pub(super) fn new(dir: &Path, recipe: &Recipe, cx: &Context<'a>) -> Result<Self, AptError> {
        let program = process::find("apt-get").ok_or(AptError::Missing)?;
        // apt's quoted strings know no escapes.
        let path = dir.to_str().filter(|text| !text.contains(['"', '\\', '\n'])).ok_or(AptError::Folder)?;
        for name in ["", "lists/partial", "cache/archives/partial", "none", "host/partial"] {
            fs::create_dir_all(&dir.join(name))?;
        }
        fs::write(&dir.join("status"), "")?;
        fs::write(&dir.join("none.list"), "")?;
        let architecture = &recipe.architecture;
        // apt thinks itself essential; the comma, a package's name nowhere, is how to tell it otherwise.
        let own = format!(
            "#clear APT::Update;\n#clear DPkg;\n#clear APT::Default-Release;\n\
             Dir::State \"{path}\";\nDir::State::Lists \"{path}/lists\";\nDir::State::Status \"{path}/status\";\n\
             Dir::Cache \"{path}/cache\";\nDir::Log \"{path}/none\";\n\
             Dir::Etc::SourceList \"{path}/sources.list\";\nDir::Etc::SourceParts \"{path}/none\";\n\
             Dir::Etc::Preferences \"{path}/none.list\";\nDir::Etc::PreferencesParts \"{path}/none\";\n\
             APT::Architecture \"{architecture}\";\n#clear APT::Architectures;\nAPT::Architectures:: \"{architecture}\";\n\
             pkgCacheGen::ForceEssential \",\";\nAPT::Install-Recommends \"false\";\nAcquire::Languages \"none\";\nAcquire::GzipIndexes \"false\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
        );
        fs::write(&dir.join("apt.conf"), own)?;
        // The same host, looked at with nothing of its own changed.
        fs::write(
            &dir.join("host.conf"),
            format!(
                "#clear APT::Update;\n#clear DPkg;\nDir::State::Lists \"{path}/host\";\nDir::Cache \"{path}/cache\";\n"
            ),
        )?;
        Ok(Self { dir: dir.to_path_buf(), program, archives: cx.archives, cancel: cx.cancel })
    }

    /// Writes the sources and fetches the indices.
    pub(super) fn update(&self, recipe: &Recipe) -> Result<(), AptError> {
        // Asking the host may mean that it fetches its indices: only for what is not configured.
        let asked = recipe.archives.iter().any(|archive| !self.archives.contains_key(&archive.label));
        let mut served = if asked { self.host_sources()? } else { HashMap::new() };
        served.extend(self.archives.iter().map(|(label, uri)| (label.clone(), uri.to_string())));
        let mut text = String::new();
        for archive in &recipe.archives {
            text += &source_lines(archive, &served, &recipe.components, &recipe.architecture)?;
        }
        fs::write(&self.dir.join("sources.list"), &text)?;
        // Without this apt calls an index that it could not have a warning.
        let mut command = self.command("apt.conf");
        self.run(command.args(["-o", "APT::Update::Error-Mode=any", "update"]))
            .map(|_| ())
            .map_err(|source| AptError::Update { sources: text.trim_end().replace('\n', "; "), source })
    }

    /// Returns what `packages` and, if these count, the essential ones need, without what they only recommend.
    pub(super) fn resolve(&self, packages: &[Word], essential: bool) -> Result<Vec<(Word, Word, Word)>, AptError> {
        let mut command = self.command("apt.conf");
        command.args(["--simulate", "--yes", "install"]).args(essential.then_some("?essential"));
        command.args(packages.iter().map(Word::as_str));
        let output = self.run(&mut command).map_err(AptError::Resolve)?;
        parse_simulation(&String::from_utf8_lossy(&output.stdout))
    }

    /// Reads the indices for the packages in `names`.
    pub(super) fn index(&self, names: &HashSet<&str>) -> Result<Index, AptError> {
        let mut command = self.command("apt.conf");
        let output = process::run(command.args(["indextargets", "--format", "$(FILENAME)", "Created-By: Packages"]))
            .map_err(AptError::Resolve)?;
        let mut index = Index::default();
        for file in String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()) {
            // An index of a suite that has nothing in it is not kept as a file.
            if let Some(text) = fs::read_if_exists(Path::new(file))? {
                index.add(&text, names);
            }
        }
        Ok(index)
    }

    /// Downloads packages into the folder `into`, and returns each one's file.
    pub(super) fn download(&self, debs: &[&Deb], into: &Path) -> Result<Vec<PathBuf>, AptError> {
        let mut command = self.command("apt.conf");
        command.current_dir(into).arg("download");
        command.args(debs.iter().map(|deb| format!("{}:{}={}", deb.name, deb.architecture, deb.version)));
        self.run(&mut command).map_err(AptError::Download)?;
        Ok(debs.iter().map(|deb| into.join(file_name(deb))).collect())
    }

    /// Returns the URIs that the host's apt has Debian's archives from, by their labels.
    fn host_sources(&self) -> Result<HashMap<String, String>, AptError> {
        let ask = |command: &mut Command| {
            let format = ["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"];
            let output = process::run(command.args(format)).map_err(AptError::Host)?;
            Ok::<_, AptError>(parse_sources(&String::from_utf8_lossy(&output.stdout)))
        };
        let mut plain = process::command(&self.program);
        plain.env("LC_ALL", "C.UTF-8");
        let served = ask(&mut plain)?;
        if !served.is_empty() {
            return Ok(served);
        }
        // No lists, no labels: container images are shipped without. Fetched into our own folder, whatever becomes of it.
        let _ = self.run(self.command("host.conf").arg("update"));
        ask(&mut self.command("host.conf"))
    }

    fn run(&self, command: &mut Command) -> Result<Output, ProcessError> {
        process::run_until(command, self.cancel)
    }

    fn command(&self, configuration: &str) -> Command {
        let mut command = process::command(&self.program);
        command.env("LC_ALL", "C.UTF-8").arg("-q").arg("-c").arg(self.dir.join(configuration));
        command
    }
}

impl Index {
    fn add(&mut self, text: &str, names: &HashSet<&str>) {
        for stanza in text.split("\n\n") {
            let field = |name: &str| {
                stanza.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_string()))
            };
            let Some(name) = field("Package").filter(|name| names.contains(name.as_str())) else { continue };
            let (Some(version), Some(architecture)) = (field("Version"), field("Architecture")) else { continue };
            let Some(sha256) = field("SHA256").and_then(|hex| Digest::from_hex(&hex).ok()) else { continue };
            let digests = self.0.entry((name, architecture)).or_default().entry(version).or_default();
            if !digests.contains(&sha256) {
                digests.push(sha256);
            }
        }
    }

    /// Returns a package with its digest, when the indices have this version.
    pub(super) fn find(&self, (name, version, architecture): (Word, Word, Word)) -> Result<Deb, AptError> {
        let versions = self.0.get(&(name.to_string(), architecture.to_string()));
        match versions.and_then(|versions| versions.get(version.as_str())).map(Vec::as_slice) {
            Some([sha256]) => Ok(Deb { name, version, architecture, sha256: sha256.clone() }),
            Some(_) => Err(AptError::Ambiguous(format!("{name} {version} ({architecture})"))),
            None => Err(AptError::NoDigest(format!("{name} {version} ({architecture})"))),
        }
    }

    /// Returns why a locked package cannot be had, as one line; nothing when it can.
    pub(super) fn objection(&self, deb: &Deb) -> Option<String> {
        let Deb { name, version, architecture, sha256 } = deb;
        let wanted = format!("`{name}` {version} ({architecture})");
        let Some(versions) = self.0.get(&(name.to_string(), architecture.to_string())) else {
            return Some(format!("{wanted}: the index has no such package any more"));
        };
        match versions.get(version.as_str()) {
            Some(digests) if digests.contains(sha256) => None,
            Some(digests) => {
                let found = digests.iter().map(Digest::short).collect::<Vec<_>>().join(", ");
                Some(format!(
                    "{wanted}: the index has another file of that version (sha256 {found}…, the lock has {}…)",
                    sha256.short()
                ))
            }
            None => {
                let found = versions.keys().cloned().collect::<Vec<_>>().join(", ");
                Some(format!("{wanted}: the index has {found}"))
            }
        }
    }
}

/// Returns the name that apt gives a package's file: the colon of an epoch is not kept.
pub(super) fn file_name(deb: &Deb) -> String {
    format!("{}_{}_{}.deb", deb.name, deb.version.as_str().replace(':', "%3a"), deb.architecture)
}

fn source_lines(
    archive: &Archive,
    served: &HashMap<String, String>,
    components: &[Word],
    architecture: &Word,
) -> Result<String, AptError> {
    let uri = served.get(&archive.label).map(String::as_str).or(archive.default.as_ref().map(Uri::as_str));
    let uri = uri.ok_or_else(|| AptError::Unserved(archive.label.clone()))?;
    let keyring = archive.keyring.as_path();
    let signed = if keyring.is_file() { format!(" signed-by={}", keyring.display()) } else { String::new() };
    let components = components.iter().map(Word::as_str).collect::<Vec<_>>().join(" ");
    let line = |suite| format!("deb [arch={architecture}{signed}] {uri} {suite} {components}\n");
    Ok(archive.suites.iter().map(line).collect())
}

/// Reads lines `ORIGIN|LABEL|URI`; the first of a label counts.
fn parse_sources(text: &str) -> HashMap<String, String> {
    let mut served = HashMap::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, '|');
        if let (Some("Debian"), Some(label), Some(uri)) = (fields.next(), fields.next(), fields.next())
            && uri.contains(":/")
            && !uri.contains(char::is_whitespace)
        {
            served.entry(label.to_string()).or_insert_with(|| uri.to_string());
        }
    }
    served
}

/// Reads lines `Inst NAME (VERSION ORIGIN [ARCHITECTURE]) …` (apt-get(8), `--simulate`).
fn parse_simulation(text: &str) -> Result<Vec<(Word, Word, Word)>, AptError> {
    let parse = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
        let (version, rest) = rest.split_once('(')?.1.split_once(' ')?;
        let architecture = rest.split_once(')')?.0.rsplit_once('[')?.1.strip_suffix(']')?;
        let word = |text: &str| Word::try_from(text.to_string()).ok();
        Some((word(name.split(':').next()?)?, word(version)?, word(architecture)?))
    };
    let lines = text.lines().filter(|line| line.starts_with("Inst "));
    let found = lines.map(|line| parse(line).ok_or_else(|| AptError::Line(line.chars().take(200).collect())));
    let found = found.collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() { Err(AptError::Line("nothing to install".to_string())) } else { Ok(found) }
}

/// apt could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is none.
    #[error(
        "`apt-get` is not installed; images of kind `debian` are made with it (other distributions package it as `apt`)"
    )]
    Missing,
    /// Its configuration cannot name our folder.
    #[error(
        "the state folder's path has a quote, backslash or newline in it, which apt's configuration cannot say; use another --state"
    )]
    Folder,
    /// The host's own sources cannot be listed.
    #[error("cannot ask the host's apt where it has Debian from")]
    Host(#[source] ProcessError),
    /// Nobody says where an archive is.
    #[error(
        "the host's apt has no archive labelled `{0}`, which the image is made from; name a mirror of it in `bindery.toml`: `[archives]`, then `{0} = \"URI\"` as in sources.list(5)"
    )]
    Unserved(String),
    /// The indices could not be had.
    #[error(
        "cannot fetch Debian's package indices ({sources}); check the network and the host's apt sources, and for a missing key `apt install debian-archive-keyring`"
    )]
    Update {
        /// The sources tried.
        sources: String,
        /// What apt said.
        source: ProcessError,
    },
    /// There is no solution.
    #[error("Debian's index cannot satisfy the image's packages")]
    Resolve(#[source] ProcessError),
    /// A file could not be had.
    #[error("cannot download the image's packages")]
    Download(#[source] ProcessError),
    /// apt said something unexpected.
    #[error("cannot understand apt's answer: `{}`", .0.escape_debug())]
    Line(String),
    /// Two files of one version.
    #[error("Debian's indices have different files of {0}")]
    Ambiguous(String),
    /// No file of a version.
    #[error("Debian's indices have no SHA-256 of {0}")]
    NoDigest(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word {
        Word::try_from(text.to_string()).unwrap()
    }

    const INDEX: &str = "Package: make\nVersion: 4.4.1-2\nArchitecture: amd64\nSHA256: \
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nDescription: x\n SHA256: no\n\nPackage: \
        other\nVersion: 1\nArchitecture: all\n\n";

    fn index() -> Index {
        let mut index = Index::default();
        index.add(INDEX, &HashSet::from(["make", "other"]));
        index
    }

    fn deb(name: &str, version: &str, digit: &str) -> Deb {
        let sha256 = Digest::from_hex(&digit.repeat(64)).unwrap();
        Deb { name: word(name), version: word(version), architecture: word("amd64"), sha256 }
    }

    #[test]
    fn a_simulation_is_read() {
        let text = "Reading package lists...\nInst gcc-14-base (14.2.0-19 Debian:13.7/stable [amd64])\n\
            Inst zlib1g:amd64 (1:1.3-1+b1 Debian:13.7/stable, Debian-Security:13/stable-security [amd64]) [gcc:amd64 ]\n\
            Inst adduser (3.152 Debian:13.7/stable [all]) []\nConf adduser (3.152 Debian:13.7/stable [all])\n";
        let found = parse_simulation(text).unwrap();
        let found: Vec<_> = found.iter().map(|(n, v, a)| format!("{n} {v} {a}")).collect();
        assert_eq!(found, ["gcc-14-base 14.2.0-19 amd64", "zlib1g 1:1.3-1+b1 amd64", "adduser 3.152 all"]);
        assert!(parse_simulation("Inst what\n").is_err());
        assert!(parse_simulation("").is_err());
    }

    #[test]
    fn the_hosts_sources_are_known_by_label() {
        let text = "Debian|Debian|http://mirror.example/debian/\nDebian|Debian|http://second.example/\n\
            Debian|Debian-Security|http://mirror.example/sec/\n|x|http://a/\nOther|Debian|http://b/\nDebian|Bad|no uri\n";
        let served = parse_sources(text);
        assert_eq!(served.len(), 2);
        assert_eq!(served["Debian"], "http://mirror.example/debian/");
    }

    #[test]
    fn a_source_is_the_hosts_and_else_the_default_and_else_an_error_that_says_where_to_name_it() {
        let mut archive = Archive {
            label: "Debian".to_string(),
            suites: vec![word("trixie"), word("trixie-updates")],
            default: Some("http://default.example/debian".parse().unwrap()),
            keyring: "/no/such/keyring.gpg".parse().unwrap(),
        };
        let components = [word("main")];
        let lines = source_lines(&archive, &HashMap::new(), &components, &word("amd64")).unwrap();
        assert_eq!(
            lines,
            "deb [arch=amd64] http://default.example/debian trixie main\n\
             deb [arch=amd64] http://default.example/debian trixie-updates main\n"
        );
        let served = HashMap::from([("Debian".to_string(), "http://mirror.example/".to_string())]);
        let lines = source_lines(&archive, &served, &components, &word("amd64")).unwrap();
        assert!(lines.contains("] http://mirror.example/ trixie"), "{lines}");
        archive.default = None;
        let error = source_lines(&archive, &HashMap::new(), &components, &word("amd64")).unwrap_err().to_string();
        assert!(error.contains("no archive labelled `Debian`") && error.contains("`[archives]`"), "{error}");
    }

    #[test]
    fn the_index_gives_digests_of_the_version_asked_for() {
        let found = index().find((word("make"), word("4.4.1-2"), word("amd64"))).unwrap();
        assert_eq!(found, deb("make", "4.4.1-2", "a"));
        assert!(index().find((word("make"), word("4.3"), word("amd64"))).is_err());
        assert!(index().find((word("other"), word("1"), word("all"))).is_err());
    }

    #[test]
    fn what_the_index_no_longer_has_is_named_with_what_it_has() {
        let text = |deb: Deb| index().objection(&deb);
        assert_eq!(text(deb("make", "4.4.1-2", "a")), None);
        assert_eq!(text(deb("make", "4.3-9", "a")).unwrap(), "`make` 4.3-9 (amd64): the index has 4.4.1-2");
        assert_eq!(text(deb("gone", "1", "a")).unwrap(), "`gone` 1 (amd64): the index has no such package any more");
        assert!(text(deb("make", "4.4.1-2", "b")).unwrap().contains("another file of that version"));
    }

    #[test]
    fn files_are_named_as_apt_names_them() {
        assert_eq!(file_name(&deb("gcc", "4:14.2.0-1", "a")), "gcc_4%3a14.2.0-1_amd64.deb");
    }
}
