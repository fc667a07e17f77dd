"""Leaves of the graph that are no parameters: how they are grouped, named, and which selectors mean them."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ..records import Case, Leaf, Selector

LET_BE = frozenset({"unchecked", "buffers_may_move", "eval"})
"""The lists that say of a layer that it may do as it does, or that the loop sees to it."""


def selects(selector: Selector, name: str) -> bool:
    """Whether a selector that found nothing among the model's tensors would select this leaf's name."""
    text = selector.text.removeprefix("!").partition("[")[0]
    prefixes = (name[:end] for end, mark in enumerate(f"{name}.") if mark == ".")
    return any(fnmatchcase(prefix, text) for prefix in prefixes)


def meant_by(case: Case, leaves: list[Leaf]) -> list[Selector]:
    """The unmatched selectors of the spec that name one of these leaves."""
    return [u.selector for u in case.plan.unmatched if any(selects(u.selector, leaf.name) for leaf in leaves)]


def attribute(container: str) -> str:
    """The attribute that holds a container: `blocks` of `Net.blocks, a list`."""
    return container.partition(",")[0].strip().rpartition(".")[2]


def kind(container: str) -> str:
    """What a container is: `list` of `Net.blocks, a list`."""
    return container.partition(",")[2].strip().removeprefix("an ").removeprefix("a ").strip()


def another(container: str) -> str:
    """The class of the other model that a leaf is a parameter of: `Net` of `best, another Net`; else empty."""
    said = kind(container)
    return said.removeprefix("another ") if said.startswith("another ") else ""


def mend(container: str, leaves: list[Leaf]) -> str:
    """The line that registers what a container holds."""
    name = attribute(container)
    path = next((leaf.name.split(".") for leaf in leaves if name in leaf.name.split(".")), [])
    below = path[path.index(name) + 1 :] if path else []
    what = "Parameter" if len(below) == 1 else "Module"
    match kind(container):
        case "list" | "tuple" | "set" | "deque":
            return f"self.{name} = nn.{what}List(self.{name})"
        case "dict" | "OrderedDict" | "defaultdict":
            return f"self.{name} = nn.{what}Dict(self.{name})"
        case "variable":
            if below:
                return f"assign what `{name}` holds to attributes of the module that uses it"
            return f"self.{name} = nn.Parameter({name}) in the module that uses it"
        case _ if not below:
            return f"self.{name} = nn.Parameter(self.{name})"
        case _:
            return f"assign what `{name}` holds to attributes of the module, or self.register_parameter(name, tensor)"
