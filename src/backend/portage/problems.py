"""Says why Portage's resolver finds no plan, from the resolver's own data: nothing is read from what it prints.

The resolver stops at the first thing that cannot be had, and sees nothing of what comes after. So it is asked once more,
only to explain: this time it may change everything that a configuration can (USE, keywords, licences, masks), goes on
where a package or a choice of flags is missing, and in the end holds what it would have changed and what it missed.
"""
import itertools
import tempfile

import _emerge.depgraph
from _emerge.DependencyArg import DependencyArg
from _emerge.SetArg import SetArg
from _emerge.is_valid_package_atom import insert_category_into_atom, is_valid_package_atom
from _emerge.resolver.circular_dependency import circular_dependency_handler
from _emerge.resolver.slot_collision import slot_conflict_handler
from portage._sets.base import InternalPackageSet
from portage.dep import check_required_use, extract_affecting_use, get_required_use_flags
from portage.exception import InvalidDependString, PackageNotFound

# How much is told: problems, of anything within one, and ways to fulfil REQUIRED_USE, with how many tried.
MOST, FEW, WAYS, TRIED = 40, 10, 3, 5000
# How many arguments that nothing can satisfy are passed over to look at the others.
ROUNDS = 20
EVERYTHING = "--autounmask-use=y --autounmask-license=y --autounmask-keep-keywords=n --autounmask-keep-masks=n"
EVERYTHING += " --autounmask-backtrack=y"


def line(text, limit=1000):
    """Returns a text as one line of printable characters."""
    return "".join(c for c in " ".join(str(text).split()) if c.isprintable())[:limit]


def flags(changes):
    return {flag: bool(on) for flag, on in sorted(dict(changes).items())}


class Links:
    """Who wants what, up to what was asked for."""

    def __init__(self, graph):
        self.graph, self.parents = graph, graph._dynamic_config._parent_atoms

    def because(self, parent, atom):
        """Returns the USE flags of a package, as they are, each of which it would only have to change not to want an atom."""
        found, atom = set(), atom.unevaluated_atom
        for kind in DEPENDENCIES:
            with contextlib.suppress(InvalidDependString):
                found |= extract_affecting_use(parent._metadata.get(kind, ""), atom, eapi=parent.eapi)
        if atom.use and atom.use.conditional:
            found = found.union(*atom.use.conditional.values())
        found = (found & set(parent.iuse.all)) - parent.use.mask - parent.use.force
        on = self.graph._pkg_use_enabled(parent)
        found = [flag for flag in sorted(found) if not self.wants(parent, atom, on, on ^ {flag})]
        return [flag if flag in on else "-" + flag for flag in found][:FEW]

    def wants(self, parent, atom, on, flipped):
        """Returns whether a package wants an atom in the same way with other flags, or cannot have these."""
        valid, demand = parent.iuse.is_valid_flag, parent._metadata.get("REQUIRED_USE")
        if demand and not check_required_use(demand, flipped, valid, eapi=parent.eapi):
            return True
        for kind in DEPENDENCIES:
            text = parent._metadata.get(kind, "")
            with contextlib.suppress(InvalidDependString):
                words = use_reduce(
                    text, uselist=flipped, is_valid_flag=valid, flat=True, token_class=Atom, eapi=parent.eapi
                )
                same = [word.evaluate_conditionals(flipped) for word in words if getattr(word, "unevaluated_atom", 0) == atom]
                if atom.evaluate_conditionals(on) in same:
                    return True
        return False

    def link(self, parent, atom):
        if isinstance(parent, Package):
            wanted = str(atom.unevaluated_atom)
            return {"atom": wanted, "cpv": str(parent.cpv), "use": self.because(parent, atom)}
        if isinstance(parent, SetArg):
            return {"atom": str(atom), "set": parent.name}
        asked = getattr(parent, "arg", None) or atom
        return {"atom": str(asked).replace("null/", "")}  # Portage's category for a name without one

    def up(self, package, accept=lambda parent, atom: True):
        """Returns the shortest chain from who wants a package up to what was asked for."""
        ways, seen = [[(package, None)]], {package}
        for way in ways:
            node = way[-1][0]
            wanted_by = self.parents.get(node, ())
            for parent, atom in sorted(wanted_by, key=lambda pair: (isinstance(pair[0], Package), str(pair))):
                if node is package and not accept(parent, atom):
                    continue
                if isinstance(parent, DependencyArg):
                    return [self.link(*pair) for pair in [*way[1:], (parent, atom)]][:MOST]
                if parent not in seen:
                    seen.add(parent)
                    ways.append([*way, (parent, atom)])
        return [self.link(*pair) for pair in ways[-1][1:]][:MOST]

    def chain(self, parent, atom):
        """Returns the chain that begins with one who wants an atom."""
        above = self.up(parent) if isinstance(parent, Package) else []
        return [self.link(parent, atom), *above] if parent is not None else [{"atom": str(atom)}]

    def refused(self, package):
        """Returns the chain to somebody whose atom a package would not fulfil without a change of its flags."""
        unfulfilled = lambda _, atom: not InternalPackageSet(initial_atoms=(atom,)).findAtomForPackage(package)
        chain = self.up(package, unfulfilled) or self.up(package)
        if sum(unfulfilled(*pair) for pair in self.parents.get(package, ())) > 1:
            chain[0].pop("use", None)  # it is not for this one alone
        return chain


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
            found["masked"], found["forced"] = sorted(on & package.use.mask)[:FEW], sorted(off & package.use.force)[:FEW]
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


def explaining(seen, demands):
    """Returns the resolver's graph as a class that goes on where something is missing, and takes note of it."""
    class Explaining(_emerge.depgraph.depgraph):
        def _add_dep(self, dep, allow_unsatisfied=False):
            state = self._dynamic_config
            before = len(state._unsatisfied_deps)
            done = super()._add_dep(dep, allow_unsatisfied=True)
            seen.setdefault(self, []).extend((d.root, d.atom, d.parent) for d in state._unsatisfied_deps[before:])
            return done

        def _add_pkg(self, pkg, dep):
            text = getattr(pkg, "_metadata", {}).get("REQUIRED_USE")
            use = text and self._pkg_use_enabled(pkg)
            if text and not check_required_use(text, use, pkg.iuse.is_valid_flag, eapi=pkg.eapi):
                wanted = self._dynamic_config._needed_use_config_changes.get(pkg, (use, {}))[1]
                demand = demands[(pkg.cpv, pkg.repo)] = required_use(pkg, use, frozenset(wanted))
                demand["ways"] = [flags({**wanted, **way}) for way in demand["ways"]]
                pkg._metadata["REQUIRED_USE"] = ""  # this graph is only looked at
            return super()._add_pkg(pkg, dep)

    return Explaining


def resolve_to_explain(config, atoms, spinner, more=""):
    """Resolves as far as can be; returns the graph, what is unsatisfied, and which demands on flags are."""
    _, options, _ = parse_opts([*OPTIONS.split(), *EVERYTHING.split(), *more.split(), *atoms], silent=True)
    settings = config.target_config.settings
    original, remaining, unsatisfied, demands = _emerge.depgraph.depgraph, list(atoms), [], {}
    for _ in range(ROUNDS):
        seen = {}
        _emerge.depgraph.depgraph = explaining(seen, demands)
        try:
            parameters = create_depgraph_params(options, None)
            _, graph, _ = backtrack_depgraph(settings, config.trees, options, parameters, None, remaining, spinner)
        finally:
            _emerge.depgraph.depgraph = original
        state = graph._dynamic_config
        failed = set()
        for (root, atom), details in state._unsatisfied_deps_for_display:
            parent = details.get("myparent")
            failed.add(getattr(parent, "arg", None))
            seen.setdefault(graph, []).append((root, atom, parent))
        left = [atom for atom in remaining if atom not in failed]
        if len(left) == len(remaining) or not left:
            return graph, unsatisfied + seen.get(graph, []), demands
        # What is missing below the others is found again in the next round.
        unsatisfied += [wish for wish in seen[graph] if getattr(wish[2], "arg", None) in failed]
        remaining = left
    return graph, unsatisfied + seen.get(graph, []), demands


def misnamed(portdb, atoms):
    """Returns the arguments that are no atoms, or a name of several packages."""
    found = []
    for atom in atoms:
        if atom.startswith("@"):
            continue
        if not is_valid_package_atom(insert_category_into_atom(atom, "null") if "/" not in atom else atom):
            found.append({"kind": "malformed", "atom": atom})
        elif "/" not in atom:
            name = Atom(insert_category_into_atom(atom, "null")).cp.split("/")[1]
            names = [cp for cp in sorted(portdb.cp_all()) if cp.split("/")[1] == name and not cp.startswith("virtual/")]
            if len(names) > 1:
                found.append({"kind": "ambiguous", "atom": atom, "names": names[:FEW]})
    return found


def conflicts(graph, links):
    """Returns slot conflicts, blockers and the shortest cycle of a graph."""
    state, found = graph._dynamic_config, []

    def chains(package, others=()):
        wanted_by = sorted(links.parents.get(package, ()), key=str)
        of = lambda atom, other: InternalPackageSet(initial_atoms=(atom,)).findAtomForPackage(
            other, modified_use=graph._pkg_use_enabled(other)
        )
        only = [(p, atom) for p, atom in wanted_by if not all(of(atom, other) for other in others)]
        found = [links.chain(*pair) for pair in (only or wanted_by)[:WAYS]]
        if len(wanted_by) > 1 and not others:
            found[0][0].pop("use", None)  # it is not for this one alone
        return found

    slots = list(state._package_tracker.slot_conflicts())
    handler = state._slot_conflict_handler or (slots and slot_conflict_handler(graph))
    ways = handler.changes if handler else []
    ways = [[{"cpv": str(p.cpv), "changes": flags(changes)} for p, changes in way.items()] for way in ways[:WAYS]]
    for conflict in slots[:FEW]:
        packages = [{"cpv": str(p.cpv), "chains": chains(p, [o for o in conflict.pkgs if o != p])} for p in conflict.pkgs]
        found.append({"kind": "slot", "slot": str(conflict.atom), "packages": packages[:FEW], "ways": ways})
    # The second are there also where a conflict or a cycle ended the resolver's work before it came to show them.
    for blocker in list(state._unsatisfied_blockers_for_display or state._unsolvable_blockers.leaf_nodes())[:MOST]:
        by = state._blocker_parents.parent_nodes(blocker)
        blocked = state._blocked_pkgs.child_nodes(blocker) if blocker in state._blocked_pkgs else []
        sides = [[{"cpv": str(p.cpv), "chains": chains(p)[:1]} for p in side[:FEW]] for side in (by, blocked)]
        found.append({"kind": "blocker", "atom": str(blocker.atom), "by": sides[0], "blocked": sides[1]})
    if state._circular_deps_for_display is not None:
        found.append(cycle(graph, links))
    return found


def cycle(graph, links):
    handler = circular_dependency_handler(graph, graph._dynamic_config._circular_deps_for_display)
    packages = [p for p in handler.shortest_cycle or handler.graph.order if isinstance(p, Package)]
    # It begins with the one that is nearest to what was asked for.
    first = min(range(len(packages)), key=lambda at: len(links.up(packages[at])))
    packages = packages[first:] + packages[:first]
    steps = []
    for parent, child in zip(packages[:MOST], [*packages[1:], packages[0]]):
        atom = next((atom for above, atom in links.parents.get(child, ()) if above == parent), None)
        kinds = set()
        for priority in handler.graph.nodes[parent][0].get(child, ()):
            for name, kind in (("buildtime", "build"), ("runtime", "run"), ("runtime_post", "post")):
                kinds.update([kind] if getattr(priority, name, False) else [])
        use = links.because(parent, atom) if atom is not None else []
        atom = str(atom.unevaluated_atom) if atom is not None else str(child.slot_atom)
        steps.append({"cpv": str(parent.cpv), "atom": atom, "kinds": sorted(kinds), "use": use})
    ways = [
        {"cpv": str(package.cpv), "changes": flags(way)}
        for package, solutions in getattr(handler, "parent_solutions", {}).items()
        for way in sorted(solutions, key=sorted)
    ]
    return {"kind": "cycle", "steps": steps, "ways": ways[:FEW], "chain": links.up(packages[0])}


def contradictions(found):
    """Returns the problems with two of them as one where some want a flag on, and others off."""
    by_use = {problem["cpv"]: problem for problem in found if problem["kind"] == "use"}
    done, gone = [], []
    for problem in found:
        for candidate in problem.get("candidates", ()):
            other, wanted = by_use.get(candidate["cpv"]), candidate.get("changes", {})
            both = [flag for flag in wanted if other and other["changes"].get(flag, wanted[flag]) != wanted[flag]]
            if both:
                chains = [other["chain"], problem["chain"]]
                problem = {"kind": "use-conflict", "cpv": candidate["cpv"], "flags": both, "chains": chains}
                gone.append(other)
                break
        done.append(problem)
    return [problem for problem in done if problem not in gone]


def explain(config, atoms, spinner):
    """Returns what stands in the way of these atoms, each thing once."""
    settings, portdb = config.target_config.settings, config.target_config.trees["porttree"].dbapi
    found = misnamed(portdb, atoms)
    names = {problem["atom"] for problem in found}
    atoms = [atom for atom in atoms if atom not in names]
    if not atoms:
        return found
    graph, unsatisfied, demands = resolve_to_explain(config, atoms, spinner)
    if any(atom.cp == tried.cp for tried in graph._dynamic_config._runtime_pkg_mask for _, atom, _ in unsatisfied):
        # Whatever was tried to solve a conflict, something else is missing then: the conflict is what to tell.
        graph, unsatisfied, demands = resolve_to_explain(config, atoms, spinner, "--backtrack=0")
    state, links, masks = graph._dynamic_config, Links(graph), Masks(settings, portdb)
    wishes = Wishes(graph, links, masks)
    for root, atom, parent in unsatisfied:
        if not isinstance(parent, Package) or parent in state.digraph:
            found.append(wishes.problem(root, atom, parent))
    changed = (state._needed_unstable_keywords, state._needed_p_mask_changes, state._needed_license_changes)
    for package in sorted({p for packages in changed for p in packages if p in state.digraph}):
        found.append({"kind": "masked", "cpv": str(package.cpv), "masks": masks.of(graph, package), "chain": links.up(package)})
    for package, (_, changes) in state._needed_use_config_changes.items():
        if package in state.digraph and (package.cpv, package.repo) not in demands:
            chain = links.refused(package)
            found.append({"kind": "use", "cpv": str(package.cpv), "changes": flags(changes), "chain": chain})
    for package in state.digraph.order:
        demand = demands.get((package.cpv, package.repo)) if isinstance(package, Package) else None
        if demand:
            chain = links.refused(package)
            found.append({"kind": "required-use", "cpv": str(package.cpv), "demand": demand, "chain": chain})
    found = contradictions(found) + conflicts(graph, links)
    return [problem for at, problem in enumerate(found) if problem not in found[:at]]
