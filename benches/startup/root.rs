//! The root that everything is measured in: twenty layers, as an image of bindery's, as folders, and as one overlay that
//! is mounted beforehand for those who cannot mount one.
//!
//! ```text
//! PLACE/bare                       the C program: the bare minimum, and the payload
//! PLACE/OWNER/layers/NN/           the layers as folders of OWNER's (root, or the ordinary user)
//! PLACE/OWNER/{upper,work,point}   for the bare minimum
//! PLACE/OWNER/merged/              the overlay, mounted by root in a mount namespace of the bench's own
//! PLACE/OWNER/{state,config}/      bindery's: an OCI layout with the image `bench`
//! ```

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use bindery::digest::Digest;
use serde_json::json;

/// As many as a clean room of a package with some dependencies has.
pub(crate) const LAYERS: usize = 20;
/// The image's name.
pub(crate) const IMAGE: &str = "bench";
const DEFINITION: &str = "version = 1\nkind = \"debian\"\narchitecture = \"amd64\"\nsuite = \"none\"\n\
                          components = [\"main\"]\nsource-date = \"2025-01-01T00:00:00Z\"\npackages = []\n\
                          [[archive]]\nlabel = \"none\"\nsuites = [\"none\"]\ndefault = \"http://localhost/\"\n\
                          keyring = \"/dev/null\"\n";

/// Where one owner's root lies.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    pub(crate) dir: PathBuf,
    /// What those get who cannot mount an overlay.
    pub(crate) shared: PathBuf,
    /// Whether that is an overlay.
    pub(crate) mounted: bool,
}

impl Root {
    /// Makes the root for an owner, whose ids are given; `program` is the payload. Root mounts the overlay.
    pub(crate) fn make(dir: &Path, program: &Path, owner: (u32, u32), mount: bool) -> Self {
        for name in ["layers", "upper", "work", "point", "upper2", "work2", "merged", "config/images", "state"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::write(dir.join(format!("config/images/{IMAGE}.toml")), DEFINITION).unwrap();
        let layers: Vec<_> = (0..LAYERS).map(|n| layer(n, program)).collect();
        for (n, tar) in layers.iter().enumerate() {
            tar::Archive::new(&tar[..]).unpack(dir.join(format!("layers/{n:02}"))).unwrap();
        }
        store(dir, &layers);
        give(dir, owner);
        let shared = dir.join("merged");
        if mount {
            let options = format!("{},upperdir=upper2,workdir=work2", lower());
            std::env::set_current_dir(dir).unwrap();
            nix::mount::mount(Some("overlay"), &shared, Some("overlay"), nix::mount::MsFlags::empty(), Some(&*options))
                .unwrap();
            for name in ["dev", "sys", "run", "etc"] {
                fs::create_dir_all(shared.join(name)).unwrap();
            }
        } else {
            for tar in &layers {
                tar::Archive::new(&tar[..]).unpack(&shared).unwrap();
            }
        }
        give(&shared, owner);
        Self { dir: dir.to_path_buf(), shared, mounted: mount }
    }

    /// The overlay's options for the bare minimum; names are relative to the folder.
    pub(crate) fn options(user: bool) -> String {
        format!("{},upperdir=upper,workdir=work{}", lower(), if user { ",userxattr" } else { "" })
    }
}

fn lower() -> String {
    let names: Vec<_> = (0..LAYERS).rev().map(|n| format!("layers/{n:02}")).collect();
    format!("lowerdir={}", names.join(":"))
}

/// Returns a layer's archive: the lowest has the program, each a file of its own.
fn layer(n: usize, program: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |kind, mode, name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let folder = tar::EntryType::Directory;
    if n == 0 {
        for name in ["bin", "proc", "dev", "sys", "run", "tmp", "etc", "usr"] {
            add(folder, 0o755, name, &[]);
        }
        let program = fs::read(program).unwrap();
        for name in ["bin/true", "bin/pause"] {
            add(tar::EntryType::Regular, 0o755, name, &program);
        }
    }
    add(folder, 0o755, "layer", &[]);
    add(tar::EntryType::Regular, 0o644, &format!("layer/{n:02}"), b"x\n");
    tar.into_inner().unwrap()
}

/// Writes the OCI layout that `bindery run --image` finds; it unpacks the layers itself, at the first run.
fn store(dir: &Path, layers: &[Vec<u8>]) {
    let (images, config) = (dir.join("state/state/images"), dir.join("config/images"));
    let blobs = images.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |kind: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest.to_string(), "size": bytes.len()})
    };
    let name = IMAGE.parse().unwrap();
    let definition = bindery::image::Definition::find(&name, &[config]).unwrap().digest();
    let origin = json!({"definition": definition, "debs": [], "wheels": []}).to_string();
    let diff_ids: Vec<_> = layers.iter().map(|tar| Digest::of(tar).to_string()).collect();
    let configuration = json!({
        "architecture": "amd64", "os": "linux", "created": "2025-01-01T00:00:00Z",
        "config": {"Env": [], "Labels": {"bindery.origin": origin}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": [],
    });
    let configuration = put("config.v1+json", configuration.to_string().as_bytes());
    let blob = |tar: &Vec<u8>| put("layer.v1.tar+zstd", &zstd::stream::encode_all(&tar[..], 3).unwrap());
    let layers: Vec<_> = layers.iter().map(blob).collect();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": configuration, "layers": layers});
    let mut entry = put("manifest.v1+json", manifest.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": IMAGE});
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
    fs::write(images.join("index.json"), index.to_string()).unwrap();
}

fn give(dir: &Path, (uid, gid): (u32, u32)) {
    chown(dir, Some(uid), Some(gid)).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            give(&path, (uid, gid));
        } else {
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
    }
}

/// Compiles the C program.
pub(crate) fn compile(place: &Path) -> PathBuf {
    let program = place.join("bare");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/startup/bare.c");
    let made = Command::new("cc").args(["-O2", "-static", "-Wall", "-o"]).arg(&program).arg(source).status();
    assert!(made.expect("cc is missing: `tests/host-tools bench`").success(), "the C program does not compile");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}
