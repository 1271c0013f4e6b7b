# Prints what a root has, one line each: path, kind, mode, owner, group, time in nanoseconds, digest or target.
#
# What is mounted is left out: the host's part in the root.
import hashlib
import os
import stat
import sys

FIELD, LINE = "\t", "\n"
KINDS = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "link"}


def show(path):
    found = os.lstat(path)
    kind = KINDS.get(stat.S_IFMT(found.st_mode), "odd")
    what = ""
    if kind == "file":
        with open(path, "rb") as file:
            what = hashlib.file_digest(file, "sha256").hexdigest()
        what += f" {found.st_nlink}"
    if kind == "link":
        what = os.readlink(path)
    fields = [path, kind, f"{stat.S_IMODE(found.st_mode):o}", found.st_uid, found.st_gid, found.st_mtime_ns, what]
    sys.stdout.write(FIELD.join(map(str, fields)) + LINE)


device = os.lstat("/").st_dev
show("/")
for parent, folders, files in os.walk("/"):
    folders.sort()
    names = folders + sorted(files)
    folders[:] = [name for name in folders if not os.path.ismount(os.path.join(parent, name))]
    for name in names:
        path = os.path.join(parent, name)
        if not os.path.ismount(path):
            show(path)
