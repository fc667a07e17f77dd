"""A tensor that is expected frozen differs between two checkpoints.

## What it does

Compares, in `freezecheck diff`, every frozen parameter and buffer of two checkpoints byte by byte, and says by how much
it changed and in which rows. Of a partly trained embedding only the rows that are expected frozen count; a buffer that
the spec's `buffers_may_move` names may change.

## Why is this bad

The frozen part is not what it was: a backbone that was to be shared, compared or restored has drifted. It is found out
late, because the loss falls all the same.

## Example

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
model[0].requires_grad_(False)
model[1].requires_grad_(False)
optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
torch.save(model.state_dict(), "before.pt")
model.train()
model(torch.randn(3, 4)).square().sum().backward()
optimizer.step()
torch.save(model.state_dict(), "after.pt")
```

```toml
trainable = ["2"]
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
model[0].requires_grad_(False)
model[1].requires_grad_(False)
optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
torch.save(model.state_dict(), "before.pt")
model.train()
model[1].eval()
model(torch.randn(3, 4)).square().sum().backward()
optimizer.step()
torch.save(model.state_dict(), "after.pt")
```

```toml
trainable = ["2"]
```

## Known problems

A checkpoint does not say what moved a tensor: `freezecheck verify` and `freezecheck run` watch the training and do.
Where the two dtypes differ, the tensors are compared in the lower one, and a change below its resolution is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..records import Case, Change, Expected, Facts, Hit, Need, Rule, Severity
from ._buffers import by_frozen_layer, eval_calls
from ._changes import as_evidence, by_kind, how_far, ranges, rows_of, sides
from ._rows import selectors
from ._words import in_spec, names, number, tensors

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_WATCH = "`freezecheck verify` names what moves {it}; if {they} may change, list {it} as `trainable` or `unchecked`"


def check(case: Case) -> Iterable[Hit]:
    """One finding for the parameters, two for running statistics and other buffers, one for each with frozen rows."""
    differing = [fact for fact in case.facts if fact.change is not None and fact.change.same is False]
    frozen = [fact for fact in differing if fact.expected is Expected.FROZEN]
    for facts in by_kind(fact for fact in frozen if not fact.is_buffer).values():
        yield _parameters(case, facts)
    buffers = [fact for fact in frozen if fact.is_buffer and not fact.may_move]
    for drifting in (True, False):
        kind = [fact for fact in buffers if fact.name.endswith(_STATISTICS) is drifting]
        for facts in by_kind(kind).values():
            yield _buffers(case, facts)
    yield from _rows(case, differing)


def _parameters(case: Case, facts: list[Facts]) -> Hit:
    who = tensors(names(facts))
    changes = _changes(facts)
    rows = rows_of(changes[0]) if len(changes) == 1 else ""
    where = f", only in {rows}" if rows else ""
    return Hit(
        names(facts),
        f"{who} {who.are} expected frozen, but {who.pick('differs', 'differ')} between {_between(case)}"
        f"{how_far(changes)}{where}.",
        _WATCH.format(it=who.it, they=who.pick("it", "they")),
        as_evidence(changes),
    )


def _buffers(case: Case, facts: list[Facts]) -> Hit:
    who = tensors(names(facts), "buffer")
    changes = _changes(facts)
    floating = [change for fact, change in zip(facts, changes, strict=True) if fact.tensor.differentiable]
    drifting = all(fact.name.endswith(_STATISTICS) for fact in facts)
    why = f": a layer in train mode updates {who.it} in every forward, whatever requires_grad says" if drifting else ""
    return Hit(
        names(facts),
        f"{who} {who.are} expected frozen, but {who.pick('differs', 'differ')} between {_between(case)}"
        f"{how_far(floating or changes)}{why}.",
        _held(case, facts) if drifting else _WATCH.format(it=who.it, they=who.pick("it", "they")),
        as_evidence(changes),
    )


def _held(case: Case, facts: list[Facts]) -> str:
    """The lines that hold running statistics."""
    parts = list(by_frozen_layer(case, facts))
    return (
        f"{eval_calls(parts)} after every model.train() (or in an override of train()); or in the spec, if they may "
        f"move, {in_spec('buffers_may_move', parts)}"
    )


def _rows(case: Case, differing: list[Facts]) -> Iterator[Hit]:
    for fact in differing:
        rows = fact.frozen_rows
        if rows is None or not rows.moved:
            continue
        far = f" by up to {number(rows.max_abs_change)}" if rows.max_abs_change is not None else ""
        these = f"All {rows.count:,}" if rows.moved == rows.count else f"{rows.moved:,} of the {rows.count:,}"
        yield Hit(
            (fact.name,),
            f"{these} rows of `{fact.name}` that are expected frozen ({selectors(fact.name, rows)}) differ between "
            f"{_between(case)}{far}: rows {ranges(rows.moved_spans)}{' …' if _more(fact) else ''}.",
            f"`freezecheck verify` names what moves them; weight decay moves every row of `{fact.name}`, also those "
            "with a gradient of zero",
            {
                "rows": [list(span) for span in rows.moved_spans],
                "moved_rows": rows.moved,
                "frozen_rows": rows.count,
                "max_abs_change": rows.max_abs_change,
            },
        )


def _more(fact: Facts) -> bool:
    """Whether not all ranges of moved rows are told."""
    rows = fact.frozen_rows
    return rows is not None and sum(b - a for a, b in rows.moved_spans) < rows.moved


def _changes(facts: Iterable[Facts]) -> list[Change]:
    return [fact.change for fact in facts if fact.change is not None]


def _between(case: Case) -> str:
    return " and ".join(sides(case))


RULE = Rule(
    "FZ701",
    "frozen-tensor-differs",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.SPEC, Need.COMPARISON}),
)
