//! Layers and images as the id range sees them: what needs a user namespace and no network.
//!
//! Needs subordinate ids: as root always, as an ordinary user entries in /etc/subuid and /etc/subgid and the package
//! `uidmap`. Without them every test fails and says so.

#![expect(clippy::unwrap_used, reason = "what fails is the test")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bindery::digest::Digest;
use bindery::image::{self, Context, Definition, Mode};
use bindery::layer::{self, Limits, Source};
use bindery::process::chain;
use bindery::sandbox::IdRange;
use bindery::state::State;
use bindery::{fs, process};

struct Store {
    ids: IdRange,
    state: State,
    // Last, so that what the range owns is removed before the folder is.
    dir: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        process::set_this_program(Path::new(env!("CARGO_BIN_EXE_bindery")));
        let dir = tempfile::Builder::new().prefix("bindery-layer-").tempdir_in("/var/tmp").unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        let ids = IdRange::detect(None).unwrap_or_else(|e| panic!("{}", chain(&e)));
        layer::close(&ids, &state.unpacked()).unwrap();
        layer::close(&ids, &state.roots().join("x")).unwrap();
        Self { ids, state, dir }
    }

    fn unpack(&self, bytes: &[u8], diff_id: &Digest) -> Result<PathBuf, String> {
        let file = self.dir.path().join("archive");
        fs::write(&file, bytes).unwrap();
        let source = Source { file: fs::open(&file).unwrap(), zstd: false, diff_id: diff_id.clone() };
        let (scratch, into) = (Path::new("roots/x/new"), Path::new("images/unpacked/it"));
        layer::unpack(&self.ids, source, self.state.state(), scratch, into, Limits::default())
            .map(|_| self.state.state().join(into))
            .map_err(|e| e.to_string())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        for folder in [self.state.unpacked(), self.state.roots().join("x")] {
            let _ = layer::remove(&self.ids, &folder);
        }
    }
}

/// Returns an archive of one member for each of `(type, name, link, uid)`.
fn tarball(members: &[(tar::EntryType, &str, &str, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, name, link, uid) in members {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_uid(*uid);
        header.set_gid(*uid);
        header.set_mtime(1);
        header.set_size(0);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[test]
fn a_layer_is_unpacked_measured_packed_and_removed_as_the_range() {
    use tar::EntryType::{Directory, Regular};
    let store = Store::new();
    let bytes = tarball(&[(Directory, "./", "", 0), (Directory, "./d/", "", 250), (Regular, "./d/su", "", 0)]);
    let folder = store.unpack(&bytes, &Digest::of(&bytes)).unwrap();
    let mut packed = Vec::new();
    layer::pack(&store.ids, &folder, 1, &mut |chunk| {
        packed.extend_from_slice(chunk);
        Ok(())
    })
    .unwrap();
    assert!(packed == bytes, "packing again must give the same archive");
    assert!(layer::usage(&store.ids, &folder).unwrap() < 1 << 20);
    // Nobody else may pass: there are set-user-id programs behind.
    let parent = fs::metadata(&store.state.unpacked()).unwrap();
    assert_eq!(parent.permissions().mode() & 0o777, 0o700);
    if store.ids.is_roots() {
        assert_eq!(parent.uid(), store.ids.uid());
        assert_eq!(fs::metadata(&folder.join("d")).unwrap().uid(), store.ids.uid() + 250);
    }
    layer::remove(&store.ids, &folder).unwrap();
    assert!(!folder.exists());
}

#[test]
fn a_hostile_archive_is_refused_in_the_range_and_leaves_nothing_in_its_place() {
    use tar::EntryType::{Char, Directory, Regular, Symlink};
    let store = Store::new();
    let outside = store.dir.path().join("outside");
    fs::create_dir(&outside, 0o755).unwrap();
    let way = outside.to_str().unwrap();
    for (members, why) in [
        (&[(Regular, "/etc/x", "", 0)][..], "is absolute"),
        (&[(Regular, "../../x", "", 0)], "has `..` in it"),
        (&[(Symlink, "w", way, 0), (Regular, "w/x", "", 0)], "below something that is a link"),
        (&[(Directory, "d", "", 0), (Symlink, "d", way, 0)], "has the member `d` twice"),
        (&[(Char, "null", "", 0)], "is a device node"),
        (&[(Regular, "x", "", 65535)], "belongs to id 65535"),
        (&[(Regular, ".wh.x", "", 0)], "is a whiteout"),
    ] {
        let bytes = tarball(members);
        let error = store.unpack(&bytes, &Digest::of(&bytes)).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert!(!store.state.unpacked().join("it").exists());
        layer::remove(&store.ids, &store.state.roots().join("x/new")).unwrap();
    }
    assert_eq!(fs::read_dir(&outside).unwrap().len(), 0);
}

#[test]
fn an_archive_with_another_digest_is_refused() {
    let store = Store::new();
    let bytes = tarball(&[(tar::EntryType::Regular, "x", "", 0)]);
    let error = store.unpack(&bytes, &Digest::of("something else")).unwrap_err();
    assert!(error.contains("the archive has the digest sha256:"), "{error}");
    assert!(!store.state.unpacked().join("it").exists());
}

#[test]
fn an_image_that_is_not_made_is_told_how_to_make_it() {
    let store = Store::new();
    let cancel = AtomicBool::new(false);
    let cx = Context { state: &store.state, ids: &store.ids, archives: &BTreeMap::new(), cancel: &cancel };
    let definition = Definition::find(&"debian-portage".parse().unwrap(), &[]).unwrap();
    assert_eq!(image::find(&cx, &definition.name).unwrap(), None);
    let error = image::verify(&cx, &definition.name).unwrap_err().to_string();
    assert_eq!(error, "the image `debian-portage` is not made yet; `bindery image make debian-portage` makes it");
    let error = image::find_lock(&store.state, &definition).unwrap_err().to_string();
    assert!(error.starts_with("there is no lock for the image `debian-portage`"), "{error}");
}

#[test]
fn a_lock_of_another_definition_is_refused_before_anything_is_fetched() {
    let store = Store::new();
    let cancel = AtomicBool::new(false);
    let cx = Context { state: &store.state, ids: &store.ids, archives: &BTreeMap::new(), cancel: &cancel };
    let definition = Definition::find(&"debian-portage".parse().unwrap(), &[]).unwrap();
    let turn = image::turn(&cx, &definition.name, &mut |_| {}).unwrap();
    let lock = image::Lock::new(definition.name.clone(), Digest::of("other"), Digest::of("m"), vec![], &[], &[]);
    let error = image::make(&cx, turn, &definition, &Mode::Locked(lock), None, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("was made from another definition"), "{error}");
    assert_eq!(fs::read_dir(&store.state.leases()).unwrap().len(), 0);
    assert_eq!(fs::read_dir(&store.state.downloads()).unwrap().len(), 0);
}

#[test]
fn who_makes_an_image_at_the_same_time_waits_and_is_told_so_unless_it_is_cancelled() {
    let store = Store::new();
    let cancel = AtomicBool::new(false);
    let cx = Context { state: &store.state, ids: &store.ids, archives: &BTreeMap::new(), cancel: &cancel };
    let name = "some".parse().unwrap();
    let mut said = Vec::new();
    let mut first = Some(image::turn(&cx, &name, &mut |event| panic!("{event:?}")).unwrap());
    // The first ends as soon as the second has been told of it.
    let second = image::turn(&cx, &name, &mut |event| {
        said.push(format!("{event:?}"));
        first = None;
    });
    second.unwrap();
    assert!(said.len() == 1 && said[0].contains(&format!("waits for process {}", std::process::id())), "{said:?}");
    let _held = image::turn(&cx, &name, &mut |event| panic!("{event:?}")).unwrap();
    let error = image::turn(&cx, &name, &mut |_| cancel.store(true, Ordering::Relaxed)).unwrap_err();
    assert!(matches!(error, image::ImageError::Cancelled), "{error}");
}
