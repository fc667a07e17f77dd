"""A buffer of a frozen layer changes while the model trains.

## What it does

Compares the buffers that are expected frozen (BatchNorm's running statistics, the vectors of spectral norm) byte by
byte before and after the steps. It looks at layers in a plain list as well, which torch does not know: their statistics
move just the same.

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
A buffer that only grew, and begins with what it was, counts as a cache of positions; so a memory bank that every
forward appends to is not told.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Facts, Hidden, Hit, Leaf, Need, Rule, Severity, Write
from ._buffers import by_design, by_frozen_layer, drifting, keep_eval, may_move, owners, powered, seen, undone, whose
from ._leaves import LET_BE, attribute, mend, selects
from ._words import as_json, during, group, listing, names, spec_line, tensors, wrote


def check(case: Case) -> Iterable[Hit]:
    """One finding over all layers that run in train mode, and one for each whose buffers move all the same."""
    moved = group([fact for fact in drifting(case) if not undone(case, fact)], key=lambda fact: _by_mode(case, fact))
    if moved.get(True):
        yield _trained(case, tuple(by_frozen_layer(case, moved[True])), moved[True])
    for layer, facts in by_frozen_layer(case, moved.get(False, [])).items():
        yield _written(case, layer, facts)
    left = [unmatched.selector for unmatched in case.plan.unmatched if unmatched.selector.list in LET_BE]
    for container, layers in group((h for h in case.hidden if h.moved), key=lambda h: h.container).items():
        known = [one for one in layers if not any(selects(selector, one.name) for selector in left)]
        if known:
            yield _hidden(case, container, known)


def _hidden(case: Case, container: str, layers: list[Hidden]) -> Hit:
    moved = [name for layer in layers for name in layer.moved]
    who, (where, _, what) = tensors(moved, "buffer"), container.partition(", ")
    register = mend(container, [Leaf(f"{layer.name}.parameter", container) for layer in layers])
    return Hit(
        tuple(moved),
        f"{who} changed {during(case)}: no parameter beside {who.it} trains, but {who.pick('its', 'their')} layers run "
        f"in train mode. They lie in `{where}`, and torch does not look into {what}, so model.eval() does not reach "
        "them either.",
        f"call .eval() on what `{attribute(container)}` holds; if it is to be part of the model, {register}",
        {"container": container, "layers": [layer.name for layer in layers]},
    )


def _by_mode(case: Case, fact: Facts) -> bool:
    """Whether its layer ran in train mode, which eval mode would mend."""
    layer = case.layer_of.get(fact.tensor.owner)
    return layer is None or layer.training is not False


def _trained(case: Case, layers: tuple[str, ...], facts: list[Facts]) -> Hit:
    who, trained = tensors(names(facts), "buffer"), owners(case, facts)
    ran = (
        f": {whose(trained)} {'runs' if len(trained) == 1 else 'run'} in train mode{powered(trained)}"
        if trained
        else ""
    )
    by_hand = [fact for fact in facts if fact.writes and not by_design(case, [fact])]
    writes = _writes(by_hand)
    by = f" {wrote(writes, tensors(names(by_hand), 'buffer').text)}." if writes else ""
    return Hit(
        names(facts),
        f"{who} {who.are} expected frozen, but {seen(case, facts)}{ran}. requires_grad does not hold buffers.{by}",
        keep_eval(layers) if by_design(case, facts) else may_move(layers, facts),
        {"layers": list(layers), "types": sorted({owner.layer.type for owner in trained})},
        next((write.location for write in writes if write.location), None),
    )


def _writes(facts: list[Facts]) -> list[Write]:
    return list(dict.fromkeys(write for fact in facts for write in fact.writes))


def _written(case: Case, layer: str, facts: list[Facts]) -> Hit:
    who = tensors(names(facts), "buffer")
    writes = _writes(facts)
    layers = [owner.layer for owner in owners(case, facts) if owner.layer.defined_at]
    by, out = f": {wrote(writes, who.it)}" if writes else "", "take the write out"
    if layers and not writes:
        whose_line, new = listing(dict.fromkeys(one.type for one in layers)), who.pick("a new tensor", "new tensors")
        by = f". No write in place was seen: a line of {whose_line} puts {new} there"
        out = "take that line out"
    if all(write.phase == "forward" for write in writes) and (writes or layers):
        out += " or put it under `if self.training:`"
    return Hit(
        names(facts),
        f"{who} {who.are} expected frozen and in eval mode, but {seen(case, facts)}{by}.",
        f"{out}, or `{spec_line('buffers_may_move', [layer])}` if it is meant to move",
        {"layer": layer, "writes": [as_json(write.location) for write in writes]},
        next(filter(None, (*(write.location for write in writes), *(one.defined_at for one in layers))), None),
    )


RULE = Rule("FZ501", "frozen-buffer-moved", Severity.ERROR, check, __doc__, needs=frozenset({Need.PROBE}))
