"""The names nearest to a misspelt one."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], most: int = 3) -> list[str]:
    """Return up to `most` of `names` that resemble `name`, best first; upper and lower case are the same."""
    by_lower = {other.lower(): other for other in names}
    return [by_lower[match] for match in get_close_matches(name.lower(), by_lower, most, 0.6)]


def perhaps(name: str, names: Iterable[str]) -> str:
    """Return a question for a hint, such as `did you mean resnet18 or resnet34?`; empty when nothing resembles."""
    found = nearest(name, names)
    return f"did you mean {listed(found, 'or')}?" if found else ""


def listed(words: list[str], last: str = "and") -> str:
    """Join words as prose does: `a, b and c`."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)
