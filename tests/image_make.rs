//! Making the shipped image for real: from Debian's archive and PyPI, inside the id range.
//!
//! Needs `mmdebstrap`, `python3-pip` (as root: `apt install mmdebstrap python3-pip`), subordinate ids, the network, and
//! about a minute. Without one of them it fails and says which.

#![expect(clippy::unwrap_used, reason = "what fails is the test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use bindery::event::Event;
use bindery::image::{self, Context, Definition, Mode};
use bindery::root::{self, Network, Root, Tmpfs};
use bindery::sandbox::{self, IdRange, Request, Stdio, Stream};
use bindery::state::{Lease, State};
use bindery::{fs, process};

fn definition() -> Definition {
    Definition::find(&"debian-portage".parse().unwrap(), &[]).unwrap()
}

/// Prints an error with its causes, as a person would see it.
fn told<T>(result: Result<T, image::ImageError>) -> T {
    result.unwrap_or_else(|e| panic!("{}", bindery::process::chain(&e)))
}

/// Runs a command in a sandbox whose root is the image, and returns what it prints.
fn in_sandbox(cx: &Context<'_>, image: &image::Image, args: &[&str]) -> String {
    let mut lease = Lease::take(cx.state, "test").unwrap();
    let root = Root { lower: image.layers.clone(), upper: None };
    let command = root::Command {
        args: args.iter().map(|arg| arg.to_string()).collect(),
        env: image.env.clone(),
        cwd: "/".parse().unwrap(),
        terminal: false,
    };
    let tmpfs = [Tmpfs { to: "/tmp".parse().unwrap(), size: 1 << 20, mode: 0o1777 }];
    let spec = root::spec(&root, &[], &tmpfs, &command, &root::Limits::default(), Network::None);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = sandbox::run(Request {
        spec: &spec,
        ids: cx.ids,
        base: cx.state.state(),
        lease: &mut lease,
        stdio: Stdio::Capture(&mut |stream, bytes| match stream {
            Stream::Out => out.extend_from_slice(bytes),
            Stream::Err => err.extend_from_slice(bytes),
        }),
        cancel: cx.cancel,
    });
    let exit = exit.unwrap_or_else(|e| panic!("{}", bindery::process::chain(&e)));
    let err = String::from_utf8_lossy(&err);
    assert_eq!(exit.status, sandbox::Status::Code(0), "{args:?}: {err}");
    bindery::layer::remove(cx.ids, lease.root()).unwrap();
    lease.release().unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn an_image_is_made_found_verified_and_made_again_from_its_lock() {
    process::set_this_program(Path::new(env!("CARGO_BIN_EXE_bindery")));
    let dir = tempfile::Builder::new().prefix("bindery-image-").tempdir_in("/var/tmp").unwrap();
    let state = State::below(dir.path());
    state.prepare().unwrap();
    let ids = IdRange::detect(None).unwrap_or_else(|e| panic!("{e}"));
    let cancel = AtomicBool::new(false);
    let cx = Context { state: &state, ids: &ids, archives: &BTreeMap::new(), cancel: &cancel };
    let mut steps = Vec::new();
    let mut events = |event: Event| {
        println!("{event:?}");
        steps.push(event);
    };
    let definition = definition();
    let turn = || told(image::turn(&cx, &definition.name, &mut |_| {}));
    let made = told(image::make(&cx, turn(), &definition, &Mode::Newest, None, &mut events));

    assert_eq!(told(image::find(&cx, &definition.name)).unwrap(), made);
    assert_eq!(told(image::list(&state)), std::slice::from_ref(&definition.name));
    told(image::verify(&cx, &definition.name));
    assert!(made.origin.debs.iter().any(|deb| deb.name.as_str() == "gcc"));

    assert_eq!(
        in_sandbox(&cx, &made, &["emerge", "--version"]).lines().next().unwrap().split(' ').nth(1),
        Some("3.0.83")
    );
    assert_eq!(in_sandbox(&cx, &made, &["id", "-u", "portage"]), "250\n");
    // Portage's modules are compiled, and their times do not matter.
    let compile = "import sys, portage; print(portage.__cached__, open(portage.__cached__, 'rb').read(8)[4])";
    let compiled = in_sandbox(&cx, &made, &["python3", "-c", compile]);
    assert!(compiled.ends_with("/__init__.cpython-313.pyc 3\n"), "{compiled}");

    // Nothing but the image is left.
    assert_eq!(fs::read_dir(&state.roots()).unwrap().len(), 0);
    assert_eq!(fs::read_dir(&state.leases()).unwrap().len(), 0);

    let lock = told(image::find_lock(&state, &definition));
    let again = told(image::make(&cx, turn(), &definition, &Mode::Locked(lock.clone()), None, &mut events));
    assert_eq!(again, made);
    assert_eq!(told(image::find_lock(&state, &definition)), lock);

    // What the index does not have is refused by name.
    let text = lock.to_toml();
    let version = lock.debs.iter().find(|deb| deb.name.as_str() == "make").unwrap().version.clone();
    let make = text.lines().find(|line| line.contains("name = \"make\",")).unwrap();
    let other = make.replace(version.as_str(), "3.81-1");
    let other = other.replace(other.split('"').nth(7).unwrap(), &"5".repeat(64));
    fs::write(&image::lock_file(&state, &definition.name), text.replace(make, &other)).unwrap();
    let altered = told(image::find_lock(&state, &definition));
    let error =
        image::make(&cx, turn(), &definition, &Mode::Locked(altered), None, &mut events).unwrap_err().to_string();
    assert!(error.contains(&format!("`make` 3.81-1 (amd64): the index has {version}")), "{error}");

    // A missing unpacked layer comes back; an altered blob is refused by name.
    let unpacked = fs::canonicalize(&state.state().join(&made.layers[0])).unwrap();
    bindery::layer::remove(&ids, &unpacked).unwrap();
    assert_eq!(told(image::find(&cx, &definition.name)).unwrap(), made);
    assert!(unpacked.join("usr/bin/gcc").symlink_metadata().is_ok() || !ids.is_roots());
    let layer = fs::read_dir(&state.blobs()).unwrap().into_iter();
    let layer = layer.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let error = image::verify(&cx, &definition.name).unwrap_err();
    let text = bindery::process::chain(&error);
    assert!(text.contains("`bindery image make debian-portage` makes it again"), "{text}");
    assert!(text.contains(layer.to_str().unwrap()), "{text}");
    bindery::layer::remove(&ids, &unpacked).unwrap();
    bindery::layer::remove(&ids, &state.unpacked()).unwrap();
}
