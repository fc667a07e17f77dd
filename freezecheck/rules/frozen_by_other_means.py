"""A parameter stays frozen, but not by its flag.

## What it does

Notes parameters that are expected frozen and require grad, and that something else holds: `no_grad` or `detach` around
them, a learning rate of 0, a hook that silences their gradient, or that the forward never uses them. It names what
holds them, with file and line.

## Why is this bad

It works until that other thing changes: take the `no_grad` away, or give the group a learning rate, and they train.

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
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features)


model = Net()
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


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


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features)


model = Net()
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

None known.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Cut, Facts, Gradient, Hit, Location, Need, Rule, Severity
from ._cuts import evidence, told_all
from ._frozen import fate
from ._words import Named, at, during, group, memberships, names, set_flag, tensors, throughout


def check(case: Case) -> Iterable[Hit]:
    """One note for each thing that holds parameters."""
    held = [fact for fact in case.frozen if fate(case, fact) == "held"]
    for (holder, cuts, hook), facts in group(held, key=_holder).items():
        who = tensors(names(facts))
        yield Hit(
            names(facts),
            f"{who} {who.are} expected frozen, but still {who.pick('requires', 'require')} grad. "
            f"{_told(case, holder, (cuts, hook), facts, who)}",
            set_flag(case, names(facts), False),
            {"held_by": cuts[0].operation if cuts else holder, "cuts": evidence(cuts)},
            cuts[0].location if cuts else hook,
        )


def _holder(fact: Facts) -> tuple[str, tuple[Cut, ...], Location | None]:
    """What holds it, the nearest to the gradient first."""
    if fact.cleared:
        return "the loop", (), fact.cleared_at
    if fact.gradient is Gradient.NONE:
        without = "not used" if fact.used is False else "no gradient"
        return ("a cut", fact.cuts, None) if fact.cuts else (without, (), None)
    if fact.gradient is Gradient.ZERO and fact.gradient_hook:
        return "gradient hook", (), fact.hooked_at
    if fact.gradient is Gradient.ZERO and fact.cuts:
        return "a zero derivative", fact.cuts, None
    return "lr 0", (), None


def _told(
    case: Case, holder: str, place: tuple[tuple[Cut, ...], Location | None], facts: list[Facts], who: Named
) -> str:
    cuts, hook = place
    match holder:
        case "a cut":
            why = f"the gradient is cut by {told_all(cuts)}"
        case "a zero derivative":
            why = f"the gradient is made zero by {told_all(cuts)}"
        case "not used":
            why = f"the forward never used {who.it} {during(case)}"
        case "no gradient":
            why = f"no gradient reached {who.it} {during(case)}"
        case "the loop":
            gradient = who.pick("its gradient", "their gradients")
            why = f"the loop takes {gradient} away before the optimizer steps{at(hook)}"
        case "gradient hook":
            why = (
                f"a hook{at(hook)} left only zeros of {who.pick('its gradient', 'their gradients')} {throughout(case)}"
            )
        case _:
            why = f"the learning rate was 0 {throughout(case)} in {memberships(case, facts)}"
    return f"What holds {who.it} is that {why}."


RULE = Rule("FZ107", "frozen-by-other-means", Severity.NOTE, check, __doc__, needs=frozenset({Need.PROBE}))
