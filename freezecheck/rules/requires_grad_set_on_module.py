"""`requires_grad` was assigned to a module, where it has no effect.

## What it does

Finds modules that carry an attribute `requires_grad` while their parameters' flags say otherwise.

## Why is this bad

`requires_grad` belongs to tensors. On a module the assignment makes a new, unused attribute and nothing is frozen.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
model.backbone.requires_grad = False
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)


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
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["head"]
```

## Known problems

A class that keeps a `requires_grad` of its own and sets the parameters' flags from it is right, and not reported as
long as the flags agree.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Hit, Rule, Severity
from ._strays import grouped, hit, on_module


def check(case: Case) -> Iterable[Hit]:
    """One finding for each value assigned."""
    why = "a module has no `requires_grad`; the method `requires_grad_()` sets it on each of its parameters"
    return (hit(case, strays, why) for strays in grouped(stray for stray in case.strays if on_module(stray)))


RULE = Rule(
    "FZ104",
    "requires-grad-set-on-module",
    Severity.ERROR,
    check,
    __doc__,
    swallows=("FZ101", "FZ102", "FZ107", "FZ108", "FZ301", "FZ401"),
)
