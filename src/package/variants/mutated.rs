//! Whatever is done to a package's bytes, reading it ends with an error or a package, never with a panic.

use proptest::prelude::*;

use super::super::gpkg::{IMAGE, MANIFEST, METADATA, Member};
use super::super::{SecretKey, manifest};
use super::fixture::{Parts, files, image, key, metadata, normalised, verified, zstd};

/// Changes to some bytes: where (in parts of the whole), and what to do there.
fn changes() -> impl Strategy<Value = Vec<(f64, u8, u8)>> {
    proptest::collection::vec((0.0..1.0, any::<u8>(), 0_u8..5), 1..4)
}

fn change(bytes: &mut Vec<u8>, changes: &[(f64, u8, u8)]) {
    for (place, value, what) in changes {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the length")]
        let at = (bytes.len() as f64 * place) as usize;
        match what {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..bytes.len().min(at + 512))),
            2 => bytes.insert(at.min(bytes.len()), *value),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *value;
                }
            }
        }
    }
}

fn keys() -> &'static (SecretKey, Vec<u8>) {
    static KEYS: std::sync::OnceLock<(SecretKey, Vec<u8>)> = std::sync::OnceLock::new();
    KEYS.get_or_init(|| {
        let key = key();
        let bytes = Parts::signed(&key).bytes();
        (key, bytes)
    })
}

proptest! {
    #[test]
    fn a_container_with_changed_bytes(changes in changes()) {
        let mut bytes = Parts::portage().bytes();
        change(&mut bytes, &changes);
        let _ = normalised(&bytes);
    }

    #[test]
    fn metadata_with_changed_bytes(changes in changes()) {
        let mut tar = metadata();
        change(&mut tar, &changes);
        let _ = normalised(&Parts::portage().with(|p| *p.data(METADATA) = zstd(&tar)).list().bytes());
    }

    #[test]
    fn an_image_with_changed_bytes(changes in changes()) {
        let mut tar = image(&files());
        change(&mut tar, &changes);
        let _ = normalised(&Parts::portage().with(|p| *p.data(IMAGE) = zstd(&tar)).list().bytes());
    }

    #[test]
    fn compressed_data_with_changed_bytes(changes in changes()) {
        let parts = Parts::portage().with(|p| change(p.data(IMAGE), &changes)).list();
        let _ = normalised(&parts.bytes());
    }

    #[test]
    fn a_manifest_with_changed_bytes(changes in changes()) {
        let parts = Parts::portage().with(|p| change(p.data(MANIFEST), &changes));
        let _ = normalised(&parts.bytes());
    }

    #[test]
    fn any_text_as_manifest(text in "(DATA|MISC)? ?[a-z]{0,3} ?[0-9]{0,3} ?(SHA512|BLAKE2B)? ?[0-9a-f]{0,4}\n{0,2}") {
        let member = Member { name: "a".into(), offset: 0, size: 1, sha512: "0".into(), blake2b: "1".into() };
        let _ = manifest::check(text.as_bytes(), &[member]);
    }

    #[test]
    fn a_signed_package_with_changed_bytes_is_refused(changes in changes()) {
        let (key, good) = keys();
        let mut bytes = good.clone();
        change(&mut bytes, &changes);
        prop_assert!(bytes == *good || verified(&bytes, &[key]).is_err());
    }
}

#[test]
fn every_changed_byte_of_the_outer_layer_of_a_signed_package_is_refused() {
    let (key, good) = keys();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        assert!(verified(&bytes, &[key]).is_err(), "byte {at}");
    }
}
