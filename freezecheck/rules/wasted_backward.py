"""Backward runs through a frozen part with nothing to train below it.

## What it does

Notes frozen parameters that a backward pass goes through although nothing trainable lies between them and the inputs:
something there requires grad that need not (the inputs, or an embedding's output).

## Why is this bad

The activations of the frozen part are kept and its backward is computed, for gradients that nobody uses: memory and
time of the largest part of the model.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
model.backbone.requires_grad_(False)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4, requires_grad=True)
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
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["head"]
```

## Known problems

The gradient of the inputs may be what is wanted (adversarial examples, a gradient penalty, saliency). Reentrant
checkpointing needs an input that requires grad; `use_reentrant=False` does not.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Expected, Hit, Need, Rule, Severity
from ._words import code, expected_parts, names, tensors


def check(case: Case) -> Iterable[Hit]:
    """One note for all such parameters; none where something unregistered trains, which may lie below them."""
    wasted = [fact for fact in case.frozen if fact.wasted]
    if not wasted or case.leaves:
        return
    who = tensors(names(wasted))
    parts = expected_parts(case, names(wasted), Expected.FROZEN)
    yield Hit(
        names(wasted),
        f"Backward goes through {who}, {who.pick('which is', 'which are')} frozen and {who.pick('has', 'have')} "
        f"nothing trainable below {who.it}: something before {who.it} requires grad, so activations are kept.",
        f"take requires_grad off the inputs of {code(parts[0])}, or call it under torch.no_grad()",
    )


RULE = Rule("FZ205", "wasted-backward", Severity.NOTE, check, __doc__, needs=frozenset({Need.PROBE}))
