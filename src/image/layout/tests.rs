use super::{About, LayerWriter, LayoutError, Origin, Stored, find, list, name, store, verify};
use crate::atom::Name;
use crate::digest::Digest;
use crate::fs;
use crate::state::State;

fn state() -> (tempfile::TempDir, State) {
    let dir = tempfile::tempdir().unwrap();
    let state = State::below(dir.path());
    state.prepare().unwrap();
    (dir, state)
}

fn put(state: &State, called: &str, content: &[u8]) -> Stored {
    let mut writer = LayerWriter::new(&state.blobs().join(".new")).unwrap();
    writer.take(content).unwrap();
    let layer = writer.finish().unwrap();
    assert_eq!(layer.diff_id, Digest::of(content));
    let origin = Origin { definition: Digest::of("definition"), debs: Vec::new(), wheels: Vec::new() };
    let env = vec!["PATH=/bin".to_string(), "EMPTY=".to_string()];
    let about = About { architecture: "amd64", created: "2025-08-09T00:00:00Z", origin: &origin, env };
    let stored = store(state, &about, vec![layer]).unwrap();
    name(state, &called.parse().unwrap(), &stored.manifest).unwrap();
    stored
}

fn image() -> Name {
    "image".parse().unwrap()
}

fn damage(state: &State, digest: &Digest) {
    let path = state.blob(digest);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn what_is_stored_is_found_and_the_same_again_has_the_same_digest() {
    let (_dir, state) = state();
    assert!(find(&state, &image()).unwrap().is_none());
    let stored = put(&state, "image", b"layer");
    let found = find(&state, &image()).unwrap().unwrap();
    assert_eq!((&found.manifest, &found.layers), (&stored.manifest, &stored.layers));
    assert_eq!(found.origin.definition, Digest::of("definition"));
    assert_eq!(found.env, [("PATH".to_string(), "/bin".to_string()), ("EMPTY".to_string(), String::new())]);
    let (_other_dir, other) = self::state();
    assert_eq!(put(&other, "image", b"layer").manifest, stored.manifest);
}

#[test]
fn a_name_goes_to_the_last_that_takes_it() {
    let (_dir, state) = state();
    put(&state, "image", b"first");
    put(&state, "other", b"other");
    let second = put(&state, "image", b"second");
    assert_eq!(find(&state, &image()).unwrap().unwrap().manifest, second.manifest);
    assert_eq!(list(&state).unwrap().iter().map(Name::as_str).collect::<Vec<_>>(), ["image", "other"]);
}

#[test]
fn the_layout_is_what_the_specification_says() {
    let (_dir, state) = state();
    let stored = put(&state, "image", b"layer");
    let marker = fs::read_to_string(&state.images().join("oci-layout")).unwrap();
    assert_eq!(marker, "{\"imageLayoutVersion\":\"1.0.0\"}\n");
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(&state.images().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], stored.manifest.to_string());
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "image");
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(&state.blob(&stored.manifest)).unwrap()).unwrap();
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
}

#[test]
fn an_altered_manifest_or_configuration_is_named() {
    for which in ["manifest", "configuration"] {
        let (_dir, state) = state();
        let stored = put(&state, "image", b"layer");
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(&state.blob(&stored.manifest)).unwrap()).unwrap();
        let configuration: Digest = manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
        let digest = if which == "manifest" { stored.manifest } else { configuration };
        damage(&state, &digest);
        let error = find(&state, &image()).unwrap_err().to_string();
        assert!(error.contains(&digest.hex()) && error.contains("is damaged: its digest is"), "{which}: {error}");
    }
}

#[test]
fn an_altered_layer_is_named_when_it_is_verified() {
    let (_dir, state) = state();
    let layer = put(&state, "image", b"layer").layers.remove(0);
    verify(&state, &layer.digest).unwrap();
    damage(&state, &layer.digest);
    let error = verify(&state, &layer.digest).unwrap_err().to_string();
    assert!(error.contains(&layer.digest.hex()), "{error}");
}

#[test]
fn a_missing_or_truncated_layer_is_named_when_the_image_is_found() {
    let (_dir, state) = state();
    let layer = put(&state, "image", b"layer").layers.remove(0);
    fs::write(&state.blob(&layer.digest), "short").unwrap();
    assert!(find(&state, &image()).unwrap_err().to_string().contains("it has 5 bytes, not"));
    fs::remove_file(&state.blob(&layer.digest)).unwrap();
    assert!(matches!(find(&state, &image()), Err(LayoutError::Missing(path)) if path == state.blob(&layer.digest)));
}

#[test]
fn a_damaged_index_is_named() {
    let (_dir, state) = state();
    put(&state, "image", b"layer");
    fs::write(&state.images().join("index.json"), "{\"schemaVersion\": 2").unwrap();
    assert!(find(&state, &image()).unwrap_err().to_string().contains("index.json` is damaged"));
}

#[test]
fn a_digest_that_is_a_path_leads_nowhere() {
    for digest in ["sha256:../../../../etc/passwd", "sha512:aa", "md5:../x"] {
        let (_dir, state) = state();
        let stored = put(&state, "image", b"layer");
        let file = state.images().join("index.json");
        let text = fs::read_to_string(&file).unwrap().replace(&stored.manifest.to_string(), digest);
        fs::write(&file, text).unwrap();
        let error = find(&state, &image()).unwrap_err().to_string();
        assert!(error.contains("index.json` is damaged"), "{digest}: {error}");
    }
}
