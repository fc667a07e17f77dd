"""A frozen parameter changed while the model trained.

## What it does

Compares every frozen parameter byte by byte before and after the steps, and tells what moved it: a write in place (with
file and line), a stale gradient with weight decay or momentum, or an optimizer that steps tensors without a gradient.
Where a spec freezes only some rows of a parameter (`embed.weight[:32000]`), those rows are compared.

## Why is this bad

`requires_grad = False` stops autograd and nothing else. The pretrained weights drift although every flag is right.

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
        self.backbone.weight.data.mul_(0.99)
        return self.head(self.backbone(x))


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
        weight = self.backbone.weight * 0.99
        return self.head(nn.functional.linear(x, weight, self.backbone.bias))


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

A teacher that follows the student by a moving average moves on purpose: list it as `unchecked`. A write that goes round
torch (numpy memory, a custom kernel) is seen by its effect and not by its line. A loop that puts frozen rows back after
every step is right, and only `freezecheck run` sees it: `verify` makes its own steps.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Facts, Gradient, Hit, Need, Rule, Severity, Write
from ._rows import moved_rows
from ._words import (
    NO_MAX_NORM,
    Named,
    as_json,
    clear_gradients,
    during,
    exact_parts,
    group,
    largest,
    memberships,
    names,
    number,
    rebuild,
    remembered,
    renormalises,
    spec_line,
    tensors,
    when,
    wrote,
)


def check(case: Case) -> Iterable[Hit]:
    """One finding for the parameters that moved by the same cause."""
    moved = (fact for fact in case.frozen if fact.moved and not _follows(case, fact))
    for (cause, writes), facts in group(moved, key=_cause).items():
        who = tensors(names(facts))
        held_by = memberships(case, facts)
        carried = _carried(facts) if cause == "stale gradient" else []
        far = largest(fact.max_abs_change for fact in facts)
        by = f" by up to {number(far)}" if far is not None else ""
        yield Hit(
            names(facts),
            f"{who} {who.are} expected frozen, but moved{by} {during(case)}: {_told(who, cause, writes, held_by)}"
            f"{_by(carried)}.",
            _fix(case, cause, writes, facts),
            {
                "cause": cause,
                "max_abs_change": far,
                "writes": [
                    {"operation": w.operation, "phase": w.phase, "location": as_json(w.location)} for w in writes
                ],
                "optimizers": held_by or None,
                "carried_by": carried,
            },
            next((write.location for write in writes if write.location), None),
            # A write has nothing to do with the tensor's place in an optimizer, which stays a finding of its own.
            () if cause in ("write", "unknown") else None,
        )
    yield from moved_rows(case)


_GIVES = frozenset(
    {
        "lerp_()",
        "add_()",
        "copy_()",
        "sub_()",
        ".data =",
        "[...] =",
        "__iadd__()",
        "_foreach_lerp_()",
        "_foreach_add_()",
    }
)
"""Operations by which a moving average is written; a `mul_()` alone gives a tensor nothing of another."""


def _follows(case: Case, fact: Facts) -> bool:
    """Whether it follows its twin, as a moving average does, and only its flag says that it is frozen.

    Such a teacher has the same shape and the same name but for one part: `teacher.fc.weight` beside
    `student.fc.weight`, though not `layers.0.fc.weight` beside `layers.1.fc.weight`; and it is given numbers, by lines
    that do not write to the twin: one that goes over all parameters is no average.
    """
    given = any(write.operation in _GIVES for write in fact.writes)
    if case.plan.from_spec or fact.memberships or not given:
        return False
    return any(_twins(fact, other) for other in case.trainable)


def _twins(fact: Facts, other: Facts) -> bool:
    parts = list(zip(fact.name.split("."), other.name.split("."), strict=False))
    differ = [pair for pair in parts if pair[0] != pair[1]]
    named = fact.name.count(".") == other.name.count(".") and len(differ) == 1
    alike = named and fact.tensor.shape == other.tensor.shape and not any(map(str.isdecimal, differ[0]))
    return alike and {w.location for w in fact.writes}.isdisjoint(w.location for w in other.writes)


def _cause(fact: Facts) -> tuple[str, tuple[Write, ...]]:
    has_gradient = fact.gradient not in (None, Gradient.NONE)
    steps = fact.memberships and (has_gradient or fact.tensor.had_gradient)
    if fact.writes and not (steps and all(write.opened for write in fact.writes)):
        return "write", fact.writes
    if not fact.memberships:
        return "unknown", ()
    if fact.tensor.requires_grad and has_gradient:
        return "trained", ()
    if has_gradient or fact.tensor.had_gradient:
        return "stale gradient", ()
    return "step without gradient", ()


def _carried(facts: list[Facts]) -> list[str]:
    """What an optimizer still has to move a tensor by whose gradient is zero."""
    places = [place for fact in facts for place in fact.memberships]
    decay = [f"weight decay {number(place.weight_decay)}" for place in places if place.weight_decay]
    return list(dict.fromkeys([*decay, *(remembered(key) for place in places for key in place.state)]))


def _by(carried: list[str]) -> str:
    return f". It is moved on by {' and '.join(carried)}" if carried else ""


def _told(who: Named, cause: str, writes: tuple[Write, ...], held_by: str) -> str:
    match cause:
        case "write":
            return f"{wrote(writes, who.it)} in place {when(writes[0])}"
        case "trained":
            return f"{who.pick('it still requires', 'they still require')} grad and {held_by} steps {who.it}"
        case "stale gradient":
            return (
                f"{who.its} .grad still holds a tensor from before the freezing, and {held_by} moves whatever has a "
                ".grad, be it of zeros"
            )
        case "step without gradient":
            return f"{held_by} moves {who.it} although {who.its} .grad is None"
        case _:
            return f"no operation of torch was seen that wrote to {who.it}"


def _fix(case: Case, cause: str, writes: tuple[Write, ...], facts: list[Facts]) -> str:
    match cause:
        case "write":
            who, meant = tensors(names(facts)), spec_line("unchecked", exact_parts(case, names(facts)))
            return f"{_unwritten(writes[0])}; if {who.pick('it is', 'they are')} meant to move, `{meant}`"
        case "stale gradient":
            return clear_gradients(case, names(facts))
        case "trained" | "step without gradient":
            return rebuild(case, (m.optimizer for fact in facts for m in fact.memberships)) + ", after freezing"
        case _:
            return "look for writes through .numpy(), a view or alias made before, a callback, or a custom kernel"


def _unwritten(write: Write) -> str:
    """How not to write there: the write itself may well be meant, for what trains."""
    if renormalises(write):
        return NO_MAX_NORM
    line = (write.location.text if write.location else "") or write.operation
    if "load_state_dict" in line:
        return f"take `{line}` out, or have it load only what trains"
    if write.phase == "forward":
        return f"take `{line}` out, or let it write to a clone()"
    return f"skip what is frozen where `{line}` runs, as by `if p.requires_grad`"


RULE = Rule(
    "FZ301",
    "frozen-parameter-moved",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.PROBE, Need.VALUES}),
    swallows=("FZ401",),
)
