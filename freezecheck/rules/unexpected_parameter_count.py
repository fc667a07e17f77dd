"""The number of trainable or frozen parameters is not the one the spec locks.

## What it does

Compares `[expect] trainable_parameters` and `frozen_parameters` with the elements that require grad and that do not,
tied tensors counted once.

## Why is this bad

A count that changed means that the model or the freezing changed, also where no list of the spec names the layer.

## Example

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
trainable = ["head"]

[expect]
trainable_parameters = 16
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
trainable = ["head"]

[expect]
trainable_parameters = 18
frozen_parameters = 40
```

## Known problems

The count says that something changed, not what. `freezecheck report` shows the counts layer by layer. Of a lazy layer
the sizes are not known before its first forward: there `report` judges no count.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Hit, Need, Rule, Severity


def check(case: Case) -> Iterable[Hit]:
    """One finding for both counts: they stand in one table of the spec."""
    locked, root = case.plan.counts, case.layer_of.get("")
    if locked is None or root is None or any(not f.tensor.shape and not f.tensor.numel for f in case.parameters):
        return
    pairs = (
        ("trainable_parameters", locked.trainable_parameters, root.trainable),
        ("frozen_parameters", locked.frozen_parameters, root.frozen),
    )
    wrong = [(key, said, seen) for key, said, seen in pairs if said is not None and said != seen]
    if wrong:
        told = " and ".join(
            f"`{key}` is {seen:,} where the spec says {said:,} ({seen - said:+,})" for key, said, seen in wrong
        )
        right = " and ".join(f"{key} = {seen:_}" for key, _, seen in wrong)
        yield Hit(
            (),
            f"{told}. Something was frozen, unfrozen, added or taken away since the count was locked.",
            f"`freezecheck report` shows which layer it is; if the new count is right, write {right} under [expect]",
            {key: {"expected": said, "actual": seen} for key, said, seen in wrong},
            locked.location,
        )


RULE = Rule("FZ003", "unexpected-parameter-count", Severity.ERROR, check, __doc__, needs=frozenset({Need.SPEC}))
