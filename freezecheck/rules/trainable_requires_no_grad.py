"""A parameter that should train has `requires_grad = False`.

## What it does

Finds parameters that are expected trainable and do not require grad.

## Why is this bad

They never change. A pattern that is one word too broad, or a new layer added before the freezing loop, does this, and
the only sign is a model that learns less than it could.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("neck", nn.Linear(8, 8))
model.add_module("head", nn.Linear(8, 2))
for name, parameter in model.named_parameters():
    parameter.requires_grad = name.startswith("head")
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["neck", "head"]
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("neck", nn.Linear(8, 8))
model.add_module("head", nn.Linear(8, 2))
for name, parameter in model.named_parameters():
    parameter.requires_grad = name.startswith(("neck", "head"))
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["neck", "head"]
```

## Known problems

Integer and quantised parameters cannot require grad and are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Hit, Need, Rule, Severity
from ._words import names, set_flag, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for all such parameters."""
    held = [fact for fact in case.trainable if not fact.tensor.requires_grad]
    if not held:
        return
    who = tensors(names(held))
    message = (
        f"{who} {who.are} expected trainable, but requires_grad is False: "
        f"{who.pick('it gets', 'they get')} no gradient and no optimizer moves {who.it}."
    )
    fix = set_flag(case, names(held), True)
    homeless = [fact for fact in held if not fact.memberships] if Need.OPTIMIZER not in case.missing else []
    if homeless:
        which = who.pick("It is", "They are") if len(homeless) == len(held) else f"{tensors(names(homeless))} are"
        message += f" {which} in no optimizer either."
        fix += ", before the optimizer is made"
    yield Hit(names(held), message, fix, {"in_no_optimizer": len(homeless)})


RULE = Rule(
    "FZ102",
    "trainable-requires-no-grad",
    Severity.ERROR,
    check,
    __doc__,
    swallows=("FZ201", "FZ202", "FZ206", "FZ302", "FZ303", "FZ402", "FZ405"),
)
