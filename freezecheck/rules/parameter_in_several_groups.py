"""A parameter sits in several groups or optimizers.

## What it does

Finds parameters that more than one parameter group holds, in one optimizer or in several.

## Why is this bad

Each of them steps it, with its own learning rate and its own momentum: it moves twice for one gradient.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("body", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))


def build_optimizer(model):
    return [torch.optim.SGD(model.parameters(), lr=0.1), torch.optim.Adam(model.head.parameters(), lr=1e-3)]


def example_inputs():
    return torch.randn(3, 4)
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("body", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))


def build_optimizer(model):
    return [torch.optim.SGD(model.body.parameters(), lr=0.1), torch.optim.Adam(model.head.parameters(), lr=1e-3)]


def example_inputs():
    return torch.randn(3, 4)
```

## Known problems

Optimizers that take turns over the same parameters on purpose are reported: list these as `unchecked`. An optimizer
around another one that shares its very groups (SAM, Lookahead) counts as one.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Expected, Hit, Membership, Need, Rule, Severity
from ._words import group, names, number, optimizer_line, optimizer_name, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for the parameters that sit in the same groups."""
    several = (f for f in case.parameters if len(f.memberships) > 1 and f.expected is not Expected.UNCHECKED)
    for members, facts in group(several, key=lambda f: f.memberships).items():
        who = tensors(names(facts))
        where = " and ".join(_told(case, member) for member in members)
        times = "twice" if len(members) == 2 else f"{len(members)} times"
        yield Hit(
            names(facts),
            f"{who} {who.pick('sits', 'sit')} in {where}: one gradient moves {who.it} {times}.",
            "give each parameter to one group of one optimizer",
            {"groups": [{"optimizer": m.optimizer, "group": m.group, "lr": m.lr} for m in members]},
            optimizer_line(case, [members[-1].optimizer]),
        )


def _told(case: Case, member: Membership) -> str:
    return f"group {member.group} ({optimizer_name(case, member.optimizer)}, lr {number(member.lr)})"


RULE = Rule(
    "FZ404",
    "parameter-in-several-groups",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.OPTIMIZER}),
)
