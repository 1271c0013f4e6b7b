//! Makes packages in memory, whole or wrong.

use std::io::{Cursor, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::archive::{Archive, Writer};
use super::super::gpkg::{FORMAT, IMAGE, IMAGE_SIG, MANIFEST, METADATA, METADATA_SIG, Member};
use super::super::header::{Format, Header, Kind};
use super::super::metadata::ENVIRONMENT;
use super::super::*;
use crate::atom::BuildId;
use crate::digest::{Digest, Hashes};
use crate::fs;

pub(super) const DATE: u64 = 1_700_000_000;
pub(super) const NOW: u64 = 1_750_000_000;

/// The members of a package with their headers, to be changed and put together again.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) members: Vec<(Header, Vec<u8>)>,
}

impl Parts {
    /// Returns a package as Portage leaves it.
    pub(super) fn portage() -> Self {
        let mut parts = Self { members: Vec::new() };
        for (name, data) in [(FORMAT, vec![]), (METADATA, zstd(&metadata())), (IMAGE, zstd(&image(&files())))] {
            parts.members.push((header("hello-2.10-3", name), data));
        }
        parts.members.push((header("hello-2.10-3", MANIFEST), vec![]));
        parts.list()
    }

    /// Returns a signed package of ours.
    pub(super) fn signed(key: &SecretKey) -> Self {
        Self::read(&signed(&normalised(&Self::portage().bytes()).unwrap().1, key).unwrap())
    }

    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut archive = Archive::new(bytes);
        let mut members = Vec::new();
        while let Some(header) = archive.next_entry().unwrap() {
            let mut data = Vec::new();
            archive.read_to_end(&mut data).unwrap();
            members.push((header, data));
        }
        Self { members }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (header, data) in &self.members {
            writer.entry(&Header { size: data.len() as u64, ..header.clone() }, &mut Cursor::new(data)).unwrap();
        }
        writer.finish().unwrap()
    }

    pub(super) fn at(&self, name: &str) -> usize {
        let ends = |(header, _): &(Header, Vec<u8>)| header.name.ends_with(format!("/{name}").as_bytes());
        self.members.iter().position(ends).unwrap()
    }

    pub(super) fn data(&mut self, name: &str) -> &mut Vec<u8> {
        let at = self.at(name);
        &mut self.members[at].1
    }

    pub(super) fn add(mut self, at: usize, name: &str, data: &[u8]) -> Self {
        let header =
            Header { name: [self.prefix().as_bytes(), b"/", name.as_bytes()].concat(), ..self.members[0].0.clone() };
        self.members.insert(at, (header, data.to_vec()));
        self
    }

    pub(super) fn rename(mut self, from: &str, to: &str) -> Self {
        let at = self.at(from);
        self.members[at].0.name = format!("{}/{to}", self.prefix()).into_bytes();
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn prefix(&self) -> String {
        let name = String::from_utf8(self.members[0].0.name.clone()).unwrap();
        name.split_once('/').unwrap().0.to_string()
    }

    /// Returns the Manifest's text for what is there.
    pub(super) fn manifest(&self) -> String {
        let member = |(header, data): &(Header, Vec<u8>)| {
            let name = String::from_utf8(header.name.clone()).unwrap();
            Member::new(name.rsplit('/').next().unwrap(), 0, Hashes::of(&data[..]).unwrap())
        };
        let members: Vec<Member> = self.members.iter().map(member).filter(|m| m.name != MANIFEST).collect();
        manifest::write(&members)
    }

    /// Writes the unsigned Manifest anew.
    pub(super) fn list(mut self) -> Self {
        *self.data(MANIFEST) = self.manifest().into_bytes();
        self
    }

    /// Signs everything anew, the Manifest's text as `manifest` makes it of the right one.
    pub(super) fn seal(mut self, key: &SecretKey, time: u64, manifest: impl FnOnce(String) -> String) -> Self {
        for (member, signature) in [(METADATA, METADATA_SIG), (IMAGE, IMAGE_SIG)] {
            *self.data(signature) = key.detached(&self.data(member)[..], time).unwrap().into_bytes();
        }
        *self.data(MANIFEST) = key.cleartext(&manifest(self.manifest()), time).unwrap().into_bytes();
        self
    }
}

pub(super) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(super) fn key() -> SecretKey {
    SecretKey::generate("Packages <packages@example.org>", at(DATE - 1000), None).unwrap()
}

fn header(prefix: &str, name: &str) -> Header {
    Header::file(&format!("{prefix}/{name}"), 0, DATE + 777)
}

pub(super) fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(data, 3).unwrap()
}

/// Returns what metadata Portage writes, in an order of its own.
pub(super) fn keys() -> Vec<(&'static str, Vec<u8>)> {
    let environment = b"declare -x MAKEOPTS=\"-j2\"\ndeclare -x PF=\"hello-2.10\"\nsrc_compile () \n{ \n    :\n}\n";
    vec![
        ("SLOT", b"0\n".to_vec()),
        ("PF", b"hello-2.10\n".to_vec()),
        ("CATEGORY", b"app-misc\n".to_vec()),
        ("EAPI", b"8\n".to_vec()),
        ("repository", b"demo\n".to_vec()),
        ("USE", b"amd64 nls\n".to_vec()),
        ("RDEPEND", b"dev-libs/libmd:0/1=\n".to_vec()),
        ("NEEDED.ELF.2", b"X86_64;/usr/bin/hello;;;libmd.so.0,libc.so.6;x86_64\n".to_vec()),
        ("BUILD_ID", b"3".to_vec()),
        ("BUILD_TIME", b"1795231407\n".to_vec()),
        (ENVIRONMENT, environment::pack(environment).unwrap()),
        ("hello-2.10.ebuild", b"EAPI=8\n".to_vec()),
    ]
}

pub(super) fn metadata_of(keys: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (key, value) in keys {
        let header = Header::file(&format!("metadata/{key}"), value.len() as u64, DATE + 777);
        writer.entry(&header, &mut Cursor::new(value)).unwrap();
    }
    writer.finish().unwrap()
}

pub(super) fn metadata() -> Vec<u8> {
    metadata_of(&keys())
}

pub(super) fn files() -> Vec<(Header, &'static [u8])> {
    let entry = |name: &str, kind, mode, size| {
        let root = || b"root".to_vec();
        Header { kind, mode, owner: root(), group: root(), ..Header::file(name, size, DATE + 700) }
    };
    vec![
        (entry("image/", Kind::Folder, 0o755, 0), b""),
        (entry("image/usr/", Kind::Folder, 0o755, 0), b""),
        (entry("image/usr/bin/", Kind::Folder, 0o755, 0), b""),
        (entry("image/usr/bin/hello", Kind::File, 0o4755, 5), b"\x7fELF."),
        (Header { target: b"hello".into(), ..entry("image/usr/bin/hi", Kind::SymLink, 0o777, 0) }, b""),
    ]
}

pub(super) fn image(files: &[(Header, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, data) in files {
        writer.entry(header, &mut Cursor::new(data)).unwrap();
    }
    writer.finish().unwrap()
}

pub(super) fn options(dir: &Path) -> NormaliseOptions {
    NormaliseOptions {
        signed: false,
        input: dir.join("in"),
        output: dir.join("out"),
        cpv: "app-misc/hello-2.10".parse().unwrap(),
        source_date: DATE,
        known: Vec::new(),
        next: BuildId(1),
        audit: None,
    }
}

pub(super) fn normalised(bytes: &[u8]) -> Result<(Normalised, Vec<u8>), NormaliseError> {
    normalised_with(bytes, |_| {})
}

/// Returns what normalising gives, and the file it wrote.
pub(super) fn normalised_with(
    bytes: &[u8],
    change: impl FnOnce(&mut NormaliseOptions),
) -> Result<(Normalised, Vec<u8>), NormaliseError> {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    change(&mut options);
    fs::write(&options.input, bytes).unwrap();
    let result = normalise(&options);
    assert_eq!(options.output.exists(), result.as_ref().is_ok_and(|n| n.is_new), "output only where it is due");
    let result = result?;
    let output = if result.is_new { fs::read(&options.output).unwrap() } else { Vec::new() };
    Ok((result, output))
}

pub(super) fn signed(bytes: &[u8], key: &SecretKey) -> Result<Vec<u8>, SignFileError> {
    let dir = tempfile::tempdir().unwrap();
    let options =
        SignOptions { key: dir.path().join("k"), input: dir.path().join("in"), output: dir.path().join("out") };
    fs::write(&options.input, bytes).unwrap();
    fs::write(&options.key, key.0.to_armored_string(Default::default()).unwrap()).unwrap();
    fs::set_mode(&options.key, 0o600).unwrap();
    let result = sign(&options, at(NOW));
    assert_eq!(options.output.exists(), result.is_ok());
    result.map(|_| fs::read(&options.output).unwrap())
}

pub(super) fn verified(bytes: &[u8], keys: &[&SecretKey]) -> Result<Verified, VerifyError> {
    let certificates: Vec<Certificate> = keys.iter().map(|key| key.certificate()).collect();
    verify::verify_from(&mut Cursor::new(bytes), &certificates, at(NOW))
}

pub(super) fn digest(text: &str) -> Digest {
    Digest::of(text)
}

pub(super) fn gnu(header: &mut Header) {
    header.format = Format::Gnu;
}
