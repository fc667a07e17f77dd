"""Partly trained parameters: what became of the rows that train, and of those that must not move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ..records import Expected, Gradient, Plan, RowsSeen, Skipped
from .change import changed_rows, max_abs_change
from .describe import strength_of

if TYPE_CHECKING:
    from .untouched import Ground

_FEW = 3
"""So many ranges of moved rows are named."""
Spans = tuple[tuple[int, int], ...]


@dataclass
class _Part:
    """The rows of one parameter of which the same is expected, and the strongest gradient seen in them."""

    spans: Spans
    gradient: Gradient = Gradient.NONE


@dataclass
class RowEvidence:
    """Gradients and changes of the parameters in `Plan.rows`, row by row. Asks `ground` what each was before."""

    plan: Plan
    parameters: Mapping[str, torch.Tensor]
    ground: Ground
    frozen: dict[str, RowsSeen] = field(default_factory=dict)
    trainable: dict[str, RowsSeen] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._parts: dict[str, dict[Expected, _Part]] = {}
        for name, rows in self.plan.rows.items():
            if _readable(self.parameters[name]):
                kinds = (Expected.TRAINABLE, Expected.FROZEN)
                spans = {kind: tuple((r.start, r.stop) for r in rows if r.expected is kind) for kind in kinds}
                self._parts[name] = {kind: _Part(found) for kind, found in spans.items() if found}
            else:
                why = "it holds no values here, or only a shard of them"
                self.skipped.append(Skipped(f"the single rows of {name}", why))

    def note_gradients(self) -> None:
        """Look at every `.grad` as it is now, and keep the strongest seen of each kind of rows."""
        for name, parts in self._parts.items():
            gradient = self.parameters[name].grad
            if gradient is None:
                continue
            for part in parts.values():
                for rows in _rows(gradient, part.spans):
                    part.gradient = part.gradient.or_stronger(strength_of(rows)[0])

    def asleep(self) -> bool:
        """Whether rows that are meant to train have yet to get a gradient, so that another batch may hold them."""
        waiting = (parts[Expected.TRAINABLE] for parts in self._parts.values() if Expected.TRAINABLE in parts)
        return any(part.gradient is Gradient.ZERO for part in waiting)

    def compare(self) -> None:
        """Fill `frozen`, `trainable` and `skipped`: call it when all steps are made."""
        for name, parts in self._parts.items():
            moved = self._moved(name)
            if moved is None:
                self.skipped.append(Skipped(f"the single rows of {name}", "it was written behind torch's back"))
                continue
            for kind, part in parts.items():
                into = self.trainable if kind is Expected.TRAINABLE else self.frozen
                into[name] = self._seen(name, part, moved)
            trained = self.trainable.get(name)
            if trained is not None and trained.gradient is Gradient.ZERO:
                self.skipped.append(
                    Skipped(
                        f"whether {spelled(name, trained.spans)} trains",
                        "these rows got no gradient from any batch: give inputs that use them",
                    )
                )

    def _moved(self, name: str) -> torch.Tensor | None:
        """By row whether any byte changed; None where that cannot be told."""
        tensor = self.parameters[name]
        before = self.ground.before(tensor)
        if before is not None:
            return changed_rows(before, tensor.detach())
        return None if self.ground.change(tensor)[0] else torch.zeros(len(tensor), dtype=torch.bool)

    def _seen(self, name: str, part: _Part, moved: torch.Tensor) -> RowsSeen:
        mine = torch.zeros_like(moved)
        for start, stop in part.spans:
            mine[start:stop] = True
        where = (moved & mine).nonzero().flatten()
        tensor, before = self.parameters[name].detach(), self.ground.before(self.parameters[name])
        far = max_abs_change(before[where], tensor[where]) if before is not None and len(where) else None
        spans = tuple(_runs(where.tolist()))
        return RowsSeen(int(mine.sum()), part.spans, len(where), spans[:_FEW], far, part.gradient)


def spelled(name: str, spans: Spans) -> str:
    """`embed.weight[0:10]`, with further ranges after `and`, the way a spec selects them."""
    return " and ".join(f"{name}[{start}:{stop}]" for start, stop in spans)


def _readable(tensor: torch.Tensor) -> bool:
    return not tensor.is_meta and tensor.layout is torch.strided and not hasattr(tensor, "_local_tensor")


def _rows(gradient: torch.Tensor, spans: Spans) -> Iterator[torch.Tensor]:
    """The values of a gradient in these rows; a sparse one has none for the rows that it leaves out."""
    if not gradient.is_sparse:
        yield from (gradient[start:stop] for start, stop in spans)
        return
    gradient = gradient.coalesce()
    index = gradient.indices()[0]
    yield from (gradient.values()[(index >= start) & (index < stop)] for start, stop in spans)


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Half-open ranges of ascending numbers."""
    start = stop = -1
    for number in numbers:
        if number != stop:
            if start >= 0:
                yield start, stop
            start = number
        stop = number + 1
    if start >= 0:
        yield start, stop
