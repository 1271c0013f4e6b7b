//! Signed packages. The first tests follow the table of what a strict client refuses and what it tolerates.

use super::super::gpkg::{FORMAT, IMAGE, IMAGE_SIG, MANIFEST, METADATA, METADATA_SIG};
use super::super::header::Header;
use super::super::metadata::{self, BUILD_ID, BUILD_TIME, Metadata};
use super::super::{SecretKey, VerifyError};
use super::fixture::{DATE, NOW, Parts, at, gnu, image, key, metadata_of, normalised, signed, verified, zstd};

fn refused(parts: &Parts, key: &SecretKey) -> VerifyError {
    verified(&parts.bytes(), &[key]).unwrap_err()
}

fn says(parts: &Parts, key: &SecretKey, words: &str) {
    let error = refused(parts, key).to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_signed_package_is_verified_and_tells_the_same_facts() {
    let key = key();
    let (result, unsigned) = normalised(&Parts::portage().bytes()).unwrap();
    let bytes = signed(&unsigned, &key).unwrap();
    assert_eq!(signed(&unsigned, &key).unwrap(), bytes);
    let verified = verified(&bytes, &[&key]).unwrap();
    assert_eq!(verified.facts, result.facts);
    assert_eq!((verified.signed.fingerprint, verified.signed.time), (key.certificate().fingerprint(), DATE));
}

#[test]
fn a_package_older_than_its_key_is_signed_with_the_keys_time() {
    let key = SecretKey::generate("x", at(NOW - 5), None).unwrap();
    assert_eq!(verified(&Parts::signed(&key).bytes(), &[&key]).unwrap().signed.time, NOW - 5);
}

#[test]
fn a_changed_byte_in_a_member_is_refused() {
    let key = key();
    for name in [IMAGE, METADATA] {
        let parts = Parts::signed(&key).with(|p| p.data(name)[20] ^= 1);
        says(&parts, &key, &format!("`{name}` has another digest"));
        // Whoever also writes the Manifest's digests anew breaks its signature.
        let digest = parts.manifest().lines().find(|l| l.contains(name)).unwrap().to_string();
        let parts = parts.with(|p| {
            let text = String::from_utf8(p.data(MANIFEST).clone()).unwrap();
            let old = text.lines().find(|l| l.starts_with(&format!("DATA {name} "))).unwrap().to_string();
            *p.data(MANIFEST) = text.replace(&old, &digest).into();
        });
        says(&parts, &key, "the signature of its `Manifest` is refused");
        assert!(matches!(refused(&parts, &key), VerifyError::Signature { name: MANIFEST, .. }));
    }
}

#[test]
fn a_member_of_another_package_with_its_good_signature_is_refused() {
    let key = key();
    let mut other = Parts::signed(&key);
    let parts = Parts::portage().with(|p| *p.data(METADATA) = zstd(&metadata_of(&super::fixture::keys()[..11]))).list();
    let mut parts = Parts::read(&signed(&normalised(&parts.bytes()).unwrap().1, &key).unwrap());
    *parts.data(METADATA) = other.data(METADATA).clone();
    *parts.data(METADATA_SIG) = other.data(METADATA_SIG).clone();
    says(&parts, &key, "than the Manifest says");
}

#[test]
fn an_unsigned_package_is_refused() {
    let key = key();
    let unsigned = normalised(&Parts::portage().bytes()).unwrap().1;
    let error = verified(&unsigned, &[&key]).unwrap_err();
    assert_eq!(error.to_string(), "it is not signed: `metadata.tar.zst.sig` is missing or has no signature");
    assert!(matches!(verified(&Parts::portage().bytes(), &[&key]).unwrap_err(), VerifyError::Unsigned(_)));
}

#[test]
fn a_package_of_which_only_the_manifest_is_signed_is_refused() {
    let key = key();
    let text = key.cleartext(&Parts::portage().manifest(), DATE).unwrap();
    let parts = Parts::portage().with(|p| *p.data(MANIFEST) = text.into());
    assert!(matches!(refused(&parts, &key), VerifyError::Unsigned(name) if name == METADATA_SIG));
}

#[test]
fn a_package_of_which_only_the_members_are_signed_is_refused() {
    let key = key();
    let parts = Parts::signed(&key).list();
    assert!(matches!(refused(&parts, &key), VerifyError::Unsigned(name) if name == MANIFEST));
    for name in [METADATA_SIG, IMAGE_SIG] {
        let parts = Parts::signed(&key).with(|p| drop(p.members.remove(p.at(name))));
        assert!(matches!(refused(&parts, &key), VerifyError::Unsigned(found) if found == name));
    }
}

#[test]
fn an_unknown_key_is_refused_and_named() {
    let (key, other) = (key(), key());
    says(
        &Parts::signed(&key),
        &other,
        &format!("signed by the key {}, which is not known", key.certificate().fingerprint()),
    );
    assert!(verified(&Parts::signed(&key).bytes(), &[]).is_err());
    assert!(verified(&Parts::signed(&key).bytes(), &[&other, &key]).is_ok());
}

#[test]
fn an_expired_key_is_refused() {
    let key = SecretKey::generate("x", at(DATE - 1000), Some(5000)).unwrap();
    says(&Parts::signed(&key), &key, "has expired");
}

#[test]
fn a_signature_that_is_not_armored_or_no_signature_at_all_is_refused() {
    let key = key();
    for data in [&b"\x88\x75\x04\x00"[..], b"", b"-----BEGIN PGP SIGNATURE-----\n", b"\xff"] {
        let parts = Parts::signed(&key).with(|p| {
            *p.data(IMAGE_SIG) = data.to_vec();
            *p.data(MANIFEST) = key.cleartext(&p.manifest(), DATE).unwrap().into();
        });
        says(&parts, &key, "the signature of its `image.tar.zst` is refused");
    }
}

#[test]
fn two_signatures_are_refused() {
    let (key, other) = (key(), key());
    let both = |p: &mut Parts| {
        let image = p.data(IMAGE).clone();
        let more = other.detached(&image[..], DATE).unwrap();
        p.data(IMAGE_SIG).extend(more.into_bytes());
        *p.data(MANIFEST) = key.cleartext(&p.manifest(), DATE).unwrap().into();
    };
    let parts = Parts::signed(&key).with(both);
    assert!(verified(&parts.bytes(), &[&key]).is_err());
    assert!(verified(&parts.bytes(), &[&key, &other]).is_err());
}

#[test]
fn members_signed_by_different_keys_or_at_different_times_are_refused() {
    let (key, other) = (key(), key());
    for (signer, time) in [(&other, DATE), (&key, DATE + 1)] {
        let parts = Parts::signed(&key).with(|p| {
            let image = p.data(IMAGE).clone();
            *p.data(IMAGE_SIG) = signer.detached(&image[..], time).unwrap().into();
            *p.data(MANIFEST) = key.cleartext(&p.manifest(), DATE).unwrap().into();
        });
        assert!(matches!(verified(&parts.bytes(), &[&key, &other]).unwrap_err(), VerifyError::Signers));
    }
}

#[test]
fn a_signature_of_another_time_is_refused() {
    let key = key();
    let parts = Parts::signed(&key).seal(&key, DATE + 1, |text| text);
    assert!(matches!(refused(&parts, &key), VerifyError::Time));
    says(&Parts::signed(&key).seal(&key, NOW + 1_000_000, |text| text), &key, "or in the future");
}

#[test]
fn a_signed_manifest_with_other_digests_or_spelling_is_refused() {
    let key = key();
    let sealed = |change: fn(String) -> String| Parts::signed(&key).seal(&key, DATE, change);
    assert!(verified(&sealed(|text| text).bytes(), &[&key]).is_ok());
    let sha512 = |text: String| text.lines().map(|l| format!("{}\n", l.split(" BLAKE2B").next().unwrap())).collect();
    says(&sealed(sha512), &key, "exactly SHA512 and BLAKE2B");
    says(&sealed(|text| text.replace("SHA512", "SHA256")), &key, "exactly SHA512 and BLAKE2B");
    says(&sealed(|text| text.lines().map(|l| format!("{l} SHA3_512 0\n")).collect()), &key, "exactly SHA512");
    says(&sealed(|text| text.lines().rev().map(|l| format!("{l}\n")).collect()), &key, "not in its place");
    says(&sealed(|text| format!("{text}DATA more 0 SHA512 0 BLAKE2B 0\n")), &key, "lists more");
    let swapped = sealed(|text| {
        let swap = |line: &str| {
            let w: Vec<&str> = line.split(' ').collect();
            format!("{} {} {} {} {} {} {}\n", w[0], w[1], w[2], w[5], w[6], w[3], w[4])
        };
        text.lines().map(swap).collect()
    });
    says(&swapped, &key, "not in canonical form");
}

#[test]
fn an_extra_member_is_refused_signed_and_listed_or_not() {
    let key = key();
    for at in [1, 3, 5] {
        let parts = Parts::signed(&key).add(at, "bindery.json", b"{}");
        assert!(verified(&parts.bytes(), &[&key]).is_err());
        assert!(verified(&parts.seal(&key, DATE, |text| text).bytes(), &[&key]).is_err());
    }
    says(&Parts::signed(&key).add(6, "bindery.json", b"{}"), &key, "holds `bindery.json`, which nothing lists");
    let signature = key.detached(&b"{}"[..], DATE).unwrap();
    let parts = Parts::signed(&key).add(5, "bindery.json", b"{}").add(6, "bindery.json.sig", signature.as_bytes());
    says(&parts.seal(&key, DATE, |text| text), &key, "where `Manifest` must be");
}

#[test]
fn another_order_of_members_is_refused() {
    let key = key();
    for (a, b) in [(0, 5), (1, 3), (0, 1), (1, 2), (3, 4)] {
        let parts = Parts::signed(&key).with(|p| p.members.swap(a, b)).seal(&key, DATE, |text| text);
        assert!(verified(&parts.bytes(), &[&key]).is_err(), "{a} {b}");
    }
}

#[test]
fn a_format_member_with_content_is_refused() {
    let key = key();
    let parts = Parts::signed(&key).with(|p| p.data(FORMAT).push(b'1')).seal(&key, DATE, |text| text);
    says(&parts, &key, "more than the 0 allowed");
}

#[test]
fn an_outer_layer_in_gnu_form_is_refused() {
    let key = key();
    let parts = Parts::signed(&key).with(|p| p.members.iter_mut().for_each(|(header, _)| gnu(header)));
    says(&parts, &key, "outer layer is not in canonical form");
}

#[test]
fn altered_outer_times_modes_and_owners_are_refused() {
    let key = key();
    let changes: [fn(&mut Header); 6] = [
        |h| h.mtime += 1,
        |h| h.mtime = 0,
        |h| h.mode = 0o755,
        |h| h.uid = 1,
        |h| h.owner = b"root".into(),
        |h| h.zero_devices = true,
    ];
    for change in changes {
        for member in 0..6 {
            let parts = Parts::signed(&key).with(|p| change(&mut p.members[member].0));
            assert!(verified(&parts.bytes(), &[&key]).is_err());
        }
    }
    // All times alike, but not the one that is signed.
    let parts = Parts::signed(&key).with(|p| p.members.iter_mut().for_each(|(header, _)| header.mtime += 1));
    assert!(verified(&parts.bytes(), &[&key]).is_err());
}

#[test]
fn garbage_after_the_end_missing_end_blocks_and_short_padding_are_refused() {
    let key = key();
    let bytes = Parts::signed(&key).bytes();
    let data = (bytes.len() - bytes.iter().rev().position(|b| *b != 0).unwrap()).next_multiple_of(512);
    for bytes in [
        [&bytes[..], b"garbage"].concat(),
        [&bytes[..], &[0; 512]].concat(),
        [&bytes[..], &bytes[..]].concat(),
        bytes[..data].to_vec(),
        bytes[..data + 1024].to_vec(),
    ] {
        assert!(verified(&bytes, &[&key]).is_err());
    }
}

#[test]
fn a_renamed_package_is_refused() {
    let key = key();
    for prefix in ["world-1.0-1", "hello-2.10-2", "hello-2.10", "hello-2.11-1", "hello-2.10-01"] {
        let parts = Parts::signed(&key).with(|p| {
            for (header, _) in &mut p.members {
                let name = String::from_utf8(header.name.clone()).unwrap();
                header.name = name.replace("hello-2.10-1", prefix).into_bytes();
            }
        });
        assert!(verified(&parts.bytes(), &[&key]).is_err(), "{prefix}");
    }
}

#[test]
fn other_compressions_are_refused() {
    let key = key();
    for (name, other) in [(METADATA, "metadata.tar.gz"), (IMAGE, "image.tar.xz"), (IMAGE, "image.tar")] {
        let parts = Parts::signed(&key).seal(&key, DATE, |text| text).rename(name, other);
        says(&parts, &key, &format!("where `{name}` must be"));
    }
}

#[test]
fn signed_content_that_is_not_canonical_is_refused() {
    let key = key();
    let sealed = |change: &dyn Fn(&mut Parts)| {
        let parts = Parts::signed(&key).with(change).seal(&key, DATE, |text| text);
        refused(&parts, &key)
    };
    let tar = |mtime, change: fn(&mut Metadata)| {
        let mut parts = Parts::signed(&key);
        let packed = parts.data(METADATA).clone();
        let mut values = metadata::read(&zstd::stream::decode_all(&packed[..]).unwrap()[..], Some(DATE)).unwrap();
        change(&mut values);
        zstd(&metadata::write(&values, mtime, Vec::new()).unwrap())
    };
    assert!(
        verified(
            &Parts::signed(&key).with(|p| *p.data(METADATA) = tar(DATE, |_| {})).seal(&key, DATE, |t| t).bytes(),
            &[&key]
        )
        .is_ok()
    );
    assert!(matches!(sealed(&|p| *p.data(METADATA) = tar(DATE + 1, |_| {})), VerifyError::Metadata(_)));
    assert!(matches!(
        sealed(&|p| *p.data(METADATA) = tar(DATE, |m| drop(m.insert(BUILD_TIME.into(), b"1".into())))),
        VerifyError::Name
    ));
    assert!(matches!(
        sealed(&|p| *p.data(METADATA) = tar(DATE, |m| drop(m.insert(BUILD_ID.into(), b"2".into())))),
        VerifyError::Name
    ));
    assert!(matches!(sealed(&|p| *p.data(IMAGE) = zstd(&image(&super::fixture::files()))), VerifyError::Contents(_)));
    assert!(matches!(sealed(&|p| *p.data(IMAGE) = b"x".to_vec()), VerifyError::Contents(_)));
}
