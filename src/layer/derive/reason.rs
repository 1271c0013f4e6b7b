//! Why a package cannot be a layer, and is installed the slow way.

use crate::atom::Cpv;

/// Why a package cannot be a layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reason {
    /// A merge runs a phase of it that does more than print.
    #[error("it runs pkg_{phase}, which does more than print")]
    Phase {
        /// Without `pkg_`.
        phase: String,
    },
    /// A merge runs a hook in it.
    #[error("`{hook}` of the configuration's bashrc runs when it is merged")]
    Hook {
        /// The function.
        hook: String,
    },
    /// Nothing is merged as the package has it.
    #[error("the configuration has `{file}`, which runs in every merge")]
    Configuration {
        /// The file.
        file: String,
    },
    /// A feature changes files while they are merged.
    #[error("FEATURES has `{feature}`, which changes what is merged")]
    Feature {
        /// The word of FEATURES.
        feature: String,
    },
    /// The saved environment cannot be looked into.
    #[error("its saved environment cannot be read, so nobody knows what its phases do")]
    Environment,
    /// A folder where the root has something else.
    #[error("it has the folder `/{path}`, where the root has a file or a link to nowhere")]
    FolderOverFile {
        /// In the package.
        path: String,
    },
    /// A file or link where the root has a folder.
    #[error("it has a file or link `/{path}`, where the root has a folder")]
    OverFolder {
        /// In the package.
        path: String,
    },
    /// A file or link where the root has another link to a folder.
    #[error("it replaces the link `/{path}`, through which the root finds the folder `{target}`")]
    OverLink {
        /// In the package.
        path: String,
        /// Of the root's link.
        target: String,
    },
    /// CONFIG_PROTECT.
    #[error("`/{path}` is in the root already, and CONFIG_PROTECT keeps that")]
    Protected {
        /// In the package.
        path: String,
    },
    /// Two entries for one place.
    #[error("it has `/{path}` twice, because links of the root lead from one to the other")]
    Twice {
        /// The later one, in the package.
        path: String,
    },
    /// A hard link to what INSTALL_MASK leaves out.
    #[error("`/{path}` is a hard link to `/{target}`, which INSTALL_MASK leaves out")]
    MaskedLink {
        /// In the package.
        path: String,
        /// Likewise.
        target: String,
    },
    /// A phase changes what is not the package's.
    #[error("its phases change `/{path}`, which is not its own")]
    Changed {
        /// In the root.
        path: String,
    },
    /// A phase removes what the root had.
    #[error("its phases remove `/{path}`, which is not its own")]
    Removed {
        /// In the root.
        path: String,
    },
    /// A phase makes something that no layer holds.
    #[error("its phases make `/{path}` a device, pipe or socket, or a name that is no text")]
    Odd {
        /// In the root.
        path: String,
    },
    /// A phase gives a file something that no layer holds.
    #[error("its phases give `/{path}` the attribute `{name}`, which a layer does not keep")]
    Attribute {
        /// In the root.
        path: String,
        /// Of the extended attribute.
        name: String,
    },
    /// A phase does more to users and groups than adding them.
    #[error("its phases do not only add to `/{path}`: see `{name}` there")]
    Account {
        /// The file.
        path: String,
        /// The line's name.
        name: String,
    },
    /// Its phases run with something that is no layer.
    #[error("its phases run in a root with {cpv}, which is no layer")]
    Below {
        /// What it needs to run.
        cpv: Cpv,
    },
    /// The merge failed.
    #[error("a merge of it on its own failed: {exit}")]
    Failed {
        /// How.
        exit: String,
    },
}

impl Reason {
    /// Returns whether a merge would tell what the layer must hold beside the package.
    pub fn is_phase(&self) -> bool {
        matches!(self, Self::Phase { .. })
    }
}
