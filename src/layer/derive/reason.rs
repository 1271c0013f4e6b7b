//! Why a package cannot be a layer, and is installed the slow way.

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
}
