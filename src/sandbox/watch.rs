//! Which of some groups of files a command opens: one-shot watches of inotify(7) that init puts on them in the root, before
//! the command runs, and looks at when it has ended.
//!
//! Opening counts, by whomever in the root: reading, executing, mapping; not looking (stat(2)). A watch is gone with its first
//! event, so that a file costs the command no more than once. On an overlay, what is watched is the overlay's own inode, which
//! stays the same as long as it is watched, unless the file below has several names: of those nothing is concluded.
//!
//! The kernel counts the watches as the caller's and as part of the sandbox's share: at most half of that is taken.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, CWD, FileType, statat};
use rustix::io::Errno;

use crate::fs;

/// The share that is left to the sandbox (user_namespaces(7)).
const SHARE: &str = "/proc/sys/user/max_inotify_watches";

/// What is known of a group of files.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// One of them was opened.
    Opened,
    /// None of them was.
    NotOpened,
    /// There is none of them that could be.
    Nothing,
    /// Not all of them could be watched, for this reason, and none of the others was opened.
    Unknown(String),
}

/// Watches at work.
#[derive(Debug)]
pub(super) struct Watching {
    fd: Option<OwnedFd>,
    /// Which group a watch is for.
    of: HashMap<i32, usize>,
    seen: Vec<Seen>,
}

impl Watching {
    /// Watches groups of files by their paths in this process's root. What cannot be watched is no reason to fail.
    pub(super) fn start(groups: &[Vec<PathBuf>]) -> Self {
        let mut watching = Self { fd: None, of: HashMap::new(), seen: vec![Seen::Nothing; groups.len()] };
        if groups.is_empty() {
            return watching;
        }
        match inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC) {
            Ok(fd) => {
                let share =
                    fs::read_to_string(Path::new(SHARE)).ok().and_then(|text| text.trim().parse::<usize>().ok());
                let mut left = share.unwrap_or(0) / 2;
                for (group, paths) in groups.iter().enumerate() {
                    let seen = watching.watch(&fd, group, paths, &mut left);
                    if let Some(slot) = watching.seen.get_mut(group) {
                        *slot = seen;
                    }
                }
                watching.fd = Some(fd);
            }
            Err(errno) => watching.seen.fill(Seen::Unknown(format!("inotify: {errno}"))),
        }
        watching
    }

    fn watch(&mut self, fd: &OwnedFd, group: usize, paths: &[PathBuf], left: &mut usize) -> Seen {
        if paths.len() > *left {
            return Seen::Unknown(
                "the share of inotify's watches is too small (fs.inotify.max_user_watches)".to_string(),
            );
        }
        let mut seen = Seen::Nothing;
        for path in paths {
            let Ok(stat) = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let kind = FileType::from_raw_mode(stat.st_mode);
            if !matches!(kind, FileType::RegularFile | FileType::Directory) {
                continue;
            }
            match inotify::add_watch(fd, path, WatchFlags::OPEN | WatchFlags::ONESHOT | WatchFlags::DONT_FOLLOW) {
                Ok(watch) => {
                    self.of.insert(watch, group);
                    *left = left.saturating_sub(1);
                }
                Err(errno) => return Seen::Unknown(format!("inotify: {errno}")),
            }
            if kind == FileType::RegularFile && stat.st_nlink > 1 {
                seen = Seen::Unknown("a file of it has several names".to_string());
            } else if seen == Seen::Nothing {
                seen = Seen::NotOpened;
            }
        }
        seen
    }

    /// Returns what was seen of each group.
    pub(super) fn end(mut self) -> Vec<Seen> {
        let Some(fd) = self.fd.take() else { return self.seen };
        let mut buffer = [MaybeUninit::uninit(); 16384];
        let mut reader = inotify::Reader::new(&fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    return self.lost("events were lost");
                }
                Ok(event) if event.events().contains(ReadFlags::OPEN) => {
                    if let Some(slot) = self.of.get(&event.wd()).and_then(|group| self.seen.get_mut(*group)) {
                        *slot = Seen::Opened;
                    }
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return self.seen,
                Err(errno) => return self.lost(&format!("inotify: {errno}")),
            }
        }
    }

    fn lost(mut self, why: &str) -> Vec<Seen> {
        for seen in self.seen.iter_mut().filter(|seen| **seen == Seen::NotOpened) {
            *seen = Seen::Unknown(why.to_string());
        }
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["read", "looked", "second", "twice"] {
            fs::write(&path(name), "x").unwrap();
        }
        fs::create_dir(&path("folder"), 0o755).unwrap();
        fs::write(&path("folder/inside"), "x").unwrap();
        fs::hard_link(&path("twice"), &path("again")).unwrap();
        fs::symlink(Path::new("read"), &path("link")).unwrap();
        let groups = [
            vec![path("read")],
            vec![path("looked")],
            vec![path("never-there"), path("second")],
            vec![path("folder")],
            vec![path("link"), path("never-there")],
            vec![path("again")],
            Vec::new(),
        ];
        let watching = Watching::start(&groups);
        fs::metadata(&path("looked")).unwrap();
        for _ in 0..3 {
            fs::read(&path("link")).unwrap();
            fs::read(&path("second")).unwrap();
            fs::read(&path("folder/inside")).unwrap();
        }
        use Seen::{NotOpened, Nothing, Opened};
        let several = Seen::Unknown("a file of it has several names".to_string());
        assert_eq!(watching.end(), [Opened, NotOpened, Opened, Opened, Nothing, several, Nothing]);
    }

    #[test]
    fn more_than_the_share_is_not_watched_and_said() {
        let mut watching = Watching { fd: None, of: HashMap::new(), seen: Vec::new() };
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let (paths, mut left) = (vec![PathBuf::from("/"); 3], 2);
        let seen = watching.watch(&fd, 0, &paths, &mut left);
        assert!(matches!(&seen, Seen::Unknown(why) if why.contains("max_user_watches")), "{seen:?}");
        assert_eq!((left, watching.of.len()), (2, 0));
    }
}
