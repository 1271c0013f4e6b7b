"""Packages that cannot be had together: slots, blockers, cycles."""
from _emerge.resolver.circular_dependency import circular_dependency_handler
from _emerge.resolver.slot_collision import slot_conflict_handler


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
        pairs = [(p, [other for other in conflict.pkgs if other != p]) for p in conflict.pkgs]
        packages = [{"cpv": str(p.cpv), "chains": chains(p, others)} for p, others in pairs]
        of = {"root": conflict.root, "slot": str(conflict.atom)}
        found.append({"kind": "slot", **of, "packages": packages[:FEW], "ways": ways})
    # The second are there also where a conflict or a cycle ended the resolver's work before it came to show them.
    for blocker in list(state._unsatisfied_blockers_for_display or state._unsolvable_blockers.leaf_nodes())[:MOST]:
        by = state._blocker_parents.parent_nodes(blocker)
        blocked = state._blocked_pkgs.child_nodes(blocker) if blocker in state._blocked_pkgs else []
        sides = [[{"cpv": str(p.cpv), "chains": chains(p)[:1]} for p in side[:FEW]] for side in (by, blocked)]
        of = {"root": blocker.root, "atom": str(blocker.atom)}
        found.append({"kind": "blocker", **of, "by": sides[0], "blocked": sides[1]})
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
    of = {"root": packages[0].root, "steps": steps}
    return {"kind": "cycle", **of, "ways": ways[:FEW], "chain": links.up(packages[0])}
