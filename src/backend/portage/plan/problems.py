"""Says why Portage's resolver finds no plan, from the resolver's own data: nothing is read from what it prints.

The resolver stops at the first thing that cannot be had, and sees nothing of what comes after. So it is asked once
more, only to explain: this time it may change everything that a configuration can (USE, keywords, licences, masks),
goes on where a package or a choice of flags is missing, and in the end holds what it would have changed and what it
missed.
"""
from _emerge.is_valid_package_atom import insert_category_into_atom, is_valid_package_atom

# How many arguments that nothing can satisfy are passed over to look at the others.
ROUNDS = 20
EVERYTHING = "--autounmask-use=y --autounmask-license=y --autounmask-keep-keywords=n --autounmask-keep-masks=n"
EVERYTHING += " --autounmask-backtrack=y"


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
                demand = demands[(pkg.root, pkg.cpv, pkg.repo)] = required_use(pkg, use, frozenset(wanted))
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


def contradictions(found):
    """Returns the problems with two of them as one where some want a flag on, and others off."""
    by_use = {(problem["root"], problem["cpv"]): problem for problem in found if problem["kind"] == "use"}
    done, gone = [], []
    for problem in found:
        for candidate in problem.get("candidates", ()):
            other, wanted = by_use.get((problem["root"], candidate["cpv"])), candidate.get("changes", {})
            both = [flag for flag in wanted if other and other["changes"].get(flag, wanted[flag]) != wanted[flag]]
            if both:
                chains = [other["chain"], problem["chain"]]
                of = {"root": problem["root"], "cpv": candidate["cpv"]}
                problem = {"kind": "use-conflict", **of, "flags": both, "chains": chains}
                gone.append(other)
                break
        done.append(problem)
    return [problem for problem in done if problem not in gone]


def explain(config, atoms, spinner):
    """Returns what stands in the way of these atoms, each thing once, with the `root` that it is about."""
    home, portdb = config.target_config.settings["EROOT"], config.target_config.trees["porttree"].dbapi
    found = [{"root": home, **problem} for problem in misnamed(portdb, atoms)]
    names = {problem["atom"] for problem in found}
    atoms = [atom for atom in atoms if atom not in names]
    if not atoms:
        return found
    graph, unsatisfied, demands = resolve_to_explain(config, atoms, spinner)
    if any(atom.cp == tried.cp for tried in graph._dynamic_config._runtime_pkg_mask for _, atom, _ in unsatisfied):
        # Whatever was tried to solve a conflict, something else is missing then: the conflict is what to tell.
        graph, unsatisfied, demands = resolve_to_explain(config, atoms, spinner, "--backtrack=0")
    state, links = graph._dynamic_config, Links(graph, home)
    # What runs on the build side has another configuration, and may be from other trees.
    masks = {
        root: Masks(trees["root_config"].settings, trees["porttree"].dbapi) for root, trees in config.trees.items()
    }
    for root, atom, parent in unsatisfied:
        if not isinstance(parent, Package) or parent in state.digraph:
            wishes = Wishes(graph, links, masks[root])
            found.append({"root": root, **wishes.problem(root, atom, parent)})
    changed = (state._needed_unstable_keywords, state._needed_p_mask_changes, state._needed_license_changes)
    for package in sorted({p for packages in changed for p in packages if p in state.digraph}):
        by, chain = masks[package.root].of(graph, package), links.up(package)
        found.append({"root": package.root, "kind": "masked", "cpv": str(package.cpv), "masks": by, "chain": chain})
    for package, (_, changes) in state._needed_use_config_changes.items():
        if package in state.digraph and (package.root, package.cpv, package.repo) not in demands:
            of, chain = {"root": package.root, "cpv": str(package.cpv)}, links.refused(package)
            found.append({"kind": "use", **of, "changes": flags(changes), "chain": chain})
    for package in state.digraph.order:
        demand = demands.get((package.root, package.cpv, package.repo)) if isinstance(package, Package) else None
        if demand:
            of, chain = {"root": package.root, "cpv": str(package.cpv)}, links.refused(package)
            found.append({"kind": "required-use", **of, "demand": demand, "chain": chain})
    found = contradictions(found) + conflicts(graph, links)
    return [problem for at, problem in enumerate(found) if problem not in found[:at]]
