"""A parameter that should train never gets a gradient.

## What it does

Finds parameters that are expected trainable and require grad, and whose `.grad` is still None after all steps. It names
the operations that cut the graph between them and the loss, with file and line.

## Why is this bad

The optimizer passes over a parameter whose `.grad` is None. The flag says True, and the layer never learns.

## Example

```python
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        features = self.backbone(x).detach()
        return self.head(features)


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
        self.backbone = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        features = self.backbone(x)
        return self.head(features)


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

## Known problems

A part that is used for some inputs only (an absent modality) may see none of them in the few steps: give inputs that
reach it, more steps, or list it as `unchecked`. An expert that no token chose is left unjudged, and said.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Cut, Facts, Gradient, Hit, Need, Rule, Severity
from ._cuts import evidence, mend, told_all
from ._words import during, exact_parts, group, names, spec_line, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for the parameters that lost their gradient at the same places."""
    lost = (f for f in case.trainable if f.tensor.requires_grad and f.gradient is Gradient.NONE)
    for (cuts, used), facts in group(lost, key=lambda f: (f.cuts, f.used)).items():
        yield _cut(case, facts, cuts) if cuts else _unreached(case, facts, used)


def _cut(case: Case, facts: list[Facts], cuts: tuple[Cut, ...]) -> Hit:
    who = tensors(names(facts))
    message = (
        f"{who} {who.are} expected trainable, but got no gradient {during(case)}. On the way to the loss it "
        f"is cut by {told_all(cuts)}."
    )
    return Hit(names(facts), message, mend(cuts), {"cuts": evidence(cuts)}, cuts[0].location)


def _unreached(case: Case, facts: list[Facts], used: bool | None) -> Hit:
    who = tensors(names(facts))
    parts = exact_parts(case, names(facts))
    if _no_backward(case):
        why = "the optimizer stepped, but no backward() ran"
        fix = "call loss.backward() before optimizer.step()"
    elif used is False:
        why = (
            f"the forward never used {who.it}. Either it forgets {who.it}, or {who.pick('it serves', 'they serve')} "
            "another kind of batch than it was given"
        )
        fix = (
            f"use {who.it} in forward; if other batches do, give one that does (more steps, other inputs, or a loss of "
            f"your own); if it is right that nothing does, `{spec_line('unchecked', parts)}`"
        )
    elif used:
        why = f"the forward used {who.it}, but nothing made of {who.it} reached the loss"
        fix = f"let what {who.pick('it makes', 'they make')} enter the loss, or `{spec_line('unchecked', parts)}`"
    else:
        why = f"the loss did not reach {who.it}"
        fix = "look for no_grad, detach(), .data or a branch not taken between this layer and the loss"
    message = f"{who} {who.are} expected trainable, but got no gradient {during(case)}: {why}."
    return Hit(names(facts), message, fix, {"cuts": [], "used": used})


def _no_backward(case: Case) -> bool:
    """Whether a training was watched in which nothing asked for a gradient."""
    watched = Need.TRAINING not in case.missing
    return watched and case.loss is None and all(f.gradient in (None, Gradient.NONE) for f in case.facts)


RULE = Rule("FZ201", "no-gradient", Severity.ERROR, check, __doc__, needs=frozenset({Need.PROBE}))
