"""How far tensors of one checkpoint are from those of another: the rules FZ701 to FZ704 share these words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..records import Case, Change, Facts, Json, Stored
from ._words import group, number

_FEW = 3
"""Up to so many ranges of rows are written out."""


def how_far(changes: Sequence[Change]) -> str:
    """`by up to 0.1 (mean 0.02)`, or what else can be said of how these differ; begins with a space if not empty."""
    odd = [change for change in changes if change.max_abs is None]
    if odd:
        return f" ({told}: {_sizes(odd[0])})" if (told := odd[0].why) else ""
    largest = max(change.max_abs or 0.0 for change in changes)
    broken = sum(change.nonfinite for change in changes)
    said = [f" by up to {number(largest)}" if largest or not broken else ""]
    if len(changes) == 1 and largest and changes[0].mean_abs is not None:
        said.append(f" (mean {number(changes[0].mean_abs)})")
    if broken:
        noun = "element is" if broken == 1 else "elements are"
        said.append(f"{' and' if said[0] else ':'} {broken:,} changed {noun} NaN or infinite")
    if not largest and not broken:
        return " in bytes though not in value (-0.0 is not 0.0)"
    return "".join(said)


def rows_of(change: Change) -> str:
    """`rows 5 and 32000–32015 of 32016`, when few enough of its rows changed to name them; else empty."""
    shape = (change.after or change.before or Stored((), "")).shape
    if change.rows is None or len(shape) < 2 or not change.rows:
        return ""
    moved = sum(stop - start for start, stop in change.rows)
    total = max(shape[0], change.before.shape[0] if change.before else 0)
    if moved * 2 > total:
        return ""
    return f"{'row' if moved == 1 else 'rows'} {ranges(change.rows)} of {total:,}"


def ranges(rows: Sequence[tuple[int, int]]) -> str:
    """`5, 9–11 and 3 more ranges`: half-open ranges as people write rows, counted from 0."""
    said = [str(start) if stop - start == 1 else f"{start}–{stop - 1}" for start, stop in rows[:_FEW]]
    if len(rows) > _FEW:
        more = len(rows) - _FEW
        return f"{', '.join(said)} and {more:,} more range{'s' if more > 1 else ''}"
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def by_kind(facts: Iterable[Facts]) -> dict[str, list[Facts]]:
    """Put together what differs in the same way: in value, in shape, or in a way without numbers."""
    return group(facts, key=lambda fact: (fact.change or Change()).why)


def as_evidence(changes: Sequence[Change]) -> dict[str, Json]:
    """What was seen of these changes, for the evidence."""
    known = [change for change in changes if change.max_abs is not None]
    found: dict[str, Json] = {
        "max_abs_change": max((change.max_abs or 0.0 for change in known), default=None),
        "changed_elements": sum(change.changed or 0 for change in known) if known else None,
    }
    if len(changes) == 1 and changes[0].rows is not None:
        found["rows"] = [list(span) for span in changes[0].rows[:50]]
    if broken := sum(change.nonfinite for change in changes):
        found["nonfinite_elements"] = broken
    return found


def sides(case: Case) -> tuple[str, str]:
    """The two checkpoints as the user named them."""
    return (case.comparison.before, case.comparison.after) if case.comparison else ("the first", "the second")


def _sizes(change: Change) -> str:
    before, after = (_size(side) for side in (change.before, change.after))
    return f"{before} before, {after} after" if before != after else after


def _size(stored: Stored | None) -> str:
    return "absent" if stored is None else f"{stored.dtype}[{', '.join(map(str, stored.shape))}]"
