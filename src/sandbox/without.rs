//! Mechanisms and grants that a test of a debug build switches off, to see that its probes notice (`tests/battery`).
//!
//! ```text
//! bindery.without   their names, with commas between them: an annotation of the spec
//! ```
//!
//! A release build has no such switch: it refuses the annotation, and every mechanism is there. What the spec itself
//! can leave out (the filter, capabilities, masks, limits, mounts, the network namespace) is not here.

use std::ffi::OsString;
use std::process::Command;

use oci_spec::runtime::Spec;

use crate::sandbox::plan::Unsupported;

/// The annotation.
pub(super) const ANNOTATION: &str = "bindery.without";
/// Whether this program can do without anything.
const SWITCHES: bool = cfg!(debug_assertions);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mechanism {
    /// The payload's own user namespace, in which its capabilities own nothing.
    SecondUserNamespace,
    PidNamespace,
    IpcNamespace,
    UtsNamespace,
    CgroupNamespace,
    /// The filter's part for calls of i386.
    I386Filter,
    /// With it goes the filter, which the kernel takes from nobody else but an administrator.
    NoNewPrivileges,
    /// A /dev of the sandbox's own.
    PrivateDev,
    /// Attributes of a bind hold for the mounts below it, too.
    RecursiveBinds,
    Nosuid,
    Nodev,
    /// Mount points are found without following links.
    TargetResolution,
    /// So is what is bound.
    SourceResolution,
    /// What is mounted in a bind is not mounted where the bind comes from.
    PrivateBinds,
    /// Nobody else enters the folder that a root is written to.
    PrivateFolder,
    /// The host's root is detached once the sandbox's is entered.
    OldRootDetached,
    SessionKeyring,
    DescriptorsClosed,
    FreshEnvironment,
    /// Init is a user that the payload cannot become.
    InitUser,
    InitCapabilities,
    /// Init is not dumpable.
    InitHidden,
    /// Its program is a file that cannot be written to.
    SealedProgram,
    /// No user namespaces but the payload's.
    UserNamespaceLimit,
    /// Sessions of its own, so that no terminal of the host's is the payload's.
    NewSession,
    Personality,
    SignalReset,
    /// Process 1 reaps everyone's orphans.
    Reaping,
    /// Landlock keeps the host's abstract sockets out of reach where its network is in reach.
    LandlockScope,
    ParentDeathSignal,
    /// Init ends when the supervisor's channel closes.
    Lifeline,
    /// A share of the watches and signals that the kernel counts for the caller.
    CallersShares,
    /// System calls that nobody knows do not exist, where others are refused. From here on: what builds need.
    UnknownCalls,
    /// Ports below 1024 are anyone's.
    LowPorts,
    /// The loopback interface is on.
    LoopbackUp,
    /// /dev/fd, /dev/ptmx and others.
    DeviceLinks,
    /// The overlay keeps its own attributes where a user namespace may.
    Userxattr,
}

/// What is switched off.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Without {
    #[cfg(debug_assertions)]
    off: Vec<Mechanism>,
}

impl Without {
    /// Reads the spec's annotation.
    pub(super) fn read(spec: &Spec) -> Result<Self, Unsupported> {
        let value = spec.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION));
        Self::decide(value.map(String::as_str), SWITCHES)
    }

    fn decide(value: Option<&str>, switches: bool) -> Result<Self, Unsupported> {
        let Some(value) = value else { return Ok(Self::default()) };
        let without = if switches { Self::parse(value) } else { None };
        without.ok_or_else(|| Unsupported::value(&format!("annotations.{ANNOTATION}"), value))
    }

    #[cfg(not(debug_assertions))]
    fn parse(_: &str) -> Option<Self> {
        None
    }

    #[cfg(debug_assertions)]
    fn parse(text: &str) -> Option<Self> {
        let names = text.split(',').map(|name| serde_json::from_value(name.into()));
        names.collect::<Result<_, _>>().ok().map(|off| Self { off })
    }

    /// Reads what [`Self::args`] gave, for a process that has not been told its plan yet.
    pub(super) fn among(args: &[OsString]) -> Self {
        let text = args.get(2).and_then(|text| text.to_str());
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Returns the argument for such a process; none where nothing is switched off.
    pub(super) fn args(&self) -> Option<String> {
        #[cfg(debug_assertions)]
        if !self.off.is_empty() {
            return serde_json::to_string(self).ok();
        }
        None
    }

    /// Returns whether a mechanism is there.
    pub(super) fn keeps(&self, mechanism: Mechanism) -> bool {
        #[cfg(debug_assertions)]
        return !self.off.contains(&mechanism);
        #[cfg(not(debug_assertions))]
        {
            let _ = mechanism;
            true
        }
    }

    /// Takes the environment from a process of ours.
    pub(super) fn clear(&self, mut command: Command) -> Command {
        if self.keeps(Mechanism::FreshEnvironment) {
            command.env_clear();
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mechanisms_have_names_and_others_are_refused() {
        let without = Without::parse("second-user-namespace,i386-filter").unwrap();
        assert!(!without.keeps(Mechanism::I386Filter) && without.keeps(Mechanism::Nosuid));
        assert!(Without::parse("").is_none() && Without::parse("nosuid,everything").is_none());
    }

    #[test]
    fn a_release_build_refuses_the_annotation_whatever_it_says() {
        assert!(Without::decide(Some("nosuid"), true).is_ok() && Without::decide(None, false).is_ok());
        for value in ["nosuid", ""] {
            let refused = Without::decide(Some(value), false).unwrap_err().to_string();
            assert!(refused.contains("annotations.bindery.without"), "{refused}");
        }
    }

    #[test]
    fn a_process_is_told_in_an_argument() {
        let without = Without::parse("descriptors-closed").unwrap();
        let args = ["bindery".into(), "__enter".into(), without.args().unwrap().into()];
        assert!(!Without::among(&args).keeps(Mechanism::DescriptorsClosed));
        assert!(Without::among(&args[..2]).keeps(Mechanism::DescriptorsClosed) && Without::default().args().is_none());
    }
}
