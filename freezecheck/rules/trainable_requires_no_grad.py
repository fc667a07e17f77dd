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

Integer and quantised parameters cannot require grad and are passed over, and so is the original of a layer that PEFT
trains a copy of (`modules_to_save`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from ..records import Case, Expected, Facts, Hit, Need, Rule, Severity
from . import _peft
from ._words import FEW, expected_parts, names, set_flag, since, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for all such parameters; one more for those that PEFT froze in the model it wraps."""
    held = [fact for fact in case.trainable if not fact.tensor.requires_grad and not _peft.original(case, fact.name)]
    wrapped = [fact for fact in held if _peft.left_out(case, fact.name)]
    for facts in (wrapped, [fact for fact in held if fact not in wrapped]):
        if facts:
            yield _hit(case, facts)


def _hit(case: Case, held: list[Facts]) -> Hit:
    who = tensors(names(held))
    message = (
        f"{who} {who.are} expected trainable, but requires_grad is False{since(held)}: "
        f"{who.pick('it gets', 'they get')} no gradient and no optimizer moves {who.it}."
    )
    wrapped = _peft.left_out(case, held[0].name)
    fix = _for_peft(case, names(held)) if wrapped else set_flag(case, names(held), True)
    homeless = [fact for fact in held if not fact.memberships] if Need.OPTIMIZER not in case.missing else []
    if homeless:
        which = who.pick("It is", "They are") if len(homeless) == len(held) else f"{tensors(names(homeless))} are"
        message += f" {which} in no optimizer either."
        fix += "" if wrapped else ", before the optimizer is made"
    return Hit(names(held), message, fix, {"in_no_optimizer": len(homeless)}, held[0].flag_line)


def _for_peft(case: Case, held: tuple[str, ...]) -> str:
    """The argument that makes PEFT train and save layers of the model that it wraps; it takes no single tensor."""
    root = _peft.wrapper(case, held[0]) or ""
    parts = expected_parts(case, held, Expected.TRAINABLE)
    owners = dict.fromkeys(part.rpartition(".")[0] if part in held else part for part in parts)
    layers = [_peft.below(root, owner) for owner in owners]
    if not all(layers) or len(layers) > FEW:
        return f"{set_flag(case, held, True)}, and save what trained yourself: PEFT's save_pretrained leaves it out"
    return (
        f"modules_to_save={json.dumps(layers)} in {_peft.config(case, root)}: set by its flag alone, "
        f"{'it' if len(held) == 1 else 'each'} would train, but save_pretrained would leave it out"
    )


RULE = Rule(
    "FZ102",
    "trainable-requires-no-grad",
    Severity.ERROR,
    check,
    __doc__,
    swallows=("FZ201", "FZ202", "FZ206", "FZ302", "FZ303", "FZ402", "FZ405"),
)
