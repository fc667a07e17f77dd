"""A parameter that is expected trainable is the same, byte for byte, in two checkpoints.

## What it does

Finds, in `freezecheck diff`, parameters that are expected trainable and of which no byte changed from one checkpoint to
the other. Of a partly trained embedding only the rows that are expected trainable count.

## Why is this bad

What should have learned did not: it got no gradient, was in no optimizer, or its learning rate was 0. Or the two files
are of one and the same step.

## Example

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
torch.save(model.state_dict(), "before.pt")
model(torch.randn(3, 4)).square().sum().backward()
optimizer.step()
torch.save(model.state_dict(), "after.pt")
```

```toml
trainable = ["0", "1"]
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.save(model.state_dict(), "before.pt")
model(torch.randn(3, 4)).square().sum().backward()
optimizer.step()
torch.save(model.state_dict(), "after.pt")
```

```toml
trainable = ["0", "1"]
```

## Known problems

Between two checkpoints of few steps a layer may have stood still for good reasons: the warm-up's learning rate, an
expert that no token was sent to, updates below the resolution of bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Facts, Hit, Need, Rule, Severity
from ._changes import sides
from ._rows import selectors
from ._words import names, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for whole parameters, and one for each of which the rows that should train stood still."""
    still = [fact for fact in case.trainable if _is_still(fact)]
    if still:
        yield _whole(case, still)
    for fact in case.trainable:
        rows = fact.trainable_rows
        if fact not in still and rows is not None and not rows.moved:
            yield Hit(
                (fact.name,),
                f"None of the {rows.count:,} rows of `{fact.name}` that are expected trainable "
                f"({selectors(fact.name, rows)}) changed between {' and '.join(sides(case))}, though others did.",
                "look whether the mask or hook that keeps rows from training was put on the wrong ones",
                {"rows": [list(span) for span in rows.spans]},
            )


def _is_still(fact: Facts) -> bool:
    return fact.change is not None and fact.change.same is True and fact.tensor.numel > 0


def _whole(case: Case, still: list[Facts]) -> Hit:
    who = tensors(names(still))
    compared = [fact for fact in case.trainable if fact.change is not None and not fact.change.missing]
    every = len(still) == len(compared) > 1
    message = (
        f"{who} {who.are} expected trainable, but {who.pick('is', 'are')} the same byte for byte in "
        f"{' and '.join(sides(case))}."
    )
    if every:
        message += " Nothing that should train has changed: are the two of the same step?"
    lowered = sorted({fact.change.compared_as for fact in still if fact.change and fact.change.compared_as})
    if lowered:
        message += f" They were compared as {' and '.join(lowered)}: a change below its resolution is not seen."
    fix = "`freezecheck verify` says why: no gradient, no optimizer, learning rate 0 or updates below the dtype's step"
    return Hit(names(still), message, fix, {"all": every})


RULE = Rule(
    "FZ702",
    "trainable-tensor-identical",
    Severity.WARNING,
    check,
    __doc__,
    needs=frozenset({Need.SPEC, Need.COMPARISON}),
)
