"""A parameter had all it needs to train and did not move.

## What it does

Finds parameters that are expected trainable, sit in an optimizer with a learning rate and get a gradient, and of which
no byte changed in any step; also the rows of a parameter that a spec trains in part (`embed.weight[32000:]`).

## Why is this bad

Everything looks right and the layer does not learn: the step is skipped, or something writes the old values back.

## Example

```python
import torch
from torch import nn


class Accumulating(torch.optim.SGD):
    calls = 0

    def step(self, closure=None):
        self.calls += 1
        if self.calls % 1000 == 0:
            super().step(closure)


model = nn.Linear(4, 2)
optimizer = Accumulating(model.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

## Use instead

```python
import torch
from torch import nn

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

## Known problems

Training that makes its first real step after the watched ones (gradient accumulation, a gradient scaler that still
looks for its scale) has not moved anything yet: watch more steps.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Hit, Need, Rule, Severity
from ._rows import still_rows
from ._still import below_resolution, still
from ._words import as_json, during, group, largest, memberships, names, number, tensors, wrote


def check(case: Case) -> Iterable[Hit]:
    """One finding for those that are written to elsewhere at the same places, and one for the rest."""
    held = (fact for fact in still(case) if not below_resolution(fact))
    for writes, facts in group(held, key=lambda f: f.writes).items():
        who = tensors(names(facts))
        size = largest(fact.gradient_max for fact in facts)
        up_to = f" (up to {number(size)})" if size is not None else ""
        message = (
            f"{who} {who.are} expected trainable, {who.pick('sits', 'sit')} in {memberships(case, facts)} and "
            f"{who.pick('gets', 'get')} a gradient{up_to}, but not one byte changed {during(case)}."
        )
        fix = "look whether step() is really called: a gradient scaler, an accumulation count or a closure may skip it"
        if writes:
            message += f" {wrote(writes, who.it)} as well."
            fix = "take out the write that puts the old values back"
        found = {"gradient_max": size, "writes": [as_json(write.location) for write in writes]}
        yield Hit(names(facts), message, fix, found, writes[0].location if writes else None)
    yield from still_rows(case)


RULE = Rule(
    "FZ302",
    "trainable-parameter-did-not-move",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.OPTIMIZER, Need.PROBE, Need.VALUES}),
)
