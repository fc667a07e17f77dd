"""A look-alike of `requires_grad` was assigned, and torch ignores it.

## What it does

Finds parameters and modules that carry an attribute such as `require_grad`, `requires_grads` or `required_grad`, or an
overwritten `requires_grad_`, where the real flag says otherwise; also Keras' `trainable = False` on a layer whose class
knows no such word.

## Why is this bad

Python accepts any attribute, torch never reads it, and the parameter goes on as before. No warning is given.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
for parameter in model.backbone.parameters():
    parameter.require_grad = False
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
for parameter in model.backbone.parameters():
    parameter.requires_grad = False
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["head"]
```

## Known problems

A stray attribute whose parameters have the meant flag all the same is not reported: it changed nothing for the worse.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Hit, Rule, Severity
from ._strays import grouped, hit, on_module


def check(case: Case) -> Iterable[Hit]:
    """One finding for each attribute and value."""
    for strays in grouped(stray for stray in case.strays if not on_module(stray)):
        attribute = strays[0].attribute
        if attribute == "requires_grad_":
            why = "`requires_grad_` is a method, and assigning to it only hides it"
        else:
            why = f"torch knows `requires_grad`, and no `{attribute}`"
        yield hit(case, strays, why)


RULE = Rule(
    "FZ103",
    "misspelled-requires-grad",
    Severity.ERROR,
    check,
    __doc__,
    swallows=("FZ101", "FZ102", "FZ107", "FZ108", "FZ301", "FZ401"),
)
