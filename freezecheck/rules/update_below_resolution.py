"""A parameter does not move because its update is smaller than its dtype can resolve.

## What it does

Finds parameters that are expected trainable and did not move, and whose update, computed in float64, is less than half
the way to the next number of their dtype.

## Why is this bad

A bfloat16 weight of 1.0 can go to 1.0078 and to nothing in between: a step of 1e-4 is rounded away, every time, and the
weight keeps its value for ever.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("norm", nn.RMSNorm(8))
model.to(torch.bfloat16)
model.backbone.requires_grad_(False)
optimizer = torch.optim.AdamW(model.norm.parameters(), lr=1e-5, weight_decay=0.0)


def example_inputs():
    return torch.randn(3, 4, dtype=torch.bfloat16)
```

```toml
frozen = ["backbone"]
trainable = ["norm"]
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("norm", nn.RMSNorm(8))
model.backbone.requires_grad_(False)
optimizer = torch.optim.AdamW(model.norm.parameters(), lr=1e-5, weight_decay=0.0)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["norm"]
```

## Known problems

With the very small learning rates of reinforcement learning, most bfloat16 weights stay where they are in one step and
move over many. A tensor is reported only when not a single element of it moved. In float32 and float64 a tensor whose
first gradient was zero (LoRA's `A`, while `B` leaves zero) is passed over: its gradient is still growing.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Facts, Hit, Need, Rule, Severity, Update
from ._still import below_resolution, still
from ._words import FEW, code, during, group, memberships, names, number, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for each dtype."""
    held = (fact for fact in still(case) if below_resolution(fact))
    return (_hit(case, dtype, facts) for dtype, facts in group(held, key=lambda f: f.tensor.dtype).items())


def _hit(case: Case, dtype: str, facts: list[Facts]) -> Hit:
    # The tensor that comes nearest to moving bounds all the others.
    closest = max(facts, key=_reach)
    update = closest.update or Update(0.0, 0.0)
    who = tensors(names(facts))
    whose = who.pick("its step is", f"in `{closest.name}`, which comes nearest, the step is")
    message = (
        f"{who} {who.are} expected trainable and {who.pick('gets', 'get')} a gradient, but did not move "
        f"{during(case)}: {whose} {number(update.size)}, the next {dtype} number is {number(update.resolution)} away, "
        "and less than half of that rounds to nothing. "
        f"{who.pick('It sits', 'They sit')} in {memberships(case, facts)}."
    )
    return Hit(
        names(facts),
        message,
        _fix(facts, closest, update),
        {"dtype": dtype, "update": update.size, "resolution": update.resolution},
    )


def _fix(facts: list[Facts], closest: Facts, update: Update) -> str:
    """A finer dtype first where there is one to be had: the learning rate that it takes seldom trains the rest."""
    lr, factor = closest.lr or 0.0, update.resolution / 2 / update.size
    if closest.tensor.dtype in ("float32", "float64"):
        return f"raise lr above {number(lr * factor)}" if lr == lr else "take an optimizer with a larger step"
    owners = dict.fromkeys(fact.tensor.owner for fact in facts)
    few = "; ".join(f"{code(owner)}.float()" for owner in owners)
    cast = few if len(owners) <= FEW else "cast what trains to float32"
    alone = f" (lr alone would have to be above {number(lr * factor)}, {number(factor)} times what it is)"
    return (
        f"{cast} before the optimizer is made, and compute under torch.autocast; or an optimizer that keeps float32 "
        f"master weights or rounds stochastically{alone if lr == lr else ''}"
    )


def _reach(fact: Facts) -> float:
    return fact.update.size / fact.update.resolution if fact.update else 0.0


RULE = Rule(
    "FZ303",
    "update-below-resolution",
    Severity.WARNING,
    check,
    __doc__,
    needs=frozenset({Need.OPTIMIZER, Need.PROBE, Need.VALUES}),
)
