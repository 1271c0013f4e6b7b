"""What stands against a package: what masks it, and what is wrong with its flags."""
import itertools
import tempfile

from portage.dep import get_required_use_flags
from portage.exception import PackageNotFound


class Masks:
    """What stands against a package, as data."""

    def __init__(self, settings, portdb):
        self.settings, self.portdb = settings, portdb

    def of(self, graph, package):
        reasons = _emerge.depgraph._get_masking_status(
            package, self.settings, package.root_config, use=graph._pkg_use_enabled(package)
        )
        return [self.reason(package, reason) for reason in reasons[:FEW]]

    def reason(self, package, reason):
        hint, metadata = getattr(reason, "unmask_hint", None), package._metadata
        if reason.category == "package.mask":
            comment, file = portage.getmaskingreason(
                package.cpv, metadata=metadata, settings=self.settings, portdb=self.portdb, return_location=True
            )
            lines = [line(text.lstrip("#")) for text in (comment or "").splitlines()]
            return {"by": "package-mask", "file": file, "comment": [text for text in lines if text][:FEW]}
        if reason.category == "KEYWORDS":
            accept = hint.value if hint else "**"
            return {"by": "keyword", "accept": accept, "keywords": metadata.get("KEYWORDS", "").split()[:100]}
        if reason.category == "LICENSE" and hint:
            return {"by": "license", "licenses": sorted(hint.value)}
        if reason.category == "EAPI":
            return {"by": "eapi", "eapi": line(metadata["EAPI"])}
        if reason.category == "PROPERTIES":
            return {"by": "properties", "words": sorted(self.settings._getMissingProperties(package.cpv, metadata))}
        if reason.category == "RESTRICT":
            return {"by": "restrict", "words": sorted(self.settings._getMissingRestrict(package.cpv, metadata))}
        return {"by": "invalid", "message": line(reason.message).removeprefix("invalid: ")}

    def unreadable(self, cpv):
        """Returns why an ebuild has no metadata: it is sourced once more, and listened to."""
        getattr(self.portdb, "_broken_ebuilds", set()).clear()
        kept = os.dup(2)
        with tempfile.TemporaryFile() as said:
            os.dup2(said.fileno(), 2)
            try:
                with contextlib.suppress(KeyError, PortageException):
                    eapi = self.portdb.aux_get(cpv, ["EAPI"])[0]
                    if not portage.eapi_is_supported(eapi):
                        return {"by": "eapi", "eapi": line(eapi)}
            finally:
                os.dup2(kept, 2)
                os.close(kept)
            said.seek(0)
            text = said.read(64 << 10).decode(errors="replace").splitlines()
        lines = [line(words.lstrip(" *")) for words in text]
        end = next((at for at, words in enumerate(lines) if words.startswith("Call stack")), len(lines))
        lines = [words for words in lines[:end] if words and not words.startswith(("Messages for", "ERROR:"))]
        return {"by": "corrupt", "said": lines[:FEW]}


def required_use(package, use, fixed=frozenset()):
    """Returns which part of REQUIRED_USE some flags do not fulfil, and the smallest changes that would help."""
    text = package._metadata.get("REQUIRED_USE", "")

    def check(use):
        return check_required_use(text, use, package.iuse.is_valid_flag, eapi=package.eapi)

    part = check(use).tounicode()
    named = set(get_required_use_flags(text, eapi=package.eapi)) & set(package.iuse.all)
    free = named - package.use.mask - package.use.force - fixed
    order = sorted(free, key=lambda flag: (text.find(flag), flag))
    tries = itertools.chain.from_iterable(itertools.combinations(order, n) for n in range(1, len(order) + 1))
    found = []
    for flipped in itertools.islice(tries, TRIED):
        if found and len(flipped) > len(found[0]):
            break
        if check(set(use) ^ set(flipped)):
            found.append({flag: flag not in use for flag in flipped})
    return {"constraint": line(part), "all": line(text, 4000), "ways": [flags(way) for way in found[:WAYS]]}


class Wishes:
    """What is unsatisfied for want of a package, or of one with the right flags."""

    def __init__(self, graph, links, masks):
        self.graph, self.links, self.masks, self.portdb = graph, links, masks, masks.portdb

    def package(self, cpv, root_config):
        tree = self.portdb.findname2(cpv)[1]
        repo = self.portdb.getRepositoryName(tree)
        return self.graph._pkg(cpv, "ebuild", root_config, myrepo=repo)

    def problem(self, root, atom, parent):
        root_config = self.graph._frozen_config.roots[root]
        candidates, others = [], []
        for cpv in reversed(self.portdb.xmatch("match-all-cpv-only", Atom(atom.cp))):
            fits = portage.dep.match_from_list(atom.without_use.without_slot, [cpv])
            if len(others if not fits else candidates) >= FEW:
                continue
            try:
                package = self.package(cpv, root_config)
            except PackageNotFound:
                if fits:
                    candidates.append({"cpv": str(cpv), "masks": [self.masks.unreadable(cpv)]})
                continue
            masks = self.masks.of(self.graph, package)
            if masks and masks[0]["by"] == "eapi":
                found = {"cpv": str(cpv), "masks": masks[:1]}  # the rest follows from it
            elif package.invalid:
                found = {"cpv": str(cpv), "masks": masks}
            elif fits and atom.without_use.match(package):
                found = {"cpv": str(cpv), "masks": masks, **self.use(atom, parent, package)}
            else:
                slot = "/".join(dict.fromkeys((package.slot, package.sub_slot)))
                others.append({"cpv": str(cpv), "slot": slot})
                continue
            (candidates if fits else others).append(found if fits else {"cpv": str(cpv), "slot": "0"})
        chain = self.links.chain(parent, atom)
        return {"kind": "unsatisfied", "chain": chain, "candidates": candidates, "others": others}

    def use(self, atom, parent, package):
        """Returns what is wrong with a package's flags, and what would mend it."""
        found = {"lacks": [], "masked": [], "forced": [], "changes": {}, "required-use": None, "parent": {}}
        wanted = atom.unevaluated_atom.use
        use = self.graph._pkg_use_enabled(package)
        if wanted:
            found["lacks"] = sorted(package.iuse.get_missing_iuse(wanted.required))[:FEW]
            on = (atom.use.enabled - use) & package.iuse.all if atom.use else set()
            off = (atom.use.disabled & use) & package.iuse.all if atom.use else set()
            found["masked"] = sorted(on & package.use.mask)[:FEW]
            found["forced"] = sorted(off & package.use.force)[:FEW]
            found["changes"] = flags({flag: flag in on for flag in on | off})
            use = frozenset(use) - off | on
            if isinstance(parent, Package) and wanted.conditional:
                found["parent"] = self.parent(atom, parent, package)
        if package._metadata.get("REQUIRED_USE") and not check_required_use(
            package._metadata["REQUIRED_USE"], use, package.iuse.is_valid_flag, eapi=package.eapi
        ):
            found["required-use"] = required_use(package, use, frozenset(found["changes"]))
        return found

    def parent(self, atom, parent, package):
        """Returns the flags of the one who wants the package with which it would take it as it is."""
        use = self.graph._pkg_use_enabled(parent)
        violated = atom.unevaluated_atom.violated_conditionals(
            self.graph._pkg_use_enabled(package), package.iuse.is_valid_flag, use
        )
        if violated.use is None or violated.use.enabled or violated.use.disabled:
            return {}
        involved = set().union(*violated.use.conditional.values()) if violated.use.conditional else set()
        if involved & (set(parent.use.mask) | set(parent.use.force)):
            return {}
        return flags({flag: flag not in use for flag in involved})
