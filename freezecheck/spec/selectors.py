"""The syntax of one selector: text → `Pattern`, or a ValueError that says what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_INDEX = re.compile(r"\s*(-?\d+)\s*")
_SLICE = re.compile(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*(?::\s*(\d+)?\s*)?")


@dataclass(frozen=True, slots=True)
class Index:
    """A Python index, or a half-open slice, into a module's items."""

    start: int | None
    stop: int | None = None
    step: int = 1
    single: bool = False
    """An index rather than a slice; it stands in `start`."""

    def positions(self, count: int) -> range:
        """Positions among `count` items. Raises IndexError when a bound lies outside or no item is left.

        Unlike Python's own slices it does not clip: who writes `[0:12]` believes that there are twelve.
        """
        most = count - 1 if self.single else count
        if any(bound is not None and not -count <= bound <= most for bound in (self.start, self.stop)):
            raise IndexError("is out of range")
        if self.single:
            return range(count)[self.start :][:1]
        found = range(count)[self.start : self.stop : self.step]
        if not found:
            raise IndexError("takes no item")
        return found

    @property
    def from_the_front(self) -> bool:
        """Whether it means the same positions whatever the number of items."""
        return (self.start or 0) >= 0 and (self.single or (self.stop or 0) >= 0)

    def among(self, known: int) -> tuple[range, range]:
        """Positions among the `known` items that it takes for certain, and that it may take, where more may follow.

        Raises IndexError when no number of items makes it right.
        """
        every, start, stop = range(known), self.start or 0, self.stop
        if self.single:
            stop = start + 1 if start >= 0 else None
        if stop is not None and (start < 0) == (stop < 0) and stop <= start:
            raise IndexError("takes no item")
        if start < 0:  # the more items there are, the further behind it begins
            first = max(known, -start, abs(stop or 0)) + start
            if stop is not None and 0 <= stop <= first:
                raise IndexError("takes no item")
            return every[:0], every[first : stop if stop is not None and stop >= 0 else None]
        if stop is not None and stop < 0:
            return every[start : max(known + stop, 0) : self.step], every[start :: self.step]
        return every[start : stop : self.step], every[start : stop : self.step]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A selector taken apart."""

    kind: Literal["path", "type", "re"]
    rest: str
    """The glob after the last index (with its leading dot), the class name's glob, or the regular expression."""
    negated: bool = False
    indexed: tuple[tuple[str, Index], ...] = ()
    """For a path: each glob that is followed by an index, with that index."""

    @property
    def is_glob(self) -> bool:
        """Whether a `*` or `?` stands anywhere in it."""
        return any(map(has_wildcard, (self.rest, *(glob for glob, _ in self.indexed))))


def has_wildcard(glob: str) -> bool:
    """Whether the text is more than a plain name."""
    return "*" in glob or "?" in glob


@cache
def parse_selector(text: str) -> Pattern:
    """Take a selector apart. Raises ValueError, with a message that completes "`text` …", when it is malformed."""
    negated = text.startswith("!")
    body = text[1:] if negated else text
    if not body.strip():
        raise ValueError("is an empty selector")
    if body != body.strip() and not body.startswith("re:"):
        raise ValueError("has a space at its beginning or end")
    if body.startswith("!"):
        raise ValueError("has more than one `!`")
    if body.startswith("type:"):
        return Pattern("type", _class_glob(body[5:]), negated)
    if body.startswith("re:"):
        return Pattern("re", _expression(body[3:]), negated)
    return _path(body, negated)


def _class_glob(glob: str) -> str:
    if not glob.strip():
        raise ValueError("names no class after `type:`")
    if not re.fullmatch(r"[\w*?]+", glob):
        raise ValueError(
            "must give the class's bare name after `type:`, such as `type:BatchNorm2d` or `type:BatchNorm*`"
        )
    return glob


def _expression(expression: str) -> str:
    if not expression:
        raise ValueError("has no regular expression after `re:`")
    try:
        re.compile(expression)
    except re.error as error:
        at = "" if error.pos is None else f" at position {error.pos} of the expression"
        raise ValueError(f"is not a regular expression: {error.msg}{at}") from None
    except (OverflowError, RecursionError) as error:
        raise ValueError(f"is not a regular expression that Python can take: {error}") from None
    return expression


def _path(body: str, negated: bool) -> Pattern:
    pieces = _BRACKETS.split(body)
    globs, brackets = pieces[::2], pieces[1::2]
    for position, glob in enumerate(globs):
        _check_glob(glob, first=position == 0, indexed=bool(brackets))
    indexed = tuple((glob, _index(inside)) for glob, inside in zip(globs, brackets, strict=False))
    return Pattern("path", globs[-1], negated, indexed)


def _check_glob(glob: str, *, first: bool, indexed: bool) -> None:
    if "[" in glob or "]" in glob:
        raise ValueError("has a bracket without its partner")
    if not glob and indexed:
        return
    if not first:
        if not glob.startswith("."):
            raise ValueError("needs a dot between an index and the name after it")
        glob = glob[1:]
    if glob.endswith(".") and glob != ".":
        raise ValueError("ends in a dot; leave it out, `layer.1` never selects `layer.10`")
    if not all(glob.split(".")):
        raise ValueError("has an empty part between dots")


def _index(inside: str) -> Index:
    if single := _INDEX.fullmatch(inside):
        return Index(int(single[1]), single=True)
    part = _SLICE.fullmatch(inside)
    if part is None:
        meant = "`[2]`, `[-1]` or `[0:6]`; a glob knows `*` and `?` only"
        raise ValueError(f"has `[{inside}]`, which is no index or slice: write {meant}")
    start, stop, step = (None if bound is None else int(bound) for bound in part.groups())
    if step == 0:
        raise ValueError(f"has the step 0 in `[{inside}]`")
    return Index(start, stop, step or 1)


def glob_regex(glob: str) -> str:
    """The glob as a regular expression: `*` crosses dots, `?` is one character other than a dot."""
    collapsed = re.sub(r"\*+", "*", glob)
    return "".join(".*" if c == "*" else "[^.]" if c == "?" else re.escape(c) for c in collapsed)
