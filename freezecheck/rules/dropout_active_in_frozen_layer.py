"""Dropout is active inside a frozen layer.

## What it does

Notes layers that drop what they compute with a probability above 0 (dropout, stochastic depth, an LSTM or an attention
with a dropout of its own) and run in train mode inside a layer that is expected frozen.

## Why is this bad

It need not be: some want the noise. But the frozen layer then gives other features for the same input at every step,
and features that were computed once and kept are not what training sees.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1)))
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

## Use instead

```python
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.backbone(x))

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self


model = Net()
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

Dropout that a layer of your own or of a library calls as a function (`F.dropout`) is not seen. Inside a model that PEFT
adapts nothing is said: there dropout in the frozen layers is the usual way to train.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Hit, LayerFacts, Need, Rule, Severity
from ._buffers import eval_calls, frozen_layer
from ._peft import adapted
from ._words import FEW, ancestors, in_spec, listing, span, spec_line


def check(case: Case) -> Iterable[Hit]:
    """One note over all such layers."""
    active = [
        layer
        for layer in case.layers
        if layer.layer.dropout and layer.training and _in_frozen(case, layer) and not adapted(case, layer.name)
    ]
    if not active:
        return
    around = tuple(dict.fromkeys(frozen_layer(case, layer.name) for layer in active))
    one = len(active) == 1
    which = _one(active[0]) if one else f"{len(active):,} dropout layers ({listing(layer.name for layer in active)})"
    inside = listing(name or "model" for name in around) if len(around) <= FEW else f"{len(around):,} layers"
    yield Hit(
        (),
        f"{which} of the frozen {inside} {'is' if one else 'are'} active in training "
        f"(p = {span(layer.layer.dropout or 0.0 for layer in active)}): {'it makes' if one else 'they make'} what is "
        "frozen give other outputs for the same input at every step.",
        f"{eval_calls(around)} after every model.train(); in the spec {in_spec('eval', around)} if the loop does that "
        f"already, or `{spec_line('ignore', ['FZ503'])}` if it is meant",
        {"layers": [layer.name for layer in active]},
    )


def _one(layer: LayerFacts) -> str:
    kind = layer.layer.type
    return f"{'' if 'drop' in kind.lower() or 'depth' in kind.lower() else 'The dropout of '}{kind} `{layer.name}`"


def _in_frozen(case: Case, layer: LayerFacts) -> bool:
    """Whether it, or else the nearest layer around it that has parameters, is expected frozen."""
    for name in (layer.name, *reversed(list(ancestors(layer.name)))):
        around = case.layer_of.get(name)
        if around is not None and around.expected != "none":
            return around.expected == "frozen"
    return False


RULE = Rule("FZ503", "dropout-active-in-frozen-layer", Severity.NOTE, check, __doc__, needs=frozenset({Need.PROBE}))
