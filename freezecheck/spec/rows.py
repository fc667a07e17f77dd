"""Parameters of which a spec expects different things row by row (`embed.weight[32000:]`). Pure; no torch.

Such a parameter is cut where a selector begins or ends, each piece under a name of its own, as if it were a tensor; the
lists are resolved over the pieces, and their expectations put together again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

from ..records import Expected, Rows, Selector, Tensor
from .selection import OutOfRange, Selection
from .selectors import Pattern, parse_selector


class Cuts:
    """The cuts that these selectors make in a model's parameters; most specs make none."""

    def __init__(self, selection: Selection, selectors: Iterable[Selector]) -> None:
        self._selection = selection
        bounds: dict[str, set[int]] = {}
        for selector in selectors:
            for name, rows in self._rows(parse_selector(selector.text)).items():
                bounds.setdefault(selection.description.by_name[name].name, set()).update((rows.start, rows.stop))
        self._pieces: dict[str, list[tuple[int, int]]] = {}
        """By every name of each parameter that is cut."""
        self._whole: dict[str, tuple[str, int, int]] = {}
        """By a piece's name, the parameter's canonical name and the piece's rows."""
        tensors: list[Tensor] = []
        for tensor in selection.description.tensors:
            inner = bounds.get(tensor.name)
            tensors += [tensor] if inner is None else self._cut(tensor, inner)
        self.description = replace(selection.description, tensors=tuple(tensors))
        """The model with pieces in the place of the parameters that are cut."""

    def _rows(self, pattern: Pattern) -> dict[str, range]:
        try:
            return self._selection.rows(pattern, possible=True)
        except OutOfRange:
            return {}  # said when the selector is resolved

    def _cut(self, tensor: Tensor, inner: set[int]) -> list[Tensor]:
        pieces = list(pairwise(sorted({0, tensor.shape[0], *inner})))
        cut = []
        for start, stop in pieces:
            first, *others = (_named(name, start, stop) for name in tensor.names)
            self._whole[first] = (tensor.name, start, stop)
            cut.append(replace(tensor, name=first, aliases=tuple(others)))
        self._pieces.update(dict.fromkeys(tensor.names, pieces))
        return cut

    def selected(self, pattern: Pattern, *, possible: bool = False) -> set[str]:
        """Names of the tensors and pieces that a selector selects, or may select. Raises OutOfRange."""
        names = self._selection.names(pattern, possible=possible)
        if not self._pieces:
            return names
        rows = self._selection.rows(pattern, possible=possible)
        return {unit for name in names for unit in self._units(name, rows.get(name))}

    def _units(self, name: str, rows: range | None) -> Iterable[str]:
        if name not in self._pieces:
            return (name,)
        pieces = self._pieces[name]
        return [_named(name, a, b) for a, b in pieces if rows is None or (rows.start <= a and b <= rows.stop)]

    def whole(self, unit: str) -> str:
        """The canonical name of the parameter that a piece is of; of anything else the name itself."""
        return self._whole[unit][0] if unit in self._whole else unit

    def together(self, expected: Mapping[str, Expected]) -> tuple[dict[str, Expected], dict[str, tuple[Rows, ...]]]:
        """By canonical name what is expected of each tensor, and the rows of those of which more than one thing is."""
        whole: dict[str, Expected] = {}
        rows: dict[str, list[Rows]] = {}
        for unit, said in expected.items():
            if unit not in self._whole:
                whole[unit] = said
                continue
            name, start, stop = self._whole[unit]
            runs = rows.setdefault(name, [])
            if runs and runs[-1].expected is said:
                start = runs.pop().start
            runs.append(Rows(start, stop, said))
            whole[name] = _of_all(runs)
        return whole, {name: tuple(runs) for name, runs in rows.items() if len(runs) > 1}


def _of_all(runs: Iterable[Rows]) -> Expected:
    """What is expected of a parameter as a whole: to be trained where a row is, and nothing where rows differ else."""
    said = {run.expected for run in runs}
    if Expected.TRAINABLE in said:
        return Expected.TRAINABLE
    return said.pop() if len(said) == 1 else Expected.UNCHECKED


def _named(name: str, start: int, stop: int) -> str:
    return f"{name}[{start}:{stop}]"
