"""A selector of the spec selects nothing.

## What it does

Finds selectors in `trainable`, `frozen`, `unchecked`, `buffers_may_move` and `eval` that match no tensor and no layer.

## Why is this bad

A misspelled or outdated name checks nothing, and nobody notices: the layers it was meant for stay unwatched.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
model.backbone.requires_grad_(False)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbon"]
trainable = ["head"]
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
model.backbone.requires_grad_(False)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["head"]
```

## Known problems

One spec for several models may name layers that only some of them have. Give each model its own spec, or ignore
FZ001 for it. A selector that names tensors which torch does not know of (layers in a plain list) is told by FZ105 where
they train. What the nearest name would select is not judged by other rules until the selector is right; nor, where it
stands in `trainable` or `frozen`, are tensors that no selector names, of which only the rest is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from ..records import Case, Expected, Hidden, Hit, Leaf, Need, Rule, Selector, Severity, Unmatched
from ._leaves import LET_BE, mend, selects
from ._words import MANY, ancestors, listing, spec_line

_LISTS = {"trainable": Expected.TRAINABLE, "frozen": Expected.FROZEN, "unchecked": Expected.UNCHECKED}
"""What each of the lists expects that expect anything."""


def check(case: Case) -> Iterable[Hit]:
    """One finding a selector, so that each points at its own line."""
    for unmatched, hidden in _told(case):
        yield _of_hidden(unmatched.selector, hidden) if hidden else _hit(case, unmatched)


def misnamed(case: Case) -> Iterator[Unmatched]:
    """Yield the selectors told as wrong names; not those that mean a layer which torch does not know."""
    return (unmatched for unmatched, hidden in _told(case) if hidden is None)


def misjudged(case: Case, unmatched: Unmatched) -> tuple[str, ...]:
    """Return the tensors that the nearest name means and of which something else is expected without it."""
    said = _LISTS.get(unmatched.selector.list)
    meant = unmatched.meant
    if not meant and not unmatched.selector.text.startswith("!"):
        meant = tuple(_below(case, _of_class(case, unmatched.selector)))
    return tuple(name for name in meant if case.plan.expected.get(name) is not said)


def _told(case: Case) -> Iterator[tuple[Unmatched, Hidden | None]]:
    """Each selector that is told, with the layer it means where torch does not know that."""
    leaves = [leaf.name for leaf in case.leaves if leaf.container and leaf.name]
    for unmatched in case.plan.unmatched:
        hidden = next((one for one in case.hidden if selects(unmatched.selector, one.name)), None)
        if hidden and unmatched.selector.list in LET_BE:
            continue  # it says of a layer that torch does not know that it may do as it does
        if not any(selects(unmatched.selector, leaf) for leaf in leaves):
            yield unmatched, hidden


def _of_hidden(selector: Selector, hidden: Hidden) -> Hit:
    where, _, what = hidden.container.partition(", ")
    message = (
        f"The selector `{selector.text}` under `{selector.list}` selects nothing: the {hidden.type} that it means lies "
        f"in `{where}`, and torch does not look into {what}. model.train(), .eval(), .to() and state_dict() pass it "
        "over as well."
    )
    fix = mend(hidden.container, [Leaf(f"{hidden.name}.parameter", hidden.container)])
    return Hit((), message, fix, {"selector": selector.text, "list": selector.list}, selector.location)


def _of_class(case: Case, selector: Selector) -> list[str]:
    """Paths of the outermost layers of the class that `type:` names, where they hold tensors and own none.

    The root is meant only where there is no other: a model that is one Sequential is made of others.
    """
    kind, _, wanted = selector.text.removeprefix("!").partition(":")
    if kind != "type" or selector.list not in _LISTS:
        return []
    holders = {path for fact in case.facts for name in fact.tensor.names for path in ancestors(name)}
    layers = (one.layer for one in case.layers if one.name in holders)
    named = [layer.name for layer in layers if any(fnmatchcase(n, wanted) for n in (layer.type, *layer.bases))]
    inner = {path for path in named if path}
    return [path for path in named if path in inner and inner.isdisjoint(ancestors(path))] or named


def _below(case: Case, paths: list[str]) -> Iterator[str]:
    """Canonical names of the tensors that lie below these layers."""
    wanted = set(paths)
    for fact in case.facts:
        if any(not wanted.isdisjoint(ancestors(name)) for name in fact.tensor.names):
            yield fact.name


def _by_path(selector: Selector, paths: list[str]) -> str:
    """How to name layers of a class that own no tensors themselves."""
    if len(paths) > MANY:
        what = f"the {len(paths)} layers by their paths in place of `{selector.text}`"
        return f"name {what}: {listing(paths)} under `{selector.list}`"
    what = "the layer by its path" if len(paths) == 1 else "the layers by their paths"
    mark = "!" if selector.text.startswith("!") else ""
    written = spec_line(selector.list, [f"{mark}{path or '*'}" for path in paths])
    return f"name {what} in place of `{selector.text}`: {written}"


def _hit(case: Case, unmatched: Unmatched) -> Hit:
    selector, nearest, wrong = unmatched.selector, unmatched.nearest, misjudged(case, unmatched)
    message = (
        f"The selector `{selector.text}` under `{selector.list}` selects nothing of this model, so it has no effect."
    )
    if unmatched.hint:
        message += f" {unmatched.hint}"
    if nearest:
        message += f" The nearest {'name is' if len(nearest) == 1 else 'names are'} {listing(nearest)}."
        without = {str(case.plan.expected[name]) for name in wrong}
        if len(without) == 1 and selector.list in _LISTS:
            message += f" As it stands, `{nearest[0]}` is expected {without.pop()}."
        fix = f"write `{nearest[0]}` for `{selector.text}` under `{selector.list}`"
    elif paths := _of_class(case, selector):
        fix = _by_path(selector, paths)
    else:
        fix = f"take `{selector.text}` out of `{selector.list}`; `freezecheck report` lists the model's layers"
    found = {"selector": selector.text, "list": selector.list, "nearest": list(nearest)}
    return Hit((), message, fix, found, selector.location, covers=wrong)


RULE = Rule(
    "FZ001",
    "unmatched-selector",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.SPEC}),
    swallows=(
        *("FZ101", "FZ102", "FZ106", "FZ107", "FZ108", "FZ201", "FZ202", "FZ203", "FZ205", "FZ301", "FZ302", "FZ303"),
        *("FZ401", "FZ402", "FZ405", "FZ501", "FZ502", "FZ701", "FZ702", "FZ704"),
    ),
)
