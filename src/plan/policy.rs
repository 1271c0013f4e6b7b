//! Which differences between two requests count: all but what the profile leaves out. Pure.
//!
//! A request always holds all that is known; what does not count is left out when two are compared. So another choice in
//! the profile rebuilds nobody by itself.

use std::collections::BTreeMap;

/// What of a dependency, when it changed, has its users built again. Headers, the ABI of libraries and sub-slots always
/// do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether static archives and objects do.
    pub archives: bool,
    /// What of a build tool does.
    pub tools: Tools,
}

/// What of a build tool counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tools {
    /// All that it installs, but for documentation.
    #[default]
    Any,
    /// The same, but of programs and libraries only the ABI.
    Abi,
    /// Nothing.
    Never,
}

impl Default for Policy {
    fn default() -> Self {
        Self { archives: true, tools: Tools::Any }
    }
}

type Parts = BTreeMap<String, String>;

impl Policy {
    /// Returns the names of the parts that differ and count, sorted.
    pub(super) fn differences<'a>(self, old: &'a Parts, new: &'a Parts) -> Vec<&'a String> {
        let mut names: Vec<&String> = new.keys().chain(old.keys()).collect();
        names.sort();
        names.dedup();
        names.retain(|name| new.get(*name) != old.get(*name) && self.counts(name, old, new));
        names
    }

    fn counts(self, part: &str, old: &Parts, new: &Parts) -> bool {
        let (kind, name) = part.split_once(' ').unwrap_or((part, ""));
        // Requests of earlier binderies do not say what the interface of a tool was.
        let interfaces = || {
            let interface = format!("interface {name}");
            old.contains_key(&interface) && new.contains_key(&interface)
        };
        match kind {
            "archives" => self.archives,
            "tools" => self.tools == Tools::Any || (self.tools == Tools::Abi && !interfaces()),
            "interface" => self.tools == Tools::Abi && interfaces(),
            _ => true,
        }
    }
}
