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
they train. What the nearest name would select is not judged by other rules until the selector is right.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Expected, Hidden, Hit, Leaf, Need, Rule, Selector, Severity, Unmatched
from ._leaves import LET_BE, mend, selects
from ._words import listing

_LISTS = {"trainable": Expected.TRAINABLE, "frozen": Expected.FROZEN, "unchecked": Expected.UNCHECKED}
"""What each of the lists expects that expect anything."""


def check(case: Case) -> Iterable[Hit]:
    """One finding a selector, so that each points at its own line."""
    leaves = [leaf.name for leaf in case.leaves if leaf.container and leaf.name]
    for unmatched in case.plan.unmatched:
        hidden = next((one for one in case.hidden if selects(unmatched.selector, one.name)), None)
        if hidden and unmatched.selector.list in LET_BE:
            continue  # it says of a layer that torch does not know that it may do as it does
        if not any(selects(unmatched.selector, leaf) for leaf in leaves):
            yield _of_hidden(unmatched.selector, hidden) if hidden else _hit(case, unmatched)


def _of_hidden(selector: Selector, hidden: Hidden) -> Hit:
    where, _, what = hidden.container.partition(", ")
    message = (
        f"The selector `{selector.text}` under `{selector.list}` selects nothing: the {hidden.type} that it means lies "
        f"in `{where}`, and torch does not look into {what}. model.train(), .eval(), .to() and state_dict() pass it "
        "over as well."
    )
    fix = mend(hidden.container, [Leaf(f"{hidden.name}.parameter", hidden.container)])
    return Hit((), message, fix, {"selector": selector.text, "list": selector.list}, selector.location)


def _misjudged(case: Case, unmatched: Unmatched) -> tuple[str, ...]:
    """The tensors that the nearest name means and of which something else is expected without it."""
    said = _LISTS.get(unmatched.selector.list)
    return tuple(name for name in unmatched.meant if case.plan.expected.get(name) is not said)


def _hit(case: Case, unmatched: Unmatched) -> Hit:
    selector, nearest, misjudged = unmatched.selector, unmatched.nearest, _misjudged(case, unmatched)
    message = (
        f"The selector `{selector.text}` under `{selector.list}` selects nothing of this model, so it has no effect."
    )
    if unmatched.hint:
        message += f" {unmatched.hint}"
    if nearest:
        message += f" The nearest {'name is' if len(nearest) == 1 else 'names are'} {listing(nearest)}."
        without = {str(case.plan.expected[name]) for name in misjudged}
        if len(without) == 1 and selector.list in _LISTS:
            message += f" As it stands, `{nearest[0]}` is expected {without.pop()}."
        fix = f"write `{nearest[0]}` for `{selector.text}` under `{selector.list}`"
    else:
        fix = f"take `{selector.text}` out of `{selector.list}`; `freezecheck report` lists the model's layers"
    found = {"selector": selector.text, "list": selector.list, "nearest": list(nearest)}
    return Hit((), message, fix, found, selector.location, covers=misjudged)


RULE = Rule(
    "FZ001",
    "unmatched-selector",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.SPEC}),
    swallows=(
        *("FZ101", "FZ102", "FZ107", "FZ108", "FZ201", "FZ202", "FZ301", "FZ302", "FZ303"),
        *("FZ401", "FZ402", "FZ405", "FZ501", "FZ502"),
    ),
)
