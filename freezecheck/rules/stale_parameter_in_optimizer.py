"""An optimizer holds tensors that are not in the model.

## What it does

Finds tensors in an optimizer that are no parameters of the model and that the loss does not reach, and pairs them by
shape with the trainable parameters that are in no optimizer.

## Why is this bad

A layer that is replaced after the optimizer was made leaves its old parameters in it: the optimizer steps those, and
the new layer never trains. The same happens to the whole model when it is copied.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 1000))
model.backbone.requires_grad_(False)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
model.head = nn.Linear(8, 2)


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
model.add_module("head", nn.Linear(8, 1000))
model.backbone.requires_grad_(False)
model.head = nn.Linear(8, 2)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["head"]
```

## Known problems

An optimizer that also trains a second model of which the loss knows nothing in these steps is reported. Tensors that
the loss reaches (weights of the loss itself) are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..records import Case, Facts, Foreign, Hit, Need, Rule, Severity
from ._words import FEW, anew, given, group, listing, names, optimizer_line, optimizer_name, rebuild, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for each optimizer.

    One that holds nothing of this model is another model's (a GAN's other half) where all that trains has its own.
    """
    homeless = [fact for fact in case.trainable if fact.tensor.requires_grad and not fact.memberships]
    held = {m.optimizer for fact in case.facts for m in fact.memberships}
    for index, foreign in group((f for f in case.foreign if not f.gradient), key=lambda f: f.optimizer).items():
        new = paired(foreign, homeless)
        beside = index in held or any(f.optimizer == index and f.gradient for f in case.foreign)
        if beside or _of_another_width(case, foreign, new):
            yield _replaced(case, index, foreign, new)
        elif homeless or not case.trainable:
            yield _another_model(case, index, foreign, homeless)


def paired(foreign: Sequence[Foreign], homeless: Sequence[Facts]) -> list[Facts]:
    """The parameters in no optimizer that seem to stand where these tensors stood.

    First by equal shape, each tensor once; then by as many dimensions, since a replaced head has another width. Of
    several that fit, the first by name is taken.
    """
    left = list(foreign)
    found: list[Facts] = []
    for alike in (lambda a, b: a == b, lambda a, b: len(a) == len(b)):
        for fact in sorted(homeless, key=lambda fact: fact.name):
            match = next((f for f in left if fact not in found and alike(f.shape, fact.tensor.shape)), None)
            if match is not None:
                left.remove(match)
                found.append(fact)
    return [fact for fact in homeless if fact in found]


def _of_another_width(case: Case, foreign: Sequence[Foreign], new: Sequence[Facts]) -> bool:
    """Whether these stand for a part of the model, tensor by tensor, in other shapes: no copy has other shapes."""
    if len(new) != len(foreign) or len(new) == len(case.parameters):
        return False
    return sorted(f.shape for f in foreign) != sorted(fact.tensor.shape for fact in new)


def _holds(case: Case, index: int, foreign: Sequence[Foreign]) -> str:
    shapes = ", ".join(str(list(f.shape)) for f in foreign[:FEW]) + (" …" if len(foreign) > FEW else "")
    if len(foreign) == 1:
        return f"{optimizer_name(case, index)} holds a tensor of shape {shapes} that is not in the model."
    return f"{optimizer_name(case, index)} holds {len(foreign):,} tensors of shapes {shapes} that are not in the model."


def _replaced(case: Case, index: int, foreign: list[Foreign], new: list[Facts]) -> Hit:
    message = _holds(case, index, foreign)
    if new:
        who, what = tensors(names(new)), "layer" if any(fact.tensor.owner for fact in new) else "parameter"
        message += (
            f" {who} {who.are} expected trainable and in no optimizer: it seems a {what} was replaced "
            "after the optimizer was made, and the optimizer still steps the old one."
        )
        tops = listing(dict.fromkeys(fact.tensor.owner or fact.name for fact in new))
        fix = f"{_made_anew(case, index, new)}, after {tops} {'is' if tops.count('`') == 2 else 'are'} in place"
    else:
        message += " The loss reaches none of it: a layer was replaced or removed, or it is another model's."
        fix = rebuild(case, [index])
    return Hit(names(new), message, fix, _evidence(foreign, new), optimizer_line(case, [index]))


def _made_anew(case: Case, index: int, new: list[Facts]) -> str:
    """The optimizer over what requires grad; beside another one, which holds some of that, over what was replaced."""
    if len(case.optimizers) == 1:
        return rebuild(case, [index])
    also = any(m.optimizer == index for fact in case.facts for m in fact.memberships)
    added = ", and over what it steps already" if also else ""
    made = anew(case, [index], given(case, names(new)))
    return f"make optimizer {index + 1} of {len(case.optimizers)} anew: `{made}`{added}"


def _another_model(case: Case, index: int, foreign: list[Foreign], homeless: list[Facts]) -> Hit:
    who = tensors(names(homeless)) if homeless else None
    left = f" {who} {who.are} expected trainable and in no optimizer." if who else ""
    message = (
        f"{_holds(case, index, foreign)} It holds none that is: its step() trains nothing of this model.{left} "
        f"After {optimizer_name(case, index)} was made, a layer was replaced, or the whole model copied, rebuilt or "
        "moved into new parameters."
    )
    fix = f"{rebuild(case, [index])}, after every line that makes or replaces the model's parameters"
    return Hit(names(homeless), message, fix, _evidence(foreign, homeless), optimizer_line(case, [index]))


def _evidence(foreign: Sequence[Foreign], new: Sequence[Facts]) -> dict[str, list[object]]:
    return {"shapes": [list(f.shape) for f in foreign], "in_no_optimizer": list(names(new))}


RULE = Rule(
    "FZ403",
    "stale-parameter-in-optimizer",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.OPTIMIZER, Need.PROBE}),
    swallows=("FZ402",),
)
