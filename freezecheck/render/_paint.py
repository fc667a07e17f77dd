"""Colours of a terminal, and cutting a word to a width."""

from __future__ import annotations

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


def paint(text: str, color: str | None, on: bool) -> str:
    """Colour a text, when colours are on and one is given."""
    return f"\x1b[{_CODES[color]}m{text}\x1b[0m" if on and color and text else text


def shortened(text: str, width: int) -> str:
    """Cut the middle out of a text that is too long; its end tells names apart, so more of the end is kept."""
    if len(text) <= width:
        return text
    head = (width - 1) // 3
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def printable(text: str) -> str:
    """Write control characters, which a module's name may contain, as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
