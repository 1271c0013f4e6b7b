"""The rivals: chroots of the same image, unpacked from its archive, with the configuration and trees that bindery used."""
import json
import os
import subprocess
import time
import tomllib

import room

# Runs in mount and process namespaces of its own, so that nothing outlives it: chroot ROOT with what builds need.
ENTER = """
set -eu
root=$1
shift
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    shift 2
done
shift
exec chroot "$root" "$@"
"""
# Prints how long each of its arguments takes.
EACH = """
for package; do
    start=$(date +%s%N)
    emerge --oneshot --nodeps --buildpkgonly --quiet-build=n --color=n "=$package" >>/var/tmp/bare.log 2>&1
    echo "$package $start $(date +%s%N)"
    rm -rf /var/cache/bindery/bare/*
done
"""
BUILT = "/var/cache/bindery/built"


class Rival:
    """Chroots below a bench's folder."""

    def __init__(self, bench, run):
        self.bench, self.home = bench, os.path.join(bench.work, "rivals")
        subprocess.run(["rm", "-rf", self.home], check=True)
        os.makedirs(os.path.join(self.home, "built"))
        spec = next(os.path.join(top, "config.json") for top, _, files in os.walk(run) if "config.json" in files)
        with open(spec, encoding="utf-8") as file:
            spec = json.load(file)
        self.env = dict(text.split("=", 1) for text in spec["process"]["env"])
        binds = [(mount["source"], mount["destination"]) for mount in spec["mounts"] if mount["type"] == "bind"]
        shown = ("/etc/portage", "/var/db/repos", "/var/cache/distfiles")
        self.binds = [bind for bind in binds if bind[1].startswith(shown)]
        images = os.path.join(bench.base, "state/images")

        def blob(digest):
            return os.path.join(images, "blobs", *digest.split(":"))

        with open(os.path.join(images, "index.json"), encoding="utf-8") as file:
            manifest = json.load(file)["manifests"][0]["digest"]
        with open(blob(manifest), encoding="utf-8") as file:
            self.archives = [blob(layer["digest"]) for layer in json.load(file)["layers"]]

    def unpack(self, name):
        root = os.path.join(self.home, name)
        os.makedirs(root)
        for archive in self.archives:
            subprocess.run(["tar", "-C", root, "--numeric-owner", "-xpf", archive], check=True)
        return root

    def enter(self, root, command, **env):
        binds = [*self.binds, (os.path.join(self.home, "built"), BUILT)]
        start = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net"]
        start += ["sh", "-c", ENTER, "enter"]
        log = root + ".log"
        words = [word for bind in binds for word in bind]
        return room.timed([*start, root, *words, "--", *command], env={**self.env, **env}, log=log)

    def dirty(self, atoms, jobs):
        """Builds and installs everything in one chroot."""
        subprocess.run(["rm", "-rf", os.path.join(self.home, "built"), os.path.join(self.home, "dirty")], check=True)
        os.makedirs(os.path.join(self.home, "built"))
        root = self.unpack("dirty")
        atoms = [one for atom in atoms for one in (self.set(atom) if atom.startswith("@") else [atom])]
        command = ["emerge", "--buildpkg", "--oneshot", f"--jobs={jobs}", "--quiet-build=y", "--color=n", *atoms]
        return self.enter(root, command)

    def set(self, name):
        with open(os.path.join(self.bench.config, "bindery.toml"), "rb") as file:
            return tomllib.load(file)["sets"][name[1:]]

    def bare(self, packages):
        """Builds each package once more in the dirty chroot."""
        root = os.path.join(self.home, "dirty")
        figures = self.enter(root, ["sh", "-c", EACH, "each", *packages], PKGDIR="/var/cache/bindery/bare")
        with open(root + ".log", encoding="utf-8") as file:
            each = {name: (int(end) - int(start)) / 1e9 for name, start, end in map(str.split, file)}
        return {"wall": sum(each.values()), "cpu": figures["cpu"], "each": each}

    def peers(self, sample, packages):
        """Builds each of a sample in a root of its own."""
        walls, total = {}, {"wall": 0.0, "cpu": 0.0}
        for cpv in sample:
            start = time.monotonic()
            before = os.times()
            root = self.unpack("peer")
            name = cpv.rsplit("-", 1)[0] if not cpv.rsplit("-", 1)[1].startswith("r") else cpv.rsplit("-", 2)[0]
            # One emerge for both, as quick as can be: what it needs comes from packages, it itself is built.
            self.enter(root, ["emerge", "--usepkg", "--buildpkg", "--oneshot", f"--usepkg-exclude={name}",
                              "--quiet-build=y", "--color=n", f"={cpv}"], FEATURES="binpkg-ignore-signature")
            subprocess.run(["rm", "-rf", root], check=True)
            after = os.times()
            walls[cpv] = time.monotonic() - start
            total["cpu"] += after.children_user + after.children_system - before.children_user - before.children_system
        scale = packages / len(sample)
        return {"wall": sum(walls.values()) * scale, "cpu": total["cpu"] * scale, "each": walls}

    def end(self):
        subprocess.run(["rm", "-rf", self.home], check=True)
