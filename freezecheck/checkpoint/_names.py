"""Brings the names of two checkpoints together: wrappers' prefixes taken off, a prefix of one side matched. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Names under which torch's wrappers keep the module they wrap, wherever they stand."""
_PARALLEL = "module."
"""What DataParallel puts before every name."""


@dataclass(frozen=True)
class Alignment:
    """How the first side's names become the second side's."""

    rename: Mapping[str, str] = field(default_factory=dict)
    """Only those that change; no two become one."""
    note: str = ""
    """A sentence that says so; empty when nothing was renamed."""


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Return every name with what wrappers added to it taken off, by the name as it is.

    `module.` goes only where all names begin with it. Where two names would become one, nothing is taken off.
    """
    every = list(names)
    plain = [".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in every]
    while plain and all(name.startswith(_PARALLEL) for name in plain):
        plain = [name.removeprefix(_PARALLEL) for name in plain]
    return dict(zip(every, plain if len(set(plain)) == len(plain) else every, strict=True))


def align(before: Collection[str], after: Collection[str], sides: tuple[str, str] = ("before", "after")) -> Alignment:
    """Find the prefix that one side has before its names and the other has not, if that brings more names together.

    `sides` are what the note calls the two.
    """
    ours, theirs = set(before), set(after)
    direct = len(ours & theirs)
    added, gain = _best(ours, theirs)
    taken, loss = _best(theirs, ours)
    if max(gain, loss) > direct:
        if gain >= loss:
            pairs = {name: f"{added}{name}" for name in before if f"{added}{name}" in theirs}
            longer, shorter, prefix = sides[1], sides[0], added
        else:
            pairs = {f"{taken}{name}": name for name in after if f"{taken}{name}" in ours}
            longer, shorter, prefix = sides[0], sides[1], taken
        note = f"{len(pairs):,} names begin with `{prefix}` {longer} and without it {shorter}: matched"
        return Alignment(_without_clashes(pairs, ours), note)
    first, second = _common(before), _common(after)
    if first and second and first != second:
        pairs = {name: second + name.removeprefix(first) for name in before}
        matched = sum(name in theirs for name in pairs.values())
        if matched > direct:
            note = f"names begin with `{first}` {sides[0]} and with `{second}` {sides[1]}: matched"
            return Alignment(pairs, note)
    return Alignment()


def _best(short: set[str], long: set[str]) -> tuple[str, int]:
    """The prefix that turns most of `short` into names of `long`, and how many."""
    votes: Counter[str] = Counter()
    for name in long:
        dot = name.find(".")
        while dot >= 0:
            if name[dot + 1 :] in short:
                votes[name[: dot + 1]] += 1
            dot = name.find(".", dot + 1)
    return max(votes.items(), key=lambda vote: (vote[1], -len(vote[0]), vote[0]), default=("", 0))


def _common(names: Collection[str]) -> str:
    """The first component, with its dot, that all names share."""
    first = {name.partition(".")[0] for name in names if "." in name}
    return f"{first.pop()}." if len(first) == 1 and all("." in name for name in names) else ""


def _without_clashes(pairs: Mapping[str, str], names: set[str]) -> dict[str, str]:
    """Leave out a renaming onto a name that is there already and keeps it."""
    return {old: new for old, new in pairs.items() if new not in names or new in pairs}
