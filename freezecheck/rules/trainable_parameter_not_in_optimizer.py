"""A parameter that should train is in no optimizer.

## What it does

Finds parameters that are expected trainable, require grad, and that no optimizer holds. A group that is empty is named
with them: it may have been given a generator that had been gone through before.

## Why is this bad

They get gradients and never move. An optimizer takes the parameters it is given when it is made: what is unfrozen or
added later is not in it.

## Example

```python
import torch
from torch import nn

model = nn.Sequential()
model.add_module("backbone", nn.Linear(4, 8))
model.add_module("neck", nn.Linear(8, 8))
model.add_module("head", nn.Linear(8, 2))
model.backbone.requires_grad_(False)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


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
model.backbone.requires_grad_(False)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
frozen = ["backbone"]
trainable = ["neck", "head"]
```

## Known problems

Parameters that your own loop updates without an optimizer of torch are reported by `verify`, which does not know the
loop; list them as `unchecked`. `freezecheck run` sees the loop write to them.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Facts, Gradient, Hit, Need, Rule, Severity
from ._words import (
    FEW,
    Named,
    anew,
    code,
    exact_parts,
    given,
    groups_in,
    listing,
    names,
    optimizer_line,
    optimizer_variable,
    rebuild,
    tensors,
)


def check(case: Case) -> Iterable[Hit]:
    """One finding for all such parameters."""
    homeless = [f for f in case.trainable if f.tensor.requires_grad and not f.memberships and not _by_the_loop(f)]
    if not homeless:
        return
    who = tensors(names(homeless))
    gets = all(fact.gradient in (Gradient.NONZERO, Gradient.NONFINITE) for fact in homeless)
    held = _held_instead(case)
    reached = f" {who.pick('It gets', 'They get')} a gradient, and nothing steps {who.it}." if gets else ""
    where = f"the optimizer ({case.optimizers[0]})" if len(case.optimizers) == 1 else "any optimizer"
    if len(case.optimizers) > 1:
        where += f" ({listing(case.optimizers)})"
    yield Hit(
        names(homeless),
        f"{who} {who.are} expected trainable and {who.pick('requires', 'require')} grad, but "
        f"{who.are} not in {where}{held}.{reached}{_empty(case)}",
        _made_anew(case, homeless) if held else _filled(case, who) + _added(case, homeless) + _frozen(case, homeless),
        {"optimizers": list(case.optimizers)},
        optimizer_line(case, [0]) if len(case.optimizers) == 1 else None,
    )


def _by_the_loop(fact: Facts) -> bool:
    """Whether the loop itself makes the step, as one does that trains copies of another precision."""
    return fact.moved is True and any(write.phase == "loop" for write in fact.writes)


def _held_instead(case: Case) -> str:
    """What the optimizers hold instead, where none holds anything that should train, or two of them hold the same.

    There adding what is missing would hide the mistake: an optimizer was made over something else than was meant.
    """
    if not case.optimizers:
        return ""
    held: dict[int, set[str]] = {index: set() for index in range(len(case.optimizers))}
    for fact in case.parameters:
        for place in fact.memberships:
            held.setdefault(place.optimizer, set()).add(fact.name)
    every = list(held.values())
    if len(every) > 1 and all(every) and all(one == every[0] for one in every):
        return ", which all hold the same tensors"
    if any(fact.memberships for fact in case.trainable):
        return ""
    which = "which holds" if len(every) == 1 else "which hold"
    return f", {which} nothing that should train" if any(every) else f", {which} only tensors of something else"


def _empty(case: Case) -> str:
    """What torch does not say: that a group was given something that had nothing left."""
    if not case.empty_groups:
        return ""
    are = "is" if len(case.empty_groups) == 1 else "are"
    where = groups_in(case, case.empty_groups)
    return f" {where[0].upper()}{where[1:]} {are} empty, as from a filter() or a generator that was used up before."


def _filled(case: Case, who: Named) -> str:
    if not case.empty_groups:
        return ""
    where = groups_in(case, case.empty_groups)
    return f"if {where} should hold {who.it}, make what it is given a list: `list(filter(...))`; else "


def _frozen(case: Case, homeless: list[Facts]) -> str:
    """Who freezes by leaving out of the optimizer has yet to say so by the flag: nothing else tells."""
    parts = exact_parts(case, names(homeless))
    if case.plan.from_spec or len(parts) > FEW:
        return ""
    lines = "; ".join(f"{code(part)}.requires_grad_(False)" for part in parts)
    return f"; or, if that is how you freeze {tensors(names(homeless)).it}, say so: {lines}"


def _made_anew(case: Case, homeless: list[Facts]) -> str:
    one = "the optimizer" if len(case.optimizers) == 1 else "one of them"
    whole = [part for part in exact_parts(case, names(homeless)) if part not in names(homeless)]
    over = {"over": f"{code(whole[0])}.parameters()"} if len(whole) == 1 else {}
    return f"make {one} over what should train: `{anew(case, range(len(case.optimizers)), **over)}`"


def _added(case: Case, homeless: list[Facts]) -> str:
    held = names(homeless)
    if len(exact_parts(case, held)) > FEW:
        return f"{rebuild(case, range(len(case.optimizers)))}, after the last change of the flags"
    params = given(case, held)
    if len(case.optimizers) == 1:
        return f'{optimizer_variable(case, [0])}.add_param_group({{"params": {params}}})'
    it = tensors(held).it
    return f'`add_param_group({{"params": {params}}})` of the optimizer that is to step {it}, or one over {it} alone'


RULE = Rule(
    "FZ402",
    "trainable-parameter-not-in-optimizer",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.OPTIMIZER}),
)
