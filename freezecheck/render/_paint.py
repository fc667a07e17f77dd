"""Colours of a terminal, and cutting a word to a width."""

from __future__ import annotations

import textwrap
from unicodedata import combining, east_asian_width

_CODES = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36}
COLOR_OF = {
    "frozen": "blue",
    "trainable": "green",
    "mixed": "yellow",
    "error": "red",
    "warning": "yellow",
    "note": "cyan",
    "ok": "green",
}
"""The colour that stands for a state, a severity or the verdict."""
LEAST_WIDTH = 40
"""Columns that a text is wrapped to at least, however narrow the terminal."""


def paint(text: str, color: str | None, on: bool) -> str:
    """Colour a text, when colours are on and one is given."""
    return f"\x1b[{_CODES[color]}m{text}\x1b[0m" if on and color and text else text


def columns_of(text: str) -> int:
    """Return how many columns a terminal gives a text: two for a wide character, none for a combining one."""
    return len(text) if text.isascii() else sum(_of(char) for char in text)


def _of(char: str) -> int:
    return 0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1


def shortened(text: str, width: int) -> str:
    """Cut the middle out of a text that is too wide; its end tells names apart, so more of the end is kept."""
    if columns_of(text) <= width:
        return text
    head = (width - 1) // 3
    return f"{_start(text, head)}…{_start(text[::-1], width - 1 - head)[::-1]}"


def _start(text: str, width: int) -> str:
    taken = 0
    for place, char in enumerate(text):
        taken += _of(char)
        if taken > width:
            return text[:place]
    return text


def wrapped(text: str, width: int, indent: str, then: str) -> str:
    """Wrap a text to `width` columns; no word is broken."""
    # textwrap counts characters: a filler after each wide one makes it count columns.
    filled = "".join(char + "\0" * (_of(char) - 1) for char in text)
    lines = textwrap.fill(
        filled, width, initial_indent=indent, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )
    return lines.replace("\0", "")


def printable(text: str) -> str:
    """Write control characters, which a module's name may contain, as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
