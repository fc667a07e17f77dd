"""The flag of a parameter changed between set-up and the optimizer step.

## What it does

While your own script trains, compares `requires_grad` at the start of training with what it is when the optimizer
steps, and tells the line that changed it; of a helper that both freezes and unfreezes, the line that called it. Between
the phases of a spec, finds the flags that were right and that the next phase's `setup` turned back.

## Why is this bad

A trainer, a callback or a library that sets flags of its own undoes your freezing (or your unfreezing) after you
checked it.

## Example

A training script, watched with `freezecheck run` against this spec:

```toml
frozen = ["0"]
```

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
model[0].requires_grad_(False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model.requires_grad_(True)
    optimizer.zero_grad()
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
model[0].requires_grad_(False)
optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()
```

## Known problems

Training that freezes and unfreezes in turn (GANs with one flag toggled for each optimizer) flips flags on purpose:
list those parts as `unchecked`, or describe the turns as phases.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Expected, Hit, Need, Rule, Severity
from ._words import FEW, Named, as_json, at, code, expected_parts, group, listing, names, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for each line that flips flags and for each expectation."""
    flipped = (f for f in case.parameters if f.flipped and f.expected is not Expected.UNCHECKED)
    for (location, expected), facts in group(flipped, key=lambda f: (f.flipped, f.expected)).items():
        who = tensors(names(facts))
        right = expected is Expected.TRAINABLE
        parts = expected_parts(case, names(facts), expected)
        spared = listing(map(code, parts)) if len(parts) <= FEW else "them"
        yield Hit(
            names(facts),
            f"{_changed(case, who, not right)}{at(location)}. {who.pick('It is', 'They are')} expected {expected}.",
            f"take that line out, keep {spared} out of it, or set the flags back to {right} after it",
            {"expected": str(expected), "flipped": as_json(location)},
            location,
        )


def _changed(case: Case, who: Named, now: bool) -> str:
    phases = case.conditions.phases
    if len(phases) > 1:
        return f"Phase `{phases[-2]}` had the requires_grad of {who} right, and phase `{phases[-1]}` set it to {now}"
    return f"The requires_grad of {who} was set to {now} between set-up and the optimizer step"


RULE = Rule(
    "FZ106",
    "requires-grad-flipped",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.TRAINING}),
    swallows=("FZ101", "FZ102", "FZ107", "FZ108", "FZ301"),
)
