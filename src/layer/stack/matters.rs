//! What of a layer the topmost layer of a stack is made from.
//!
//! That layer follows from few of a package's files: those of `/etc/env.d`, the loader's configuration, and shared
//! libraries; and from the users and groups that it brings. Most packages have none, so stacks that differ only in those share one, and it is not made for each package
//! anew: to make it takes longer than to mount all the rest.

use crate::layer::derive::Record;
use crate::layer::traces::within;

/// What is read or written when it is made (`environment::generate`), and folders above.
const READ: [&str; 5] = ["etc/env.d", "etc/ld.so", "etc/environment.d", "etc/profile.env", "etc/csh.env"];
/// Where no loader looks.
const ELSEWHERE: [&str; 3] = ["var/db/pkg/", "usr/share/", "usr/include/"];

/// Returns whether another layer may come on top of a stack because of a layer with these paths. What is `below` a folder that
/// packages of another machine are merged into is read by nobody, but for users and groups.
pub(super) fn matters(record: &Record, below: &str) -> bool {
    let here = |path: &&String| within(path, below).len() == path.len();
    !record.accounts.is_empty()
        || record.folders.iter().filter(here).any(|path| is_read(path))
        || record.files.iter().filter(here).any(|path| is_read(path) || is_linked(path))
}

fn is_read(path: &str) -> bool {
    READ.iter().any(|read| path.starts_with(read))
}

/// Returns whether `ldconfig` may look at a file: by its name (it takes `lib*.so*` and `ld-*.so*`), or because it may be a
/// link that leads to a folder of libraries.
fn is_linked(path: &str) -> bool {
    if ELSEWHERE.iter().any(|folder| path.starts_with(folder)) {
        return false;
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let of_modules = path.split('/').any(|part| matches!(part, "site-packages" | "dist-packages"));
    let below_lib = path.split('/').any(|part| part.starts_with("lib"));
    name.contains(".so") || (below_lib && !of_modules && !name.contains('.'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn record(folders: &[&str], files: &[&str]) -> Record {
        let set = |paths: &[&str]| paths.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        Record::of((0, 0), set(folders), set(files))
    }

    #[test]
    fn environment_loader_and_libraries_matter() {
        for file in [
            "etc/env.d/50x",
            "etc/ld.so.conf",
            "etc/ld.so.conf.d/x.conf",
            "etc/profile.env",
            "usr/lib64/libx.so.1.2",
            "lib/ld-x.so",
            "opt/x/plugins/y.so",
            "usr/lib/python3.13/site-packages/x.cpython-313.so",
            "usr/lib64",
            "usr/lib/jvm/current",
        ] {
            assert!(matters(&record(&[], &[file]), ""), "{file}");
            assert!(matters(&record(&[], &[file]), "usr/s"), "{file}");
            assert!(!matters(&record(&[], &[&format!("usr/s/{file}")]), "usr/s"), "{file}");
        }
        assert!(matters(&record(&["etc/environment.d"], &[]), ""));
    }

    #[test]
    fn nothing_else_does() {
        let folders = ["etc", "usr/lib64", "usr/lib64/pkgconfig"];
        let files = [
            "etc/x.conf",
            "usr/bin/x",
            "usr/include/x.h",
            "usr/include/lib/x",
            "usr/lib64/libx.a",
            "usr/lib64/pkgconfig/x.pc",
            "usr/lib/python3.13/site-packages/x/METADATA",
            "usr/share/man/man3/libx.so.3",
            "var/db/pkg/dev-libs/libx-1/CONTENTS",
        ];
        assert!(!matters(&record(&folders, &files), ""));
    }
}
