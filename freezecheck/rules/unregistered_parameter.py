"""The gradient reaches a tensor that is no parameter of the model.

## What it does

Walks the graph of the loss to its leaves and finds those that require grad and that `model.parameters()` does not give:
layers in a plain list, dict or namespace, a tensor that is an ordinary attribute, one in a variable of the script, or
a parameter of another model (a copy, say) that the loss runs and no optimizer holds.

## Why is this bad

torch looks for parameters in attributes that are modules or `nn.Parameter`, not inside lists and dicts. Such layers are
in no optimizer, do not move with `.to()`, are not saved with `state_dict()`, and no freezing loop sees them.

## Example

```python
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = [nn.Linear(4, 4) for _ in range(2)]
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

## Use instead

```python
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

## Known problems

A tensor of the loss (a learned temperature, say) that is in an optimizer is trained on purpose and not reported, nor
are leaves that the training differentiates by (`torch.autograd.grad`), such as the points of an equation.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Hit, Leaf, Need, Rule, Severity
from ._leaves import another, kind, meant_by, mend
from ._words import group, listing, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding a container, and one for the leaves that were found nowhere."""
    found = [leaf for leaf in case.leaves if leaf.container or not leaf.in_optimizer]
    for container, leaves in group(found, key=lambda leaf: leaf.container).items():
        if other := another(container):
            yield _of_another_model(container, other, leaves)
        else:
            yield _contained(case, container, leaves) if container else _unnamed(leaves)


def _of_another_model(container: str, model: str, leaves: list[Leaf]) -> Hit:
    found = tuple(leaf.name for leaf in leaves)
    who, where = tensors(found), container.partition(", ")[0]
    known = where != model
    message = (
        f"The gradient reaches {who} of another model, {f'`{where}` ({model})' if known else f'a {model}'}: the loss "
        f"runs it. No optimizer holds {who.it}, so nothing trains {who.it}."
    )
    name = where if known else f"the {model}"
    fix = (
        f"if {name} was not meant, run the model itself there; else freeze it ({name}.requires_grad_(False)), or give "
        "it to an optimizer"
    )
    return Hit(found, message, fix, {"container": container})


def _contained(case: Case, container: str, leaves: list[Leaf]) -> Hit:
    found = tuple(leaf.name for leaf in leaves if leaf.name)
    who = tensors(found, "tensor")
    where, _, what = container.partition(", ")
    if kind(container) == "raw tensor":
        why = f"`{where}` is a raw tensor, which torch does not register"
    elif kind(container) == "variable":
        why = f"{who.pick('it lies', 'they lie')} in the variable `{where}`, outside of every module"
    else:
        why = f"{who.pick('it lies', 'they lie')} in `{where}`, and torch does not look into {what}"
    homeless = "" if all(leaf.in_optimizer for leaf in leaves) else f", and no optimizer holds {who.it}"
    message = (
        f"The gradient reaches {who}, but {who.pick('it is no parameter', 'they are no parameters')} of the model: "
        f"{why}. model.parameters(), .to() and state_dict() pass {who.it} over{homeless}."
    )
    meant = meant_by(case, leaves)
    if meant:
        message += f" The spec's {listing(s.text for s in meant)} means {who.it}."
    evidence = {"container": container, "selectors": [selector.text for selector in meant]}
    return Hit(found, message, mend(container, leaves), evidence)


def _unnamed(leaves: list[Leaf]) -> Hit:
    shapes = ", ".join(str(list(leaf.shape)) for leaf in leaves)
    if len(leaves) == 1:
        who, rest = f"a tensor of shape {shapes}", "is no parameter of the model and in no optimizer: nothing trains it"
    else:
        who = f"{len(leaves):,} tensors of shapes {shapes}"
        rest = "are no parameters of the model and in no optimizer: nothing trains them"
    fix = "self.name = nn.Parameter(tensor) in the module that uses it, or take requires_grad off it"
    return Hit((), f"The gradient reaches {who} that {rest}.", fix, {"shapes": [list(leaf.shape) for leaf in leaves]})


RULE = Rule("FZ105", "unregistered-parameter", Severity.ERROR, check, __doc__, needs=frozenset({Need.PROBE}))
