use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::digest::Hashes;

/// What the server answers for a path.
#[derive(Clone)]
enum Answer {
    Body(Vec<u8>),
    /// Says it has that many bytes and sends others.
    Claims(usize, Vec<u8>),
    /// Never says how many and never ends.
    Endless,
    Redirect(String),
    Headers(&'static str, Vec<u8>),
}

/// A web server on 127.0.0.1 for the length of a test.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answers: &[(&str, Answer)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: HashMap<String, Answer> = answers.iter().map(|(p, a)| ((*p).to_string(), a.clone())).collect();
        let log = asked.clone();
        // Ends with the process: a test is over before anyone could ask again.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answers, log) = (answers.clone(), log.clone());
                std::thread::spawn(move || stream.map(|stream| serve(stream, &answers, &log)));
            }
        });
        Self { port, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, answers: &HashMap<String, Answer>, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(request)) = lines.next() else { return };
    for line in lines.by_ref() {
        if line.map_or(true, |line| line.is_empty()) {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_string();
    log.lock().unwrap().push(path.clone());
    let head = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n");
    let length = |n: usize| format!("Content-Length: {n}\r\n");
    // The other side may hang up at any time: that is what some of the tests are about.
    let _ = match answers.get(&path) {
        None => stream.write_all(head("404 Not Found", &length(0)).as_bytes()),
        Some(Answer::Redirect(to)) => {
            stream.write_all(head("302 Found", &format!("Location: {to}\r\nContent-Length: 0\r\n")).as_bytes())
        }
        Some(Answer::Body(body)) => {
            stream.write_all(head("200 OK", &length(body.len())).as_bytes()).and_then(|()| stream.write_all(body))
        }
        Some(Answer::Claims(n, body)) => {
            stream.write_all(head("200 OK", &length(*n)).as_bytes()).and_then(|()| stream.write_all(body))
        }
        Some(Answer::Headers(headers, body)) => {
            stream.write_all(head("200 OK", headers).as_bytes()).and_then(|()| stream.write_all(body))
        }
        Some(Answer::Endless) => stream.write_all(head("200 OK", "").as_bytes()).and_then(|()| {
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        }),
    };
}

fn distfile(name: &str, content: &[u8], uris: &[String]) -> Distfile {
    let hashes = Hashes::of(content).unwrap();
    let dist = Dist::new(name, hashes.size, &hashes.blake2b, &hashes.sha512).unwrap();
    Distfile { dist, uris: uris.to_vec(), restrict: Restrict::default() }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn fetch(&self, files: &[Distfile], mirrors: &[String]) -> (Result<Summary, FetchError>, Vec<Event>) {
        let mirrors: Vec<Mirror> = mirrors.iter().map(|mirror| mirror.parse().unwrap()).collect();
        let mut third_party = ThirdParty::default();
        third_party.add("gone http://127.0.0.1:1/\n");
        let request = Request {
            files,
            mirrors: &mirrors,
            third_party: &third_party,
            folder: self.0.path(),
            proxy: None,
            cancel: &AtomicBool::new(false),
        };
        let mut events = Vec::new();
        (fetch(&request, &mut |event| events.push(event)), events)
    }

    /// Fetches what must succeed.
    fn get(&self, files: &[Distfile], mirrors: &[String]) -> (Summary, Vec<Event>) {
        let (result, events) = self.fetch(files, mirrors);
        (result.unwrap_or_else(|e| panic!("{e}")), events)
    }

    /// Fetches what must fail, and returns the message.
    fn fail(&self, file: &Distfile) -> String {
        let (result, _) = self.fetch(std::slice::from_ref(file), &[]);
        assert!(!self.0.path().join(file.dist.name.as_str()).exists());
        self.nothing_left();
        result.unwrap_err().to_string()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(&self.0.path().join(name)).unwrap()
    }

    fn nothing_left(&self) {
        assert_eq!(fs::read_dir_if_exists(&self.0.path().join(".part")).unwrap(), Vec::<PathBuf>::new());
    }
}

#[test]
fn an_archive_is_fetched_once_and_verified_ever_after() {
    let server = Server::new(&[("/a", Answer::Body(b"content".to_vec()))]);
    let (place, file) = (Place::new(), distfile("a-1.tar.gz", b"content", &[server.url("/a")]));
    let (summary, events) = place.get(std::slice::from_ref(&file), &[]);
    assert_eq!(summary, Summary { present: 0, fetched: 1 });
    assert_eq!(
        events,
        [
            Event::Fetching { file: "a-1.tar.gz".into(), uri: server.url("/a") },
            Event::Fetched { file: "a-1.tar.gz".into(), size: 7 }
        ]
    );
    assert_eq!(place.read("a-1.tar.gz"), b"content");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&place.0.path().join("a-1.tar.gz")).unwrap());
    assert_eq!(mode & 0o7777, 0o644);
    assert_eq!(place.get(&[file.clone(), file], &[]).0, Summary { present: 1, fetched: 0 });
    assert_eq!(server.asked().len(), 1);
    place.nothing_left();
}

#[test]
fn names_are_resolved_in_a_static_program_too() {
    let server = Server::new(&[("/a", Answer::Body(b"content".to_vec()))]);
    let uri = format!("http://localhost:{}/a", server.port);
    assert_eq!(Place::new().get(&[distfile("a", b"content", &[uri])], &[]).0.fetched, 1);
}

#[test]
fn an_altered_archive_is_fetched_again_and_the_user_told() {
    let server = Server::new(&[("/a", Answer::Body(b"content".to_vec()))]);
    for altered in ["contenT", "short"] {
        let (place, file) = (Place::new(), distfile("a", b"content", &[server.url("/a")]));
        fs::write(&place.0.path().join("a"), altered).unwrap();
        let (summary, events) = place.get(&[file], &[]);
        assert_eq!(summary.fetched, 1);
        assert_eq!(place.read("a"), b"content");
        let Event::Warning { what } = &events[0] else { panic!("{events:?}") };
        assert!(what.contains("is not the archive that the Manifest lists"), "{what}");
    }
}

#[test]
fn a_link_among_the_distfiles_is_no_archive() {
    let server = Server::new(&[("/a", Answer::Body(b"content".to_vec()))]);
    let place = Place::new();
    let outside = place.0.path().join("outside");
    fs::write(&outside, "content").unwrap();
    fs::symlink(&outside, &place.0.path().join("a")).unwrap();
    place.get(&[distfile("a", b"content", &[server.url("/a")])], &[]);
    assert!(fs::symlink_metadata(&place.0.path().join("a")).unwrap().is_file());
    assert_eq!(fs::read(&outside).unwrap(), b"content");
}

#[test]
fn what_is_not_the_archive_is_refused_and_named() {
    let (good, bad) = (b"content".to_vec(), b"contenT".to_vec());
    for (answer, why) in [
        (Answer::Body(bad.clone()), "its BLAKE2B is "),
        (Answer::Body(b"cont".to_vec()), "it has 4 bytes there, not 7"),
        (Answer::Claims(7, b"cont".to_vec()), "after 4 bytes: "),
        (Answer::Headers("", b"cont".to_vec()), "it has 4 bytes, not 7"),
        (Answer::Headers("Transfer-Encoding: chunked\r\n", b"zz\r\n".to_vec()), ": "),
        (Answer::Endless, "it has more than the expected 7 bytes"),
        (Answer::Redirect("file:///etc/passwd".into()), ": "),
        (Answer::Redirect("/a".into()), "too many redirects"),
        (Answer::Claims(usize::MAX, good.clone()), "bytes there, not 7"),
    ] {
        let server = Server::new(&[("/a", answer)]);
        let message = Place::new().fail(&distfile("a", &good, &[server.url("/a")]));
        assert!(message.contains(&format!("{}: ", server.url("/a"))), "{message}");
        assert!(message.contains(why), "{why}: {message}");
    }
}

#[test]
fn the_error_says_everything_that_was_tried_and_what_to_do() {
    let server = Server::new(&[]);
    let place = Place::new();
    let uris = [server.url("/a"), "mirror://gone/a".into(), "mirror://unknown/a".into(), "ftp://x/a".into()];
    let message = place.fail(&distfile("a", b"content", &uris));
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines[0], "`a` cannot be fetched:");
    assert_eq!(lines[1], format!("  {}: http status: 404", server.url("/a")));
    assert!(lines[2].starts_with("  http://127.0.0.1:1/a: io: Connection refused"), "{message}");
    assert!(lines[3].starts_with("  mirror://unknown/a: no tree's"), "{message}");
    assert_eq!(lines[4], "  ftp://x/a: only http and https are fetched");
    assert_eq!(lines[5], "  expected: 7 bytes");
    assert!(lines[6].starts_with("    BLAKE2B ") && lines[7].starts_with("    SHA512 "));
    assert_eq!(lines[8], format!("  get it by hand and put it at `{}`", place.0.path().join("a").display()));
}

#[test]
fn one_that_cannot_be_had_does_not_keep_the_others_away() {
    let server = Server::new(&[("/b", Answer::Body(b"b".to_vec()))]);
    let place = Place::new();
    let files = [distfile("a", b"a", &[server.url("/a")]), distfile("b", b"b", &[server.url("/b")])];
    let FetchError::Missing(missing) = place.fetch(&files, &[]).0.unwrap_err() else { panic!() };
    assert_eq!(missing.len(), 1);
    assert_eq!(place.read("b"), b"b");
}

#[test]
fn mirrors_come_first_and_the_next_address_is_tried_after_a_failure() {
    let layout = Answer::Body(b"[structure]\n0=filename-hash BLAKE2B 8\n1=flat\n".to_vec());
    let path = format!(
        "/m/distfiles/{}",
        mirror::encoded(
            &Layout::parse("[structure]\n0=filename-hash BLAKE2B 8").path("a+1 ~.gz".replace(' ', "").as_str())
        )
    );
    let mirror = Server::new(&[("/m/distfiles/layout.conf", layout), (&path, Answer::Body(b"mirrored".to_vec()))]);
    let origin =
        Server::new(&[("/old", Answer::Redirect("/new".into())), ("/new", Answer::Body(b"original".to_vec()))]);
    let files =
        [distfile("a+1~.gz", b"mirrored", &[origin.url("/a")]), distfile("b", b"original", &[origin.url("/old")])];
    let (summary, _) = Place::new().get(&files, &[format!("{}/", mirror.url("/m")), "http://127.0.0.1:1".into()]);
    assert_eq!(summary.fetched, 2);
    assert_eq!(mirror.asked().iter().filter(|path| path.ends_with("layout.conf")).count(), 1);
    assert!(mirror.asked().contains(&path));
    assert_eq!(origin.asked(), ["/old", "/new"]);
}

#[test]
fn a_folder_is_a_mirror() {
    let (place, folder) = (Place::new(), Place::new());
    fs::write(&folder.0.path().join("a"), "content").unwrap();
    fs::create_dir_all(&folder.0.path().join("b")).unwrap();
    let mut file = distfile("a", b"content", &[]);
    file.restrict = Restrict { fetch: true, mirror: true };
    let mirrors = [format!("file://{}", folder.0.path().display())];
    assert_eq!(place.get(&[file], &mirrors).0.fetched, 1);
    let (result, _) = place.fetch(&[distfile("b", b"content", &[])], &[folder.0.path().display().to_string()]);
    assert!(result.unwrap_err().to_string().contains("it is not a file"));
}

#[test]
fn what_only_people_may_fetch_is_asked_of_them() {
    let server = Server::new(&[("/a", Answer::Body(b"content".to_vec()))]);
    let place = Place::new();
    let mut file = distfile("a", b"content", &[server.url("/a")]);
    file.restrict.fetch = true;
    let message = place.fetch(std::slice::from_ref(&file), &[server.url("")]).0.unwrap_err().to_string();
    assert!(
        message.starts_with("`a` may not be fetched by programs (RESTRICT=fetch of its ebuild)\n  expected: 7 bytes"),
        "{message}"
    );
    assert!(server.asked().is_empty());
    fs::write(&place.0.path().join("a"), "content").unwrap();
    assert_eq!(place.get(&[file], &[]).0.present, 1);
}

#[test]
fn two_that_fetch_the_same_file_fetch_it_once() {
    let server = Server::new(&[("/a", Answer::Body(vec![b'x'; 1 << 20]))]);
    let (place, file) = (Place::new(), distfile("a", &vec![b'x'; 1 << 20], &[server.url("/a")]));
    let summaries: Vec<Summary> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| place.get(std::slice::from_ref(&file), &[]).0)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(summaries.iter().map(|summary| summary.fetched).sum::<usize>(), 1);
    assert_eq!(summaries.iter().map(|summary| summary.present).sum::<usize>(), 5);
    assert_eq!(server.asked().len(), 1);
    place.nothing_left();
}

#[test]
fn what_a_killed_process_left_behind_is_removed() {
    let place = Place::new();
    fs::create_dir_all(&place.0.path().join(".part")).unwrap();
    fs::write(&place.0.path().join(".part/old.tar.gz"), "half").unwrap();
    place.get(&[], &[]);
    place.nothing_left();
}

#[test]
fn a_name_cannot_leave_the_folder() {
    let hashes = Hashes::of(&b""[..]).unwrap();
    for name in ["../a", "/etc/passwd", "..", ".part", "a/b", "a\nb", ""] {
        assert!(Dist::new(name, 0, &hashes.blake2b, &hashes.sha512).is_err(), "{name:?}");
        let json = serde_json::json!({"name": name, "size": 0, "blake2b": hashes.blake2b, "sha512": hashes.sha512, "uris": []});
        assert!(serde_json::from_value::<Distfile>(json).is_err(), "{name:?}");
    }
}

#[test]
fn a_digest_is_one_or_the_archive_is_refused() {
    let file = distfile("a", b"content", &["https://a.example/a".into()]);
    let mut json = serde_json::to_value(&file).unwrap();
    assert_eq!(serde_json::from_value::<Distfile>(json.clone()).unwrap(), file);
    json["sha512"] = "00".into();
    let error = serde_json::from_value::<Distfile>(json).unwrap_err().to_string();
    assert!(error.contains("the SHA512 of `a` is not 128 hexadecimal digits"), "{error}");
}

#[test]
fn two_archives_of_one_name_are_a_conflict() {
    let files = [distfile("a", b"1", &[]), distfile("a", b"2", &[])];
    let error = Place::new().fetch(&files, &[]).0.unwrap_err().to_string();
    assert!(error.contains("different archives called `a`"), "{error}");
}

#[test]
fn cancelling_leaves_nothing_behind() {
    let server = Server::new(&[("/a", Answer::Body(b"content".to_vec()))]);
    let (place, file) = (Place::new(), distfile("a", b"content", &[server.url("/a")]));
    let request = Request {
        files: &[file],
        mirrors: &[],
        third_party: &ThirdParty::default(),
        folder: place.0.path(),
        proxy: None,
        cancel: &AtomicBool::new(true),
    };
    assert!(matches!(fetch(&request, &mut |_| {}), Err(FetchError::Cancelled)));
    place.nothing_left();
}

#[test]
fn an_archive_arrives_with_its_own_compression() {
    // Some servers call a .tar.gz a gzip-encoded .tar, whatever was asked for.
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let server =
        Server::new(&[("/a", Answer::Headers("Content-Encoding: gzip\r\nContent-Length: 20\r\n", gzip.to_vec()))]);
    assert_eq!(Place::new().get(&[distfile("a.tar.gz", &gzip, &[server.url("/a")])], &[]).0.fetched, 1);
}
