"""A parameter is frozen only because no optimizer holds it.

## What it does

Finds parameters that are expected frozen, require grad, get a gradient and sit in no optimizer.

## Why is this bad

Backward computes their gradients and keeps them: memory and time for nothing. `clip_grad_norm_(model.parameters())`
counts them, so the parameters that do train are clipped too hard; `optimizer.zero_grad()` never clears them, so they
grow with every step.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
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

Gradients may be wanted without training (Grad-CAM, saliency). List such layers as `unchecked`, or ignore FZ108.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Hit, Need, Rule, Severity
from ._frozen import fate
from ._words import during, largest, names, number, set_flag, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for all such parameters."""
    kept = [fact for fact in case.frozen if fate(case, fact) == "no optimizer"]
    if not kept:
        return
    who = tensors(names(kept))
    size = largest(fact.gradient_max for fact in kept)
    up_to = f" (up to {number(size)} {during(case)})" if size is not None else ""
    yield Hit(
        names(kept),
        f"{who} {who.are} expected frozen, and {who.are} held only by being in no optimizer: "
        f"backward computes and keeps {who.pick('its gradient', 'their gradients')}{up_to}, optimizer.zero_grad() does "
        f"not clear {who.it}, and gradient clipping over model.parameters() counts {who.it}.",
        set_flag(case, names(kept), False),
        {"gradient_max": size},
    )


RULE = Rule(
    "FZ108",
    "gradient-without-optimizer",
    Severity.WARNING,
    check,
    __doc__,
    needs=frozenset({Need.OPTIMIZER, Need.PROBE}),
)
