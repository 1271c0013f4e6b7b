//! The strict client: real Portage in a fresh root, which installs what is published, and refuses what was tampered with.

use std::path::{Path, PathBuf};

use crate::bench::{Bench, tool};

#[test]
fn a_strict_client_installs_everything_from_files_and_over_http() {
    let bench = Bench::new("client-installs");
    bench.build(&["sys-apps/file"]).works();
    let current = bench.profile_dir().join("current");
    // It needs the other two at run time: the script checks whose libraries are found.
    let server = bench.start(&["serve", "--listen", "127.0.0.1:0"], "serving http://");
    let address = server.line.split_ascii_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let http = address.replace("PROFILE", &bench.profile);
    for uri in ["file:///srv/binhost", http.as_str()] {
        let said = bench.client(uri, &current, &["sys-apps/file"]);
        said.works();
        for text in [
            ">>> Completed (3 of 3) sys-apps/file-5.46",
            "/usr/bin/xz: liblzma.so.5 => ",
            "(app-arch/xz-utils-5.8.1)",
            "libbz2.so.1",
            "(app-arch/bzip2-1.0.8)",
            "\ndone\n",
        ] {
            assert!(said.out.contains(text), "no `{text}` in:\n{said}");
        }
    }
    assert_eq!(server.end("-TERM"), 0);
}

#[test]
fn a_strict_client_refuses_what_was_tampered_with() {
    let bench = Bench::new("client-refuses");
    bench.write_broken_profile("", "");
    bench.build(&["odd/setuid", "guarded/network"]).works();
    let current = bench.profile_dir().join("current");
    let asked = ["odd/setuid"];
    let local = "file:///srv/binhost";
    let refused = |folder: &Path, texts: &[&str]| {
        let said = bench.client(local, folder, &asked);
        assert_ne!(said.code, 0, "{said}");
        let all = format!("{}{}", said.out, said.err);
        for text in texts {
            assert!(all.contains(text), "no `{text}` in:\n{said}");
        }
        assert!(!all.contains(">>> Completed"), "{said}");
    };
    let tampered = |change: &dyn Fn(&Path)| {
        let copy = Copy::of(&bench, &current);
        change(&copy.package);
        copy
    };
    bench.client(local, &current, &["odd/setuid", "guarded/network"]).works();

    // The index as it was: the file is not what it says.
    let flip = |text: &'static [u8]| {
        move |file: &Path| {
            let mut bytes = std::fs::read(file).unwrap();
            let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
            bytes[at + text.len()] ^= 1;
            std::fs::write(file, bytes).unwrap();
        }
    };
    let manifest = flip(b"\nDATA image.tar.zst ");
    refused(&tampered(&manifest).folder(), &["igest"]);
    // An index that agrees with the tampered file: only the signatures are left.
    refused(&tampered(&manifest).reindexed(), &["BADSIG"]);
    // The first bytes of the image, which is zstd.
    refused(&tampered(&flip(b"\x28\xb5\x2f\xfd")).reindexed(), &["setuid-1"]);
    let strip = |file: &Path| {
        let scratch = tempfile::tempdir_in(bench.config.path()).unwrap();
        std::fs::copy(unsigned(file, scratch.path()), file).unwrap();
    };
    refused(&tampered(&strip).reindexed(), &["ignature"]);

    // The same package, rightly signed by a key that the client does not know.
    let other = Bench::new("client-stranger");
    if !other.state.join("etc/keys/stranger.asc").exists() {
        other.run(&["key", "new", "stranger"]).works();
    }
    other.write_broken_profile("", "key = \"stranger\"\n");
    other.build(&["odd/setuid"]).works();
    refused(&other.profile_dir().join("current"), &["ERRSIG"]);
    // And with that key it would.
    other.client(local, &other.profile_dir().join("current"), &asked).works();
}

/// A copy of a published generation, to be tampered with; gone with the value.
struct Copy {
    dir: tempfile::TempDir,
    package: PathBuf,
    before: [String; 3],
}

const PACKAGE: &str = "odd/setuid/setuid-1-1.gpkg.tar";

impl Copy {
    fn of(bench: &Bench, current: &Path) -> Self {
        let dir = tempfile::tempdir_in(bench.config.path()).unwrap();
        let from = format!("{}/.", current.to_str().unwrap());
        tool("cp", &["-rL", "--no-preserve=mode", &from, dir.path().to_str().unwrap()]);
        // The root inside is none of this user's.
        tool("chmod", &["-R", "a+rX", dir.path().to_str().unwrap()]);
        let package = dir.path().join(PACKAGE);
        let before = facts(&package);
        Self { dir, package, before }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().to_path_buf()
    }

    /// Has the index say what the package is now.
    fn reindexed(&self) -> PathBuf {
        let index = self.dir.path().join("Packages");
        let text = std::fs::read_to_string(&index).unwrap();
        let (head, rest) = text.split_once("CPV: odd/setuid-1\n").unwrap();
        let (mut entry, rest) = rest.split_once("\n\n").map(|(a, b)| (a.to_string(), b)).unwrap();
        for (was, is) in self.before.iter().zip(facts(&self.package)) {
            assert!(entry.contains(was.as_str()), "no `{was}` in {entry}");
            entry = entry.replace(was.as_str(), &is);
        }
        std::fs::write(&index, format!("{head}CPV: odd/setuid-1\n{entry}\n\n{rest}")).unwrap();
        let packed = self.dir.path().join("Packages.gz");
        std::fs::remove_file(&packed).unwrap();
        tool("gzip", &["-kn", index.to_str().unwrap()]);
        self.folder()
    }
}

/// Returns a file's lines in an index.
fn facts(file: &Path) -> [String; 3] {
    let sum = |program| tool(program, &[file.to_str().unwrap()]).split(' ').next().unwrap().to_string();
    let size = std::fs::metadata(file).unwrap().len();
    [format!("MD5: {}", sum("md5sum")), format!("SHA1: {}", sum("sha1sum")), format!("SIZE: {size}")]
}

/// Returns a package without its signatures, made in an empty folder.
pub(crate) fn unsigned(package: &Path, folder: &Path) -> PathBuf {
    let text = |path: &Path| path.to_str().unwrap().to_string();
    tool("tar", &["-xf", &text(package), "-C", &text(folder)]);
    let inner = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let manifest = folder.join(&inner).join("Manifest");
    let signed = std::fs::read_to_string(&manifest).unwrap();
    let lines = signed.lines().filter(|line| line.starts_with("DATA ") && !line.contains(".sig "));
    let plain: String = lines.map(|line| format!("{line}\n")).collect();
    std::fs::write(&manifest, plain).unwrap();
    let out = folder.join(package.file_name().unwrap());
    let members = ["gpkg-1", "metadata.tar.zst", "image.tar.zst", "Manifest"].map(|name| format!("{inner}/{name}"));
    let (out_text, folder) = (text(&out), text(folder));
    let mut args = vec![
        "--format=ustar",
        "--numeric-owner",
        "--owner=0",
        "--group=0",
        "--mode=0644",
        "-cf",
        &out_text,
        "-C",
        &folder,
    ];
    args.extend(members.iter().map(String::as_str));
    tool("tar", &args);
    out
}
