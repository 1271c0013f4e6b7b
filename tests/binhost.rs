//! A binary host from pool to HTTP, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bindery::binhost::generation::{Generation, Meta, Published, Signer, publish, verify};
use bindery::binhost::index;
use bindery::binhost::pool::{Entry, Origin, Pool};
use bindery::binhost::statement::Tree;
use bindery::digest::Hashes;
use bindery::fs;
use bindery::package::facts::Facts;
use bindery::package::key::SecretKey;
use bindery::serve;
use bindery::state::{Lock, ProfileDir, State};
use tokio::sync::oneshot;

struct Binhost {
    dir: tempfile::TempDir,
    state: State,
    profile: ProfileDir,
    pool: Pool,
    lock: Lock,
    key: SecretKey,
}

impl Binhost {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        let profile = state.profile(&"amd64".parse().unwrap());
        let key = SecretKey::generate("Test", UNIX_EPOCH, None).unwrap();
        Self { lock: profile.lock().unwrap(), pool: Pool::open(&profile), profile, state, key, dir }
    }

    fn add(&self, build_id: u32, bytes: &[u8]) -> Entry {
        let signed = self.dir.path().join("signed");
        fs::write(&signed, bytes).unwrap();
        self.pool.add(&self.lock, &signed, &facts(build_id), &Origin::default()).unwrap()
    }

    fn publish(&self, now: u64) -> Published {
        self.publish_these(&self.pool.entries().unwrap(), now)
    }

    fn publish_these(&self, entries: &[Entry], now: u64) -> Published {
        let meta = Meta {
            profile: "amd64".parse().unwrap(),
            arch: "amd64".into(),
            chost: "x86_64-pc-linux-gnu".into(),
            portage_profile: None,
            settings: BTreeMap::new(),
            trees: vec![Tree { name: "demo".into(), revision: "1".into() }],
            image: None,
            validity: Duration::from_secs(30 * 24 * 60 * 60),
        };
        let sign = |bytes: &[u8], time| Ok(self.key.detached(bytes, time)?);
        let signer = Signer { certificate: &self.key.certificate(), sign: &sign };
        publish(&self.profile, &self.lock, entries, &meta, &signer, UNIX_EPOCH + Duration::from_secs(now)).unwrap()
    }
}

fn facts(build_id: u32) -> Facts {
    let text = format!(
        r#"{{"cpv": "app-misc/hello-2.10", "build_id": {build_id}, "build_time": {build_id}, "slot": "0", "eapi": "8",
        "content": "sha256:{:064x}", "repo": "demo", "use": [], "iuse": [], "keywords": ["amd64"], "license": "GPL-2",
        "depend": "", "bdepend": "", "rdepend": "", "pdepend": "", "idepend": "", "properties": "", "restrict": "",
        "provides": "", "requires": "", "defined_phases": [], "chost": "", "description": "", "size_installed": 0,
        "entries": 0, "elf": [], "privileged": []}}"#,
        0
    );
    serde_json::from_str(&text).unwrap()
}

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), serve::ServeError>>,
}

impl Server {
    fn start(state: &State) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, address) = mpsc::channel();
        let state = state.clone();
        let thread = std::thread::spawn(move || {
            let shutdown = async move { stopped.await.unwrap_or_default() };
            serve::run(&state, "127.0.0.1:0".parse().unwrap(), move |at| ready.send(at).unwrap(), shutdown)
        });
        Self { address: address.recv().unwrap(), stop, thread }
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap().unwrap();
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: bytes[end + 4..].to_vec() }
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

const HELLO: &str = "/amd64/app-misc/hello/hello-2.10-1.gpkg.tar";

#[test]
fn a_served_generation_is_what_was_published() {
    let host = Binhost::new();
    let entry = host.add(1, b"the package");
    host.publish(1_700_000_000);
    let server = Server::start(&host.state);
    let index = server.get("/amd64/Packages");
    assert_eq!(index.status, 200);
    assert!(index.head.contains("last-modified: tue, 14 nov 2023 22:13:20 gmt"), "{}", index.head);
    assert!(index.head.contains("cache-control: no-cache"), "{}", index.head);
    assert_eq!(index::parse(std::str::from_utf8(&index.body).unwrap()).unwrap().packages.len(), 1);
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(server.get("/amd64/Packages.gz").body.as_slice()).read_to_end(&mut text).unwrap();
    assert_eq!(text, index.body);
    let package = server.get(HELLO);
    assert_eq!(Hashes::of(package.body.as_slice()).unwrap(), entry.hashes);
    assert!(package.head.contains("immutable"), "{}", package.head);
    for name in ["statement.json", "statement.json.asc", "key.asc"] {
        assert_eq!(server.get(&format!("/amd64/{name}")).body, fs::read(&host.profile.current().join(name)).unwrap());
    }
    let list: serde_json::Value = serde_json::from_slice(&server.get("/").body).unwrap();
    assert_eq!(list, serde_json::json!([{"profile": "amd64", "serial": 1}]));
    server.stop();
}

#[test]
fn portages_way_of_asking_again_works() {
    let host = Binhost::new();
    host.add(1, b"a");
    host.publish(1_700_000_000);
    let server = Server::start(&host.state);
    // Portage asks with five seconds more than the TIMESTAMP it has.
    let again = "If-Modified-Since: Tue, 14 Nov 2023 22:13:25 GMT\r\n";
    assert_eq!(server.ask("GET", "/amd64/Packages.gz", again).status, 304);
    host.add(2, b"b");
    host.publish(1_700_000_001);
    let index = server.ask("GET", "/amd64/Packages.gz", again);
    assert_eq!(index.status, 200);
    assert!(index.head.contains("last-modified: tue, 14 nov 2023 22:13:26 gmt"), "{}", index.head);
    server.stop();
}

#[test]
fn ranges_and_heads_are_answered_and_nothing_else_is() {
    let host = Binhost::new();
    host.add(1, b"0123456789");
    host.publish(1_700_000_000);
    let server = Server::start(&host.state);
    let part = server.ask("GET", HELLO, "Range: bytes=4-\r\n");
    assert_eq!((part.status, part.body.as_slice()), (206, &b"456789"[..]));
    assert_eq!(server.ask("GET", HELLO, "Range: bytes=10-\r\n").status, 416);
    let head = server.ask("HEAD", HELLO, "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.head.contains("content-length: 10"), "{}", head.head);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = server.ask(method, HELLO, "");
        assert_eq!(answer.status, 405);
        assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
    }
    server.stop();
}

#[test]
fn what_is_not_published_is_not_served() {
    let host = Binhost::new();
    host.add(1, b"a");
    host.publish(1_700_000_000);
    host.add(2, b"not yet published");
    fs::symlink(Path::new("/etc"), &host.state.profiles().join("evil")).unwrap();
    let server = Server::start(&host.state);
    for path in [
        "/amd64/app-misc/hello/hello-2.10-2.gpkg.tar",
        "/amd64/app-misc/hello/hello-2.10-1.json",
        "/amd64/../amd64/Packages",
        "/amd64/../../state.json",
        "/amd64/..%2f..%2fstate.json",
        "/%2e%2e/state.json",
        "/amd64/lock",
        "/amd64/app-misc",
        "/amd64/",
        "/evil/passwd",
        "/other/Packages",
        "/amd64/.new-1",
        "http://127.0.0.1/../../etc/passwd",
        "*",
    ] {
        let status = server.get(path).status;
        assert!(status == 404 || status == 400, "{path}: {status}");
    }
    // A package that is a link is none of ours.
    let package = host.profile.current().join("app-misc/hello/hello-2.10-1.gpkg.tar");
    fs::remove_file(&package).unwrap();
    fs::symlink(Path::new("/etc/passwd"), &package).unwrap();
    assert_eq!(server.get(HELLO).status, 404);
    server.stop();
}

#[test]
fn a_client_never_sees_a_mixture() {
    let host = Binhost::new();
    host.add(1, b"1");
    host.publish(1_700_000_000);
    let server = Server::start(&host.state);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            // At least one round after the last publication.
            loop {
                let last = done.load(Ordering::SeqCst);
                let text = String::from_utf8(server.get("/amd64/Packages").body).unwrap();
                let index = index::parse(&text).unwrap();
                for package in &index.packages {
                    let answer = server.get(&format!("/amd64/{}", package.path));
                    assert_eq!(answer.status, 200, "{}", package.path);
                    assert_eq!(Hashes::of(answer.body.as_slice()).unwrap().md5, package.md5);
                }
                seen.push(index.timestamp);
                if last {
                    return seen;
                }
            }
        });
        for build_id in 2..40 {
            // Each generation has other packages than the one before.
            let entry = host.add(build_id, format!("{build_id}").repeat(1000).as_bytes());
            host.publish_these(&[entry], 1_700_000_000);
        }
        done.store(true, Ordering::SeqCst);
        let seen = reader.join().unwrap();
        assert!(seen.is_sorted());
        assert_eq!(seen.last(), Some(&(1_700_000_000 + 38 * 6)));
    });
    server.stop();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let host = Binhost::new();
    let server = Server::start(&host.state);
    let error = serve::run(&host.state, server.address, |_| (), std::future::pending()).unwrap_err().to_string();
    let expected = format!("cannot listen on `{}`; is another server there? port 0 takes a free one", server.address);
    assert_eq!(error, expected);
    assert_eq!(server.get("/").body, b"[]\n");
    assert_eq!(server.get("/amd64/Packages").status, 404);
    server.stop();
}

#[test]
fn a_published_generation_verifies_with_its_own_key_only() {
    let host = Binhost::new();
    host.add(1, b"a");
    host.publish(1_700_000_000);
    let generation = Generation::current(&host.profile).unwrap().unwrap();
    verify(&generation, &[host.key.certificate()], SystemTime::now()).unwrap();
    let other = SecretKey::generate("Other", UNIX_EPOCH, None).unwrap().certificate();
    let error = verify(&generation, &[other], SystemTime::now()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.ends_with("which is not known"), "{source}");
}
