"""A parameter that should be frozen is trained.

## What it does

Finds parameters that are expected frozen, require grad, get a gradient and sit in an optimizer with a learning rate.
Without an optimizer of yours, the one that is made of all that requires grad counts.

## Why is this bad

The pretrained weights change from the first step. The loss falls all the same, so nothing shows it.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
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

A tensor of which some rows are trained on purpose (by a hook that sets the other rows' gradients to zero) has to be
listed as trainable or unchecked: the expectation is one for the whole tensor.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Facts, Hit, Need, Rule, Severity
from ._buffers import frozen_layer, in_eval
from ._frozen import fate
from ._words import during, group, largest, listing, memberships, names, number, set_flag, since, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for all such parameters."""
    trained = [fact for fact in case.frozen if fate(case, fact) == "moves"]
    if not trained:
        return
    who = tensors(names(trained))
    own = Need.OPTIMIZER not in case.missing
    by = memberships(case, trained) if own else "an optimizer over all that requires grad"
    far = largest(fact.max_abs_change for fact in trained if fact.moved)
    far_said = f" by up to {number(far)}" if far is not None else ""
    moved = f"moved {who.it}{far_said} {during(case)}" if any(f.moved for f in trained) else f"would move {who.it}"
    yield Hit(
        names(trained),
        f"{who} {who.are} expected frozen, but {who.pick('requires', 'require')} grad{since(trained)}, "
        f"{who.pick('gets', 'get')} a gradient, and {by} {moved}.{_only_eval(case, trained)}",
        set_flag(case, names(trained), False),
        {
            "gradient_max": largest(fact.gradient_max for fact in trained),
            "max_abs_change": far,
            "optimizers": by if own else None,
        },
        trained[0].flag_line,
    )


def _only_eval(case: Case, trained: list[Facts]) -> str:
    """Who put a layer in eval mode may have meant to freeze it by that."""
    by_layer = group(trained, key=lambda fact: frozen_layer(case, fact.tensor.owner))
    put = [layer for layer, facts in by_layer.items() if all(in_eval(case, fact.tensor.owner) for fact in facts)]
    if not put:
        return ""
    were = "was" if len(put) == 1 else "were"
    return f" {listing(layer or 'model' for layer in put)} {were} put in eval mode, but eval() freezes no parameter."


RULE = Rule(
    "FZ101",
    "frozen-requires-grad",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.PROBE}),
    swallows=("FZ108", "FZ301", "FZ401"),
)
