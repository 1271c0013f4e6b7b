//! The OCI image layout that images are kept in (OCI image specification 1.1, "Image Layout").
//!
//! ```text
//! images/oci-layout         {"imageLayoutVersion": "1.0.0"}
//!        index.json         one manifest for each name (`org.opencontainers.image.ref.name`)
//!        blobs/sha256/HEX   manifests, configurations, layers (tar, zstd)
//!        NAME.lock          what it was made of
//!        unpacked/HEX/      layers by the digest of their uncompressed archive, owned by the id range
//!        unpacked/HEX.json  written when all of the layer is there: for which id range
//! ```

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, ImageConfiguration, ImageConfigurationBuilder, ImageIndex,
    ImageIndexBuilder, ImageManifest, ImageManifestBuilder, MediaType, Os, RootFsBuilder, Sha256Digest,
};
use sha2::{Digest as _, Sha256};

use super::definition::Wheel;
use super::lock::Deb;
use crate::atom::Name;
use crate::digest::Digest;
use crate::fs::{self, File, PathError};
use crate::state::State;

/// The annotation that names an image in an index.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The label with what an image was made of: one, because labels have no order.
const ORIGIN: &str = "bindery.origin";
/// Manifests, configurations and indices of ours have a few kilobytes.
const DOCUMENT_MAX: u64 = 4 << 20;
/// Raising the level makes images slower and hardly smaller; changing it changes their digests.
const LEVEL: i32 = 3;

/// A layer's two digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayerBlob {
    /// Of the blob: compressed.
    pub(super) digest: Digest,
    /// Of the archive in it.
    pub(super) diff_id: Digest,
    /// The blob's length in bytes.
    pub(super) size: u64,
}

/// What an image was made of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// The digest of its definition.
    pub definition: Digest,
    /// Every Debian package.
    pub debs: Vec<Deb>,
    /// Every Python package.
    pub wheels: Vec<Wheel>,
}

/// An image as the layout has it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) manifest: Digest,
    pub(super) origin: Origin,
    pub(super) layers: Vec<LayerBlob>,
    pub(super) env: Vec<(String, String)>,
}

/// What a new image says of itself.
#[derive(Debug)]
pub(super) struct About<'a> {
    pub(super) architecture: &'a str,
    pub(super) created: &'a str,
    pub(super) origin: &'a Origin,
    pub(super) env: Vec<String>,
}

/// Takes an archive's bytes and writes the blob.
pub(super) struct LayerWriter {
    encoder: zstd::stream::write::Encoder<'static, Hashing>,
    archive: Sha256,
    path: PathBuf,
}

struct Hashing {
    file: File,
    hash: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(bytes.get(..n).unwrap_or_default());
        self.size += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl LayerWriter {
    /// Starts a blob in a new file, which is in the folder of blobs and which the caller's lease owns.
    pub(super) fn new(path: &Path) -> Result<Self, PathError> {
        let file = fs::create_new(path, 0o644)?;
        let encoder = zstd::stream::write::Encoder::new(Hashing { file, hash: Sha256::new(), size: 0 }, LEVEL)
            .map_err(PathError::on("write", path))?;
        Ok(Self { encoder, archive: Sha256::new(), path: path.to_path_buf() })
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.archive.update(bytes);
        self.encoder.write_all(bytes)
    }

    /// Gives the blob its name.
    pub(super) fn finish(self) -> Result<LayerBlob, PathError> {
        let Self { encoder, archive, path } = self;
        let Hashing { file, hash, size } = encoder.finish().map_err(PathError::on("write", &path))?;
        let digest = Digest::from(<[u8; 32]>::from(hash.finalize()));
        fs::set_mode(&path, 0o644)?;
        file.sync_all().map_err(PathError::on("write", &path))?;
        fs::rename(&path, &path.with_file_name(digest.hex()))?;
        fs::sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(LayerBlob { digest, diff_id: Digest::from(<[u8; 32]>::from(archive.finalize())), size })
    }
}

/// Writes configuration and manifest of a new image, which has no name yet.
pub(super) fn store(state: &State, about: &About<'_>, layers: Vec<LayerBlob>) -> Result<Stored, LayoutError> {
    let rootfs = RootFsBuilder::default()
        .typ("layers".to_string())
        .diff_ids(layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>())
        .build()?;
    let origin = serde_json::to_string(about.origin).map_err(|e| LayoutError::damaged(&state.blobs(), e))?;
    let labels = HashMap::from([(ORIGIN.to_string(), origin)]);
    let configuration = ImageConfigurationBuilder::default()
        .architecture(Arch::from(about.architecture))
        .os(Os::Linux)
        .created(about.created.to_string())
        .config(ConfigBuilder::default().env(about.env.clone()).labels(labels).build()?)
        .rootfs(rootfs)
        .history(Vec::new())
        .build()?;
    let (_, config) = put(state, &configuration, MediaType::ImageConfig)?;
    let blobs = layers.iter().map(|layer| descriptor(&layer.digest, layer.size, MediaType::ImageLayerZstd));
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(blobs.collect::<Result<Vec<_>, _>>()?)
        .build()?;
    let (manifest, _) = put(state, &manifest, MediaType::ImageManifest)?;
    let env = about.env.iter().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_string(), v.to_string()));
    Ok(Stored { manifest, origin: about.origin.clone(), layers, env: env.collect() })
}

/// Gives an image its name, in place of the one that had it.
pub(super) fn name(state: &State, name: &Name, manifest: &Digest) -> Result<(), LayoutError> {
    let marker = state.images().join("oci-layout");
    if !marker.exists() {
        fs::write_atomic(&marker, "{\"imageLayoutVersion\":\"1.0.0\"}\n", 0o644)?;
    }
    let size = fs::metadata(&state.blob(manifest))?.len();
    let mut entry = descriptor(manifest, size, MediaType::ImageManifest)?;
    entry.set_annotations(Some(HashMap::from([(REF_NAME.to_string(), name.to_string())])));
    let mut manifests: Vec<Descriptor> = index(state)?.manifests().clone();
    manifests.retain(|other| ref_name(other) != Some(name.as_str()));
    manifests.push(entry);
    manifests.sort_by(|a, b| ref_name(a).cmp(&ref_name(b)));
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()?;
    let text = serde_json::to_string_pretty(&index).map_err(|e| LayoutError::damaged(&index_file(state), e))?;
    Ok(fs::write_atomic(&index_file(state), text + "\n", 0o644)?)
}

/// Returns the names of all images that are made.
pub(super) fn list(state: &State) -> Result<Vec<Name>, LayoutError> {
    Ok(index(state)?.manifests().iter().filter_map(ref_name).filter_map(|name| name.parse().ok()).collect())
}

/// Finds the image of a name and reads its documents, whose digests are checked; of its layers only the lengths are.
pub(super) fn find(state: &State, name: &Name) -> Result<Option<Stored>, LayoutError> {
    let index = index(state)?;
    let Some(entry) = index.manifests().iter().find(|entry| ref_name(entry) == Some(name.as_str())) else {
        return Ok(None);
    };
    let (manifest, text) = get(state, entry)?;
    let parsed: ImageManifest =
        serde_json::from_slice(&text).map_err(|e| LayoutError::damaged(&state.blob(&manifest), e))?;
    let (configuration, text) = get(state, parsed.config())?;
    let file = state.blob(&configuration);
    let config: ImageConfiguration = serde_json::from_slice(&text).map_err(|e| LayoutError::damaged(&file, e))?;
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != parsed.layers().len() || diff_ids.is_empty() {
        return Err(LayoutError::damaged(&file, "it names another number of layers than the manifest"));
    }
    let mut layers = Vec::new();
    for (layer, diff_id) in parsed.layers().iter().zip(diff_ids) {
        let digest = digest_of(layer, &state.blob(&manifest))?;
        let diff_id = diff_id.parse().map_err(|e| LayoutError::damaged(&file, e))?;
        let path = state.blob(&digest);
        let size = fs::metadata(&path).map_err(LayoutError::missing)?.len();
        if size != layer.size() {
            return Err(LayoutError::damaged(&path, format!("it has {size} bytes, not {}", layer.size())));
        }
        layers.push(LayerBlob { digest, diff_id, size });
    }
    let inner = config.config().as_ref();
    let origin = inner.and_then(|c| serde_json::from_str(c.labels().as_ref()?.get(ORIGIN)?).ok());
    let origin = origin.ok_or_else(|| LayoutError::damaged(&file, "it does not say what the image was made of"))?;
    let env = inner.and_then(|c| c.env().clone()).unwrap_or_default();
    let env = env.iter().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Ok(Some(Stored { manifest, origin, layers, env }))
}

/// Reads a layer's blob in full and compares its digest.
pub(super) fn verify(state: &State, digest: &Digest) -> Result<(), LayoutError> {
    let path = state.blob(digest);
    let mut file = fs::open(&path).map_err(LayoutError::missing)?;
    let found = sha256(&mut file).map_err(PathError::on("read", &path))?;
    if found == *digest { Ok(()) } else { Err(LayoutError::damaged(&path, format!("its digest is {found}"))) }
}

/// Returns the SHA-256 of what a reader yields, without the other digests that packages need.
pub(super) fn sha256(reader: &mut File) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(Digest::from(<[u8; 32]>::from(hash.finalize()))),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn index_file(state: &State) -> PathBuf {
    state.images().join("index.json")
}

fn index(state: &State) -> Result<ImageIndex, LayoutError> {
    let file = index_file(state);
    match fs::read_if_exists(&file)? {
        Some(text) => serde_json::from_str(&text).map_err(|e| LayoutError::damaged(&file, e)),
        None => Ok(ImageIndexBuilder::default().schema_version(2_u32).manifests(Vec::new()).build()?),
    }
}

fn ref_name(entry: &Descriptor) -> Option<&str> {
    entry.annotations().as_ref()?.get(REF_NAME).map(String::as_str)
}

fn descriptor(digest: &Digest, size: u64, kind: MediaType) -> Result<Descriptor, LayoutError> {
    let digest: Sha256Digest = digest.hex().parse()?;
    Ok(DescriptorBuilder::default().media_type(kind).size(size).digest(digest).build()?)
}

fn put(state: &State, value: &impl serde::Serialize, kind: MediaType) -> Result<(Digest, Descriptor), LayoutError> {
    // The types' fields have one order; their maps have none, and ours have one entry at most.
    let text = serde_json::to_string(value).map_err(|e| LayoutError::damaged(&state.blobs(), e))?;
    let digest = Digest::of(&text);
    fs::write_atomic(&state.blob(&digest), &text, 0o644)?;
    let descriptor = descriptor(&digest, text.len() as u64, kind)?;
    Ok((digest, descriptor))
}

fn get(state: &State, entry: &Descriptor) -> Result<(Digest, Vec<u8>), LayoutError> {
    let digest = digest_of(entry, &index_file(state))?;
    let path = state.blob(&digest);
    let size = fs::metadata(&path).map_err(LayoutError::missing)?.len();
    if size != entry.size() || size > DOCUMENT_MAX {
        return Err(LayoutError::damaged(&path, format!("it has {size} bytes, not {}", entry.size())));
    }
    let bytes = fs::read(&path)?;
    let found = Digest::of(&bytes);
    if found == digest {
        Ok((digest, bytes))
    } else {
        Err(LayoutError::damaged(&path, format!("its digest is {found}")))
    }
}

fn digest_of(entry: &Descriptor, file: &Path) -> Result<Digest, LayoutError> {
    // Other algorithms, and digests that are paths, are no SHA-256.
    entry.digest().to_string().parse().map_err(|e| LayoutError::damaged(file, e))
}

/// The layout of images is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file is not what its name or its index says.
    #[error("`{}` is damaged: {why}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file is not there.
    #[error("`{}` is missing", .0.display())]
    Missing(PathBuf),
    /// A document of the specification could not be put together.
    #[error("cannot put an OCI document together")]
    Document(#[from] oci_spec::OciSpecError),
}

impl LayoutError {
    fn damaged(file: &Path, why: impl ToString) -> Self {
        Self::Damaged { file: file.to_path_buf(), why: why.to_string() }
    }

    fn missing(error: PathError) -> Self {
        if error.source.kind() == io::ErrorKind::NotFound { Self::Missing(error.path) } else { Self::Path(error) }
    }
}

#[cfg(test)]
mod tests;
