//! What the tests of layers stand on: the packages of the test tree, built once, and roots to look at them in.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};

use bindery::atom::Cpv;
use bindery::binhost::pool::{Entry, Pool};
use bindery::image::{self, Image};
use bindery::layer::derive::{Context, Derived, Layer, Merge, Merged, Package, Reason, derive, learn, learned};
use bindery::layer::stack::stack;
use bindery::process::chain;
use bindery::root::{self, Bind, Command, Limits, Network, Root};
use bindery::sandbox::{self, IdRange, Request, Status, Stdio, Stream};
use bindery::state::{Lease, State};

use crate::chain_bench::{self, Bench, Said, Who};

/// In the order in which they are merged; what others need comes first.
const PACKAGES: [&str; 25] = [
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
    "own/phases",
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
/// Phases that do all that a layer can hold: before the merge files are changed, added, removed and given away, and after it
/// caches are made, something is registered in a file of the image's, and a file is made that stays.
const PHASES: &str = r#"
RDEPEND="acct-user/cron"
src_install() {
    insinto /usr/share/phases
    echo one | newins - changed
    echo two | newins - removed
    echo three | newins - kept
    keepdir /var/lib/phases
}
pkg_setup() {
    [[ ${MERGE_TYPE} != binary ]] || id -u cron > /dev/null || die "there is no user cron"
}
pkg_preinst() {
    echo more >> "${ED}/usr/share/phases/changed" || die
    rm "${ED}/usr/share/phases/removed" || die
    mkdir "${ED}/usr/share/phases/added" || die
    echo four > "${ED}/usr/share/phases/added/four" || die
    fowners cron:crontab /var/lib/phases
    fperms 3770 /var/lib/phases
}
pkg_postinst() {
    ldconfig -X || die
    mkdir -p "${EROOT}/var/cache/phases/__pycache__" "${EROOT}/var/tmp/phases" || die
    cat "${EROOT}"/usr/share/phases/{changed,kept} > "${EROOT}/var/cache/phases/index" || die
    touch "${EROOT}/var/cache/phases/__pycache__/x.pyc" "${EROOT}/var/tmp/phases/x" || die
    ln -s index "${EROOT}/var/cache/phases/link" || die
    chown -h cron:cron "${EROOT}"/var/cache/phases/* || die
    chmod 0600 "${EROOT}/var/cache/phases/index" || die
    echo /usr/bin/phases >> "${EROOT}/etc/shells" || die
}
"#;
/// Phases that do what no layer can hold.
const BAD: &str = r#"
RDEPEND="own/odd"
src_install() { dodir /usr/share/bad; }
pkg_postinst() {
    echo x >> "${EROOT}/etc/odd.conf" || die
    chmod 0711 "${EROOT}/usr/share/odd" || die
    rm "${EROOT}/etc/debian_version" || die
    mkfifo "${EROOT}/var/lib/pipe" || die
    sed -i 's,^daemon:.*,daemon:x:1:1::/:/bin/sh,' "${EROOT}/etc/passwd" || die
}
"#;
/// A phase that fails.
const FAILING: &str =
    "src_install() { dodir /usr/share/failing; }\npkg_setup() { [[ ${MERGE_TYPE} != binary ]] || die no; }\n";
/// A group with the id of another's.
const SIXTEEN: &str = "inherit acct-group\nACCT_GROUP_ID=16\n";
/// A phase that does something, in a package that nobody needs.
const PHASE: &str = "src_install() { dodir /usr/share/phase; }\npkg_preinst() { echo x > \"${EROOT}/etc/phase\"; }\n";
/// Needs what has phases, so that they run.
pub(crate) const USER: &str =
    "BDEPEND=\"sys-process/cronie own/phases\"\nsrc_install() { dodir /usr/share/user; crontab -V || die; }\n";
/// Needs what does not go together.
const CLASH: &str = "BDEPEND=\"acct-group/cron own/sixteen\"\nsrc_install() { dodir /usr/share/clash; }\n";
/// Needs what is no layer.
const SLOW: &str = "BDEPEND=\"own/bad\"\nsrc_install() { dodir /usr/share/slow; }\n";
/// Needs what cannot be merged.
const UNLUCKY: &str = "BDEPEND=\"own/failing\"\nsrc_install() { dodir /usr/share/unlucky; }\n";
/// Is being built until somebody ends it.
const ENDLESS: &str = "src_install() { sleep infinity; }\n";

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
    /// What each package needs to run, in the order of the plan.
    runtime: Vec<(String, Vec<String>)>,
    binds: Vec<Bind>,
    /// Held by who builds: one at a time for a profile.
    building: Mutex<()>,
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

/// Returns a command that merges packages as the root of a build gets them.
pub(crate) fn merging(packages: &[Cpv]) -> String {
    let atoms: Vec<_> = packages.iter().map(|cpv| format!("={cpv}")).collect();
    format!(
        "ACCEPT_KEYWORDS='**' ACCEPT_LICENSE='*' FEATURES=binpkg-ignore-signature PKGDIR=/mnt/packages \
         emerge --usepkgonly --nodeps --oneshot --quiet --color=n {} >&2",
        atoms.join(" ")
    )
}

/// Returns a bench that lasts as long as the program, so that nobody removes its configuration folder then: it is emptied
/// now, and has a name of its own.
fn lasting(test: &str) -> Bench {
    let home = chain_bench::home(Who::Me);
    std::fs::create_dir_all(&home).unwrap();
    let name = format!("config-{test}");
    let _ = std::fs::remove_dir_all(home.join(&name));
    let config = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(&home).unwrap();
    let bench = Bench::with(Who::Me, test, config);
    bench.ready();
    bench
}

/// Returns the one shop of these tests.
pub(crate) fn shop() -> &'static Shop {
    static SHOP: OnceLock<Shop> = OnceLock::new();
    SHOP.get_or_init(Shop::open)
}

impl Shop {
    fn open() -> Self {
        bindery::process::set_this_program(&chain_bench::program(Who::Me));
        let bench = lasting("layers");
        bench.write_tree(&[
            ("odd", ODD),
            ("phase", PHASE),
            ("phases", PHASES),
            ("bad", BAD),
            ("failing", FAILING),
            ("sixteen", SIXTEEN),
            ("user", USER),
            ("clash", CLASH),
            ("slow", SLOW),
            ("unlucky", UNLUCKY),
            ("endless", ENDLESS),
        ]);
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
        let tree = chain_bench::tests().join("tree");
        let plan = std::fs::read_to_string(state.runs().join(said.run()).join("plan.json")).unwrap();
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
        let runtime = |package: &serde_json::Value| package["runtime"].as_array().unwrap().iter().map(text).collect();
        let packages = plan["packages"].as_array().unwrap().iter();
        let runtime = packages.map(|package| (text(&package["cpv"]), runtime(package))).collect();
        let binds = vec![
            bind(tree, "/var/db/repos/bindery-test"),
            bind(bench.config.path().join("own"), "/var/db/repos/own"),
            bind(state.runs().join(said.run()).join("portage"), "/etc/portage"),
            bind(profile.current(), "/mnt/packages"),
            bind(state.distfiles(), "/var/cache/distfiles"),
        ];
        Self { bench, state, ids, image, entries, phase, runtime, binds, building: Mutex::default() }
    }

    /// Returns how layers are derived here, unless a test wants it another way.
    pub(crate) fn context<'a>(&'a self, merge: &'a Merge) -> Context<'a> {
        let Self { state, ids, image, .. } = self;
        Context { state, ids, image: &image.layers, image_digest: &image.digest, merge, emulator: None }
    }

    /// Builds a package, whose ebuild may be changed before.
    pub(crate) fn build(&self, changed: &[(&str, &str)], atom: &str) -> Said {
        let _alone = self.building.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.bench.write_tree(changed);
        self.bench.build(&[atom])
    }

    /// Returns the package of a name.
    pub(crate) fn entry(&self, cp: &str) -> &Entry {
        self.entries.iter().find(|entry| entry.facts.cpv.cp() == cp).unwrap()
    }

    /// Returns the layers of all packages, which must all have one, made by a merge where phases do something.
    pub(crate) fn layers(&self) -> Vec<Layer> {
        let merge = Merge::default();
        let cx = self.context(&merge);
        let packages: Vec<_> =
            self.entries.iter().map(|entry| Package { file: &entry.file, facts: &entry.facts }).collect();
        let derived = derive(&cx, &packages).unwrap_or_else(|e| panic!("{}", chain(&e)));
        let mut layers: Vec<Layer> = Vec::new();
        for (package, derived) in packages.iter().zip(derived) {
            let derived = match derived {
                Derived::NotStackable(reasons) if reasons.iter().all(Reason::is_phase) => {
                    self.merge_once(&cx, package, &layers)
                }
                derived => derived,
            };
            match derived {
                Derived::Layer(layer) => layers.push(layer),
                Derived::NotStackable(reasons) => panic!("{}: {reasons:?}", package.facts.cpv),
            }
        }
        layers
    }

    /// Returns what comes of a package by a merge of it on those of these layers that it needs to run.
    pub(crate) fn merge_once(&self, cx: &Context<'_>, package: &Package<'_>, layers: &[Layer]) -> Derived {
        let runtime =
            |cpv: &str| self.runtime.iter().find(|(known, _)| known == cpv).map_or(&[][..], |(_, needs)| needs);
        let mut needed: Vec<&str> = Vec::new();
        let mut waiting = vec![package.facts.cpv.to_string()];
        while let Some(next) = waiting.pop() {
            for cpv in runtime(&next).iter().filter(|cpv| **cpv != package.facts.cpv.to_string()) {
                if !needed.contains(&cpv.as_str()) {
                    needed.push(cpv);
                    waiting.push(cpv.clone());
                }
            }
        }
        let on: Vec<Layer> = layers.iter().filter(|l| needed.contains(&l.cpv.to_string().as_str())).cloned().collect();
        assert_eq!(on.len(), needed.len(), "{needed:?}");
        if let Some(derived) = learned(cx, package, &on).unwrap() {
            return derived;
        }
        let lower = stack(cx, &on, &AtomicBool::new(false)).unwrap_or_else(|e| panic!("{}", chain(&e)));
        let script = merging(std::slice::from_ref(&package.facts.cpv));
        let learn_it = |upper: &Path| learn(cx, package, &Merged { on: &on, lower: &lower, upper });
        let (ran, derived) = self.run_and(lower.clone(), &script, learn_it);
        ran.works();
        derived.unwrap_or_else(|e| panic!("{}", chain(&e)))
    }

    /// Runs a shell script in a root of these layers, top first, with what a build has around it.
    pub(crate) fn run(&self, lower: Vec<PathBuf>, script: &str) -> Ran {
        self.run_and(lower, script, |_| ()).0
    }

    /// Likewise, and then does something with the folder that holds what was written.
    fn run_and<T>(&self, lower: Vec<PathBuf>, script: &str, then: impl FnOnce(&Path) -> T) -> (Ran, T) {
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
        let then = then(&folder.join("upper"));
        bindery::layer::remove(&self.ids, &folder).unwrap();
        lease.release().unwrap();
        let status = exit.unwrap_or_else(|e| panic!("{}", chain(&e))).status;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (Ran { status, out: text(&out), err: text(&err) }, then)
    }
}
