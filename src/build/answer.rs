//! What the resolver answered before.
//!
//! The resolver runs in a root without a network, and sees nothing but an image, snapshots of trees and the
//! configuration: with the same of them it says the same, so it is asked once.
//!
//! ```text
//! cache/resolutions/KEY     the digest of what follows, a line end, then what the resolver printed
//! ```
//!
//! KEY is the digest of all that it saw, its own program and this one's version included. What is kept is as little to be
//! trusted as what the resolver prints; the digest is there to notice a damaged file, which is only slower.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::atom::RootPath;
use crate::backend::Step;
use crate::digest::Digest;
use crate::fs::{self, Found, PathError};
use crate::image::Image;
use crate::state::State;
use crate::tree::Tree;

/// Changes when something else than what is in the key changes the answers.
const VERSION: u32 = 1;
/// How many answers are kept: some profiles, each asked some questions.
const KEPT: usize = 64;
/// The longest that is read, in bytes, as in `room`.
const LONGEST: u64 = 256 << 20;
/// The digits of a digest and a line end.
const HEAD: usize = 65;

/// A place for one question's answer.
#[derive(Debug)]
pub(super) struct Answer {
    dir: PathBuf,
    file: PathBuf,
}

/// What the resolver sees.
#[derive(serde::Serialize)]
struct Question<'a> {
    version: u32,
    program: &'a str,
    image: &'a Digest,
    trees: Vec<(String, &'a Digest)>,
    configuration: Vec<(String, String)>,
    args: &'a [String],
    env: &'a [(String, String)],
}

impl Answer {
    /// Returns the place for the answer to a step. `trees` are where each is in the root; `configuration` are the
    /// folders on the host.
    pub(super) fn to(
        state: &State,
        image: &Image,
        trees: &[(RootPath, &Tree)],
        configuration: &[PathBuf],
        step: &Step,
    ) -> Result<Self, PathError> {
        Self::of_program(env!("CARGO_PKG_VERSION"), state, image, trees, configuration, step)
    }

    fn of_program(
        program: &str,
        state: &State,
        image: &Image,
        trees: &[(RootPath, &Tree)],
        configuration: &[PathBuf],
        step: &Step,
    ) -> Result<Self, PathError> {
        let question = Question {
            version: VERSION,
            program,
            image: &image.digest,
            trees: trees.iter().map(|(at, tree)| (at.to_string(), &tree.revision)).collect(),
            configuration: configuration.iter().map(|dir| list(dir)).collect::<Result<Vec<_>, _>>()?.concat(),
            args: &step.args,
            env: &step.env,
        };
        let key = Digest::of(serde_json::to_vec(&question).expect("it is plain data"));
        let dir = state.resolutions();
        Ok(Self { file: dir.join(key.hex()), dir })
    }

    /// Returns what was answered before.
    pub(super) fn known(&self) -> Option<Vec<u8>> {
        let mut bytes = fs::read_at_most(&self.file, LONGEST).ok()?;
        let head = bytes.get(..HEAD)?.to_vec();
        bytes.drain(..HEAD);
        if head != [Digest::of(&bytes).hex().as_bytes(), b"\n"].concat() {
            return None;
        }
        // The least recently used go first.
        let _ = fs::set_mtime(&self.file, SystemTime::now());
        Some(bytes)
    }

    /// Keeps an answer. That this cannot be done makes the next plan slower, and nothing else.
    pub(super) fn keep(&self, answer: &[u8]) {
        let head = Digest::of(answer).hex();
        if fs::write_atomic(&self.file, [head.as_bytes(), b"\n", answer].concat(), 0o644).is_ok() {
            let _ = self.thin();
        }
    }

    fn thin(&self) -> Result<(), PathError> {
        let mut files = Vec::new();
        for file in fs::read_dir(&self.dir)? {
            let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if let (false, Ok(time)) = (hidden, fs::symlink_metadata(&file)?.modified()) {
                files.push((time, file));
            }
        }
        files.sort();
        let excess = files.len().saturating_sub(KEPT);
        files.iter().take(excess).try_for_each(|(_, file)| fs::remove_file(file))
    }
}

/// Returns every file, link and folder of a folder: its path, and what is in it.
fn list(dir: &Path) -> Result<Vec<(String, String)>, PathError> {
    let mut files = Vec::new();
    fs::walk(dir, Path::new(""), &mut |path, full, found| {
        let what = match found {
            Found::Folder => String::new(),
            Found::Link(target) => format!("-> {}", target.display()),
            Found::File => Digest::of_file(full)?.to_string(),
        };
        files.push((path.display().to_string(), what));
        Ok::<_, PathError>(())
    })?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        dir: tempfile::TempDir,
        state: State,
        image: Image,
        tree: Tree,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let state = State::below(dir.path());
            state.prepare().unwrap();
            fs::create_dir_all(&dir.path().join("conf/package.use")).unwrap();
            fs::write(&dir.path().join("conf/make.conf"), "A=1\n").unwrap();
            fs::symlink(Path::new("/somewhere"), &dir.path().join("conf/make.profile")).unwrap();
            let origin = serde_json::json!({"definition": Digest::of("d"), "debs": [], "wheels": []});
            let image = Image {
                name: "image".parse().unwrap(),
                digest: Digest::of("image"),
                ground: Digest::of("image"),
                plain: None,
                layers: Vec::new(),
                env: Vec::new(),
                origin: serde_json::from_value(origin).unwrap(),
                emulator: None,
            };
            let tree = Tree {
                name: "tree".parse().unwrap(),
                path: "/nowhere".into(),
                revision: Digest::of("tree"),
                commit: None,
                masters: None,
            };
            Self { dir, state, image, tree }
        }

        fn answer(&self, atom: &str) -> Answer {
            self.answer_to(env!("CARGO_PKG_VERSION"), atom)
        }

        fn answer_to(&self, program: &str, atom: &str) -> Answer {
            let trees = [("/var/db/repos/tree".parse().unwrap(), &self.tree)];
            let step = Step { args: vec!["program".into(), atom.into()], env: Vec::new() };
            Answer::of_program(program, &self.state, &self.image, &trees, &[self.dir.path().join("conf")], &step)
                .unwrap()
        }
    }

    #[test]
    fn an_answer_is_known_until_something_changes_that_the_resolver_sees() {
        let mut bench = Bench::new();
        let answer = bench.answer("a/b");
        assert_eq!(answer.known(), None);
        answer.keep(b"{}");
        assert_eq!(bench.answer("a/b").known().unwrap(), b"{}");
        assert_eq!(bench.answer("a/c").known(), None);
        let conf = bench.dir.path().join("conf");
        fs::write(&conf.join("package.use/own"), "a/b c\n").unwrap();
        assert_eq!(bench.answer("a/b").known(), None);
        fs::remove_file(&conf.join("package.use/own")).unwrap();
        assert!(bench.answer("a/b").known().is_some());
        fs::remove_file(&conf.join("make.profile")).unwrap();
        fs::symlink(Path::new("/elsewhere"), &conf.join("make.profile")).unwrap();
        assert_eq!(bench.answer("a/b").known(), None);
        fs::remove_file(&conf.join("make.profile")).unwrap();
        fs::symlink(Path::new("/somewhere"), &conf.join("make.profile")).unwrap();
        bench.tree.revision = Digest::of("other");
        assert_eq!(bench.answer("a/b").known(), None);
        bench.tree.revision = Digest::of("tree");
        assert!(bench.answer("a/b").known().is_some());
        assert_eq!(bench.answer_to("another version", "a/b").known(), None);
        bench.image.digest = Digest::of("other");
        assert_eq!(bench.answer("a/b").known(), None);
    }

    #[test]
    fn a_damaged_answer_is_none() {
        let bench = Bench::new();
        let answer = bench.answer("a/b");
        answer.keep(b"{}");
        let good = fs::read(&answer.file).unwrap();
        let flipped =
            |at: usize| good.iter().enumerate().map(|(i, byte)| byte ^ u8::from(i == at)).collect::<Vec<u8>>();
        for damaged in [flipped(3), flipped(64), flipped(66), good[..40].to_vec(), Vec::new()] {
            fs::write(&answer.file, damaged).unwrap();
            assert_eq!(answer.known(), None);
        }
        fs::write(&answer.file, good).unwrap();
        assert!(answer.known().is_some());
    }

    #[test]
    fn the_least_recently_used_are_dropped() {
        let bench = Bench::new();
        for number in 0..KEPT + 3 {
            let answer = bench.answer(&number.to_string());
            answer.keep(b"{}");
            let age = std::time::Duration::from_secs(u64::try_from(1000 - number).unwrap());
            fs::set_mtime(&answer.file, SystemTime::now() - age).unwrap();
        }
        bench.answer("more").keep(b"{}");
        let kept = |number: usize| bench.answer(&number.to_string()).known().is_some();
        assert!(!kept(0) && !kept(3) && kept(4) && kept(KEPT + 2));
    }
}
