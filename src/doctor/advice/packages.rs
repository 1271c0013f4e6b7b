//! What the packages are called, and how they are installed.

use crate::doctor::host::Distribution;

/// The command for Debian and Ubuntu, Fedora and its kin, Arch, Gentoo.
pub(super) type Commands = [&'static str; 4];

pub(super) const UIDMAP: Commands =
    ["apt-get install uidmap", "dnf install shadow-utils", "pacman -S shadow", "emerge sys-apps/shadow"];
pub(super) const MMDEBSTRAP: Commands = [
    "apt-get install mmdebstrap",
    "dnf install mmdebstrap",
    "install `mmdebstrap` from the AUR",
    "none in Gentoo's own repository: https://gitlab.mister-muffin.de/josch/mmdebstrap is one Perl script",
];
pub(super) const PIP: Commands =
    ["apt-get install python3-pip", "dnf install python3-pip", "pacman -S python-pip", "emerge dev-python/pip"];

/// Returns the command for a distribution; where that is unknown, all of them.
pub(super) fn install(distribution: Distribution, [debian, fedora, arch, gentoo]: Commands) -> String {
    let say = |text: &str| {
        if text.starts_with("install ") || text.starts_with("none ") { text.to_string() } else { format!("`{text}`") }
    };
    match distribution {
        Distribution::Debian => format!("as root: {}", say(debian)),
        Distribution::Fedora => format!("as root: {}", say(fedora)),
        Distribution::Arch => format!("as root: {}", say(arch)),
        Distribution::Gentoo => format!("as root: {}", say(gentoo)),
        Distribution::Other => format!(
            "as root, on Debian and Ubuntu: {}; Fedora: {}; Arch: {}; Gentoo: {}",
            say(debian),
            say(fedora),
            say(arch),
            say(gentoo)
        ),
    }
}
