"""What two checkpoints have in common, and what not: the table of `freezecheck diff` and its sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..records import Case, Change, Facts, Report, Severity, Stored
from ._layers import SCREEN
from ._paint import COLOR_OF, paint, printable, shortened
from ._renderer import Style
from ._words import count, listed

_MOST = 12
"""So many tensors are described one by one; -v describes all."""
_MOST_RANGES = 6
_NAME = 60
"""Columns for a layer's name, unless --all is given; the other columns of the table take about as many."""

Cells = tuple[list[str], list[list[str]], list[str]]
"""Heads, rows and the row of totals."""


@dataclass
class _Sum:
    """What became of the tensors of one layer and of all below it."""

    tensors: int = 0
    changed: int = 0
    largest: float | None = None
    weighted: float = 0.0
    elements: int = 0
    expected: tuple[str, ...] = ()
    wrong: bool = False

    def add(self, fact: Facts, wrong: frozenset[str]) -> None:
        """Count one tensor in."""
        change = fact.change or Change()
        self.tensors += 1
        self.wrong = self.wrong or fact.name in wrong
        if fact.expected.value not in self.expected:
            self.expected = (*self.expected, fact.expected.value)
        if change.same is False or change.missing:
            self.changed += 1
        if change.largest is not None and fact.tensor.differentiable:  # a counter's step says little beside weights
            self.largest = max(self.largest or 0.0, change.largest)
        if change.mean_abs is not None and fact.tensor.differentiable:
            self.weighted += change.mean_abs * fact.tensor.numel
            self.elements += fact.tensor.numel

    def cells(self, name: str, style: Style, *, judged: bool) -> list[str]:
        """Its line of the table."""
        changed = f"{self.changed:,} of {self.tensors:,}" + (" !" if self.wrong else "")
        color = "red" if self.wrong else COLOR_OF["trainable" if self.changed else "frozen"]
        said = self.expected[0] if len(self.expected) == 1 else "mixed"
        return [
            name if style.all else shortened(name, max(style.width - _NAME, _NAME)),
            *([said if name != "total" else ""] if judged else []),
            paint(changed, color, style.color),
            "" if not self.changed or self.largest is None else f"{self.largest:.3g}",
            "" if not self.changed or not self.elements else f"{self.weighted / self.elements:.3g}",
        ]


def change_cells(report: Report, style: Style) -> Cells:
    """Return the table: for every layer how many of its tensors changed, and by how much."""
    case = report.case
    wrong = frozenset(n for f in report.findings if f.severity is not Severity.NOTE for n in f.tensors)
    depth = style.depth or _depth(case, everything=style.all)
    sums: dict[str, _Sum] = {}
    total = _Sum()
    for fact in case.facts:
        sums.setdefault(_row(fact, depth), _Sum()).add(fact, wrong)
        total.add(fact, wrong)
    judged = case.plan.from_spec
    heads = ["layer", *(["expected"] if judged else []), "changed", "largest", "mean"]
    lines = [one.cells(printable(name), style, judged=judged) for name, one in sums.items()]
    return heads, lines, total.cells("total", style, judged=judged)


def _row(fact: Facts, depth: int) -> str:
    parts = fact.name.split(".")
    return ".".join(parts[: min(depth, len(parts) - 1)]) or "(model) itself"


def _depth(case: Case, *, everything: bool) -> int:
    """The deepest at which the table fits a screen, or the deepest of all."""
    deepest = max((fact.name.count(".") for fact in case.facts), default=1)
    if everything:
        return max(deepest, 1)
    fitting = (d for d in range(deepest, 1, -1) if len({_row(fact, d) for fact in case.facts}) <= SCREEN)
    return next(fitting, 1)


def change_lines(case: Case, style: Style) -> list[str]:
    """Say what a number in the table cannot: changed rows and shapes, and what only one side holds."""
    told = [line for fact in case.facts if (line := _told(fact))]
    shown = told if style.verbose or len(told) <= _MOST else told[: _MOST - 1]
    if len(shown) < len(told):
        shown = [*shown, f"and {len(told) - len(shown):,} more tensors like these; {style.ask('verbose')} shows all"]
    return [printable(line) for line in [*shown, *_alone(case, style)]]


def _told(fact: Facts) -> str:
    change = fact.change or Change()
    if change.missing or change.same is not False:
        return ""
    if change.before and change.after and change.before.shape != change.after.shape:
        sizes = f"{fact.name}: {_size(change.before)} before, {_size(change.after)} after"
        return f"{sizes}; {_rows(change)} changed" if change.rows else sizes
    if change.max_abs is None:
        return f"{fact.name}: differs; {change.why}"
    broken = f"{count(change.nonfinite, 'changed element')} NaN or infinite" if change.nonfinite else ""
    moved = sum(stop - start for start, stop in change.rows or ())
    few = change.rows and len(fact.tensor.shape) > 1 and 2 * moved <= fact.tensor.shape[0]
    said = [f"only {_rows(change)} of {fact.tensor.shape[0]:,} changed" if few else "", broken]
    return f"{fact.name}: {', '.join(filter(None, said))}" if any(said) else ""


def _rows(change: Change) -> str:
    rows = change.rows or ()
    said = [str(a) if b - a == 1 else f"{a}–{b - 1}" for a, b in rows[:_MOST_RANGES]]
    more = f" and {len(rows) - len(said):,} more ranges" if len(rows) > len(said) else ""
    return f"row{'' if len(rows) == 1 and rows[0][1] - rows[0][0] == 1 else 's'} {', '.join(said)}{more}"


def _alone(case: Case, style: Style) -> Iterator[str]:
    comparison = case.comparison
    if comparison is None:
        return
    for side, names in (
        (comparison.before, _missing(case.facts, after=True)),
        (comparison.after, _missing(case.facts, after=False)),
    ):
        if names:
            shown = ", ".join(names) if style.verbose else listed(names)
            yield f"only in {side}: {count(len(names), 'tensor')} ({shown})"


def _missing(facts: Iterable[Facts], *, after: bool) -> list[str]:
    return [f.name for f in facts if f.change and f.change.missing and (f.change.after is None) is after]


def _size(stored: Stored) -> str:
    return f"{stored.dtype}[{', '.join(map(str, stored.shape))}]"
