"""Asks Portage's own resolver what the given atoms need, and prints the answer as JSON on standard output.

Runs inside the root, without a network: resolving sources ebuilds. Everything that Portage itself prints goes to
standard error. Nothing counts as installed and nothing as built: the answer holds every package that the atoms need on
this root, `package.provided` apart; what of it has to be built is for the host to decide, which checks all it is told.

These are private interfaces of Portage, unchanged from 3.0.30 (2021) to 3.0.83.
"""
import contextlib
import io
import json
import os
import sys

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import portage

portage._internal_caller = True
from _emerge.Package import Package
from _emerge.actions import adjust_configs, load_emerge_config
from _emerge.create_depgraph_params import create_depgraph_params
from _emerge.depgraph import backtrack_depgraph
from _emerge.main import parse_opts
from _emerge.stdout_spinner import stdout_spinner
from portage.dep import Atom, use_reduce
from portage.exception import CorruptionKeyError, PortageException

VERSION = 1
OPTIONS = "--pretend --emptytree --oneshot --with-bdeps=y --color=n --quiet"
# Portage may propose USE changes, which are reported; what is masked stays so, and the candidates say why.
OPTIONS += " --autounmask-use=y --autounmask-keep-keywords=y --autounmask-keep-masks=y --autounmask-license=n"
DEPENDENCIES = ("BDEPEND", "DEPEND", "RDEPEND", "PDEPEND", "IDEPEND")
# What says nothing about the package that comes out, or is reported by itself; a build's other variables all count.
IRRELEVANT = set(Package.metadata_keys) - {"CHOST"} | {
    "ACCEPT_KEYWORDS", "ACCEPT_LICENSE", "ACCEPT_PROPERTIES", "ACCEPT_RESTRICT", "CATEGORY", "CONFIG_PROTECT",
    "CONFIG_PROTECT_MASK", "DISTDIR", "FEATURES", "GENTOO_MIRRORS", "IUSE_EFFECTIVE", "IUSE_IMPLICIT", "MAKEOPTS",
    "PF", "PKGDIR", "PROFILE_ONLY_VARIABLES", "PORTAGE_ARCHLIST", "PORTAGE_REPO_NAME", "PORTAGE_TMPDIR", "USE_ORDER",
}
IRRELEVANT_PREFIXES = (
    "BINPKG_", "EMERGE_", "FETCHCOMMAND", "GPG_", "PORTAGE_ELOG", "PORTAGE_GPG", "RESUMECOMMAND", "USE_EXPAND",
)


def environment(settings):
    """Returns the variables that the configuration's files set and builds see, each with the value that won."""
    names = {name for source in ("conf", "defaults", "pkg") for name in settings.configdict[source]}
    names = {name for name in names - IRRELEVANT if name.isidentifier() and not name.startswith(IRRELEVANT_PREFIXES)}
    return {name: settings[name] for name in sorted(names) if settings.get(name)}


def distfiles(portdb, package, repository):
    manifest = repository.load_manifest(
        os.path.dirname(portdb.findname2(package.cpv, myrepo=package.repo)[0]), portdb.settings["DISTDIR"]
    )
    known = manifest.getTypeDigests("DIST")
    uris = portdb.getFetchMap(package.cpv, useflags=package.use.enabled, mytree=repository.location)
    files = []
    for name in sorted(uris):
        hashes = dict(known.get(name, {}))
        size = hashes.pop("size", None)
        files.append({"name": name, "uris": list(uris[name]), "size": size, "hashes": hashes})
    return files


def describe(settings, portdb, package, common):
    path, tree = portdb.findname2(package.cpv, myrepo=package.repo)
    repository = portdb.repositories[package.repo]
    eclasses = repository.eclass_db.eclasses
    package_settings = portage.config(clone=settings)
    package_settings.setcpv(package)
    own = environment(package_settings)
    reduced = {}
    for kind in DEPENDENCIES + ("LICENSE", "PROPERTIES", "RESTRICT"):
        words = use_reduce(package._metadata.get(kind, ""), uselist=package.use.enabled, flat=True)
        reduced[kind] = " ".join(words)
    return {
        "cpv": str(package.cpv),
        "repo": package.repo,
        "ebuild": os.path.relpath(path, tree),
        "eclasses": [{"name": n, "path": os.path.realpath(eclasses[n].location)} for n in sorted(package.inherited)],
        "eapi": package.eapi,
        "slot": package.slot,
        "sub_slot": package.sub_slot,
        "iuse": sorted(package.iuse.all),
        "use": sorted(set(package.use.enabled) & set(package.iuse.all)),
        "keywords": package._metadata.get("KEYWORDS", "").split(),
        "depend": {kind.lower(): reduced[kind] for kind in DEPENDENCIES},
        "license": reduced["LICENSE"],
        "properties": reduced["PROPERTIES"].split(),
        "restrict": reduced["RESTRICT"].split(),
        "distfiles": distfiles(portdb, package, repository),
        "features": sorted(package_settings.features),
        "env": {name: value for name, value in own.items() if common.get(name) != value},
        "env_unset": sorted(name for name in common if name not in own),
    }


def built_with(package):
    """Returns the names of what a package is built against (`link`) and of what it is built with (`tool`)."""
    found = {}
    for name, kind in (("DEPEND", "link"), ("BDEPEND", "tool")):
        text = package._metadata.get(name, "")
        words = use_reduce(text, uselist=package.use.enabled, flat=True, token_class=Atom, eapi=package.eapi)
        found[kind] = {word.cp for word in words if isinstance(word, Atom) and not word.blocker}
    return found


def edges(graph, root):
    """Of the packages of one root: returns which package needs which, and when: `build` it, `run` or `post` (some time after merging) to use it, `install`
    it (always with `run`). What is needed to build has `link` or `tool`, too; neither where a virtual package stands between."""
    named = {}
    found = {}
    for child, (_, parents, _) in graph.nodes.items():
        for parent, priorities in parents.items():
            if not isinstance(child, Package) or not isinstance(parent, Package):
                continue
            if child is not parent and child.root == parent.root == root:
                kinds = found.setdefault((str(parent.cpv), str(child.cpv)), set())
                for priority in priorities:
                    for name, kind in (
                        ("buildtime", "build"), ("runtime", "run"), ("runtime_post", "post"), ("installtime", "install"),
                    ):
                        if getattr(priority, name, False):
                            kinds.add(kind)
                if "build" in kinds:
                    if parent not in named:
                        named[parent] = built_with(parent)
                    kinds.update(kind for kind, names in named[parent].items() if child.cp in names)
    return [{"from": a, "to": b, "kinds": sorted(kinds)} for (a, b), kinds in sorted(found.items())]


def tools(graph, root):
    """Returns which package of a root needs which of another, to be built: what runs on the build side."""
    found = set()
    for child, (_, parents, _) in graph.nodes.items():
        for parent, priorities in parents.items():
            if not isinstance(child, Package) or not isinstance(parent, Package):
                continue
            if parent.root == root != child.root and any(getattr(p, "buildtime", False) for p in priorities):
                found.add((str(parent.cpv), str(child.cpv)))
    return [{"from": a, "to": b, "kinds": ["build", "tool"]} for a, b in sorted(found)]
