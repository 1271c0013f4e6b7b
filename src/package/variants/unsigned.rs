//! Packages as a build leaves them.

use super::super::gpkg::{FORMAT, IMAGE, MANIFEST, METADATA};
use super::super::header::{Format, Header, Kind};
use super::super::metadata::ENVIRONMENT;
use super::super::{NormaliseOptions, parse_result};
use super::fixture::{
    DATE, Parts, digest, files, gnu, image, key, keys, metadata_of, normalised, normalised_with, options, signed,
    verified, zstd,
};
use crate::atom::BuildId;

fn refused(parts: &Parts) -> String {
    refused_bytes(&parts.bytes())
}

fn refused_bytes(bytes: &[u8]) -> String {
    let error = normalised(bytes).unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn with_metadata(change: impl FnOnce(&mut Vec<(&'static str, Vec<u8>)>)) -> Parts {
    let mut keys = keys();
    change(&mut keys);
    Parts::portage().with(|p| *p.data(METADATA) = zstd(&metadata_of(&keys))).list()
}

fn set(key: &'static str, value: &str) -> Parts {
    with_metadata(|keys| {
        keys.retain(|(k, _)| *k != key);
        keys.push((key, value.into()));
    })
}

#[test]
fn what_portage_writes_becomes_canonical_with_all_facts() {
    let (result, bytes) = normalised(&Parts::portage().bytes()).unwrap();
    let facts = result.facts;
    assert!(result.is_new);
    assert_eq!(facts.cpv.to_string(), "app-misc/hello-2.10");
    assert_eq!((facts.build_id, facts.build_time), (BuildId(1), DATE));
    assert_eq!((facts.slot.as_str(), facts.eapi.as_str(), facts.repo.as_str()), ("0", "8", "demo"));
    assert_eq!(facts.use_, ["amd64", "nls"]);
    assert_eq!(facts.rdepend, "dev-libs/libmd:0/1=");
    assert_eq!(facts.elf[0].needed, ["libmd.so.0", "libc.so.6"]);
    assert_eq!(facts.privileged[0].path, "/usr/bin/hello");
    assert_eq!((facts.entries, facts.size_installed), (4, 5));
    let parts = Parts::read(&bytes);
    assert_eq!(parts.prefix(), "hello-2.10-1");
    assert!(parts.members.iter().all(|(header, _)| header.mtime == DATE));
}

#[test]
fn two_builds_that_differ_in_nothing_that_matters_become_the_same_bytes() {
    let one = normalised(&Parts::portage().bytes()).unwrap();
    let mut other = keys();
    other.reverse();
    for (key, value) in &mut other {
        match *key {
            ENVIRONMENT => {
                let text = "declare -x MAKEOPTS=\"-j7\"\ndeclare -x PF=\"hello-2.10\"\nsrc_compile () \n{ \n    :\n}\n";
                *value = super::super::environment::pack(text.as_bytes()).unwrap();
            }
            "BUILD_ID" => *value = b"17".to_vec(),
            "BUILD_TIME" => *value = b"1800000000\n".to_vec(),
            _ => {}
        }
    }
    let late: Vec<(Header, &[u8])> =
        files().into_iter().map(|(h, data)| (Header { mtime: h.mtime + 5, owner: b"x".into(), ..h }, data)).collect();
    let parts = Parts::portage().with(|p| {
        *p.data(METADATA) = zstd::stream::encode_all(&metadata_of(&other)[..], 19).unwrap();
        *p.data(IMAGE) = zstd::stream::encode_all(&image(&late)[..], 1).unwrap();
        for (header, _) in &mut p.members {
            let name = String::from_utf8(header.name.clone()).unwrap();
            header.name = name.replace("hello-2.10-3", "hello-2.10").into_bytes();
            header.mtime += 99;
        }
    });
    let two = normalised(&parts.list().bytes()).unwrap();
    assert!(one == two, "bytes differ");
}

#[test]
fn known_content_keeps_its_number_and_nothing_is_written() {
    let bytes = Parts::portage().bytes();
    let content = normalised(&bytes).unwrap().0.facts.content;
    let known = |o: &mut NormaliseOptions| {
        o.known = vec![(digest("x"), BuildId(1)), (content.clone(), BuildId(2)), (digest("y"), BuildId(3))];
        o.next = BuildId(4);
    };
    let (result, _) = normalised_with(&bytes, known).unwrap();
    assert!(!result.is_new);
    assert_eq!((result.facts.build_id, result.facts.build_time), (BuildId(2), DATE + 1));
}

#[test]
fn new_content_gets_the_next_number_and_its_digest_does_not_depend_on_it() {
    let bytes = Parts::portage().bytes();
    let first = normalised(&bytes).unwrap();
    let (result, output) = normalised_with(&bytes, |o| o.next = BuildId(4)).unwrap();
    assert_eq!((result.facts.build_id, result.facts.build_time), (BuildId(4), DATE + 3));
    assert_eq!(result.facts.content, first.0.facts.content);
    assert_eq!(Parts::read(&output).prefix(), "hello-2.10-4");
    let changed = set("USE", "amd64");
    assert_ne!(normalised(&changed.bytes()).unwrap().0.facts.content, first.0.facts.content);
}

#[test]
fn what_was_made_canonical_can_be_made_canonical_again() {
    let (first, bytes) = normalised(&Parts::portage().bytes()).unwrap();
    assert_eq!(normalised(&bytes).unwrap(), (first, bytes));
}

#[test]
fn a_source_date_or_number_out_of_range_is_refused() {
    let bytes = Parts::portage().bytes();
    assert!(normalised_with(&bytes, |o| o.source_date = u64::MAX).is_err());
    assert!(normalised_with(&bytes, |o| o.source_date = 1 << 32).is_err());
    assert!(normalised_with(&bytes, |o| o.next = BuildId(0)).is_err());
}

#[test]
fn an_answer_that_is_not_about_what_was_asked_is_refused() {
    let (result, _) = normalised(&Parts::portage().bytes()).unwrap();
    let asked = options(std::path::Path::new("/x"));
    let json = serde_json::to_vec(&result).unwrap();
    assert_eq!(parse_result(&json, &asked).unwrap(), result);
    let wrong: [fn(&mut NormaliseOptions); 3] =
        [|o| o.cpv = "app-misc/world-2.10".parse().unwrap(), |o| o.next = BuildId(2), |o| o.source_date += 1];
    for change in wrong {
        let mut asked = asked.clone();
        change(&mut asked);
        assert!(parse_result(&json, &asked).is_err());
    }
    assert!(parse_result(b"{}", &asked).is_err());
    let mut lines = result.clone();
    lines.facts.description = "a\nPATH: ../../x".to_string();
    assert!(parse_result(&serde_json::to_vec(&lines).unwrap(), &asked).is_err());
    let known = NormaliseOptions { known: vec![(result.facts.content, BuildId(1))], ..asked };
    assert!(parse_result(&json, &known).is_err());
}

#[test]
fn a_changed_byte_in_image_metadata_or_manifest_is_refused() {
    for name in [IMAGE, METADATA] {
        let parts = Parts::portage().with(|p| p.data(name)[20] ^= 1);
        assert_eq!(refused(&parts), format!("`{name}` has another digest than the Manifest says"));
    }
    let parts = Parts::portage().with(|p| {
        let at = p.data(MANIFEST).len() - 3;
        p.data(MANIFEST)[at] ^= 1;
    });
    assert!(refused(&parts).contains("another digest"));
}

#[test]
fn a_missing_member_is_refused() {
    for name in [FORMAT, METADATA, IMAGE, MANIFEST] {
        let parts = Parts::portage().with(|p| drop(p.members.remove(p.at(name))));
        assert!(refused(&parts).contains(&format!("where `{name}` must be")), "{}", refused(&parts));
    }
    assert!(refused_bytes(&[]).contains("ends in the middle"));
    assert!(refused_bytes(&[0; 10240]).contains("nothing"));
}

#[test]
fn members_in_another_order_are_refused() {
    for (a, b) in [(0, 3), (1, 2), (0, 1), (2, 3)] {
        let parts = Parts::portage().with(|p| p.members.swap(a, b)).list();
        assert!(refused(&parts).contains("must be"));
    }
}

#[test]
fn a_format_member_with_content_is_refused() {
    let parts = Parts::portage().with(|p| p.data(FORMAT).push(b'x')).list();
    assert_eq!(refused(&parts), "its member `gpkg-1` has 1 bytes, more than the 0 allowed");
}

#[test]
fn a_member_that_comes_twice_or_does_not_belong_there_is_refused() {
    let image = Parts::portage().data(IMAGE).clone();
    assert!(refused(&Parts::portage().add(3, IMAGE, &image).list()).contains("where `Manifest` must be"));
    assert!(refused(&Parts::portage().add(3, "bindery.json", b"{}").list()).contains("where `Manifest` must be"));
    assert_eq!(refused(&Parts::portage().add(4, "more", b"")), "it holds `more`, which nothing lists");
    assert!(refused(&Parts::portage().add(2, "metadata.tar.zst.sig", b"x").list()).contains("must be"));
}

#[test]
fn gzip_xz_and_uncompressed_members_are_refused() {
    for (name, other) in [(METADATA, "metadata.tar.gz"), (IMAGE, "image.tar.xz"), (IMAGE, "image.tar")] {
        assert!(refused(&Parts::portage().rename(name, other).list()).contains(&format!("where `{name}` must be")));
    }
    let parts = Parts::portage().with(|p| *p.data(IMAGE) = image(&files())).list();
    assert!(refused(&parts).starts_with("the image is not a tar archive as it must be"), "{}", refused(&parts));
}

#[test]
fn folders_of_another_depth_or_name_are_refused() {
    for (prefix, why) in [
        ("", "not in exactly one folder"),
        ("a/hello-2.10-3", "not in exactly one folder"),
        ("/hello-2.10-3", "not in exactly one folder"),
        ("world-1.0-1", "are in the folder `world-1.0-1`"),
        ("hello-2.10-x", "are in the folder"),
        ("hello-2.10-", "are in the folder"),
        ("hello-2.10-99999999999", "are in the folder"),
        ("hello-2.1", "are in the folder"),
        ("..", "are in the folder `..`"),
    ] {
        let parts = Parts::portage().with(|p| {
            for (header, _) in &mut p.members {
                let name = String::from_utf8(header.name.clone()).unwrap();
                header.name = name.replace("hello-2.10-3", prefix).into_bytes();
            }
        });
        assert!(refused(&parts).contains(why), "{prefix}: {}", refused(&parts));
    }
    let parts = Parts::portage().with(|p| p.members[2].0.name = b"hello-2.10-4/image.tar.zst".into());
    assert!(refused(&parts).contains("different folders"));
}

#[test]
fn altered_types_modes_and_owners_of_members_are_refused() {
    let changes: [fn(&mut Header); 6] = [
        |h| h.mode = 0o600,
        |h| h.uid = 1000,
        |h| h.gid = 1,
        |h| h.owner = b"root".into(),
        |h| h.group = b"root".into(),
        |h| h.kind = Kind::HardLink,
    ];
    for change in changes {
        let parts = Parts::portage().with(|p| change(&mut p.members[2].0));
        assert!(refused(&parts).contains("not a plain file of root's"), "{}", refused(&parts));
    }
}

#[test]
fn a_gnu_or_pax_container_is_refused_where_portage_needs_none() {
    let parts = Parts::portage().with(|p| p.members.iter_mut().for_each(|(header, _)| gnu(header)));
    assert!(refused(&parts).contains("GNU tar's form"), "{}", refused(&parts));
    let mixed = Parts::portage().with(|p| gnu(&mut p.members[1].0));
    assert!(refused(&mixed).contains("GNU tar's form"));
    for kind in [b'x', b'g'] {
        let mut bytes = Parts::portage().bytes();
        bytes[156] = kind;
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|b| u32::from(*b)).sum();
        bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        assert!(refused_bytes(&bytes).contains("holds an entry of type"));
    }
}

#[test]
fn an_image_in_gnu_form_has_an_outer_header_in_gnu_form() {
    let long = |format| {
        let mut files = files();
        let target = if format == Format::Gnu { "x".repeat(150) } else { "x".to_string() };
        files[4].0.target = target.into_bytes();
        files.iter_mut().for_each(|(header, _)| header.format = format);
        Parts::portage().with(|p| *p.data(IMAGE) = zstd(&image(&files))).list()
    };
    assert!(refused(&long(Format::Gnu)).contains("GNU tar's form"));
    let (_, bytes) = normalised(&long(Format::Gnu).with(|p| gnu(&mut p.members[2].0)).bytes()).unwrap();
    let key = key();
    assert!(verified(&signed(&bytes, &key).unwrap(), &[&key]).is_ok());
    assert!(refused(&long(Format::Ustar).with(|p| gnu(&mut p.members[2].0))).contains("GNU tar's form"));
}

#[test]
fn garbage_after_the_end_missing_end_blocks_and_short_padding_are_refused() {
    let bytes = Parts::portage().bytes();
    let data = bytes.len() - bytes.iter().rev().position(|b| *b != 0).unwrap();
    let data = data.next_multiple_of(512);
    assert!(refused_bytes(&[&bytes[..], b"garbage"].concat()).contains("follows its end"));
    assert!(refused_bytes(&[&bytes[..], &[0; 10240]].concat()).contains("follows its end"));
    assert!(refused_bytes(&bytes[..data]).contains("ends in the middle"));
    assert!(refused_bytes(&bytes[..data + 1024]).contains("ends in the middle"));
}

#[test]
fn a_manifest_with_other_digests_than_both_is_refused() {
    let parts =
        |change: fn(&str) -> String| Parts::portage().with(|p| *p.data(MANIFEST) = change(&p.manifest()).into());
    let without = |text: &str, from: &str| -> String {
        let cut = |line: &str| format!("{}\n", line.split(from).next().unwrap().trim_end());
        text.lines().map(cut).collect()
    };
    let only_sha512 =
        parts(|text| text.lines().map(|l| format!("{}\n", l.split(" BLAKE2B").next().unwrap())).collect());
    assert!(refused(&only_sha512).contains("exactly SHA512 and BLAKE2B"));
    let text = without(&Parts::portage().manifest(), "SHA512");
    let none = Parts::portage().with(|p| *p.data(MANIFEST) = text.into());
    assert!(refused(&none).contains("exactly SHA512 and BLAKE2B"));
    let more = parts(|text| text.lines().map(|l| format!("{l} SHA3_512 00\n")).collect());
    assert!(refused(&more).contains("exactly SHA512 and BLAKE2B"));
    let twice = parts(|text| text.replace("BLAKE2B", "SHA512"));
    assert!(refused(&twice).contains("exactly SHA512 and BLAKE2B"));
}

#[test]
fn digests_in_portages_other_order_are_accepted() {
    let swap = |line: &str| {
        let w: Vec<&str> = line.split(' ').collect();
        format!("{} {} {} {} {} {} {}\n", w[0], w[1], w[2], w[5], w[6], w[3], w[4])
    };
    let parts = Parts::portage().with(|p| {
        let text = p.manifest();
        let lines: Vec<&str> = text.lines().collect();
        *p.data(MANIFEST) = [swap(lines[0]), format!("{}\n", lines[1]), swap(lines[2])].concat().into();
    });
    assert_eq!(normalised(&parts.bytes()).unwrap(), normalised(&Parts::portage().bytes()).unwrap());
}

#[test]
fn a_manifest_that_lists_less_more_or_something_else_is_refused() {
    let with = |change: fn(String) -> String| {
        let parts = Parts::portage().with(|p| *p.data(MANIFEST) = change(p.manifest()).into());
        refused(&parts)
    };
    assert!(with(|text| text.lines().skip(1).map(|l| format!("{l}\n")).collect()).contains("does not list `gpkg-1`"));
    assert!(with(|text| format!("{text}{text}")).contains("lists more"));
    assert!(with(|text| format!("{text}\n")).contains("lists more"));
    assert!(with(|text| text.replace("DATA image", "MISC image")).contains("does not list"));
    assert!(with(|text| text.replace("DATA image", "DATA hello-2.10-3/image")).contains("does not list"));
    assert!(with(|text| text.replace(" SHA512", "  SHA512")).contains("exactly SHA512 and BLAKE2B"));
    assert!(with(|text| text.replace("gpkg-1 0", "gpkg-1 00")).contains("another length"));
    assert!(with(|text| text.trim_end().to_string()).contains("whole lines"));
    assert!(with(|_| String::new()).contains("whole lines"));
    let signed = key().cleartext(&Parts::portage().manifest(), DATE).unwrap();
    assert!(refused(&Parts::portage().with(|p| *p.data(MANIFEST) = signed.into())).contains("does not list"));
}

#[test]
fn a_signed_package_is_no_input() {
    assert!(refused(&Parts::signed(&key())).contains("metadata.tar.zst.sig"));
}

#[test]
fn another_package_than_the_expected_one_is_refused() {
    let error = refused(&set("CATEGORY", "app-text\n"));
    assert_eq!(error, "its metadata say that it is app-text/hello-2.10, not app-misc/hello-2.10");
    assert!(refused(&set("PF", "hello-2.11\n")).contains("hello-2.11"));
    let other = normalised_with(&Parts::portage().bytes(), |o| o.cpv = "app-misc/hello-2.10-r1".parse().unwrap());
    assert!(other.unwrap_err().to_string().contains("are in the folder"));
}

#[test]
fn metadata_that_an_index_cannot_be_made_of_are_refused() {
    for key in ["SLOT", "EAPI", "PF", "CATEGORY", "repository"] {
        assert!(refused(&set(key, "")).contains(&format!("`{key}` is missing")));
        assert!(refused(&set(key, "a b\n")).contains(&format!("`{key}` is missing, or is not")));
    }
    assert!(refused(&set("PF", "../hello\n")).contains("name no package"));
    assert!(refused(&set("DESCRIPTION", "a\u{1b}[2J\n")).contains("`DESCRIPTION`"));
    assert!(refused(&set("NEEDED.ELF.2", "x\n")).contains("`NEEDED.ELF.2`"));
    let (result, _) = normalised(&set("DESCRIPTION", "a\nPATH: ../../x\n").bytes()).unwrap();
    assert_eq!(result.facts.description, "a PATH: ../../x");
}

#[test]
fn a_package_without_environment_is_refused() {
    assert!(refused(&with_metadata(|keys| keys.retain(|(k, _)| *k != ENVIRONMENT))).contains("lack `environment.bz2`"));
    assert!(refused(&set(ENVIRONMENT, "x")).contains("`environment.bz2` cannot be used"));
}

#[test]
fn bombs_are_stopped() {
    let bomb = zstd(&vec![0; usize::try_from(super::super::metadata::LIMIT).unwrap() + 1]);
    let parts = Parts::portage().with(|p| *p.data(METADATA) = bomb).list();
    assert!(refused(&parts).starts_with("the metadata are not a tar archive"), "{}", refused(&parts));
    let parts = set(ENVIRONMENT, "").with(|p| {
        let limit = usize::try_from(super::super::metadata::LIMIT).unwrap();
        let bomb = super::super::environment::pack(&vec![b'x'; limit + 1]).unwrap();
        *p.data(METADATA) = zstd(&metadata_of(&[(ENVIRONMENT, bomb)]));
    });
    assert!(refused(&parts.list()).contains("unpacks to more than"));
}

#[test]
fn odd_things_in_the_image_are_refused() {
    let with = |change: fn(&mut Header)| {
        let mut files = files();
        change(&mut files[4].0);
        refused(&Parts::portage().with(|p| *p.data(IMAGE) = zstd(&image(&files))).list())
    };
    assert!(with(|h| h.name = b"image/../etc/passwd".into()).contains("leaves the image folder"));
    assert!(with(|h| h.name = b"/etc/passwd".into()).contains("leaves the image folder"));
    assert!(with(|h| h.kind = Kind::HardLink).contains("hard link"));
    assert!(with(|h| h.name = b"image/usr/bin/hello".into()).contains("twice"));
}

#[test]
fn only_what_normalising_wrote_is_signed() {
    let key = key();
    let (_, good) = normalised(&Parts::portage().bytes()).unwrap();
    assert!(verified(&signed(&good, &key).unwrap(), &[&key]).is_ok());
    let changes: [fn(&mut Parts); 6] = [
        |p| p.members[2].0.mtime += 1,
        |p| p.members[2].0.zero_devices = true,
        |p| p.members.iter_mut().for_each(|(header, _)| gnu(header)),
        |p| p.data(IMAGE)[30] ^= 1,
        |p| p.data(MANIFEST).push(b'\n'),
        |p| p.members.swap(1, 2),
    ];
    for change in changes {
        assert!(signed(&Parts::read(&good).with(change).bytes(), &key).is_err());
    }
    assert!(signed(&[&good[..], b"x"].concat(), &key).is_err());
    assert!(signed(&Parts::signed(&key).bytes(), &key).is_err());
}

#[test]
fn a_package_from_the_future_is_not_signed() {
    let (_, bytes) = normalised_with(&Parts::portage().bytes(), |o| o.source_date = super::fixture::NOW + 1).unwrap();
    let error = signed(&bytes, &key()).unwrap_err().to_string();
    assert!(error.contains("lies in the future; check the clock and the source date"), "{error}");
}
