"""A frozen parameter sits in an optimizer.

## What it does

Finds parameters that are expected frozen, get no gradient, and were given to an optimizer.

## Why is this bad

While `.grad` is None the optimizer passes over them. Freeze them after a backward, or with
`zero_grad(set_to_none=False)`, and weight decay and momentum move them. And the optimizer's groups then do not fit a
checkpoint that was saved without them.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
model.backbone.requires_grad_(False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


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

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
model.backbone.requires_grad_(False)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["head"]
```

## Known problems

Some trainers keep all parameters in the optimizer on purpose, to unfreeze them later without a new one. Then ignore
FZ401: should such a parameter move, FZ301 says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Facts, Gradient, Hit, Need, Rule, Severity
from ._words import group, memberships, names, optimizer_line, rebuild, set_flag, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for each optimizer (or set of optimizers)."""
    held = (fact for fact in case.frozen if fact.memberships and _idle(fact))
    for indices, facts in group(held, key=lambda f: tuple(sorted({m.optimizer for m in f.memberships}))).items():
        who = tensors(names(facts))
        yield Hit(
            names(facts),
            f"{who} {who.are} expected frozen, but {who.pick('sits', 'sit')} in {memberships(case, facts)}. "
            f"{who.pick('It stays as it is', 'They stay as they are')} only while {who.its} .grad is None.",
            _mend(case, indices, facts),
            {"optimizers": list(indices), "groups": sorted({m.group for fact in facts for m in fact.memberships})},
            optimizer_line(case, indices),
        )


def _mend(case: Case, indices: Iterable[int], facts: list[Facts]) -> str:
    """Leave them out; where their flags are still on, a filter by the flag does so only once they are off."""
    held = [fact for fact in facts if fact.tensor.requires_grad]
    made = rebuild(case, indices)
    return f"{set_flag(case, names(held), False)}; then {made}" if held else f"{made}, after the flags are set"


def _idle(fact: Facts) -> bool:
    """Whether nothing but the absence of a gradient holds it; a loop that takes it away itself knows what it does."""
    if fact.cleared:
        return False
    return not fact.tensor.requires_grad or fact.gradient in (None, Gradient.NONE)


RULE = Rule(
    "FZ401",
    "frozen-parameter-in-optimizer",
    Severity.WARNING,
    check,
    __doc__,
    needs=frozenset({Need.OPTIMIZER}),
)
