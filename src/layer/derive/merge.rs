//! What of Portage's configuration changes a merge.

use super::mask::Mask;
use super::reason::Reason;

/// Features of Portage that change files between a package and the root. `noman` and its like are masks.
const CHANGING: [&str; 4] = ["selinux", "sfperms", "suidctl", "xattr"];
/// Features without which files are compressed or stripped while they are merged.
pub const NEEDED: [&str; 2] = ["binpkg-docompress", "binpkg-dostrip"];
/// Features that mask a folder each.
const MASKING: [(&str, &str); 3] =
    [("noman", "/usr/share/man"), ("noinfo", "/usr/share/info"), ("nodoc", "/usr/share/doc")];

/// How packages are merged, in make.conf's terms. The default is what bindery's own configuration has.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "Settings", into = "Settings")]
pub struct Merge {
    settings: Settings,
    mask: Mask,
}

/// The variables of make.conf(5), and files of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// INSTALL_MASK: patterns, separated by white space.
    pub install_mask: String,
    /// CONFIG_PROTECT: absolute paths, separated by white space.
    pub config_protect: String,
    /// CONFIG_PROTECT_MASK, likewise.
    pub config_protect_mask: String,
    /// FEATURES beside those that bindery sets; `-name` switches one off.
    pub features: Vec<String>,
    /// A file of the configuration that runs in every merge (`bashrc`).
    pub bashrc: Option<String>,
    /// The folder that it is merged into (ROOT), without slashes around it; nothing for the root itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub below: String,
}

impl From<Settings> for Merge {
    fn from(settings: Settings) -> Self {
        let has = |feature: &&(&str, &str)| settings.features.iter().any(|word| word == feature.0);
        let mut words: Vec<&str> = settings.install_mask.split_whitespace().collect();
        words.extend(MASKING.iter().filter(has).map(|(_, folder)| *folder));
        let mask = Mask::new(&words.join(" "));
        Self { mask, settings }
    }
}

impl From<Merge> for Settings {
    fn from(merge: Merge) -> Self {
        merge.settings
    }
}

impl Merge {
    /// Returns why no package at all can be a layer.
    pub(super) fn reasons(&self) -> Vec<Reason> {
        let features = &self.settings.features;
        let changing = CHANGING.iter().filter(|name| features.iter().any(|word| word == *name));
        let missing = NEEDED.iter().map(|name| format!("-{name}")).filter(|word| features.contains(word));
        let features = changing.map(ToString::to_string).chain(missing).map(|feature| Reason::Feature { feature });
        let file = self.settings.bashrc.iter().map(|file| Reason::Configuration { file: file.clone() });
        file.chain(features).collect()
    }

    /// Returns the folder that packages are merged into, relative to the root.
    pub fn below(&self) -> &str {
        &self.settings.below
    }

    /// Returns what the database says of INSTALL_MASK, if anything.
    pub(super) fn install_mask(&self) -> Option<String> {
        (!self.mask.is_empty()).then(|| format!("{}\n", self.mask.text()))
    }

    /// Returns whether a file or link is left out; its path has no slash at the beginning.
    pub(super) fn masks(&self, path: &str) -> bool {
        self.mask.matches(path)
    }

    /// Returns whether a folder is left out unless something in it is not.
    pub(super) fn masks_folder(&self, path: &str) -> bool {
        // Portage removes an empty /usr/share where these features may have emptied it.
        let emptied =
            path == "usr/share" && MASKING.iter().any(|(name, _)| self.settings.features.iter().any(|w| w == name));
        !path.is_empty() && (emptied || self.mask.matches(&format!("{path}/")))
    }

    /// Returns whether CONFIG_PROTECT keeps what the root has at a path: the longest of its entries that holds the path
    /// must be longer than each of CONFIG_PROTECT_MASK's (portage/util/__init__.py, `ConfigProtect`).
    pub(super) fn protects(&self, path: &str) -> bool {
        let longest = |list: &str| {
            let entries = list.split_whitespace().map(|entry| entry.trim_end_matches('/'));
            let holding = entries.filter(|entry| {
                let rest = entry.strip_prefix('/').and_then(|entry| path.strip_prefix(entry));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            holding.map(str::len).max()
        };
        longest(&self.settings.config_protect) > longest(&self.settings.config_protect_mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(settings: Settings) -> Merge {
        settings.into()
    }

    #[test]
    fn the_longest_entry_decides_what_is_protected() {
        let of = |protect: &str, mask: &str| {
            merge(Settings { config_protect: protect.into(), config_protect_mask: mask.into(), ..Settings::default() })
        };
        assert!(of("/etc", "").protects("etc/x"));
        assert!(!of("/etc", "").protects("etcetera/x"));
        assert!(!of("/etc", "/etc").protects("etc/x"));
        assert!(!of("/etc", "/etc/env.d/").protects("etc/env.d/x"));
        assert!(of("/etc /etc/env.d/x", "/etc/env.d").protects("etc/env.d/x"));
        assert!(!Merge::default().protects("etc/x"));
    }

    #[test]
    fn features_that_change_files_are_named() {
        let of = |features: &[&str]| {
            let features = features.iter().map(ToString::to_string).collect();
            merge(Settings { features, ..Settings::default() }).reasons()
        };
        assert_eq!(of(&["test", "nodoc", "-sfperms"]), []);
        let names: Vec<_> = of(&["sfperms", "-binpkg-dostrip"]).iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), 2);
        assert!(names[0].contains("`sfperms`") && names[1].contains("`-binpkg-dostrip`"), "{names:?}");
    }

    #[test]
    fn a_feature_masks_its_folder_and_the_database_says_so() {
        let merge = merge(Settings { features: vec!["nodoc".into()], ..Settings::default() });
        assert!(merge.masks("usr/share/doc/x/y") && !merge.masks("usr/share/man/x"));
        assert!(merge.masks_folder("usr/share/doc") && merge.masks_folder("usr/share") && !merge.masks_folder("usr"));
        assert_eq!(merge.install_mask().as_deref(), Some("/usr/share/doc\n"));
        assert_eq!(Merge::default().install_mask(), None);
    }
}
