//! Settings as the files of `/etc/portage`. Pure.
//!
//! ```text
//! make.conf              the variables of portage(5); everything that matters is said, nothing left to make.globals
//! make.profile           link to the Portage profile in its tree
//! repos.conf             the trees; no other repository is known, none is ever synchronised
//! package.*              as the profile has them
//! profile/               a last Portage profile of our own: ARCH, package.provided
//! config.site            in a cross build whose programs run: tells `configure` that they may
//! ```
//!
//! Folders of native configuration and of user patches are laid over all of it by the caller. Where the loader and the
//! compiler find what was built is the image's to say.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::super::{BUILT, Configuration, DISTFILES, Settings, SettingsError};
use crate::atom::Name;
use crate::fs::{self, PathError};

/// What Portage does beside building. Starting with `-*`, so that no default of one version or another joins in:
/// isolation is bindery's work, `*-sandbox` of its own would only warn that it cannot; locks cannot be made in
/// read-only folders and one build has a root for itself; `merge-sync` syncs the whole host's file systems.
const FEATURES: &str = "-* binpkg-docompress binpkg-dostrip binpkg-multi-instance fixlafiles pkgdir-index-trusted \
                        protect-owned strict unknown-features-warn userpriv";

/// Features that break a build here, or the promise of what comes out, and why.
const REFUSED: &[(&str, &str)] = &[
    ("binpkg-signing", "packages are signed outside, with a key that no build sees"),
    ("buildpkg", "bindery takes the package of every build anyway"),
    ("ccache", "a build reaches nothing but its root"),
    ("distcc", "a build reaches nothing but its root"),
    ("distcc-pump", "a build reaches nothing but its root"),
    ("fakeroot", "builds already are root in a user namespace of their own"),
    ("getbinpkg", "a build has no network"),
    ("icecream", "a build reaches nothing but its root"),
    ("ipc-sandbox", "the whole build is already isolated"),
    ("merge-sync", "it syncs the host's file systems, and the root is thrown away"),
    ("mount-sandbox", "the whole build is already isolated"),
    ("network-sandbox", "the whole build is already isolated"),
    ("pid-sandbox", "the whole build is already isolated"),
];

/// In a cross build: what compiles for the other side. Ebuilds that ask for the compiler find it by CHOST; many take what
/// these variables say, or else this machine's.
const TOOLS: [(&str, &str); 10] = [
    ("AR", "ar"),
    ("CC", "gcc"),
    ("CXX", "g++"),
    ("NM", "nm"),
    ("OBJCOPY", "objcopy"),
    ("OBJDUMP", "objdump"),
    ("PKG_CONFIG", "pkg-config"),
    ("RANLIB", "ranlib"),
    ("READELF", "readelf"),
    ("STRIP", "strip"),
];
/// And what compiles programs that the build itself runs (toolchain-funcs.eclass of the Gentoo tree).
const OWN_TOOLS: [(&str, &str); 2] = [("BUILD_CC", "gcc"), ("BUILD_CXX", "g++")];

/// Where `configure` learns what a machine is like (autoconf's manual, Site Defaults).
const SITE: &str = "CONFIG_SITE";
const CONFIG_SITE: &str = "config.site";
/// It takes CBUILD and CHOST that differ for a reason to run nothing. So it tries, and goes by what comes of it. One that asks
/// for that word itself takes it for a mistake of the command line (CPython's).
const MAYBE: &str = "\
# Written by bindery: programs for the other processor are emulated.
if [ \"$cross_compiling\" = yes ] && ! grep -qF '\"x$cross_compiling\" = xmaybe' \"$0\"; then
  cross_compiling=maybe
fi
";

const MAKE_CONF: &str = "make.conf";
/// How a make.conf of ours begins.
const HEAD: &str = "# Written by bindery from a profile.\n";
/// How many jobs a build runs: not what any package is made from.
const MAKEOPTS: &str = "MAKEOPTS";

/// Returns the configuration.
pub(super) fn configuration(settings: &Settings) -> Result<Configuration, SettingsError> {
    let mut out = Configuration::default();
    let mut file = |path: &str, text: String| out.files.insert(PathBuf::from(path), text);
    file(MAKE_CONF, make_conf(settings)?);
    file("repos.conf", repos_conf(settings)?);
    let mut arch = String::new();
    assign(&mut arch, "ARCH", &settings.arch)?;
    file("profile/make.defaults", arch);
    file("profile/eapi", "8\n".to_string());
    for (list, lines) in &settings.package {
        let mut text = String::new();
        for line in lines {
            single_line(list.file(), line)?;
            let _ = writeln!(text, "{line}");
        }
        file(list.file(), text);
    }
    if settings.cross.as_ref().is_some_and(|cross| cross.emulated) {
        file(CONFIG_SITE, MAYBE.to_string());
    }
    out.links.insert("make.profile".into(), portage_profile(settings)?);
    Ok(out)
}

/// Returns make.conf with another number of jobs; nothing where it is not ours, or no longer what we wrote.
pub(super) fn with_jobs(dir: &Path, jobs: u32) -> Result<Option<(PathBuf, String)>, PathError> {
    let path = dir.join(MAKE_CONF);
    // The administrator's may be a folder.
    let text = if path.is_file() { fs::read_to_string(&path)? } else { String::new() };
    let ours = |line: &&str| line.strip_prefix(MAKEOPTS).is_some_and(|rest| rest.starts_with("=\"-j"));
    let Some(line) = text.lines().find(ours).filter(|_| text.starts_with(HEAD)) else { return Ok(None) };
    Ok(Some((MAKE_CONF.into(), text.replacen(line, &format!("{MAKEOPTS}=\"{}\"", parallel(jobs)), 1))))
}

fn parallel(jobs: u32) -> String {
    format!("-j{}", jobs.max(1))
}

fn make_conf(settings: &Settings) -> Result<String, SettingsError> {
    let mut text = String::from(HEAD);
    let mut set = |name: &str, value: &str| assign(&mut text, name, value);
    for (name, value) in &settings.env {
        set(name, value)?;
    }
    set("CHOST", &settings.chost)?;
    if let Some(cross) = &settings.cross {
        set("CBUILD", &cross.cbuild)?;
        for (name, tool) in TOOLS {
            set(name, &format!("{}-{tool}", settings.chost))?;
        }
        for (name, tool) in OWN_TOOLS {
            set(name, tool)?;
        }
        if cross.emulated && !settings.env.contains_key(SITE) {
            set(SITE, &format!("{}/{CONFIG_SITE}", super::directory(Some(cross))))?;
        }
    }
    for (name, value) in &settings.flags {
        set(name, value)?;
    }
    let lists =
        [("USE", &settings.use_flags), ("ACCEPT_KEYWORDS", &settings.keywords), ("ACCEPT_LICENSE", &settings.licenses)];
    for (name, words) in lists.into_iter().filter(|(_, words)| !words.is_empty()) {
        set(name, &words.join(" "))?;
    }
    for feature in &settings.features {
        if let Some((name, reason)) = REFUSED.iter().find(|(name, _)| name == feature) {
            return Err(SettingsError::Feature { feature: (*name).to_string(), reason });
        }
    }
    set("FEATURES", [&[FEATURES.to_string()], settings.features.as_slice()].concat().join(" ").trim_end())?;
    set(MAKEOPTS, &parallel(settings.jobs))?;
    for (name, value) in [
        ("DISTDIR", DISTFILES),
        ("PKGDIR", BUILT),
        ("PORTAGE_TMPDIR", "/var/tmp"),
        ("BINPKG_FORMAT", "gpkg"),
        // The package is compressed once more, canonically, outside: here only time counts.
        ("BINPKG_COMPRESS", "zstd"),
        ("BINPKG_COMPRESS_FLAGS", "-1"),
        // In a root that is made for one build what a package brings is wanted, whatever the image has there.
        ("CONFIG_PROTECT_MASK", "/etc"),
        // Everything a build says is in its output; there is no use in having it mailed, saved or repeated.
        ("PORTAGE_ELOG_CLASSES", ""),
        ("PORTAGE_ELOG_SYSTEM", ""),
        ("EMERGE_DEFAULT_OPTS", ""),
        ("GENTOO_MIRRORS", ""),
    ] {
        set(name, value)?;
    }
    Ok(text)
}

fn repos_conf(settings: &Settings) -> Result<String, SettingsError> {
    let main = settings.trees.first().ok_or(SettingsError::NoTree)?;
    let mut text = format!("[DEFAULT]\nmain-repo = {}\n", main.name);
    for tree in &settings.trees {
        let (name, path, priority) = (&tree.name, tree.path(), tree.priority);
        let _ = write!(text, "\n[{name}]\nlocation = {path}\npriority = {priority}\nauto-sync = no\nsync-type =\n");
    }
    Ok(text)
}

/// Returns where the Portage profile is in the root.
fn portage_profile(settings: &Settings) -> Result<crate::atom::RootPath, SettingsError> {
    let error = || SettingsError::PortageProfile(settings.portage_profile.escape_debug().to_string());
    let main = settings.trees.first().ok_or(SettingsError::NoTree)?;
    let (tree, path) = match settings.portage_profile.split_once(':') {
        Some((tree, path)) => {
            let tree: Name = tree.parse().map_err(|_| error())?;
            (settings.trees.iter().find(|known| known.name == tree).ok_or_else(error)?, path)
        }
        None => (main, settings.portage_profile.as_str()),
    };
    let plain = !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !plain || path.chars().any(char::is_control) {
        return Err(error());
    }
    format!("{}/profiles/{path}", tree.path()).parse().map_err(|_| error())
}

/// Appends `NAME="value"` such that Portage reads exactly this value, whatever it holds.
fn assign(text: &mut String, name: &str, value: &str) -> Result<(), SettingsError> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    // These two are words of the file's own language.
    let reserved = ["source", "export"].contains(&name);
    if reserved || !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(SettingsError::Variable(name.escape_debug().to_string()));
    }
    single_line(name, value)?;
    let _ = writeln!(text, "{name}=\"{}\"", quote(value));
    Ok(())
}

/// Returns the text between double quotes that Portage's `getconfig` reads as `value`.
///
/// It reads twice: `shlex` takes `\"` and `\\` back inside double quotes, then `varexpand` goes over what is left,
/// takes `\$` and `\\` back, and leaves both alone between single quotes, which it keeps. After `\\` it takes a
/// following quote as it is. (portage/util/__init__.py, 3.0.83.)
fn quote(value: &str) -> String {
    let (mut single, mut double, mut after_backslash) = (false, false, false);
    let mut expanded = String::with_capacity(value.len());
    for c in value.chars() {
        let kept = std::mem::take(&mut after_backslash);
        match c {
            '\'' if !double && !kept => single = !single,
            '"' if !single && !kept => double = !double,
            '$' if !single => expanded.push('\\'),
            '\\' if !single => {
                expanded.push('\\');
                after_backslash = true;
            }
            _ => {}
        }
        expanded.push(c);
    }
    expanded.chars().fold(String::with_capacity(expanded.len()), |mut out, c| {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

fn single_line(place: &str, text: &str) -> Result<(), SettingsError> {
    if text.chars().any(char::is_control) {
        let text = text.chars().take(100).flat_map(char::escape_debug).collect();
        return Err(SettingsError::Control { place: format!("`{place}`"), text });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
