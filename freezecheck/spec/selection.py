"""What one selector selects in one model: tensor names, rows of tensors, or module paths. Pure; no torch."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache, cached_property

from ..records import Description, Layer
from .selectors import Index, Pattern, glob_regex, has_wildcard

_NOT_INDEXED = "cannot be indexed"
_NO_CLASS = "a checkpoint does not say of which class a layer is"


class OutOfRange(Exception):  # noqa: N818 - it completes the sentence that begins with the selector
    """An index or slice lies outside its module; the message completes "`selector` …"."""


class Selection:
    """The names of one model, ready for many selectors.

    Names are kept sorted, so that a subtree is one slice; a glob is then tried only below its literal beginning.
    """

    def __init__(self, description: Description) -> None:
        self.description = description
        self.tensors = _Sorted(description.by_name)
        self.layers = _Sorted(description.layer_by_name)
        self.buffers = frozenset(name for t in description.tensors if t.kind == "buffer" for name in t.names)
        self.owned: dict[str, Sequence[str]] = {layer.name: layer.tensors for layer in description.layers}

    def names(self, pattern: Pattern, *, possible: bool = False) -> set[str]:
        """Names of the tensors that a selector selects (that it takes away, when it begins with `!`).

        With `possible` also those that it may select where the description cannot tell. Raises OutOfRange.
        """
        if pattern.kind == "type":
            return {name for path in self.modules(pattern, possible=possible) for name in self.owned[path]}
        if pattern.kind == "re":
            search = re.compile(pattern.rest).search
            return {name for name in self.tensors.all if search(name)}
        if rows := self.rows(pattern, possible=possible):
            return set(rows)
        bases = self._bases(pattern.indexed, possible=possible)
        return {name for base in bases for name in self.tensors.matching(base, pattern.rest, tree=True)}

    def rows(self, pattern: Pattern, *, possible: bool = False) -> dict[str, range]:
        """By parameter name the rows that a selector such as `embed.weight[32000:]` selects; empty for any other.

        An index that can be one into modules is one into modules. Raises OutOfRange.
        """
        if not pattern.indexed or pattern.rest:
            return {}
        glob, index = pattern.indexed[-1]
        bases = self._bases(pattern.indexed[:-1], possible=possible)
        if any(self.layers.matching(base, glob, tree=False) for base in bases):
            return {}
        names = [name for base in bases for name in self.tensors.matching(base, glob, tree=False)]
        return self._rows_at(names, index, possible or any(has_wildcard(glob) for glob, _ in pattern.indexed))

    def _rows_at(self, names: Sequence[str], index: Index, searching: bool) -> dict[str, range]:
        """The rows at `index`. A glob searches for parameters that have such rows; a name must be of one that has."""
        found: dict[str, range] = {}
        refused: list[str] = []
        for name in names:
            tensor = self.description.by_name[name]
            if tensor.kind == "buffer" or not tensor.shape:
                if not searching:
                    what = "a buffer" if tensor.kind == "buffer" else "a single number"
                    raise OutOfRange(f"{_NOT_INDEXED}: `{name}` is {what}, and only a parameter's rows take an index")
            elif index.step != 1:
                raise OutOfRange("has a step, and the rows of a parameter are neighbours: write `[start:stop]`")
            else:
                try:
                    found[name] = index.positions(tensor.shape[0])
                except IndexError as error:
                    refused.append(f"{error}: `{name}` has {counted(tensor.shape[0], 'row')}")
        if refused and (not searching or not found):
            raise OutOfRange(refused[0])
        return found

    def modules(self, pattern: Pattern, *, possible: bool = False) -> set[str]:
        """Paths of the modules that a selector names, without those below them. Raises OutOfRange."""
        if pattern.kind == "type":
            matches = re.compile(glob_regex(pattern.rest)).fullmatch
            meant = {name for name in self._classes if matches(name)}
            known = {layer.name for layer in self.description.layers if not meant.isdisjoint(_classes(layer))}
            return known | self._classless if possible and not self._knows(pattern.rest) else known
        if pattern.kind == "re":
            search = re.compile(pattern.rest).search
            return {path for path in self.layers.all if search(path)}
        bases = self._bases(pattern.indexed, possible=possible)
        return {path for base in bases for path in self.layers.matching(base, pattern.rest, tree=False)}

    def unknown(self, pattern: Pattern) -> str:
        """What the description leaves open of a selector, as a reason; empty where it settles what is selected."""
        if pattern.kind == "type":
            return _NO_CLASS if self._classless and not self._knows(pattern.rest) else ""
        found = [path for paths, index in self._steps(pattern.indexed) for path in paths if self._opens(path, index)]
        names = [f"`{path}`" if path else "the model" for path in dict.fromkeys(found)]
        if not names:
            return ""
        shown = names if len(names) <= 3 else [*names[:3], f"{len(names) - 3} more"]
        said = f"{', '.join(shown[:-1])} and {shown[-1]} have" if len(shown) > 1 else f"{shown[0]} has"
        return f"a checkpoint does not say how many layers {said}"

    def _opens(self, path: str, index: Index) -> bool:
        """Whether what stands at an index hangs on the container's length, and that is not known."""
        layer = self.description.layer_by_name[path]
        if not layer.more or layer.items is None:
            return False
        return not index.from_the_front or (index.start or 0) >= len(layer.items)

    @cached_property
    def _classes(self) -> frozenset[str]:
        return frozenset(base for layer in self.description.layers for base in _classes(layer))

    @cached_property
    def _classless(self) -> frozenset[str]:
        """Paths of the layers of which nothing is known but that they are modules."""
        return frozenset(layer.name for layer in self.description.layers if not layer.type)

    def _knows(self, glob: str) -> bool:
        """Whether a glob begins with a class that some layer is known to be of: the others are then none of it."""
        return re.split(r"[*?]", glob, maxsplit=1)[0] in self._classes

    def subtrees(self, paths: Iterable[str]) -> set[str]:
        """These modules and all below them."""
        found: set[str] = set()
        for path in sorted(paths):
            if path not in found:
                found.update(self.layers.under(path))
        return found

    def covering(self, paths: Collection[str]) -> tuple[str, ...]:
        """The fewest modules whose whole subtrees are these modules, in the model's order.

        A module of which only part of the subtree is wanted cannot stand for it and is left out.
        """
        partial = {above for path in self.layers.all if path not in paths for above in (path, *_above(path))}
        whole = {layer.name: None for layer in self.description.layers if layer.name not in partial}
        return tuple(name for name in whole if not name or name.rpartition(".")[0] not in whole)

    def _bases(self, indexed: Iterable[tuple[str, Index]], *, possible: bool = False) -> Sequence[str]:
        """The modules that a path's indices lead to; the root when it has none."""
        bases = [""]
        searching = False
        for glob, index in indexed:
            searching = searching or has_wildcard(glob)
            found = [path for base in bases for path in self.layers.matching(base, glob, tree=False)]
            bases = list(self._items(found, index, searching, possible))
        return bases

    def _steps(self, indexed: Sequence[tuple[str, Index]]) -> Iterator[tuple[Sequence[str], Index]]:
        """Each index of a path with the modules that it may be one into."""
        for place, (glob, index) in enumerate(indexed):
            bases = self._bases(indexed[:place], possible=True)
            yield [path for base in bases for path in self.layers.matching(base, glob, tree=False)], index

    def _items(self, paths: Sequence[str], index: Index, searching: bool, possible: bool) -> Iterator[str]:
        """The items at `index`. A glob searches for modules that have such items; a path must lead to one.

        With `possible` nothing is refused, as what certainly is wrong was refused without.
        """
        refused: list[tuple[Layer, str]] = []
        for path in paths:
            layer = self.description.layer_by_name[path]
            if layer.items is None:
                refused.append((layer, _NOT_INDEXED))
                continue
            try:
                count = len(layer.items)
                positions = index.among(count)[possible] if layer.more else index.positions(count)
            except IndexError as error:
                refused.append((layer, str(error)))
                continue
            yield from (f"{path}.{layer.items[n]}".removeprefix(".") for n in positions)
        if refused and not possible and (not searching or len(refused) == len(paths)):
            raise OutOfRange(_refusal(refused))


class _Sorted:
    """Dotted names in an order in which each subtree is one slice."""

    def __init__(self, names: Iterable[str]) -> None:
        self.all = sorted(names)
        self._set = frozenset(self.all)

    def under(self, path: str) -> Sequence[str]:
        """The name itself, if there is one, and all below it."""
        if not path:
            return self.all
        # "/" is the character after "."
        below = self.all[bisect_left(self.all, f"{path}.") : bisect_left(self.all, f"{path}/")]
        return [path, *below] if path in self._set else below

    def matching(self, base: str, glob: str, *, tree: bool) -> Sequence[str]:
        """The names that match `glob` after `base`; with `tree` also all below what matches."""
        if not has_wildcard(glob):
            path = base + glob
            return self.under(path) if tree else [path] if path in self._set else []
        literal, fullmatch = _compiled(glob, tree)
        return [name for name in self.under(base + literal) if fullmatch(name, len(base))]


@cache
def _compiled(glob: str, tree: bool) -> tuple[str, Callable[[str, int], re.Match[str] | None]]:
    """A glob's whole parts before its first wildcard, and its matcher from a position on."""
    literal = re.split(r"[*?]", glob, maxsplit=1)[0].rpartition(".")[0]
    tail = r"(?:\..*)?" if tree else ""
    return literal, re.compile(glob_regex(glob) + tail, re.DOTALL).fullmatch


def _classes(layer: Layer) -> tuple[str, ...]:
    return layer.bases or (layer.type,)


def _above(path: str) -> Iterator[str]:
    """All modules above a path, the root last."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def _refusal(refused: Sequence[tuple[Layer, str]]) -> str:
    """What to say of modules that lack the items asked for, each with what is wrong there."""
    wrong = next((why for _, why in refused if why != _NOT_INDEXED), _NOT_INDEXED)
    said = [_said(layer) for layer, why in refused if why == wrong]
    more = f" (and {len(said) - 3} more)" if len(said) > 3 else ""
    return f"{wrong}: {', '.join(said[:3])}{more}"


def _said(layer: Layer) -> str:
    name = f"`{layer.name}`" if layer.name else "the model"
    if layer.items is None:
        return f"{name} is a {layer.type}, and only a ModuleList or Sequential takes an index"
    return f"{name} has {items(layer.items)}"


def items(names: Sequence[str]) -> str:
    """How many items a module has, and which indices they take."""
    return counted(len(names), "item")


def counted(number: int, noun: str) -> str:
    """`one item, [0]`, or `12 items, [0] to [11]`."""
    if number < 2:
        return f"one {noun}, [0]" if number else f"no {noun}s"
    return f"{number:,} {noun}s, [0] to [{number - 1}]"
