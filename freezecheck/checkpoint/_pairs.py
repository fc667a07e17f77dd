"""Which tensor of one side belongs to which of the other. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ._entry import Entry


@dataclass(frozen=True, eq=False)
class Pair:
    """A tensor on both sides, or on the one that has it."""

    names: tuple[str, ...]
    """The canonical name first; more than one where it is tied."""
    before: Entry | None
    after: Entry | None


def pair(before: Mapping[str, Entry], after: Mapping[str, Entry], rename: Mapping[str, str]) -> list[Pair]:
    """Put the two sides together by name, in the order of `after`, and what only `before` has behind it.

    `rename` gives `before`'s names their new ones. A tied tensor that one side stores under fewer names is one pair.
    """
    ours = {rename.get(name, name): entry for name, entry in before.items()}
    found: dict[tuple[int, int], list[str]] = {}
    known: dict[int, list[str]] = {}
    single: list[str] = []
    for name in [*after, *(name for name in ours if name not in after)]:
        first, second = ours.get(name), after.get(name)
        if first is None or second is None:
            single.append(name)
            continue
        names = found.setdefault((id(first), id(second)), [])
        names.append(name)
        known.setdefault(id(first), names)
        known.setdefault(id(second), names)
    alone: dict[int, list[str]] = {}
    for name in single:
        entry = ours.get(name) or after[name]
        names = known.get(id(entry)) or alone.setdefault(id(entry), [])
        names.append(name)
    every = sorted([*found.values(), *alone.values()], key=lambda names: _place(names[0], after))
    return [Pair(tuple(names), ours.get(names[0]), after.get(names[0])) for names in every]


def _place(name: str, after: Mapping[str, Entry]) -> bool:
    return name not in after
