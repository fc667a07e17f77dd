"""A tensor is in only one of two checkpoints.

## What it does

Finds, in `freezecheck diff`, tensors of which the spec expects something and that only one of the two checkpoints
holds, after prefixes such as `module.` and `model.` have been matched and tied tensors counted once.

## Why is this bad

What is missing is loaded as nothing: `load_state_dict(strict=False)` leaves the layer at its random initial values, and
a frozen layer then keeps them.

## Example

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
torch.save(model.state_dict(), "before.pt")
model(torch.randn(3, 4)).square().sum().backward()
torch.optim.SGD(model[1].parameters(), lr=0.1).step()
torch.save({k: v for k, v in model.state_dict().items() if k != "0.bias"}, "after.pt")
```

```toml
trainable = ["1"]
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
torch.save(model.state_dict(), "before.pt")
model(torch.randn(3, 4)).square().sum().backward()
torch.optim.SGD(model[1].parameters(), lr=0.1).step()
torch.save(model.state_dict(), "after.pt")
```

```toml
trainable = ["1"]
```

## Known problems

A layer that was added between the two (an adapter, a new head) is in the later checkpoint only, on purpose: list it as
`unchecked`. Counters of steps (`num_batches_tracked`, `n_averaged`) are no weights and may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Expected, Facts, Hit, Need, Rule, Severity
from ._changes import sides
from ._words import MANY, cover, group, names, spec_line, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for each side and each of frozen and trainable."""
    alone = [
        fact
        for fact in case.facts
        if fact.change is not None and fact.change.missing and fact.expected is not Expected.UNCHECKED
        if not fact.tensor.is_counter
    ]
    for (only_after, expected), facts in group(alone, key=_which).items():
        yield _hit(case, facts, only_after, expected)


def _which(fact: Facts) -> tuple[bool, Expected]:
    return fact.change is not None and fact.change.before is None, fact.expected


def _hit(case: Case, facts: list[Facts], only_after: bool, expected: Expected) -> Hit:
    who = tensors(names(facts), "tensor")
    before, after = sides(case)
    here, there = (after, before) if only_after else (before, after)
    unchecked = _unchecked(case, names(facts))
    if only_after:
        fix = f"if the layer was added in between, {unchecked}; else look which of the two was saved from another model"
    else:
        fix = (
            f"save the whole state_dict; if the part was taken out on purpose, {unchecked}"
            if expected is Expected.FROZEN
            else f"look why it was not saved; if it was taken out on purpose, {unchecked}"
        )
    return Hit(
        names(facts),
        f"{who} {who.are} expected {expected.value} and {who.are} in {here}, but not in {there}.",
        fix,
        {"only_in": here},
    )


def _unchecked(case: Case, missing: tuple[str, ...]) -> str:
    """What to write in the spec so that these tensors are unchecked and no other is, counters aside."""
    passed = {*missing, *(name for fact in case.facts if fact.tensor.is_counter for name in fact.tensor.names)}
    every = (
        *case.plan.expected,
        *(name for fact in case.facts if fact.name not in passed for name in fact.tensor.names),
    )
    parts = cover(missing, (name for name in every if name not in passed))
    return f"`{spec_line('unchecked', parts)}`" if len(parts) <= MANY else "list them as `unchecked`"


RULE = Rule(
    "FZ703",
    "tensor-missing",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.SPEC, Need.COMPARISON}),
)
