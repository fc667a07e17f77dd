"""A frozen parameter still carries a gradient from before it was frozen.

## What it does

Finds parameters that are frozen and whose `.grad` is not None when the check begins.

## Why is this bad

An optimizer passes over a parameter only while its `.grad` is None. With a tensor there, also one of zeros, weight
decay and momentum go on moving it: at the first `step()` before a `zero_grad()`, and at every one after
`zero_grad(set_to_none=False)`.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
model(torch.randn(3, 4)).sum().backward()
model.backbone.requires_grad_(False)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


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
model(torch.randn(3, 4)).sum().backward()
model.backbone.requires_grad_(False)
model.zero_grad(set_to_none=True)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["head"]
```

## Known problems

None known.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Facts, Hit, Rule, Severity
from ._words import clear_gradients, group, memberships, names, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for those that momentum or weight decay moves, one for others in an optimizer, one for the rest."""
    stale = (f for f in case.frozen if f.tensor.had_gradient and not f.tensor.requires_grad)
    for danger, facts in group(stale, key=_danger).items():
        who = tensors(names(facts))
        yield Hit(
            names(facts),
            f"{who} {who.are} frozen, but {who.its} .grad still holds a tensor. {_told(case, danger, facts)}",
            clear_gradients(case, names(facts)),
            {"danger": danger, "optimizers": memberships(case, facts) or None},
        )


def _danger(fact: Facts) -> str:
    if any(m.weight_decay or m.momentum or m.beta for m in fact.memberships):
        return "decay or memory"
    return "next step" if fact.memberships else "clipping"


def _told(case: Case, danger: str, facts: list[Facts]) -> str:
    one = len(facts) == 1
    it, sits = ("it", "It sits") if one else ("them", "They sit")
    match danger:
        case "decay or memory":
            return (
                f"{sits} in {memberships(case, facts)}, which moves {it} at every step as long as .grad is not None, "
                "be it of zeros: zero_grad(set_to_none=False) does not help."
            )
        case "next step":
            return f"{sits} in {memberships(case, facts)}: a step() before the next zero_grad() moves {it}."
        case _:
            return (
                f"{sits} in no optimizer, so nothing moves {it}, but gradient clipping counts it and it keeps memory."
            )


RULE = Rule("FZ203", "stale-gradient", Severity.WARNING, check, __doc__)
