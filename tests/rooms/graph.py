"""Writes a synthetic ebuild tree: many tiny packages, layers of them deep, which cost what a package costs at the least.

Package i of layer l is `synth-l/p-i`. It needs up to four packages of layers below (one of them of the layer just below),
some to build and some to run. It installs a header and a text; every fifth one compiles a small program in C. The tree brings
its metadata cache, as distributed trees do.
"""
import hashlib
import os
import random

LAYERS = 12
USUAL = """EAPI=8

DESCRIPTION="one of many"
LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"
S="${WORKDIR}"
"""


def ebuild(name, number, build, run, compiles, seed):
    """Returns the text of an ebuild."""
    lines = [USUAL]
    if build:
        lines.append(f'DEPEND="{" ".join(build)}"')
    if run:
        lines.append(f'RDEPEND="{" ".join(run)}"')
    if compiles:
        # Direct dependencies' headers are there for certain.
        headers = [need.split("/")[1] for need in build]
        lines += ["", "src_compile() {", f"\tcat > {name}.c <<-END || die", f"\t\t/* {seed} */"]
        lines += [f"\t\t#include <synth/{header}.h>" for header in headers]
        sum_of = " + ".join(["0", *(f"NUMBER_{header}" for header in headers)])
        lines += [f"\t\tint main(void) {{ return {sum_of}; }}", "\tEND"]
        lines += [f"\tcc ${{CFLAGS}} ${{LDFLAGS}} -o {name} {name}.c || die", "}"]
    lines += ["", "src_install() {", f'\techo "#define NUMBER_{name} {number}" > {name}.h || die']
    lines += ["\tinsinto /usr/include/synth", f"\tdoins {name}.h"]
    if compiles:
        lines.append(f"\tdobin {name}")
    else:
        lines += [f'\techo "{seed} {number}" > {name} || die', "\tinsinto /usr/share/synth", f"\tdoins {name}"]
    return "\n".join([*lines, "}", ""])


def cached(text, build, run, compiles):
    """Returns an ebuild's entry in the metadata cache (`md5-dict`)."""
    entry = {
        "DEFINED_PHASES": "compile install" if compiles else "install", "DEPEND": " ".join(build), "DESCRIPTION": "one of many",
        "EAPI": "8", "KEYWORDS": "amd64", "LICENSE": "public-domain", "RDEPEND": " ".join(run), "SLOT": "0",
        "_md5_": hashlib.md5(text.encode()).hexdigest(),
    }
    return "".join(f"{key}={value}\n" for key, value in entry.items() if value)


def plan(count):
    """Returns (category, name, needs to build, needs to run, whether it compiles) of each package, dependencies first."""
    pick = random.Random(4)
    layers = [[]]
    packages = []
    for number in range(count):
        # Narrow at the bottom, as trees are: few packages that many need.
        if number / count >= (len(layers) / LAYERS) ** 1.4:
            layers.append([])
        layer = len(layers) - 1
        category, name = f"synth-{layer:02}", f"p{number:03}"
        needs = [pick.choice(layers[layer - 1])] if layer else []
        below = [package for under in layers[:layer] for package in under]
        needs += pick.sample(below, min(len(below), pick.randrange(4)))
        needs = sorted(set(needs))
        build = [need for need in needs if pick.random() < 0.7]
        run = [need for need in needs if need not in build or pick.random() < 0.5]
        layers[layer].append(f"{category}/{name}")
        packages.append((category, name, build, run, number % 5 == 4))
    return packages


def write(path, name, count, seed):
    """Writes the tree, which builds on `bindery-test`; `seed` goes into every package's files. Returns the packages."""
    packages = plan(count)

    def put(file, text):
        file = os.path.join(path, file)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "w", encoding="utf-8") as to:
            to.write(text)

    put("profiles/repo_name", f"{name}\n")
    put("profiles/categories", "".join(f"{c}\n" for c in sorted({package[0] for package in packages})))
    put("metadata/layout.conf", "masters = bindery-test\nthin-manifests = true\ncache-formats = md5-dict\n")
    for number, (category, name, build, run, compiles) in enumerate(packages):
        text = ebuild(name, number, build, run, compiles, seed)
        put(f"{category}/{name}/{name}-1.ebuild", text)
        put(f"metadata/md5-cache/{category}/{name}-1", cached(text, build, run, compiles))
    return [f"{category}/{name}" for category, name, *_ in packages]
