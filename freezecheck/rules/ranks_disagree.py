"""The processes of a distributed training disagree on what trains.

## What it does

Compares every rank's `requires_grad` flags and the contents of its optimizers, after the last watched step. It is
judged by `freezecheck run` under `torchrun`, over all ranks at once.

## Why is this bad

DistributedDataParallel and FSDP wait for a gradient of every parameter that requires grad on any rank. Where one rank
has frozen what another trains, the training hangs, or each rank goes its own way and only rank 0's weights are saved.

## Example

```python
rank = int(os.environ["RANK"])
model.backbone.requires_grad_(rank == 0)
```

## Use instead

```python
model.backbone.requires_grad_(False)
```

## Known problems

Pipeline stages, where each rank holds another part of the model, have no names in common and are not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..records import Case, Finding, Hit, Need, Rule, Severity
from ._words import listing, tensors


def check(case: Case) -> Iterable[Hit]:  # noqa: ARG001  # every rule takes a case
    """Find nothing: one rank's table cannot show it. `disagreements` compares the tables of all ranks."""
    return ()


def disagreements(
    flags: Sequence[Mapping[str, bool]], groups: Sequence[Mapping[str, tuple[int, ...]]], ranks: Sequence[int]
) -> tuple[Finding, ...]:
    """Return a finding over the flags, and one over the optimizers, that differ between ranks.

    The tables stand in the order of `ranks`, which are their numbers.
    """
    found = []
    for what, every, words, fix in (
        ("whether", flags, _trained, "set the flags by the layer's name alone, the same on every rank"),
        ("in which optimizer", groups, _held, "build the optimizer from the same parameters on every rank"),
    ):
        differing = _differing(every)
        if differing:
            who = tensors(tuple(differing))
            sides = _sides(every, ranks, differing[0], words)
            evidence = {"ranks": list(ranks), "of": what}
            message = (
                f"The ranks disagree on {what} {who} {who.pick('trains', 'train')}: {sides}. "
                "Such a training hangs, or each rank trains a model of its own."
            )
            found.append(Finding(RULE.code, RULE.name, RULE.severity, tuple(differing), message, fix, evidence))
    return tuple(found)


def _differing(every: Sequence[Mapping[str, Any]]) -> list[str]:
    common = set(every[0]).intersection(*every[1:])
    return [name for name in every[0] if name in common and len({one[name] for one in every}) > 1]


def _sides(every: Sequence[Mapping[str, Any]], ranks: Sequence[int], name: str, words: Callable[[Any], str]) -> str:
    """`fc.weight is frozen on rank 0 and requires grad on rank 1`, of the first tensor."""
    sides: dict[Any, list[str]] = {}
    for rank, one in zip(ranks, every, strict=True):
        sides.setdefault(one[name], []).append(str(rank))
    told = [f"{words(value)} on rank {listing(numbers)}" for value, numbers in sides.items()]
    return f"{name} {' and '.join(told)}"


def _trained(requires_grad: bool) -> str:
    return "requires grad" if requires_grad else "is frozen"


def _held(groups: tuple[int, ...]) -> str:
    return f"is in group {listing([str(group) for group in groups])}" if groups else "is in no optimizer"


RULE = Rule("FZ109", "ranks-disagree", Severity.ERROR, check, __doc__, needs=frozenset({Need.TRAINING}))
