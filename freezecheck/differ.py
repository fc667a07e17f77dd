"""The straight line of `freezecheck diff`: two checkpoints → what changed → a judgement by the spec.

A checkpoint holds no flags, no gradients and no modes. In its place in the table, `requires_grad` (and a layer's
`actual`) says what can be seen: whether the parameter changed from one checkpoint to the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .assemble import assemble
from .checkpoint import Checkpoint, Compared, compare_checkpoints, describe, misfits
from .checkpoint import open as open_checkpoint
from .checkpoint._rows import count, within
from .errors import SpecError
from .judge import NOT_SELECTED, judge
from .records import (
    Case,
    Change,
    Comparison,
    Description,
    Expected,
    Finding,
    LayerFacts,
    Need,
    Observation,
    Plan,
    Report,
    Rows,
    RowsSeen,
    Severity,
    Skipped,
)
from .spec.match import match

if TYPE_CHECKING:
    from collections.abc import Callable

    from .spec import Spec

_RULES = ("FZ001", "FZ701", "FZ702", "FZ703")
"""What two checkpoints can be judged by."""
_NO_SPEC = "no freeze spec was given, so it is only said what changed; `--spec FILE` judges it"
_FEW = 8
"""So many ranges of moved rows are kept for the evidence."""


@dataclass(frozen=True)
class _Named:
    """The tensors under the names by which the spec speaks of them, and what it expects."""

    description: Description
    plan: Plan
    note: str = ""


def diff(
    before: str,
    after: str,
    spec: Spec | None = None,
    *,
    keys: tuple[str | None, str | None] = (None, None),
    phase: str | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    fail_on: Severity = Severity.WARNING,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Compare two checkpoints tensor by tensor, and judge what changed by the spec, if there is one.

    `keys` name the state dict that is meant in each file. Of a spec with phases all are taken together (a tensor that
    any of them trains may change), or the one that `phase` names. `progress` is told bytes done and bytes in all.

    Raises UsageError when a checkpoint cannot be read or the two have nothing in common, SpecError when the spec does
    not fit their names.
    """
    with open_checkpoint(before, keys[0]) as first, open_checkpoint(after, keys[1]) as second:
        compared = compare_checkpoints(first, second, progress)
    named = _named(spec, compared, phase)
    case = _case(named, compared, (first, second))
    ignored = (*ignore, *(spec.ignore if spec else ()))
    findings, skipped = _judged(case, select, ignored)
    path = spec.path if spec else None
    return Report("diff", f"{first.said} → {second.said}", path, case, findings, (*case.skipped, *skipped), fail_on)


def _judged(
    case: Case, select: Sequence[str], ignore: Sequence[str]
) -> tuple[tuple[Finding, ...], tuple[Skipped, ...]]:
    wanted = [code for code in _RULES if not select or code.startswith(tuple(select))]
    if not wanted:
        return (), ()
    findings, skipped = judge(case, select=wanted, ignore=ignore)
    # All other rules need a model that trains; that they are not among those selected is nobody's choice.
    return findings, tuple(item for item in skipped if item.why != NOT_SELECTED)


def _named(spec: Spec | None, compared: Compared, phase: str | None) -> _Named:
    """Find the names that fit the spec best: those stored, or those that one of the checkpoints has without prefix."""
    stock = [(pair.names, (pair.after or pair.before)) for pair in compared.pairs]
    names = [name for pair in compared.pairs for name in pair.names]
    renamings = [{}, *_renamings(names, compared.rename)] if spec is not None else [{}]
    outcomes: list[_Named] = []
    wrong: list[SpecError] = []
    for renaming in renamings:
        described = describe(
            [(tuple(renaming.get(n, n) for n in pair), entry.stored) for pair, entry in stock if entry is not None]
        )
        try:
            plan = _plan(spec, described, phase)
        except SpecError as error:
            wrong.append(error)
        else:
            outcomes.append(_Named(described, plan, _said_of(renaming)))
    best = min(outcomes, key=lambda one: len(one.plan.unmatched), default=None)
    if best is None or (wrong and best.plan.unmatched):
        raise wrong[0]
    return best


def _renamings(names: Sequence[str], rename: Mapping[str, str]) -> Iterator[dict[str, str]]:
    if rename:
        yield {new: old for old, new in rename.items()}
    first = {name.partition(".")[0] for name in names}
    if len(first) == 1 and all("." in name for name in names):
        yield {name: name.partition(".")[2] for name in names}


def _said_of(renaming: Mapping[str, str]) -> str:
    if not renaming:
        return ""
    old, new = next(iter(renaming.items()))
    return f"the spec's names are those without (or with) the prefix: `{old}` is `{new}` here"


def _plan(spec: Spec | None, description: Description, phase: str | None) -> Plan:
    if spec is None:
        return Plan(dict.fromkeys((t.name for t in description.tensors), Expected.UNCHECKED), from_spec=False)
    if phase is not None:
        return match(spec.phase(phase), description)
    if not spec.phases:
        return match(spec, description)
    return _together([match(one.spec, description) for one in spec.phases])


def _together(plans: Sequence[Plan]) -> Plan:
    """What all phases together allow: a tensor, or a row, that one of them trains may change.

    Of what one of them may train, as far as a checkpoint tells, nothing is expected where none trains it for certain.
    """
    expected = {name: _strongest(name, plans) for name in plans[0].expected}
    rows: dict[str, tuple[Rows, ...]] = {}
    for plan in plans:
        for name, parts in plan.rows.items():
            others = [other for other in plans if name not in other.rows]
            if any(other.expected[name] is Expected.TRAINABLE for other in others):
                continue
            rows.setdefault(name, _unfrozen(parts) if any(name in other.in_doubt for other in others) else parts)
    unmatched = {one.selector: one for plan in plans for one in plan.unmatched}
    return replace(
        plans[-1],
        expected=expected,
        rows=rows,
        unmatched=tuple(unmatched.values()),
        buffers_may_move=frozenset().union(*(plan.buffers_may_move for plan in plans)),
        doubts=tuple(dict.fromkeys(one for plan in plans for one in plan.doubts)),
        in_doubt=frozenset().union(*(plan.in_doubt for plan in plans)),
    )


def _unfrozen(parts: Iterable[Rows]) -> tuple[Rows, ...]:
    return tuple(replace(one, expected=Expected.UNCHECKED) if one.expected is Expected.FROZEN else one for one in parts)


def _strongest(name: str, plans: Sequence[Plan]) -> Expected:
    found = {plan.expected[name] for plan in plans}
    if Expected.TRAINABLE not in found and any(name in plan.in_doubt for plan in plans):
        return Expected.UNCHECKED
    return next(e for e in (Expected.TRAINABLE, Expected.FROZEN, Expected.UNCHECKED) if e in found)


def _case(named: _Named, compared: Compared, sides: tuple[Checkpoint, Checkpoint]) -> Case:
    """The table that the rules read: what changed in the place of what trains."""
    changes = dict(zip((t.name for t in named.description.tensors), compared.changes, strict=True))
    described = replace(
        named.description,
        tensors=tuple(
            replace(t, requires_grad=t.kind == "parameter" and _changed(changes[t.name]))
            for t in named.description.tensors
        ),
    )
    plan = named.plan
    seen = Observation(
        moved={name: (not change.same, change.largest) for name, change in changes.items() if change.same is not None},
        frozen_rows=dict(_rows(plan, changes, Expected.FROZEN)),
        trainable_rows=dict(_rows(plan, changes, Expected.TRAINABLE)),
        missing={Need.OPTIMIZER: "", Need.PROBE: "", Need.VALUES: "", Need.PRETRAINED: ""},
    )
    case = assemble(described, plan, seen)
    missing: dict[Need, str] = {n: why for n, why in case.missing.items() if n is not Need.COMPARISON}
    if not plan.from_spec:
        missing[Need.SPEC] = _NO_SPEC
    return replace(
        case,
        facts=tuple(replace(fact, change=changes[fact.name]) for fact in case.facts),
        layers=tuple(_without_cause(layer) for layer in case.layers),
        missing=missing,
        skipped=tuple(_not_compared(changes, plan)),
        comparison=Comparison(
            sides[0].said, sides[1].said, tuple(_notes(named, described, compared, sides, changes)), compared.nbytes
        ),
    )


def _changed(change: Change) -> bool:
    return change.same is False


def _without_cause(layer: LayerFacts) -> LayerFacts:
    """What did not change is held by something that a checkpoint does not tell."""
    return replace(layer, held_by=None)


def _rows(plan: Plan, changes: Mapping[str, Change], said: Expected) -> Iterator[tuple[str, RowsSeen]]:
    """What became of the rows of which this is expected."""
    for name, parts in plan.rows.items():
        change = changes[name]
        spans = tuple((part.start, part.stop) for part in parts if part.expected is said)
        if not spans or change.same is None or (not change.same and change.rows is None):
            continue
        every = change.rows or ()
        moved = within(every, spans)
        alone = count(moved) == count(every)
        yield (
            name,
            RowsSeen(count(spans), spans, count(moved), moved[:_FEW], change.largest if alone and moved else None),
        )


def _not_compared(changes: Mapping[str, Change], plan: Plan) -> Iterator[Skipped]:
    for name, change in changes.items():
        if change.same is None and not change.missing:
            yield Skipped(name, change.why)
    for text, why in dict.fromkeys((doubt.selector.text, doubt.why) for doubt in plan.doubts):
        yield Skipped(f"the selector `{text}`", why)


def _notes(
    named: _Named,
    described: Description,
    compared: Compared,
    sides: tuple[Checkpoint, Checkpoint],
    changes: Mapping[str, Change],
) -> Iterator[str]:
    yield from (*sides[0].notes, *sides[1].notes, *compared.notes)
    if named.note:
        yield named.note
    lowered: dict[tuple[str, str, str], int] = {}
    for change in changes.values():
        if change.compared_as and change.before and change.after:
            key = (change.before.dtype, change.after.dtype, change.compared_as)
            lowered[key] = lowered.get(key, 0) + 1
    for (old, new, low), number in lowered.items():
        noun = "tensor is" if number == 1 else "tensors are"
        yield f"{number:,} {noun} {old} before and {new} after: compared as {low}"
    for side, is_after in zip(sides, (False, True), strict=True):
        yield from _of_optimizers(side, is_after, named.plan, described)


def _of_optimizers(side: Checkpoint, is_after: bool, plan: Plan, described: Description) -> Iterator[str]:
    """What a saved optimizer does not fit; in the later checkpoint, what it moved is known too."""
    parameters = [t for t in described.tensors if t.kind == "parameter" and t.differentiable]
    every = [(t.name, t.shape) for t in parameters]
    trainable = [(t.name, t.shape) for t in parameters if plan.expected.get(t.name) is Expected.TRAINABLE]
    moved = [(t.name, t.shape) for t in parameters if t.requires_grad]
    in_doubt = any(t.name in plan.in_doubt for t in parameters)  # then nobody can count what the spec trains
    wanted = trainable if plan.from_spec and not in_doubt else None
    for saved in side.optimizers:
        if in_doubt and not saved.names:
            continue
        for told in misfits(saved, every, wanted, moved if is_after else None, ordered=side.ordered):
            yield f"{os.path.basename(side.said)}: {told}"
