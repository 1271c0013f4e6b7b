use std::time::Duration;

use pgp::types::{KeyVersion, Tag};

use super::*;

const NOW: u64 = 1_750_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn key() -> SecretKey {
    SecretKey::generate("Packages <packages@example.org>", at(NOW - 1000), None).unwrap()
}

#[test]
fn a_detached_signature_is_found_good_and_is_always_the_same() {
    let key = key();
    let text = key.detached(&b"data"[..], NOW).unwrap();
    assert_eq!(key.detached(&b"data"[..], NOW).unwrap(), text);
    let signed = verify_detached(&[key.certificate()], text.as_bytes(), &b"data"[..], at(NOW)).unwrap();
    assert_eq!(signed, Signed { fingerprint: key.certificate().fingerprint(), time: NOW });
}

#[test]
fn a_cleartext_signature_is_found_good_and_gives_the_text_back() {
    let key = key();
    for text in ["DATA a 1\nDATA b 2\n", "- dash\n-----BEGIN x\nFrom y\n", "\n", "a\n\n\n", "ä\n"] {
        let signed = key.cleartext(text, NOW).unwrap();
        assert_eq!(key.cleartext(text, NOW).unwrap(), signed);
        let (found, _) = verify_cleartext(&[key.certificate()], signed.as_bytes(), at(NOW)).unwrap();
        assert_eq!(found, text);
    }
}

#[test]
fn a_text_that_a_cleartext_signature_would_not_cover_is_refused() {
    for text in ["", "a", "a \nb\n", "a\t\n", "a\r\n", "a\rb\n"] {
        assert!(matches!(key().cleartext(text, NOW).unwrap_err(), SignError::Text), "{text:?}");
    }
}

#[test]
fn no_signature_is_older_than_its_key() {
    let key = key();
    let text = key.detached(&b"data"[..], 5).unwrap();
    let signed = verify_detached(&[key.certificate()], text.as_bytes(), &b"data"[..], at(NOW)).unwrap();
    assert_eq!(signed.time, NOW - 1000);
}

#[test]
fn changed_data_is_a_bad_signature() {
    let key = key();
    let text = key.detached(&b"data"[..], NOW).unwrap();
    let error = verify_detached(&[key.certificate()], text.as_bytes(), &b"date"[..], at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::Bad(_)), "{error}");
    let text = key.cleartext("DATA a 1\n", NOW).unwrap().replace("a 1", "a 2");
    let error = verify_cleartext(&[key.certificate()], text.as_bytes(), at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::Bad(_)), "{error}");
}

#[test]
fn an_unknown_key_is_named() {
    let (key, other) = (key(), key());
    let text = key.detached(&b"data"[..], NOW).unwrap();
    let error = verify_detached(&[other.certificate()], text.as_bytes(), &b"data"[..], at(NOW)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("it is signed by the key {}, which is not known", key.certificate().fingerprint())
    );
}

#[test]
fn an_expired_key_is_refused_also_for_what_it_signed_before() {
    let key = SecretKey::generate("x", at(NOW - 1000), Some(500)).unwrap();
    let text = key.detached(&b"data"[..], NOW - 800).unwrap();
    let check = |now| verify_detached(&[key.certificate()], text.as_bytes(), &b"data"[..], at(now));
    assert!(check(NOW - 700).is_ok());
    let error = check(NOW).unwrap_err();
    assert!(matches!(error, SignatureError::Certificate(CertificateError::Expired(_))), "{error}");
}

#[test]
fn a_revoked_key_is_refused() {
    let key = key();
    let mut revoked = key.certificate();
    let packet = &key.0.primary_key;
    let mut config = config(packet, SignatureType::KeyRevocation, Timestamp::from_secs(1_749_999_900)).unwrap();
    config.hash_alg = HashAlgorithm::Sha512;
    let signature = config.sign_key(packet, &Password::empty(), packet.public_key()).unwrap();
    revoked.0.details.revocation_signatures.push(signature);
    let revoked = Certificate::parse(&revoked.armored()).unwrap();
    let text = key.detached(&b"data"[..], NOW).unwrap();
    let error = verify_detached(&[revoked], text.as_bytes(), &b"data"[..], at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::Certificate(CertificateError::Revoked(_))), "{error}");
}

#[test]
fn a_signature_from_the_future_is_refused() {
    let key = key();
    let text = key.detached(&b"data"[..], NOW + 2 * CLOCKS).unwrap();
    let error = verify_detached(&[key.certificate()], text.as_bytes(), &b"data"[..], at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::Time(_)), "{error}");
}

/// Returns a signature whose statement was changed before it was made.
fn changed(key: &SecretKey, change: impl FnOnce(&mut SignatureConfig)) -> Signature {
    let mut config = key.config(SignatureType::Binary, NOW).unwrap();
    change(&mut config);
    config.sign(&key.0.primary_key, &Password::empty(), &b"data"[..]).unwrap()
}

fn refused(key: &SecretKey, armored: &str) -> SignatureError {
    verify_detached(&[key.certificate()], armored.as_bytes(), &b"data"[..], at(NOW)).unwrap_err()
}

fn armored(signature: Signature) -> String {
    DetachedSignature::new(signature).to_armored_string(ArmorOptions::default()).unwrap()
}

#[test]
fn another_digest_than_sha512_is_refused() {
    let key = key();
    let error = refused(&key, &armored(changed(&key, |config| config.hash_alg = HashAlgorithm::Sha256)));
    assert_eq!(error.to_string(), "it is signed with SHA256, not with SHA512");
}

#[test]
fn a_signature_that_says_more_or_less_than_ours_is_refused() {
    let key = key();
    let id = || Subpacket::regular(SubpacketData::IssuerKeyId(key.certificate().0.legacy_key_id())).unwrap();
    let unhashed = changed(&key, |config| config.unhashed_subpackets.push(id()));
    let less = changed(&key, |config| drop(config.hashed_subpackets.pop()));
    let more = changed(&key, |config| config.hashed_subpackets.push(id()));
    let text = changed(&key, |config| config.typ = SignatureType::Text);
    for signature in [unhashed, less, more, text] {
        assert!(matches!(refused(&key, &armored(signature)), SignatureError::Form));
    }
}

#[test]
fn a_binary_signature_and_other_spellings_of_the_armor_are_refused() {
    let key = key();
    let good = key.detached(&b"data"[..], NOW).unwrap();
    let binary = pgp::ser::Serialize::to_bytes(&DetachedSignature::new(changed(&key, |_| {}))).unwrap();
    let error = verify_detached(&[key.certificate()], &binary, &b"data"[..], at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::Form));
    let body = good.find("\n\n").unwrap() + 2;
    let spellings = [
        format!("\n{good}"),
        format!("{good}\n"),
        format!("{good}x"),
        good.replace('\n', "\r\n"),
        format!("{}Comment: x\n{}", &good[..good.find('\n').unwrap() + 1], &good[body - 1..]),
        good.replace("-----BEGIN PGP SIGNATURE-----", "-----BEGIN PGP MESSAGE-----"),
        String::new(),
    ];
    for text in spellings {
        assert!(matches!(refused(&key, &text), SignatureError::Form | SignatureError::Missing), "{text}");
    }
}

#[test]
fn two_signatures_are_refused_even_if_both_keys_are_known() {
    let (key, other) = (key(), key());
    struct Two(Vec<Signature>);
    impl pgp::ser::Serialize for Two {
        fn to_writer<W: std::io::Write>(&self, writer: &mut W) -> pgp::errors::Result<()> {
            self.0.iter().try_for_each(|s| pgp::packet::PacketTrait::to_writer_with_header(s, writer))
        }
        fn write_len(&self) -> usize {
            self.0.iter().map(pgp::packet::PacketTrait::write_len_with_header).sum()
        }
    }
    let two = Two(vec![changed(&key, |_| {}), changed(&other, |_| {})]);
    let mut text = Vec::new();
    pgp::armor::write(&two, pgp::armor::BlockType::Signature, &mut text, None, true).unwrap();
    let known = [key.certificate(), other.certificate()];
    let error = verify_detached(&known, &text, &b"data"[..], at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::Several), "{error}");
    let text = CleartextSignedMessage::new_many("a", |_| Ok(vec![changed(&key, |_| {}), changed(&other, |_| {})]));
    let text = text.unwrap().to_armored_string(ArmorOptions::default()).unwrap();
    let error = verify_cleartext(&known, text.as_bytes(), at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::Several), "{error}");
}

#[test]
fn a_text_without_signature_is_not_signed() {
    let error = verify_cleartext(&[], b"DATA a 1\n", at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::Missing));
}

#[test]
fn every_flipped_bit_is_refused() {
    let key = key();
    let good = key.cleartext("DATA a 1\nDATA b 2\n", NOW).unwrap().into_bytes();
    for at_byte in 0..good.len() {
        for bit in [0x01, 0x20] {
            let mut text = good.clone();
            text[at_byte] ^= bit;
            assert!(verify_cleartext(&[key.certificate()], &text, at(NOW)).is_err(), "byte {at_byte}");
        }
    }
}

#[test]
fn keys_are_version_4_and_their_certificates_read_back() {
    let key = key();
    assert_eq!(key.0.primary_key.version(), KeyVersion::V4);
    let certificate = key.certificate();
    assert_eq!(Certificate::parse(&certificate.armored()).unwrap(), certificate);
    assert_eq!(certificate.user_ids(), ["Packages <packages@example.org>"]);
    assert_eq!(certificate.expires(), None);
    let user = &certificate.0.details.users[0];
    assert!(user.signatures[0].verify_certification(&certificate.0.primary_key, Tag::UserId, &user.id).is_ok());
}

#[test]
fn what_is_not_one_good_certificate_is_refused() {
    let (one, two) = (key().certificate(), key().certificate());
    let mut forged = one.clone();
    forged.0.details = two.0.details.clone();
    for text in ["", "x", &one.armored()[..300], &forged.armored()] {
        assert!(Certificate::parse(text).is_err(), "{text}");
    }
}
