"""A parameter had all it needs to train and did not move.

## What it does

Finds parameters that are expected trainable, sit in an optimizer with a learning rate and get a gradient, and of which
no byte changed in any step; also the rows of a parameter that a spec trains in part (`embed.weight[32000:]`). Where the
forward writes to a parameter that did move, it is run again with other values in the parameter's place: one that leaves
the same there each time undoes every step, and is named with its line.

## Why is this bad

Everything looks right and the layer does not learn: the step is skipped, or something writes the old values back.

## Example

```python
import torch
from torch import nn


class Accumulating(torch.optim.SGD):
    calls = 0

    def step(self, closure=None):
        self.calls += 1
        if self.calls % 1000 == 0:
            super().step(closure)


model = nn.Linear(4, 2)
optimizer = Accumulating(model.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

## Use instead

```python
import torch
from torch import nn

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

## Known problems

Training that makes its first real step after the watched ones (gradient accumulation, a gradient scaler that still
looks for its scale) has not moved anything yet: watch more steps. Steps that a forward undoes are found by `verify`,
not by `run`; a loop that keeps the real weights elsewhere and writes them back after each forward (binarised networks)
is no part of what `verify` runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..records import Case, Facts, Hit, Location, Need, Rule, Severity
from ._rows import still_rows
from ._still import below_resolution, still
from ._words import (
    as_json,
    at,
    during,
    group,
    largest,
    memberships,
    names,
    number,
    optimizer_name,
    spot,
    tensors,
    wrote,
)


def check(case: Case) -> Iterable[Hit]:
    """One finding for those that are written to elsewhere at the same places, and one for the rest."""
    yield from _undone(case)
    yield from _cleared(case)
    yield from _never_stepped(case)
    rest = (fact for fact in still(case) if not below_resolution(fact) and not fact.cleared)
    held = (fact for fact in rest if not _idle(case, fact))
    for writes, facts in group(held, key=lambda f: f.writes).items():
        who = tensors(names(facts))
        size = largest(fact.gradient_max for fact in facts)
        up_to = f" (up to {number(size)})" if size is not None else ""
        message = (
            f"{who} {who.are} expected trainable, {who.pick('sits', 'sit')} in {memberships(case, facts)} and "
            f"{who.pick('gets', 'get')} a gradient{up_to}, but not one byte changed {during(case)}."
        )
        fix = (
            "step() was called: look for what makes it do nothing (a gradient scaler, an accumulation count, gradients "
            "cleared before it), or puts the old values back after it"
        )
        if writes:
            message += f" {wrote(writes, who.it)} as well."
            fix = "take out the write that puts the old values back"
        found = {"gradient_max": size, "writes": [as_json(write.location) for write in writes]}
        yield Hit(names(facts), message, fix, found, writes[0].location if writes else None)
    yield from still_rows(case)


def _idle(case: Case, fact: Facts) -> frozenset[int]:
    """The optimizers of a parameter, where none of them made a step."""
    places = frozenset(place.optimizer for place in fact.memberships)
    return places if places <= case.idle else frozenset()


def _never_stepped(case: Case) -> Iterator[Hit]:
    """One finding for the parameters of the same optimizers."""
    waiting = (fact for fact in still(case) if _idle(case, fact))
    for indices, facts in group(waiting, key=lambda fact: _idle(case, fact)).items():
        who = tensors(names(facts))
        name = optimizer_name(case, min(indices))
        yield Hit(
            names(facts),
            f"{who} {who.are} expected trainable and {who.pick('gets', 'get')} a gradient, but "
            f"{who.pick('sits', 'sit')} in {memberships(case, facts)}, whose step() was not called while the "
            "training was watched.",
            f"call step() of the {name} that holds {who.it} after backward(); if it steps more seldom than that, "
            "watch more steps: --steps",
            {"stepped": False, "writes": []},
        )


def _cleared(case: Case) -> Iterator[Hit]:
    """One finding for each place that takes gradients away before the step.

    A loop that takes only some away, as one that lets the last layer wait for an epoch does, means it: the flags alone
    do not say that it should not.
    """
    going_on = {place.optimizer for fact in case.trainable if fact.moved for place in fact.memberships}
    gone = [
        fact
        for fact in still(case)
        if fact.cleared and (case.plan.from_spec or not any(m.optimizer in going_on for m in fact.memberships))
    ]
    for line, facts in group(gone, key=lambda f: f.cleared_at).items():
        who = tensors(names(facts))
        yield Hit(
            names(facts),
            f"{who} {who.are} expected trainable and {who.pick('gets', 'get')} a gradient, but the loop takes it away "
            f"again between backward() and step(){at(line)}: not one byte changed {during(case)}.",
            _given_back(line),
            {"cleared": True, "writes": []},
            line,
        )


def _given_back(line: Location | None) -> str:
    """The line that takes a gradient away, as it should be: it clears in the wrong place, or leaves nothing."""
    if line is None or any(word in line.text for word in ("zero", "None", "del ")):
        return "call zero_grad() before backward() or after step(), not between the two"
    if "clip" in line.text:
        return "clip to a limit above 0"
    return f"leave something of the gradient in {spot(line)}: what it is multiplied by, or set to, is 0"


def _undone(case: Case) -> Iterator[Hit]:
    """One finding for those that the forward writes over at the same places."""
    for writes, facts in group((f for f in case.trainable if f.undone), key=lambda f: f.writes).items():
        who, over = tensors(names(facts)), [write for write in writes if write.phase == "forward"]
        places = [write.location for write in over if write.location]
        yield Hit(
            names(facts),
            f"{who} {who.are} expected trainable and {who.pick('moves', 'move')} at every step of "
            f"{memberships(case, facts)}, but the next forward undoes it: {wrote(over, who.it)}, whatever the step made"
            f" of {who.it}.",
            f"take `{(places[0].text if places else '') or over[0].operation}` out of the forward, or tie the two "
            "tensors (`a.weight = b.weight`) where that is what it is for",
            {"undone": True, "writes": [as_json(write.location) for write in over]},
            places[0] if places else None,
        )


RULE = Rule(
    "FZ302",
    "trainable-parameter-did-not-move",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.OPTIMIZER, Need.PROBE, Need.VALUES}),
)
