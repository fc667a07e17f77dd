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
FZ001 for it. A selector that names tensors which torch does not know of (layers in a plain list) is told by FZ105.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Hit, Need, Rule, Severity, Unmatched
from ._leaves import selects
from ._words import listing


def check(case: Case) -> Iterable[Hit]:
    """One finding a selector, so that each points at its own line."""
    leaves = [leaf.name for leaf in case.leaves if leaf.container and leaf.name]
    for unmatched in case.plan.unmatched:
        if not any(selects(unmatched.selector, leaf) for leaf in leaves):
            yield _hit(unmatched)


def _hit(unmatched: Unmatched) -> Hit:
    selector, nearest = unmatched.selector, unmatched.nearest
    message = (
        f"The selector `{selector.text}` under `{selector.list}` selects nothing of this model, so it has no effect."
    )
    if unmatched.hint:
        message += f" {unmatched.hint}"
    if nearest:
        message += f" The nearest {'name is' if len(nearest) == 1 else 'names are'} {listing(nearest)}."
        fix = f"write `{nearest[0]}` for `{selector.text}` under `{selector.list}`"
    else:
        fix = f"take `{selector.text}` out of `{selector.list}`; `freezecheck report` lists the model's layers"
    found = {"selector": selector.text, "list": selector.list, "nearest": list(nearest)}
    return Hit((), message, fix, found, selector.location)


RULE = Rule("FZ001", "unmatched-selector", Severity.ERROR, check, __doc__, needs=frozenset({Need.SPEC}))
