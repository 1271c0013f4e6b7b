"""Unpacks wheels (PEP 427) into the root it runs in: `install.py WHEEL…`. Their digests were checked before."""

import configparser
import os
import re
import sys
import sysconfig
import zipfile

SCHEME = "deb_system" if "deb_system" in sysconfig.get_scheme_names() else sysconfig.get_default_scheme()
PURELIB = sysconfig.get_path("purelib", SCHEME)
PREFIX = "/usr"
SHEBANG = re.compile(rb"^#!\s*(/usr/bin/env\s+python[0-9.]*|/usr/bin/python[0-9.]*|python[0-9.]*)(?=[ \n])")
ENTRY = """#!/usr/bin/python3
import sys
from {module} import {name}
sys.exit({call}())
"""


def place(name):
    """Returns where a member goes: NAME.data/KIND/PATH by its kind, everything else beside other modules."""
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        return os.path.join(PURELIB, name)
    kind, _, rest = rest.partition("/")
    if kind in ("purelib", "platlib"):
        return os.path.join(PURELIB, rest)
    if kind == "scripts":
        return os.path.join(PREFIX, "bin", rest)
    if kind == "data":
        # A system's own configuration is not below its prefix.
        return os.path.join("/" if rest.startswith("etc/") else PREFIX, rest)
    sys.exit(f"the wheel has `{name}`, of a kind that is not known")


def write(path, content, executable):
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(path, "xb") as file:
        file.write(content)
    os.chmod(path, 0o755 if executable else 0o644)


for wheel in sys.argv[1:]:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            if member.filename.startswith("/") or ".." in member.filename.split("/"):
                sys.exit(f"the wheel has `{member.filename}`, which leads out of it")
            content = SHEBANG.sub(b"#!/usr/bin/python3", archive.read(member), count=1)
            script = ".data/scripts/" in member.filename
            write(place(member.filename), content, script or bool((member.external_attr >> 16) & 0o111))
            if member.filename.endswith(".dist-info/entry_points.txt"):
                entries = configparser.ConfigParser(delimiters=("=",))
                entries.optionxform = str
                entries.read_string(content.decode())
                for name, target in entries.items("console_scripts") if "console_scripts" in entries else ():
                    module, _, call = target.partition(":")
                    text = ENTRY.format(module=module, name=call.split(".")[0], call=call)
                    write(os.path.join(PREFIX, "bin", name), text.encode(), True)
