"""The loss has no graph to any parameter of the model.

## What it does

Looks whether the loss's graph reaches a parameter that requires grad, and names the operations that cut it.

## Why is this bad

Nothing trains. Usually `backward()` raises "element 0 of tensors does not require grad"; wrapping the loss anew with
`requires_grad=True` only hides that: backward then succeeds and every `.grad` stays None.

## Example

```python
import torch
from torch import nn

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)


def compute_loss(model, inputs):
    loss = model(inputs).square().mean()
    return torch.tensor(loss.item(), requires_grad=True)
```

## Use instead

```python
import torch
from torch import nn

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)


def compute_loss(model, inputs):
    return model(inputs).square().mean()
```

## Known problems

Where the forward uses nothing at all of what should train, that is the cause, and FZ201 tells it instead.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Facts, Hit, Loss, Need, Rule, Severity
from ._cuts import evidence, mend, told_all
from ._words import names, tensors


def check(case: Case) -> Iterable[Hit]:
    """At most one finding."""
    flagged = [fact for fact in case.trainable if fact.tensor.requires_grad]
    if case.loss is None or case.loss.reaches or not flagged or _left_alone(case.loss, flagged):
        return
    loss = case.loss
    who = tensors(names(flagged))
    message = f"{_told(loss)} {who} {who.are} expected trainable and {who.pick('gets', 'get')} no gradient."
    # A re-wrapped loss is cut at its end: whatever was cut before, the wrapping has to go first.
    decisive = (loss.cuts[-1] if loss.is_leaf else loss.cuts[0]) if loss.cuts else None
    fix = (
        mend([loss.cuts[-1]] if loss.is_leaf else loss.cuts)
        if loss.cuts
        else "make the loss of what the model returns, by operations of torch, outside no_grad"
    )
    if loss.is_leaf:
        fix += "; the loss then requires grad by itself: give it no `requires_grad=True` and no new `torch.tensor()`"
    found = {"is_leaf": loss.is_leaf, "requires_grad": loss.requires_grad, "cuts": evidence(loss.cuts)}
    yield Hit(names(flagged), message, fix, found, decisive.location if decisive else None, names(case.trainable))


def _left_alone(loss: Loss, flagged: list[Facts]) -> bool:
    """Whether the loss has no graph for no other reason than that nothing used what trains: FZ201 says so."""
    return not loss.cuts and not loss.is_leaf and all(fact.used is False for fact in flagged)


def _told(loss: Loss) -> str:
    cut = f" It is cut by {told_all(loss.cuts)}." if loss.cuts else ""
    if loss.is_leaf:
        return (
            "The loss is a fresh tensor with requires_grad=True, not the result of the model: backward() succeeds and "
            f"reaches nothing.{cut}"
        )
    if not loss.requires_grad:
        return f"The loss does not require grad, so backward() has nothing to go through.{cut}"
    return f"The loss's graph reaches no parameter of the model.{cut}"


RULE = Rule(
    "FZ206",
    "loss-without-graph",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.PROBE}),
    swallows=("FZ201", "FZ202", "FZ302", "FZ303"),
)
