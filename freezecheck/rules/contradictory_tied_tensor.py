"""One tied tensor is expected frozen under one of its names and trainable under another.

## What it does

Finds tensors with several names (tied weights) for which the spec says two different things.

## Why is this bad

It is one tensor: training the head moves the "frozen" embedding with it, byte for byte. No setting can satisfy both.

## Example

```python
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.embed(ids))


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def example_inputs():
    return torch.randint(0, 10, (3, 5))
```

```toml
frozen = ["embed"]
trainable = ["head"]
```

## Use instead

```python
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)

    def forward(self, ids):
        return self.head(self.embed(ids))


model = Net()
model.embed.requires_grad_(False)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


def example_inputs():
    return torch.randint(0, 10, (3, 5))
```

```toml
frozen = ["embed"]
trainable = ["head"]
```

## Known problems

Tensors that share memory without being the same object (a view of another parameter) are not known to be tied.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Contradiction, Hit, Need, Rule, Severity
from ._words import code


def check(case: Case) -> Iterable[Hit]:
    """One finding a contradiction."""
    aliases = {fact.name: fact.tensor.names for fact in case.facts}
    return [_hit(tied, aliases.get(tied.tensor, ())) for tied in case.plan.contradictions]


def _hit(tied: Contradiction, aliases: Iterable[str]) -> Hit:
    every = tuple(dict.fromkeys((tied.tensor, *aliases, tied.frozen_as, tied.trainable_as)))
    message = (
        f"`{tied.frozen_as}` and `{tied.trainable_as}` are one tied tensor. The spec expects it frozen under the first "
        "name and trainable under the second; it cannot be both, and training it moves it under both names."
    )
    untied = code(tied.trainable_as)
    fix = f"name both under one list of the spec, or untie them: {untied} = nn.Parameter({untied}.detach().clone())"
    found = {"frozen_as": tied.frozen_as, "trainable_as": tied.trainable_as}
    return Hit(every, message, fix, found, tied.location)


RULE = Rule(
    "FZ002",
    "contradictory-tied-tensor",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.SPEC}),
    swallows=("FZ101", "FZ102", "FZ107", "FZ108", "FZ301", "FZ401", "FZ402", "FZ404", "FZ405"),
)
