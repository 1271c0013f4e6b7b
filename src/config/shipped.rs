//! Definitions that come with the program, for when no folder has one of that name.

/// Names of files of a folder with their texts.
macro_rules! texts {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../", $folder, "/", $name, ".toml")))),*]
    };
}

/// Profiles: names and texts.
pub(super) const PROFILES: &[(&str, &str)] = texts![
    "profiles":
    "amd64",
    "arm64",
    "armv7",
    "i686",
    "ppc64le",
    "riscv64",
    "s390x",
    "sparc64",
    "x86-64-v2",
    "x86-64-v3",
    "x86-64-v4",
];

/// Images: names and texts.
pub const IMAGES: &[(&str, &str)] = texts![
    "images":
    "debian-portage",
    "debian-portage-arm64",
    "debian-portage-armhf",
    "debian-portage-cross-arm64",
    "debian-portage-cross-armhf",
    "debian-portage-cross-i386",
    "debian-portage-cross-ppc64el",
    "debian-portage-cross-riscv64",
    "debian-portage-cross-s390x",
    "debian-portage-cross-sparc64",
    "debian-portage-ppc64el",
    "debian-portage-riscv64",
    "debian-portage-s390x",
    "native-tools-arm64",
    "native-tools-armhf",
    "native-tools-ppc64el",
    "native-tools-riscv64",
    "native-tools-s390x",
    "qemu-user",
];

/// Definitions that are no images by themselves, and that images inherit.
pub const SHARED: &[(&str, &str)] = texts!["images": "debian-portage-cross", "native-tools"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_lies_in_the_folders_comes_with_the_program() {
        for (folder, lists) in [("profiles", [PROFILES, &[]]), ("images", [IMAGES, SHARED])] {
            let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            let names = crate::fs::read_dir(&dir).unwrap().into_iter();
            let mut there: Vec<String> =
                names.filter_map(|path| Some(path.file_name()?.to_str()?.strip_suffix(".toml")?.to_string())).collect();
            there.sort();
            let mut known: Vec<&str> = lists.concat().iter().map(|(name, _)| *name).collect();
            known.sort_unstable();
            assert_eq!(there, known, "{folder}");
        }
    }
}
