# Prints the files of Portage's database, packed ones unpacked, as JSON: package, then file, then its lines. What says of
# itself that it is out of date, or is not one of its kind, is an error.
import bz2
import glob
import json
import os
import sys

from portage.dbapi.vartree import _read_metadata_file

packages, counters = {}, set()
for folder in sorted(glob.glob("/var/db/pkg/*/*/")):
    files = packages.setdefault(folder[len("/var/db/pkg/"):-1], {})
    for name in sorted(os.listdir(folder)):
        with open(folder + name, "rb") as file:
            content = file.read()
        if name.endswith(".bz2"):
            content = bz2.decompress(content)
        files[name] = content.decode().splitlines()
    if _read_metadata_file(folder + "metadata") is None:
        sys.exit(f"Portage does not use {folder}metadata")
    counter = int(files["COUNTER"][0])
    if counter in counters:
        sys.exit(f"{folder}COUNTER is another package's, too")
    counters.add(counter)
json.dump(packages, sys.stdout)
