"""The names nearest to a misspelt one."""

from __future__ import annotations

from difflib import SequenceMatcher, get_close_matches
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], most: int = 3) -> list[str]:
    """Return up to `most` of `names` that resemble `name`, best first; upper and lower case are the same.

    Of several that resemble it as much, those that begin as it does come first: AdamW before NAdam for AdamV.
    """
    word, by_lower = name.lower(), {other.lower(): other for other in names}
    close = get_close_matches(word, by_lower, max(len(by_lower), 1), 0.6)
    close.sort(key=lambda other: (SequenceMatcher(None, other, word).ratio(), _in_common(other, word)), reverse=True)
    return [by_lower[match] for match in close[:most]]


def _in_common(first: str, second: str) -> int:
    """How many letters two words begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def perhaps(name: str, names: Iterable[str]) -> str:
    """Return a question for a hint, such as `did you mean resnet18 or resnet34?`; empty when nothing resembles."""
    found = nearest(name, names)
    return f"did you mean {listed(found, 'or')}?" if found else ""


def listed(words: list[str], last: str = "and") -> str:
    """Join words as prose does: `a, b and c`."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)
