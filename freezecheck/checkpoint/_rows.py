"""Ranges of rows: half-open, ascending, none touching the next. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

Span = tuple[int, int]
_MARKED = re.compile(rb"\x01+")


def spans(flags: bytes | bytearray) -> tuple[Span, ...]:
    """Return where a byte is 1."""
    return tuple(found.span() for found in _MARKED.finditer(flags))


def within(rows: Iterable[Span], parts: Iterable[Span]) -> tuple[Span, ...]:
    """Return what of `rows` lies in `parts`, both ascending."""
    bounds = list(parts)
    cut = ((max(a, start), min(b, stop)) for a, b in rows for start, stop in bounds)
    return tuple(sorted(span for span in cut if span[0] < span[1]))


def count(rows: Iterable[Span]) -> int:
    """Return the number of rows."""
    return sum(stop - start for start, stop in rows)
