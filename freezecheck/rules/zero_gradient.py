"""A parameter that should train gets a gradient of nothing but zeros.

## What it does

Finds parameters that are expected trainable and whose gradient was exactly zero in every step. An operation without a
slope (rounding, a sign, a comparison) on the way to the loss is named, with file and line.

## Why is this bad

A zero gradient trains nothing. Two factors that both start at zero (an adapter whose `down` and `up` are zero) never
wake: each one's gradient is a multiple of the other.

## Example

```python
import torch
from torch import nn


class Adapter(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(4, 4)
        self.down = nn.Parameter(torch.zeros(2, 4))
        self.up = nn.Parameter(torch.zeros(4, 2))

    def forward(self, x):
        return self.base(x) + x @ self.down.T @ self.up.T


model = Adapter()
model.base.requires_grad_(False)
optimizer = torch.optim.SGD([model.down, model.up], lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["base"]
trainable = ["down", "up"]
```

## Use instead

```python
import torch
from torch import nn


class Adapter(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(4, 4)
        self.down = nn.Parameter(torch.randn(2, 4))
        self.up = nn.Parameter(torch.zeros(4, 2))

    def forward(self, x):
        return self.base(x) + x @ self.down.T @ self.up.T


model = Adapter()
model.base.requires_grad_(False)
optimizer = torch.optim.SGD([model.down, model.up], lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["base"]
trainable = ["down", "up"]
```

## Known problems

After one step alone nothing is said: a layer behind a zero-initialised one (LoRA) has a zero gradient there and wakes
at the second step. Random inputs may leave a ReLU at zero for every sample; give real ones. A bias that what follows
takes away (before a BatchNorm, on attention keys) has a gradient of zero by nature and is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Cut, Facts, Gradient, Hit, Need, Rule, Severity
from ._cuts import evidence, mend, told_all
from ._still import shifts_nothing
from ._words import at, group, names, tensors, throughout


def check(case: Case) -> Iterable[Hit]:
    """One finding for the parameters whose gradient became zero at the same places."""
    asleep = (fact for fact in case.trainable if _asleep(fact) and not shifts_nothing(case, fact))
    for cuts, facts in group(asleep, key=lambda f: f.cuts).items():
        if cuts or case.conditions.steps != 1:
            yield _hit(case, facts, cuts)


def _asleep(fact: Facts) -> bool:
    return fact.tensor.requires_grad and fact.gradient is Gradient.ZERO


def _hit(case: Case, facts: list[Facts], cuts: tuple[Cut, ...]) -> Hit:
    who = tensors(names(facts))
    message = (
        f"{who} {who.are} expected trainable, but {who.pick('its gradient was', 'their gradients were')} "
        f"exactly zero {throughout(case)}"
    )
    if cuts:
        message += f": it becomes zero at {told_all(cuts)}."
        fix = mend(cuts)
    elif any(fact.gradient_hook for fact in facts):
        hook = next((fact.hooked_at for fact in facts if fact.hooked_at), None)
        message += f", and a hook{at(hook)} stands on it that may have made it so."
        fix = "look at the hook that was registered on the gradient (register_hook)"
    else:
        message += ": what follows multiplies by zero, or is flat there."
        fix = (
            "start one of two zero-initialised factors at random, or look for a scale that is 0, a dead ReLU, a clamp "
            "or a mask after it; if the mask is rarely drawn, give larger inputs"
        )
    return Hit(names(facts), message, fix, {"cuts": evidence(cuts)}, cuts[0].location if cuts else None)


RULE = Rule(
    "FZ202",
    "zero-gradient",
    Severity.WARNING,
    check,
    __doc__,
    needs=frozenset({Need.PROBE, Need.VALUES}),
    swallows=("FZ302",),
)
