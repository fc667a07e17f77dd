"""Brings the names of two checkpoints together: wrappers' prefixes taken off, a prefix of one side matched. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Names under which torch's wrappers keep the module they wrap, wherever they stand."""
_PARALLEL = "module."
"""What DataParallel puts before every name."""
_MODEL = frozenset({"model", "module", "network", "net"})
"""What a training calls the model that it trains."""


@dataclass(frozen=True)
class Alignment:
    """How the first side's names become the second side's."""

    rename: Mapping[str, str] = field(default_factory=dict)
    """Only those that change; no two become one."""
    note: str = ""
    """A sentence that says so; empty when nothing was renamed."""
    rivals: tuple[str, ...] = ()
    """The prefixes of one side that fit equally well, where nothing speaks for one of them: the renaming is a guess."""
    longer: str = ""
    """What the side with the prefix is called, when one side alone has one."""


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Return every name with what wrappers added to it taken off, by the name as it is.

    `module.` goes only where all names begin with it. Where two names would become one, nothing is taken off.
    """
    every = list(names)
    plain = [".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in every]
    while plain and all(name.startswith(_PARALLEL) for name in plain):
        plain = [name.removeprefix(_PARALLEL) for name in plain]
    return dict(zip(every, plain if len(set(plain)) == len(plain) else every, strict=True))


def behind(plain: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return, of names with what `unwrapped` makes of them, those that begin with a prefix, and what is behind it."""
    return {name: one.removeprefix(prefix) for name, one in plain.items() if one.startswith(prefix)}


def align(before: Collection[str], after: Collection[str], sides: tuple[str, str] = ("before", "after")) -> Alignment:
    """Find the prefix that one side has before its names and the other has not, if that brings more names together.

    `sides` are what the note calls the two.
    """
    ours, theirs = set(before), set(after)
    direct = len(ours & theirs)
    (added, *beside_added), gain = _best(ours, theirs)
    (taken, *beside_taken), loss = _best(theirs, ours)
    if max(gain, loss) > direct:
        if gain >= loss:
            pairs = {name: f"{added}{name}" for name in before if f"{added}{name}" in theirs}
            longer, shorter, prefix, beside = sides[1], sides[0], added, beside_added
        else:
            pairs = {f"{taken}{name}": name for name in after if f"{taken}{name}" in ours}
            longer, shorter, prefix, beside = sides[0], sides[1], taken, beside_taken
        note = f"{len(pairs):,} names begin with `{prefix}` {longer} and without it {shorter}: matched"
        rivals = tuple(sorted([prefix, *beside])) if beside else ()
        return Alignment(_without_clashes(pairs, ours), note, rivals, longer)
    first, second = _common(before), _common(after)
    if first and second and first != second:
        pairs = {name: second + name.removeprefix(first) for name in before}
        matched = sum(name in theirs for name in pairs.values())
        if matched > direct:
            note = f"names begin with `{first}` {sides[0]} and with `{second}` {sides[1]}: matched"
            return Alignment(pairs, note)
    return Alignment()


def _best(short: set[str], long: set[str]) -> tuple[list[str], int]:
    """The prefix that turns most of `short` into names of `long`, those that are as good behind it, and how many."""
    votes: Counter[str] = Counter()
    for name in long:
        dot = name.find(".")
        while dot >= 0:
            if name[dot + 1 :] in short:
                votes[name[: dot + 1]] += 1
            dot = name.find(".", dot + 1)
    most = max(votes.values(), default=0)
    found = _preferred([prefix for prefix, count in votes.items() if count == most])
    best = min(found, key=lambda prefix: (len(prefix), prefix), default="")
    beside = [prefix for prefix in found if prefix != best]
    return [best, *(beside if 2 * most >= len(short) else ())], most  # a few names may fit anywhere, by chance


def _preferred(prefixes: Sequence[str]) -> Sequence[str]:
    """Those of several prefixes that something speaks for; all, where nothing does."""
    outer = [
        one
        for one in prefixes
        if not any(one != other and (one.startswith(other) or f".{one}".endswith(f".{other}")) for other in prefixes)
    ]
    parts = [one.split(".") for one in outer]
    common = next((n for n, same in enumerate(zip(*parts, strict=False)) if len(set(same)) > 1), 0)
    word = dict(zip(outer, (path[common] for path in parts), strict=True))
    models = [one for one in outer if word[one] in _MODEL]
    originals = [one for one in outer if not any(_is_copy(word[one], other) for other in word.values())]
    return models or originals or outer


def _is_copy(word: str, other: str) -> bool:
    """Whether a part is named as a copy: an average of weights, or `generator_ema` and `target_encoder` of another."""
    return "ema" in word.split("_") or word.startswith(f"{other}_") or word.endswith(f"_{other}")


def _common(names: Collection[str]) -> str:
    """The first component, with its dot, that all names share."""
    first = {name.partition(".")[0] for name in names if "." in name}
    return f"{first.pop()}." if len(first) == 1 and all("." in name for name in names) else ""


def _without_clashes(pairs: Mapping[str, str], names: set[str]) -> dict[str, str]:
    """Leave out a renaming onto a name that is there already and keeps it."""
    return {old: new for old, new in pairs.items() if new not in names or new in pairs}
