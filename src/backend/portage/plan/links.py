"""Who wants what, and on whose behalf."""
import _emerge.depgraph
from _emerge.DependencyArg import DependencyArg
from _emerge.SetArg import SetArg
from portage._sets.base import InternalPackageSet
from portage.dep import check_required_use, extract_affecting_use
from portage.exception import InvalidDependString

# How much is told: problems, of anything within one, and ways to fulfil REQUIRED_USE, with how many tried.
MOST, FEW, WAYS, TRIED = 40, 10, 3, 5000


def line(text, limit=1000):
    """Returns a text as one line of printable characters."""
    return "".join(c for c in " ".join(str(text).split()) if c.isprintable())[:limit]


def flags(changes):
    return {flag: bool(on) for flag, on in sorted(dict(changes).items())}


class Links:
    """Who wants what, up to what was asked for."""

    def __init__(self, graph, home):
        self.graph, self.home, self.parents = graph, home, graph._dynamic_config._parent_atoms

    def because(self, parent, atom):
        """Returns USE flags of a package, as they are; with any one of them changed it would not want an atom."""
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
                same = [word for word in words if getattr(word, "unevaluated_atom", None) == atom]
                if atom.evaluate_conditionals(on) in [word.evaluate_conditionals(flipped) for word in same]:
                    return True
        return False

    def link(self, parent, atom):
        if isinstance(parent, Package):
            wanted = str(atom.unevaluated_atom)
            side = {"build-side": True} if parent.root != self.home else {}
            return {"atom": wanted, "cpv": str(parent.cpv), "use": self.because(parent, atom), **side}
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
        if chain and sum(unfulfilled(*pair) for pair in self.parents.get(package, ())) > 1:
            chain[0].pop("use", None)  # it is not for this one alone
        return chain
