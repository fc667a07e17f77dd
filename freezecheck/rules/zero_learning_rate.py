"""A parameter that should train has learning rate 0.

## What it does

Finds parameters that are expected trainable and whose groups had learning rate 0 in every step.

## Why is this bad

They get gradients, they are in the optimizer, and they never move.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("neck", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
optimizer = torch.optim.SGD(
    [{"params": model.neck.parameters(), "lr": 0.0}, {"params": model.head.parameters()}], lr=0.1
)


def example_inputs():
    return torch.randn(3, 4)
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("neck", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
optimizer = torch.optim.SGD(
    [{"params": model.neck.parameters(), "lr": 0.01}, {"params": model.head.parameters()}], lr=0.1
)


def example_inputs():
    return torch.randn(3, 4)
```

## Known problems

A warm-up that is still at 0 after all watched steps is reported: watch more of them (`--steps`). One that rises within
them is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..records import Case, Facts, Hit, Need, Rule, Severity
from ._words import exact_parts, group, groups_in, in_spec, names, optimizer_line, tensors, throughout


def check(case: Case) -> Iterable[Hit]:
    """One finding for the parameters of the same optimizers."""
    held = (fact for fact in case.trainable if fact.tensor.requires_grad and fact.lr == 0)
    for facts in group(held, key=_optimizers).values():
        who = tensors(names(facts))
        found = sorted({(m.optimizer, m.group) for fact in facts for m in fact.memberships})
        where = groups_in(case, found)
        parts = exact_parts(case, names(facts))
        yield Hit(
            names(facts),
            f"{who} {who.are} expected trainable, but {who.pick('sits', 'sit')} in {where}, with a learning rate "
            f"of 0 {throughout(case)}.",
            f"give {where} an lr above 0{_or_frozen(parts)}",
            {"groups": [place for _, place in found]},
            optimizer_line(case, (index for index, _ in found)),
        )


def _or_frozen(parts: Sequence[str]) -> str:
    """Nobody freezes the whole model by its learning rate."""
    return f"; if this is how you freeze, say so in the spec: {in_spec('frozen', parts)}" if "" not in parts else ""


def _optimizers(fact: Facts) -> tuple[int, ...]:
    return tuple(sorted({m.optimizer for m in fact.memberships}))


RULE = Rule(
    "FZ405",
    "zero-learning-rate",
    Severity.WARNING,
    check,
    __doc__,
    needs=frozenset({Need.OPTIMIZER}),
    swallows=("FZ302", "FZ303"),
)
