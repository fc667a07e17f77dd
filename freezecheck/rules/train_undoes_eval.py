"""`model.train()` put a frozen layer back into train mode, and its buffers move.

## What it does

As FZ501, for layers that were found in eval mode beside a model in train mode: somebody called `layer.eval()` once, and
`model.train()` undid it.

## Why is this bad

`model.train()` sets the mode of every layer below it. One `eval()` before the loop holds until the first `train()`, and
the statistics of the frozen BatchNorm move from then on.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)))
model.add_module("head", nn.Linear(8, 2))
model.backbone.requires_grad_(False)
model.backbone.eval()
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["head"]
```

## Use instead

When the loop calls `model.backbone.eval()` after each `model.train()`, say so in the spec:

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)))
model.add_module("head", nn.Linear(8, 2))
model.backbone.requires_grad_(False)
model.backbone.eval()
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["head"]
eval = ["backbone"]
```

## Known problems

`verify` cannot see your loop and calls `model.train()` as loops do; `freezecheck run` watches the loop itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Hit, Need, Rule, Severity
from ._buffers import by_frozen_layer, drifting, keep_eval, owners, seen, undone, whose
from ._words import names, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding over all frozen layers that a train() woke."""
    facts = [fact for fact in drifting(case) if undone(case, fact)]
    if not facts:
        return
    layers = tuple(by_frozen_layer(case, facts))
    who, put_back = tensors(names(facts), "buffer"), owners(case, facts)
    yield Hit(
        names(facts),
        f"model.train() undid the eval mode of {whose(put_back)}: {who}, expected frozen, {seen(case, facts)}.",
        keep_eval(layers),
        {"layers": list(layers), "types": sorted({owner.layer.type for owner in put_back})},
    )


RULE = Rule("FZ502", "train-undoes-eval", Severity.ERROR, check, __doc__, needs=frozenset({Need.PROBE}))
