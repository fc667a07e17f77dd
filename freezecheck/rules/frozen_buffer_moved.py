"""A buffer of a frozen layer changes while the model trains.

## What it does

Compares the buffers that are expected frozen (BatchNorm's running statistics, the vectors of spectral norm) byte by
byte before and after the steps.

## Why is this bad

`requires_grad` knows nothing of buffers. In train mode a BatchNorm follows each batch, so the "frozen" backbone gives
other features after every step, and the statistics of the pretraining are lost.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)))
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
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
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

Letting the statistics adapt to new data is a choice that works well for some: name the layers in `buffers_may_move`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Facts, Hit, Need, Rule, Severity, Write
from ._buffers import by_design, by_frozen_layer, drifting, keep_eval, may_move, owners, seen, undone, whose
from ._words import as_json, group, names, spec_line, tensors, wrote


def check(case: Case) -> Iterable[Hit]:
    """One finding over all layers that run in train mode, and one for each whose buffers move all the same."""
    moved = group([fact for fact in drifting(case) if not undone(case, fact)], key=lambda fact: _by_mode(case, fact))
    if moved.get(True):
        yield _trained(case, tuple(by_frozen_layer(case, moved[True])), moved[True])
    for layer, facts in by_frozen_layer(case, moved.get(False, [])).items():
        yield _written(case, layer, facts)


def _by_mode(case: Case, fact: Facts) -> bool:
    """Whether its layer ran in train mode, which eval mode would mend."""
    layer = case.layer_of.get(fact.tensor.owner)
    return layer is None or layer.training is not False


def _trained(case: Case, layers: tuple[str, ...], facts: list[Facts]) -> Hit:
    who, trained = tensors(names(facts), "buffer"), owners(case, facts)
    ran = f": {whose(trained)} {'runs' if len(trained) == 1 else 'run'} in train mode" if trained else ""
    return Hit(
        names(facts),
        f"{who} {who.are} expected frozen, but {seen(case, facts)}{ran}. requires_grad does not hold buffers.",
        keep_eval(layers) if by_design(case, facts) else may_move(facts),
        {"layers": list(layers), "types": sorted({owner.layer.type for owner in trained})},
    )


def _written(case: Case, layer: str, facts: list[Facts]) -> Hit:
    who = tensors(names(facts), "buffer")
    writes: list[Write] = list(dict.fromkeys(write for fact in facts for write in fact.writes))
    by = f": {wrote(writes, who.it)}" if writes else ""
    return Hit(
        names(facts),
        f"{who} {who.are} expected frozen and in eval mode, but {seen(case, facts)}{by}.",
        f"take the write out, or `{spec_line('buffers_may_move', [layer])}` if it is meant to move",
        {"layer": layer, "writes": [as_json(write.location) for write in writes]},
        next((write.location for write in writes if write.location), None),
    )


RULE = Rule("FZ501", "frozen-buffer-moved", Severity.ERROR, check, __doc__, needs=frozenset({Need.PROBE}))
