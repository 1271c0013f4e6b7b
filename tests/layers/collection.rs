//! Layers that nobody uses any more are removed, and none that is in use.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bindery::layer::collect::{UNUSED, collect, in_use};
use bindery::layer::derive::{Context, Derived, Layer, Merge, Package, derive};
use bindery::state::State;

use crate::bench::shop;

/// A state of its own, whose image is the shop's.
struct Own {
    _dir: tempfile::TempDir,
    state: State,
}

impl Own {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(shop().bench.config.path()).unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        let image = shop().state.state().join(&shop().image.layers[0]);
        std::os::unix::fs::symlink(std::fs::canonicalize(image).unwrap(), state.short_layers().join("image")).unwrap();
        Self { _dir: dir, state }
    }

    fn derive(&self, cp: &str) -> Layer {
        let (merge, image) = (Merge::default(), [PathBuf::from("l/image")]);
        let cx = Context { state: &self.state, image: &image, ..shop().context(&merge) };
        let entry = shop().entry(cp);
        match derive(&cx, &[Package { file: &entry.file, facts: &entry.facts }]).unwrap().remove(0) {
            Derived::Layer(layer) => layer,
            Derived::NotStackable(reasons) => panic!("{reasons:?}"),
        }
    }

    /// Lets all records look as if nobody had used them for longer than they are kept.
    fn age(&self) {
        let long_ago = SystemTime::now() - UNUSED - Duration::from_secs(3600);
        for record in self.names().iter().filter(|name| name.ends_with(".json")) {
            bindery::fs::set_mtime(&self.state.layers().join(record), long_ago).unwrap();
        }
    }

    /// Collects; where a process that is just being started still has a lock that was dropped, once more.
    fn collect(&self) -> usize {
        loop {
            if let Some(count) = self.try_collect() {
                return count;
            }
            std::thread::yield_now();
        }
    }

    fn try_collect(&self) -> Option<usize> {
        collect(&self.state, &shop().ids, SystemTime::now() - UNUSED).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let names = bindery::fs::read_dir(&self.state.layers()).unwrap();
        names.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_string()).collect()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // What the id range owns is not the user's to remove.
        for folder in [self.state.layers(), self.state.roots()] {
            let _ = bindery::layer::remove(&shop().ids, &folder);
        }
    }
}

#[test]
fn a_layer_goes_when_nobody_has_used_it_for_long_and_is_made_again() {
    let own = Own::new();
    let layer = own.derive("app-misc/hello");
    let there = || own.state.state().join(&layer.folder).join("usr/bin").exists() || !is_root();
    // A layer, its record, what came of the request.
    assert_eq!((own.collect(), own.names().len(), there()), (0, 3, true));
    own.age();
    // Used once more, it stays.
    assert_eq!(own.derive("app-misc/hello"), layer);
    assert_eq!((own.collect(), own.names().len()), (0, 3));
    own.age();
    assert_eq!((own.collect(), own.names().len()), (1, 0));
    assert!(std::fs::symlink_metadata(own.state.state().join(&layer.folder)).is_err());
    assert!(std::fs::symlink_metadata(own.state.short_layers().join("image")).is_ok());
    assert_eq!(own.derive("app-misc/hello"), layer);
    assert!(there());
}

#[test]
fn nothing_is_removed_as_long_as_somebody_uses_layers() {
    let own = Own::new();
    let held = in_use(&own.state).unwrap();
    let other = in_use(&own.state).unwrap();
    own.derive("app-misc/hello");
    own.age();
    assert_eq!((own.try_collect(), own.names().len()), (None, 3));
    drop(held);
    assert_eq!((own.try_collect(), own.names().len()), (None, 3));
    drop(other);
    assert_eq!((own.collect(), own.names().len()), (1, 0));
}

#[test]
fn what_is_left_of_a_layer_without_its_record_is_removed() {
    let own = Own::new();
    let layer = own.derive("app-misc/hello");
    std::fs::remove_file(own.state.layers().join(layer.digest.hex()).with_extension("json")).unwrap();
    assert_eq!(own.collect(), 1);
    assert!(!own.state.layers().join(layer.digest.hex()).exists());
}

#[test]
fn a_build_that_is_running_keeps_all_layers() {
    let shop = shop();
    // In a profile of its own: one build at a time.
    shop.bench
        .write("profiles/endless.toml", "version = 1\ninherits = \"amd64\"\ntrees = [\"bindery-test\", \"own\"]\n");
    let running = shop.bench.start(&["build", "--profile", "endless", "own/endless"], "building own/endless-1");
    // Nothing is as old as this, so nothing would be removed from the state that other tests use, too.
    assert_eq!(collect(&shop.state, &shop.ids, SystemTime::UNIX_EPOCH).unwrap(), None);
    let said = shop.bench.run(&["reap", "--layers"]);
    said.fails(4, &["cannot remove layers of packages: a build that is running uses them"]);
    running.end("-INT");
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
