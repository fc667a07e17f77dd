"""Two lists of the spec select the same tensor.

## What it does

Notes tensors that `trainable` and `frozen`, or one of them and `unchecked`, both select. `unchecked` beats `trainable`
beats `frozen`. A bare `*` is meant as "all the rest" and is not noted.

## Why is this bad

It is not wrong, but whoever reads one list alone is misled about what the spec says.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8)))
model.add_module("head", nn.Linear(8, 2))
model.backbone[0].requires_grad_(False)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["head", "backbone.1"]
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8)))
model.add_module("head", nn.Linear(8, 2))
model.backbone[0].requires_grad_(False)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone", "!backbone.1"]
trainable = ["head", "backbone.1"]
```

## Known problems

None known.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Hit, Need, Overlap, Rule, Severity
from ._words import tensors


def check(case: Case) -> Iterable[Hit]:
    """One note a pair of selectors."""
    return (_hit(overlap) for overlap in case.plan.overlaps if "*" not in (overlap.stronger.text, overlap.weaker.text))


def _hit(overlap: Overlap) -> Hit:
    strong, weak = overlap.stronger, overlap.weaker
    who = tensors(overlap.tensors, "tensor")
    message = (
        f"`{strong.text}` under `{strong.list}` and `{weak.text}` under `{weak.list}` both select {who}; "
        f"`{strong.list}` wins."
    )
    fix = f'{weak.list} = [..., "{weak.text}", "!{strong.text}"] says the same without the overlap'
    found = {
        "stronger": {"list": strong.list, "selector": strong.text},
        "weaker": {"list": weak.list, "selector": weak.text},
    }
    return Hit(overlap.tensors, message, fix, found, strong.location)


RULE = Rule("FZ004", "overlapping-selectors", Severity.NOTE, check, __doc__, needs=frozenset({Need.SPEC}))
