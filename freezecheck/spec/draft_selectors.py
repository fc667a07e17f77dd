"""The shortest selectors that select just the trainable, or just the frozen, tensors of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from ..records import Description, Layer

_PLAIN = re.compile(r"[^\s*?\[\]!:.]+(?:\.[^\s*?\[\]!:.]+)*")
"""Names that mean themselves in a selector."""
_MANY = 4
"""From so many selectors on, one glob or `type:` reads better."""


class Tree:
    """A model's layers and tensors by path, with what each tensor does: True trains, False is frozen, None either.

    None is said of a buffer in a part that is partly frozen (nothing beside it decides) and of a parameter that can
    have no gradient: whichever list it falls into, it is not wrong there.
    """

    def __init__(self, description: Description) -> None:
        self.layers = description.layer_by_name
        self._tensors = description.by_name
        self._children: dict[str, list[str]] = {}
        for path in self.layers:
            if path:
                self._children.setdefault(path.rpartition(".")[0], []).append(path)
        self._parameters: dict[str, frozenset[bool]] = {}
        for path in sorted(self.layers, key=lambda path: -self.layers[path].depth):
            self._parameters[path] = self._flags(path)
        self._does = {name: self._decide(name) for name in self._tensors}
        self._states: dict[str, frozenset[bool | None]] = {}
        for path in sorted(self.layers, key=lambda path: -self.layers[path].depth):
            own = frozenset(self._does[name] for name in self.layers[path].tensors)
            self._states[path] = own.union(*(self._states[child] for child in self._children.get(path, ())))

    def below(self, path: str) -> Iterator[Layer]:
        """Yield a layer and all layers of its subtree; nothing for a tensor's name."""
        if path not in self.layers:
            return
        yield self.layers[path]
        for child in self._children.get(path, ()):
            yield from self.below(child)

    def all_are(self, path: str, trainable: bool) -> bool:
        """Whether a layer's whole subtree, or the one tensor of this name, may be selected as such."""
        if path in self._states:
            return (not trainable) not in self._states[path]
        return self._does[path] is not (not trainable)

    def has(self, path: str, trainable: bool) -> bool:
        """Whether something in the subtree, or the tensor of this name, has to be selected as such."""
        return trainable in self._states[path] if path in self._states else self._does[path] is trainable

    def whole(self, *, trainable: bool, path: str = "") -> Iterator[str]:
        """Yield the largest subtrees, and the tensors left over, that together hold all that trains (or is frozen)."""
        if path in self.layers and self.has(path, trainable):
            if self.all_are(path, trainable):
                yield path
                return
            yield from (name for name in self.layers[path].tensors if self._does[name] is trainable)
            for child in self._children.get(path, ()):
                yield from self.whole(trainable=trainable, path=child)

    @cached_property
    def by_last(self) -> dict[str, list[str]]:
        """Every layer and tensor that has one above it, by the last part of its path: what `*.last` matches."""
        found: dict[str, list[str]] = {}
        for path in (*self.layers, *self._tensors):
            above, _, last = path.rpartition(".")
            if above:
                found.setdefault(last, []).append(path)
        return found

    def of_class(self, name: str) -> list[Layer]:
        """Return every layer of this class, or of one derived from it."""
        return [layer for layer in self.layers.values() if name in layer.bases]

    def is_leaf(self, path: str) -> bool:
        """Whether it is a layer without layers below it."""
        return path in self.layers and path not in self._children

    def said(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Return a selector for each path; neighbours in one indexable container share a slice."""
        done: dict[str, None] = {}
        wanted = set(paths)
        for path in paths:
            done.setdefault(self._slice(path, wanted) or self._plain(path))
        return tuple(done)

    def _plain(self, path: str) -> str:
        if not path:
            return "*"
        if _PLAIN.fullmatch(path):
            return path
        return f"re:^{re.escape(path)}" + (r"(\.|$)" if path in self.layers else "$")

    def _slice(self, path: str, wanted: set[str]) -> str | None:
        """Return `container[a:b]` for the neighbours around this path, across layers without tensors, or None."""
        parent, _, last = path.rpartition(".")
        container = self.layers.get(parent)
        if path not in self.layers or not container or not container.items or not _PLAIN.fullmatch(parent):
            return None
        full = [f"{parent}.{item}" for item in container.items]
        fits = [item in wanted or not self._states[item] for item in full]
        start = end = container.items.index(last)
        while start and fits[start - 1]:
            start -= 1
        while end + 1 < len(full) and fits[end + 1]:
            end += 1
        inside = [n for n in range(start, end + 1) if full[n] in wanted]
        return f"{parent}[{inside[0]}:{inside[-1] + 1}]" if len(inside) > 1 else None

    def _flags(self, path: str) -> frozenset[bool]:
        own = (self._tensors[name] for name in self.layers[path].tensors)
        flags = frozenset(t.requires_grad for t in own if t.kind == "parameter" and t.differentiable)
        return flags.union(*(self._parameters[child] for child in self._children.get(path, ())))

    def _decide(self, name: str) -> bool | None:
        tensor = self._tensors[name]
        if tensor.kind == "parameter" and (tensor.differentiable or tensor.aliases):
            return tensor.requires_grad
        if tensor.kind == "parameter":
            return None
        flags = frozenset[bool]().union(*(self._beside(each) for each in tensor.names))
        if len(flags) == 1:
            return next(iter(flags))
        # Under all its names a tied tensor must be said to do the same, and a norm's statistics move in train mode.
        return True if flags and (tensor.aliases or name in self.layers[tensor.owner].statistics) else None

    def _beside(self, name: str) -> frozenset[bool]:
        """Flags of the parameters beside a buffer: in its layer, else in the nearest subtree that has any."""
        path = name.rpartition(".")[0]
        while path and not self._parameters[path]:
            path = path.rpartition(".")[0]
        return self._parameters.get(path, frozenset())


def selectors(tree: Tree, *, trainable: bool) -> tuple[str, ...]:
    """Return selectors of all that trains (or is frozen) and of nothing that does the opposite; empty for none."""
    paths = list(tree.whole(trainable=trainable))
    wider: list[str] = []
    for generalised in (_by_class, _by_name):
        for selector, covered in generalised(tree, paths, trainable):
            left = [path for path in paths if path not in covered]
            if len(paths) - len(left) >= _MANY:
                wider.append(selector)
                paths = left
    return (*tree.said(paths), *wider)


_Generalised = Iterable[tuple[str, set[str]]]
"""Selectors, each with the paths that it covers."""


def _by_class(tree: Tree, paths: Sequence[str], trainable: bool) -> _Generalised:
    """Yield `type:Class` for classes whose layers' own tensors all do the same."""
    leaves = [path for path in paths if tree.is_leaf(path)]
    for name in dict.fromkeys(tree.layers[path].type for path in leaves):
        own = [tensor for layer in tree.of_class(name) for tensor in layer.tensors]
        if name.isidentifier() and all(tree.all_are(tensor, trainable) for tensor in own):
            yield f"type:{name}", {path for path in leaves if name in tree.layers[path].bases}


def _by_name(tree: Tree, paths: Sequence[str], trainable: bool) -> _Generalised:
    """Yield `*.name` for names that mean the same wherever they stand; an index means nothing by itself."""
    for last in dict.fromkeys(path.rpartition(".")[2] for path in paths):
        alike = tree.by_last.get(last, [])
        if last.isdecimal() or not _PLAIN.fullmatch(last):
            continue
        if all(tree.all_are(path, trainable) for path in alike):
            yield f"*.{last}", set(alike)
