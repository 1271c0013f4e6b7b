//! What the tests of layers stand on: the packages of the test tree, built once, and roots to look at them in.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use bindery::binhost::pool::{Entry, Pool};
use bindery::image::{self, Image};
use bindery::layer::derive::{Context, Derived, Layer, Merge, Package, derive};
use bindery::process::chain;
use bindery::root::{self, Bind, Command, Limits, Network, Root};
use bindery::sandbox::{self, IdRange, Request, Status, Stdio, Stream};
use bindery::state::{Lease, State};

use crate::chain_bench::Bench;

/// In the order in which they are merged; what others need comes first.
const PACKAGES: [&str; 24] = [
    "app-misc/hello",
    "app-arch/bzip2",
    "app-arch/xz-utils",
    "app-crypt/libmd",
    "dev-libs/libbsd",
    "sys-apps/file",
    "dev-util/bsdiff",
    "app-misc/procserv",
    "dev-build/ninja",
    "dev-python/flit-core",
    "dev-python/installer",
    "dev-python/setuptools",
    "dev-python/six",
    "dev-python/python-dateutil",
    "dev-python/python-magic",
    "dev-build/meson",
    "dev-libs/serd",
    "dev-cpp/jsoncpp",
    "net-misc/s3cmd",
    "acct-group/cron",
    "acct-group/crontab",
    "acct-user/cron",
    "sys-process/cronie",
    "own/odd",
];

/// What no package of the test tree has: folders that are links in the root, a hard link, links to nowhere, set-user-id,
/// owners, odd modes and names, a file of the image's, a folder with a mode that the image's has not, settings.
const ODD: &str = r#"
src_install() {
    dodir /lib/odd /usr/lib64 /usr/share/odd /etc/env.d /usr/bin
    echo one > "${ED}/lib/odd/one" || die
    ln "${ED}/lib/odd/one" "${ED}/lib/odd/linked" || die
    ln -s one "${ED}/lib/odd/symbolic" || die
    ln -s /nowhere/at/all "${ED}/usr/lib64/dangling" || die
    ln -s ../../lib/odd "${ED}/usr/share/odd/folder" || die
    echo issue > "${ED}/etc/issue" || die
    echo conf > "${ED}/etc/odd.conf" || die
    printf 'LDPATH="/usr/lib64/odd"\nODD="a  b"\nCOLON_SEPARATED="ODDS"\nODDS=x:y\nCONFIG_PROTECT="/var/odd"\n' \
        > "${ED}/etc/env.d/50odd" || die
    echo 'text' > "${ED}/usr/share/odd/a name with ä" || die
    truncate -s 1M "${ED}/usr/share/odd/sparse" || die
    echo '#!/bin/sh' > "${ED}/usr/bin/odd" || die
    fperms 4711 /usr/bin/odd
    fperms 0640 /etc/odd.conf
    fowners 0:250 /etc/odd.conf
    keepdir /var/lib/odd
    fowners 250:250 /var/lib/odd
    fperms 2750 /var/lib/odd
    fperms 0700 /usr/share
}
"#;
/// A phase that does something.
const PHASE: &str = "src_install() { dodir /usr/share/phase; }\npkg_preinst() { echo x > \"${EROOT}/etc/phase\"; }\n";

/// Packages, and all that a root needs.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) bench: Bench,
    pub(crate) state: State,
    pub(crate) ids: IdRange,
    pub(crate) image: Image,
    pub(crate) entries: Vec<Entry>,
    /// The package with a phase that does something.
    pub(crate) phase: Entry,
    binds: Vec<Bind>,
}

/// What a command in a root came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Status,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn works(self) -> Self {
        assert_eq!(self.status, Status::Code(0), "{}\n{}", self.out, self.err);
        self
    }
}

/// Returns the one shop of these tests.
pub(crate) fn shop() -> &'static Shop {
    static SHOP: OnceLock<Shop> = OnceLock::new();
    SHOP.get_or_init(Shop::open)
}

impl Shop {
    fn open() -> Self {
        bindery::process::set_this_program(env!("CARGO_BIN_EXE_bindery").as_ref());
        let bench = Bench::new("layers");
        bench.write_tree(&[("odd", ODD), ("phase", PHASE)]);
        bench.write_profile("trees = [\"bindery-test\", \"own\"]\n[limits]\nsilence = \"5min\"\n");
        let said = bench.build(&[PACKAGES.as_slice(), &["own/phase"]].concat());
        said.works();
        let state = State::below(&bench.state);
        let ids = IdRange::detect(None).unwrap_or_else(|e| panic!("{}", chain(&e)));
        let archives = Default::default();
        let cx = image::Context { state: &state, ids: &ids, archives: &archives, cancel: &AtomicBool::new(false) };
        let image = image::find(&cx, &"debian-portage".parse().unwrap()).unwrap().unwrap();
        let profile = state.profile(&bench.profile.parse().unwrap());
        let mut entries = Pool::open(&profile).entries().unwrap();
        entries.sort_by_key(|entry| PACKAGES.iter().position(|cp| *cp == entry.facts.cpv.cp()));
        // The one that is not in the list comes first.
        let phase = entries.remove(0);
        assert_eq!(entries.len(), PACKAGES.len(), "{entries:?}");
        let bind = |from: PathBuf, to: &str| Bind {
            from: std::fs::canonicalize(from).unwrap(),
            to: to.parse().unwrap(),
            writable: false,
        };
        let tree = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tree");
        let binds = vec![
            bind(tree, "/var/db/repos/bindery-test"),
            bind(bench.config.path().join("own"), "/var/db/repos/own"),
            bind(state.runs().join(said.run()).join("portage"), "/etc/portage"),
            bind(profile.current(), "/mnt/packages"),
            bind(state.distfiles(), "/var/cache/distfiles"),
        ];
        Self { bench, state, ids, image, entries, phase, binds }
    }

    /// Returns how layers are derived here, unless a test wants it another way.
    pub(crate) fn context<'a>(&'a self, merge: &'a Merge) -> Context<'a> {
        let Self { state, ids, image, .. } = self;
        Context { state, ids, image: &image.layers, image_digest: &image.digest, merge }
    }

    /// Returns the package of a name.
    pub(crate) fn entry(&self, cp: &str) -> &Entry {
        self.entries.iter().find(|entry| entry.facts.cpv.cp() == cp).unwrap()
    }

    /// Returns the layers of all packages, which must all have one.
    pub(crate) fn layers(&self) -> Vec<Layer> {
        let merge = Merge::default();
        let packages: Vec<_> =
            self.entries.iter().map(|entry| Package { file: &entry.file, facts: &entry.facts }).collect();
        let derived = derive(&self.context(&merge), &packages).unwrap_or_else(|e| panic!("{}", chain(&e)));
        let layer = |derived| match derived {
            Derived::Layer(layer) => layer,
            Derived::NotStackable(reasons) => panic!("{reasons:?}"),
        };
        derived.into_iter().map(layer).collect()
    }

    /// Runs a shell script in a root of these layers, top first, with what a build has around it.
    pub(crate) fn run(&self, lower: Vec<PathBuf>, script: &str) -> Ran {
        let mut lease = Lease::take(&self.state, "testing layers").unwrap();
        let folder = lease.root().to_path_buf();
        let root = Root { lower, upper: Some(folder.strip_prefix(self.state.state()).unwrap().to_path_buf()) };
        let env = [
            ("HOME", "/root"),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("TERM", "dumb"),
            ("NOCOLOR", "true"),
            ("PORTAGE_OVERRIDE_EPREFIX", ""),
            ("PYTHONHASHSEED", "0"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
        ];
        let command = Command {
            args: ["/bin/sh", "-euc", script].map(str::to_string).to_vec(),
            env: env.map(|(name, value)| (name.to_string(), value.to_string())).to_vec(),
            cwd: "/".parse().unwrap(),
            terminal: false,
        };
        let spec = root::spec(&root, &self.binds, &[], &command, &Limits::default(), Network::None);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut sink = |stream: Stream, bytes: &[u8]| match stream {
            Stream::Out => out.extend_from_slice(bytes),
            Stream::Err => err.extend_from_slice(bytes),
        };
        let exit = sandbox::run(Request {
            spec: &spec,
            ids: &self.ids,
            base: self.state.state(),
            lease: &mut lease,
            stdio: Stdio::Capture(&mut sink),
            cancel: &AtomicBool::new(false),
        });
        bindery::layer::remove(&self.ids, &folder).unwrap();
        lease.release().unwrap();
        let status = exit.unwrap_or_else(|e| panic!("{}", chain(&e))).status;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { status, out: text(&out), err: text(&err) }
    }
}
