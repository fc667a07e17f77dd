"""The rows of the layer table: each tensor in one row, equal siblings in one, at a depth that fits a screen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from ..records import Case, Expected, Facts, LayerFacts

SCREEN = 24
"""Rows that a screen holds."""
_NUMBERED = re.compile(r"((?:.*[._])?)(\d+)", re.DOTALL)
"""A layer that is one of a row: its name's last part is an index, or ends in one after an underscore."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a layer, several equal ones, or what a container owns itself."""

    name: str
    type: str
    trainable: int
    frozen: int
    expected: str
    actual: str
    held_by: str | None
    mode: str
    wrong: bool = False
    """Whether some flag in it is not what the spec says and nothing else holds the tensor."""
    drifts: bool = False
    """Whether some buffer in it can still move although its layer is frozen."""
    times: int = 1
    """How many equal layers it stands for; the counts are their sum."""
    saved: int | None = None
    """Bytes of activations that it keeps for the backward pass; None where that was not measured."""

    @property
    def key(self) -> tuple[object, ...]:
        """What has to be equal for two rows to become one: all but name and counts."""
        return (self.type, self.expected, self.actual, self.held_by, self.mode, self.wrong, self.drifts, self.times)


class LayerTable:
    """The model's layers as a tree, and the rows it makes of them."""

    def __init__(self, case: Case, *, every: bool = False) -> None:
        self._case = case
        self._every = every
        self._layers = case.layer_of
        self._children: dict[str, list[LayerFacts]] = {}
        for layer in case.layers:
            if layer.name:
                self._children.setdefault(layer.name.rpartition(".")[0], []).append(layer)
        self._facts = {name: f for f in case.facts for name in f.tensor.names}

    @cached_property
    def _below(self) -> dict[str, _Subtree]:
        """For every layer what its subtree holds, gathered from the leaves up."""
        found: dict[str, _Subtree] = {}
        for layer in sorted(self._case.layers, key=lambda one: -one.layer.depth):
            own = self._own(layer)
            found[layer.name] = own.joined(found[child.name] for child in self._children.get(layer.name, ()))
        return found

    @cached_property
    def deepest(self) -> int:
        """Depth of the deepest layer, at least 1."""
        return max((layer.layer.depth for layer in self._case.layers), default=1) or 1

    def hidden(self, depth: int) -> int:
        """Number of layers that would have a row at this depth but hold nothing, nor do any below them."""
        empty = [one for one in self._case.layers if one.name and not self._holds(one)]
        at_top = [one for one in empty if self._holds(self._layers[one.name.rpartition(".")[0]])]
        return 0 if self._every else sum(one.layer.depth <= depth for one in at_top)

    def depth(self, fits: Callable[[list[Row]], bool]) -> int:
        """Return the deepest depth whose rows fit the screen's height and whatever `fits` asks, at least 1."""
        for deep in range(self.deepest, 1, -1):
            rows = self.rows(deep)
            if len(rows) <= SCREEN and fits(rows):
                return deep
        return 1

    def rows(self, depth: int) -> list[Row]:
        """Return the rows at a depth; 1 gives the model's children."""
        return self._open(self._case.layers[0], depth) if self._case.layers else []

    def _open(self, layer: LayerFacts, depth: int) -> list[Row]:
        children = self._children.get(layer.name, [])
        if not self._every and not self._holds(layer):
            return []
        if layer.layer.depth >= depth or not children:
            return [self._row(layer)]
        own = [self._row_of_own(layer)] if layer.layer.tensors or self._saved_by_itself(layer) else []
        blocks = [(child, self._open(child, depth)) for child in children]
        return own + self._collapsed([(child, rows) for child, rows in blocks if rows])

    def _collapsed(self, blocks: Sequence[tuple[LayerFacts, list[Row]]]) -> list[Row]:
        """Make one block of neighbours that are counted by index and whose rows are equal but for the counts."""
        if self._every:
            return [row for _, rows in blocks for row in rows]
        result: list[Row] = []
        for _, group in groupby(blocks, key=lambda block: _signature(*block)):
            result.extend(_merged(list(group)))
        return result

    def _holds(self, layer: LayerFacts) -> bool:
        """Whether a layer or any below it has a tensor, or keeps something for the backward pass."""
        return bool(self._below[layer.name].tensors or layer.saved_bytes)

    def _saved_by_itself(self, layer: LayerFacts) -> int | None:
        """Bytes that a layer keeps for the backward pass and that none of its children keeps."""
        if layer.saved_bytes is None:
            return None
        return layer.saved_bytes - sum(child.saved_bytes or 0 for child in self._children.get(layer.name, ()))

    def _row(self, layer: LayerFacts) -> Row:
        below = self._below[layer.name]
        return Row(
            name=layer.name or "(model)",
            type=layer.layer.type,
            trainable=layer.trainable,
            frozen=layer.frozen,
            expected=layer.expected,
            actual=layer.actual,
            held_by=layer.held_by,
            mode=below.mode,
            wrong=below.wrong and layer.held_by in (None, "requires_grad"),
            drifts=below.drifts,
            saved=layer.saved_bytes,
        )

    def _row_of_own(self, layer: LayerFacts) -> Row:
        """The tensors that a container owns beside its children, such as a class token."""
        parameters = list({f.name: f for f in self._owned(layer) if not f.is_buffer}.values())
        flags = {f.tensor.requires_grad for f in parameters}
        own = self._own(layer)
        return replace(
            self._row(layer),
            name=f"{layer.name or '(model)'} itself",
            trainable=sum(f.tensor.numel for f in parameters if f.tensor.requires_grad),
            frozen=sum(f.tensor.numel for f in parameters if not f.tensor.requires_grad),
            expected=_one({f.expected.value for f in parameters}),
            actual=_one({"trainable" if flag else "frozen" for flag in flags}),
            held_by=layer.held_by if parameters and flags != {True} else None,
            mode=own.mode,
            wrong=own.wrong,
            drifts=own.drifts,
            saved=self._saved_by_itself(layer),
        )

    def _owned(self, layer: LayerFacts) -> Iterator[Facts]:
        return (self._facts[name] for name in layer.layer.tensors if name in self._facts)

    def _own(self, layer: LayerFacts) -> _Subtree:
        training = layer.layer.training if layer.training is None else layer.training
        owned = list(self._owned(layer))
        return _Subtree(
            tensors=len(layer.layer.tensors),
            modes=frozenset({"train" if training else "eval"}),
            wrong=any(_wrong(f) for f in owned) and self._case.plan.from_spec,
            drifts=any(self._drifts(layer, self._facts.get(name)) for name in layer.movable_buffers),
        )

    def _drifts(self, layer: LayerFacts, buffer: Facts | None) -> bool:
        if buffer is None or buffer.may_move:
            return False
        if self._case.plan.from_spec:
            return buffer.expected is Expected.FROZEN
        return layer.actual == "frozen"


@dataclass(frozen=True, slots=True)
class _Subtree:
    tensors: int
    modes: frozenset[str]
    wrong: bool
    drifts: bool

    def joined(self, others: Iterator[_Subtree]) -> _Subtree:
        parts = [self, *others]
        return _Subtree(
            sum(part.tensors for part in parts),
            frozenset().union(*(part.modes for part in parts)),
            any(part.wrong for part in parts),
            any(part.drifts for part in parts),
        )

    @property
    def mode(self) -> str:
        return _one(set(self.modes))


def _one(words: set[str]) -> str:
    return words.pop() if len(words) == 1 else "mixed" if words else "none"


def _wrong(facts: Facts) -> bool:
    if facts.is_buffer or not facts.tensor.differentiable or facts.expected is Expected.UNCHECKED:
        return False
    return facts.tensor.requires_grad is not (facts.expected is Expected.TRAINABLE)


def _numbered(layer: LayerFacts) -> tuple[str, str] | None:
    """Return what stands before a layer's index and the index: `("layers.", "3")`, `("layers.block_", "3")`."""
    found = _NUMBERED.fullmatch(layer.name)
    return (found[1], found[2]) if found else None


def _signature(layer: LayerFacts, rows: list[Row]) -> tuple[object, ...]:
    """Equal for blocks that can be one; a layer whose name is no index stays by itself."""
    numbered = _numbered(layer)
    if numbered is None:
        return (layer.name,)
    return (numbered[0], layer.layer.type, tuple((row.name.removeprefix(layer.name), row.key) for row in rows))


def _merged(blocks: list[tuple[LayerFacts, list[Row]]]) -> Iterator[Row]:
    first, last = blocks[0][0], _numbered(blocks[-1][0])
    if len(blocks) == 1 or last is None:
        yield from blocks[0][1]
        return
    for rows in zip(*(rows for _, rows in blocks), strict=True):
        yield replace(
            rows[0],
            name=f"{first.name}–{last[1]}{rows[0].name.removeprefix(first.name)}",
            trainable=sum(row.trainable for row in rows),
            frozen=sum(row.frozen for row in rows),
            times=rows[0].times * len(rows),
            saved=None if rows[0].saved is None else sum(row.saved or 0 for row in rows),
        )
