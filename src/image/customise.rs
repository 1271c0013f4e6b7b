//! What a definition does to a root once its packages are in: paths dropped, groups and users, folders, files, changes,
//! links; in this order. Runs inside the id range; no component of a path is followed if it is a link.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, statat};
use rustix::io::Errno;

use super::definition::{Recipe, Replacement, User};
use crate::atom::RootPath;
use crate::fs::{File, PathError};
use crate::fs::{names, remove_in};
use crate::layer::Beneath;

/// Larger files are no configuration.
const FILE_MAX: u64 = 16 << 20;

/// Does to the root in the folder `root` what the definition says.
pub(super) fn customise(root: &Path, recipe: &Recipe) -> Result<(), CustomiseError> {
    let root = Root::open(root)?;
    for path in &recipe.drop {
        let pattern: Vec<&OsStr> = components(path);
        root.drop(root.0.folder(Path::new("")).map_err(root.fail("open", path))?, &pattern, path)?;
    }
    for group in &recipe.groups {
        root.add_line("/etc/group", &group.name.to_string(), group.id, &format!("{}:x:{}:", group.name, group.id))?;
        root.add_line("/etc/gshadow", &group.name.to_string(), group.id, &format!("{}:!::", group.name))?;
    }
    for user in &recipe.users {
        let User { name, id, group, home, shell, comment } = user;
        root.add_line("/etc/passwd", name.as_str(), *id, &format!("{name}:x:{id}:{group}:{comment}:{home}:{shell}"))?;
        // The day of the last change of a password that nobody has; the rest of the fields is empty.
        let day = recipe.source_date.seconds() / 86400;
        root.add_line("/etc/shadow", name.as_str(), *id, &format!("{name}:!:{day}::::::"))?;
    }
    for folder in &recipe.folders {
        let fd = root.make_folder(&folder.path)?;
        let (uid, gid) = (Uid::from_raw(folder.owner.into()), Gid::from_raw(folder.group.into()));
        rustix::fs::fchown(&fd, Some(uid), Some(gid)).map_err(root.fail("set the owner of", &folder.path))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(folder.mode.into()))
            .map_err(root.fail("set the mode of", &folder.path))?;
    }
    for file in &recipe.files {
        let (parent, name) = root.parent(&file.path)?;
        root.write(&parent, &name, file.text.as_bytes(), file.mode, &file.path)?;
    }
    for replacement in &recipe.replacements {
        root.replace(replacement)?;
    }
    for (path, target) in &recipe.links {
        let (parent, name) = root.parent(path)?;
        root.unlink(&parent, &name, path)?;
        rustix::fs::symlinkat(target, &parent, &name).map_err(root.fail("create the link", path))?;
    }
    Ok(())
}

/// A root in which no link is followed.
pub(super) struct Root(Beneath);

impl Root {
    pub(super) fn open(root: &Path) -> Result<Self, CustomiseError> {
        Ok(Self(Beneath::open(root)?))
    }

    /// Moves a file or folder; the folders above are made.
    pub(super) fn rename(&self, from: &RootPath, to: &RootPath) -> Result<(), CustomiseError> {
        let ((old, name), (new, other)) = (self.parent(from)?, self.parent(to)?);
        rustix::fs::renameat(&old, name, &new, other).map_err(self.fail("move", from))
    }

    /// Opens a file that is there, to be read and written.
    pub(super) fn file(&self, path: &RootPath) -> Result<File, CustomiseError> {
        let (parent, name) = self.parent(path)?;
        self.open_in(&parent, &name, path)
    }

    fn open_in(&self, parent: &OwnedFd, name: &OsStr, path: &RootPath) -> Result<File, CustomiseError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|e| match e {
            Errno::LOOP => CustomiseError::Link(path.clone()),
            e => self.fail("open", path)(e),
        })?;
        Ok(file.into())
    }

    fn fail(&self, action: &'static str, path: &RootPath) -> impl FnOnce(Errno) -> CustomiseError {
        let error = self.0.fail::<Errno>(action, relative(path));
        move |e| error(e).into()
    }

    /// Opens a folder, which is made with the missing ones above it.
    fn make_folder(&self, path: &RootPath) -> Result<OwnedFd, CustomiseError> {
        let mut fd = self.0.folder(Path::new("")).map_err(self.fail("open", path))?;
        for component in components(path) {
            match rustix::fs::mkdirat(&fd, component, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(self.fail("create", path)(e)),
            }
            fd = rustix::fs::openat(
                &fd,
                component,
                OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(|e| match e {
                Errno::LOOP | Errno::NOTDIR => CustomiseError::Link(path.clone()),
                e => self.fail("open", path)(e),
            })?;
        }
        Ok(fd)
    }

    fn parent(&self, path: &RootPath) -> Result<(OwnedFd, OsString), CustomiseError> {
        let (Some(parent), Some(name)) = (path.as_path().parent(), path.as_path().file_name()) else {
            return Err(CustomiseError::Link(path.clone()));
        };
        let parent = RootPath::try_from(parent.to_path_buf()).expect("what is above an absolute path is one");
        Ok((self.make_folder(&parent)?, name.to_os_string()))
    }

    fn unlink(&self, parent: &OwnedFd, name: &OsStr, path: &RootPath) -> Result<(), CustomiseError> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.fail("replace", path)(e)),
        }
    }

    fn write(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        bytes: &[u8],
        mode: u16,
        path: &RootPath,
    ) -> Result<(), CustomiseError> {
        self.unlink(parent, name, path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file: File = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
            .map_err(self.fail("create", path))?
            .into();
        file.write_all(bytes).map_err(self.0.fail("write", relative(path)))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode.into())).map_err(self.fail("set the mode of", path))
    }

    /// Returns a file's text, its mode and its owners.
    fn read(&self, parent: &OwnedFd, name: &OsStr, path: &RootPath) -> Result<(String, File), CustomiseError> {
        let file = self.open_in(parent, name, path)?;
        let mut text = String::new();
        (&file).take(FILE_MAX).read_to_string(&mut text).map_err(self.0.fail("read", relative(path)))?;
        Ok((text, file))
    }

    /// Changes a file in place: it keeps its owner and mode.
    fn rewrite(&self, file: &File, text: &str, path: &RootPath) -> Result<(), CustomiseError> {
        rustix::fs::ftruncate(file, 0).map_err(self.fail("write", path))?;
        std::os::unix::fs::FileExt::write_all_at(file, text.as_bytes(), 0)
            .map_err(|e| self.0.fail("write", relative(path))(e).into())
    }

    /// Adds a line to a file of lines `NAME:…`, whose third field is an id in two of the four.
    fn add_line(&self, file: &'static str, name: &str, id: u16, line: &str) -> Result<(), CustomiseError> {
        let path: RootPath = file.parse().expect("it is absolute");
        let (parent, base) = self.parent(&path)?;
        // An image without shadow files gets by without (grpconv(8) makes gshadow where somebody asks for it).
        if file.ends_with("shadow") && statat(&parent, &base, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            return Ok(());
        }
        let (mut text, file) = self.read(&parent, &base, &path)?;
        let has_ids = path.as_path().ends_with("passwd") || path.as_path().ends_with("group");
        for other in text.lines() {
            let mut fields = other.split(':');
            let same_name = fields.next() == Some(name);
            let same_id = has_ids && fields.nth(1).and_then(|field| field.parse().ok()) == Some(id);
            if same_name || same_id {
                return Err(CustomiseError::Taken { path, name: name.to_string(), id, by: other.to_string() });
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
        text.push('\n');
        self.rewrite(&file, &text, &path)
    }

    fn replace(&self, replacement: &Replacement) -> Result<(), CustomiseError> {
        let Replacement { path, text, with } = replacement;
        let (parent, name) = self.parent(path)?;
        let (content, file) = self.read(&parent, &name, path)?;
        let count = content.matches(text.as_str()).count();
        if count != 1 || text.is_empty() {
            return Err(CustomiseError::NotOnce { path: path.clone(), text: text.clone(), count });
        }
        self.rewrite(&file, &content.replacen(text.as_str(), with, 1), path)
    }

    /// Removes what matches the pattern below an open folder. What is not there is none of our business.
    fn drop(&self, folder: OwnedFd, pattern: &[&OsStr], path: &RootPath) -> Result<(), CustomiseError> {
        let Some((first, rest)) = pattern.split_first() else { return Ok(()) };
        let entries = names(&folder).map_err(self.fail("list what matches", path))?;
        for name in entries.iter().filter(|name| matches(first.as_bytes(), name.as_bytes())) {
            if rest.is_empty() {
                remove_in(&folder, name).map_err(self.fail("remove", path))?;
                continue;
            }
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
                Ok(inner) => self.drop(inner, rest, path)?,
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(self.fail("open", path)(e)),
            }
        }
        Ok(())
    }
}

fn components(path: &RootPath) -> Vec<&OsStr> {
    path.as_path().components().filter(|c| matches!(c, Component::Normal(_))).map(Component::as_os_str).collect()
}

fn relative(path: &RootPath) -> &Path {
    path.as_path().strip_prefix("/").unwrap_or(path.as_path())
}

/// Returns whether a name matches a pattern in which `*` stands for anything.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.iter().position(|b| *b == b'*') {
        None => pattern == name,
        Some(star) => {
            let (before, after) = (&pattern[..star], &pattern[star + 1..]);
            name.strip_prefix(before).is_some_and(|rest| (0..=rest.len()).any(|i| matches(after, &rest[i..])))
        }
    }
}

/// A definition cannot be applied to the root.
#[derive(Debug, thiserror::Error)]
pub(super) enum CustomiseError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A path that leads through a link.
    #[error("the definition's path `{0}` leads through a link or a file in the image; name the path it leads to")]
    Link(RootPath),
    /// A user or group that is there.
    #[error("cannot add `{name}` with the id {id} to `{path}`, which has the line `{by}`")]
    Taken {
        /// The file.
        path: RootPath,
        /// The user or group.
        name: String,
        /// Its id.
        id: u16,
        /// The line in the way.
        by: String,
    },
    /// A text that is not there, or not only once.
    #[error("the text `{text}` that the definition wants replaced is in `{path}` {count} times, not once")]
    NotOnce {
        /// The file.
        path: RootPath,
        /// The text.
        text: String,
        /// How often it is there.
        count: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs;

    fn root() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(&dir.path().join("etc"), 0o755).unwrap();
        fs::write(&dir.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh").unwrap();
        fs::write(&dir.path().join("etc/group"), "root:x:0:\n").unwrap();
        fs::write(&dir.path().join("etc/shadow"), "root:*:1::::::\n").unwrap();
        fs::write(&dir.path().join("etc/gshadow"), "root:*::\n").unwrap();
        fs::symlink(Path::new("/etc"), &dir.path().join("way")).unwrap();
        dir
    }

    fn apply(root: &Path, lines: &str) -> Result<(), String> {
        let text = format!(
            "version = 1\nkind = \"debian\"\narchitecture = \"amd64\"\nsuite = \"s\"\ncomponents = [\"main\"]\npackages = \
             []\nsource-date = \"1970-01-11T00:00:00Z\"\n{lines}\n[[archive]]\nlabel = \"l\"\nsuites = []\ndefault = \
             \"http://x/\"\nkeyring = \"/k\"\n"
        );
        customise(root, &Recipe::parse(&text).unwrap()).map_err(|e| e.to_string())
    }

    fn read(root: &Path, name: &str) -> String {
        fs::read_to_string(&root.join(name)).unwrap()
    }

    #[test]
    fn users_and_groups_are_added() {
        let dir = root();
        let user = "[[group]]\nname = \"p\"\nid = 250\n[[user]]\nname = \"p\"\nid = 250\ngroup = 250\nhome = \"/h\"\n";
        apply(dir.path(), user).unwrap();
        assert!(read(dir.path(), "etc/passwd").ends_with(":/bin/sh\np:x:250:250::/h:/usr/sbin/nologin\n"));
        assert!(read(dir.path(), "etc/group").ends_with("p:x:250:\n"));
        assert!(read(dir.path(), "etc/shadow").ends_with("p:!:10::::::\n"));
        assert!(read(dir.path(), "etc/gshadow").ends_with("p:!::\n"));
        let error = apply(dir.path(), user).unwrap_err();
        assert_eq!(error, "cannot add `p` with the id 250 to `/etc/group`, which has the line `p:x:250:`");
        let error = apply(dir.path(), "[[group]]\nname = \"q\"\nid = 0\n").unwrap_err();
        assert!(error.contains("has the line `root:x:0:`"), "{error}");
    }

    #[test]
    fn shadow_files_that_are_not_there_are_not_made() {
        let dir = root();
        fs::remove_file(&dir.path().join("etc/gshadow")).unwrap();
        apply(dir.path(), "[[group]]\nname = \"p\"\nid = 250\n").unwrap();
        assert!(!dir.path().join("etc/gshadow").exists());
    }

    #[test]
    fn files_links_and_folders_are_made_with_what_is_above_them() {
        let dir = root();
        let lines = "[links]\n\"/a/b\" = \"../etc\"\n[[file]]\npath = \"/x/y\"\ntext = \"t\"\nmode = 0o640\n[[folder]]\npath \
                     = \"/d/e\"\nmode = 0o700\nowner = 0\n";
        if rustix::process::getuid().is_root() {
            apply(dir.path(), lines).unwrap();
            assert_eq!(fs::read_link(&dir.path().join("a/b")).unwrap(), Path::new("../etc"));
            apply(dir.path(), lines).unwrap();
        }
        apply(dir.path(), "[[file]]\npath = \"/x/y\"\ntext = \"u\"\n").unwrap();
        assert_eq!(read(dir.path(), "x/y"), "u");
    }

    #[test]
    fn a_path_through_a_link_is_refused() {
        let dir = root();
        let error = apply(dir.path(), "[[file]]\npath = \"/way/passwd\"\ntext = \"\"\n").unwrap_err();
        assert!(error.contains("`/way` leads through a link"), "{error}");
        apply(dir.path(), "drop = [\"/way/*\"]").unwrap();
        assert!(dir.path().join("etc/passwd").exists());
    }

    #[test]
    fn a_text_is_replaced_where_it_is_once() {
        let dir = root();
        let change = |text: &str| format!("[[replace]]\npath = \"/etc/group\"\ntext = \"{text}\"\nwith = \"y\"\n");
        apply(dir.path(), &change("root")).unwrap();
        assert_eq!(read(dir.path(), "etc/group"), "y:x:0:\n");
        let error = apply(dir.path(), &change(":")).unwrap_err();
        assert!(error.contains("is in `/etc/group` 3 times, not once"), "{error}");
        assert!(apply(dir.path(), &change("none")).unwrap_err().contains("0 times"));
    }

    #[test]
    fn what_matches_is_dropped_and_nothing_else() {
        let dir = root();
        for name in ["etc/passwd-", "etc/group-", "a/b/c", "a/d/c"] {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(&dir.path().join(name), "").unwrap();
        }
        apply(dir.path(), "drop = [\"/etc/*-\", \"/a/*/c\", \"/not/there\", \"/way\"]").unwrap();
        let left: Vec<_> = fs::read_dir(&dir.path().join("etc")).unwrap();
        assert_eq!(left.len(), 4);
        assert!(dir.path().join("a/b").exists() && !dir.path().join("a/b/c").exists());
        assert!(!dir.path().join("way").exists());
    }

    #[test]
    fn a_star_stands_for_anything_in_one_name() {
        for (pattern, name, result) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("*-old", "x-old", true),
            ("a*c*e", "abcde", true),
            ("a*", "ba", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), result, "{pattern} {name}");
        }
    }
}
