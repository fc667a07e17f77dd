"""Assignments that torch ignores: FZ103 and FZ104 share how they are grouped and told."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..records import Case, Hit, StrayFlag
from ._words import as_json, at, code, group, tensors


def on_module(stray: StrayFlag) -> bool:
    """Whether the real name was assigned to a module (FZ104), not a look-alike (FZ103)."""
    return stray.on == "module" and stray.attribute == "requires_grad"


def grouped(strays: Iterable[StrayFlag]) -> list[list[StrayFlag]]:
    """Equal assignments together. One that changes nothing, because the flags say the same, is no mistake."""
    return list(group((s for s in strays if s.tensors), key=lambda s: (s.attribute, s.value)).values())


def reached(strays: list[StrayFlag]) -> tuple[str, ...]:
    """The parameters that the assignments were meant to reach, each once."""
    return tuple(dict.fromkeys(name for stray in strays for name in stray.tensors))


def hit(case: Case, strays: list[StrayFlag], why: str) -> Hit:
    """One finding for equal assignments; `why` says why torch ignores them."""
    first = next((stray for stray in strays if stray.location), strays[0])
    meant = reached(strays)
    known = {fact.name: fact.tensor.requires_grad for fact in case.facts}
    flags = {known.get(name, first.value not in ("True", "1")) for name in meant}
    who = tensors(meant)
    now = (
        {True: "still require", False: "still do not require"}[flags.pop()] if len(flags) == 1 else "do not all require"
    )
    if who.one:
        now = now.replace("do not", "does not").replace("still require", "still requires")
    places = dict.fromkeys(stray.location for stray in strays if stray.location)
    message = f"{_assigned(strays, first)} did nothing: {why}. {who} {now} grad."
    found = {
        "attribute": first.attribute,
        "value": first.value,
        "on": [stray.owner for stray in strays],
        "places": [as_json(location) for location in places],
    }
    return Hit(meant, message, _corrected(first), found, first.location)


def _assigned(strays: list[StrayFlag], first: StrayFlag) -> str:
    """The assignment, as the user wrote it where its line is known."""
    if first.location and first.location.text:
        return f"`{first.location.text}` at {first.location}"
    target = code(first.owner) if len(strays) == 1 else "parameter" if first.on == "parameter" else "module"
    return f"`{target}.{first.attribute} = {first.value}`{at(first.location)}"


def _corrected(stray: StrayFlag) -> str:
    """The user's own line as it should read, or a line that does what was meant."""
    line = stray.location.text if stray.location else ""
    wrong = rf"\.{re.escape(stray.attribute)}\s*=\s*(?P<value>[^=#;]+?)(?=\s*(?:$|#|;))"
    right = r".requires_grad_(\g<value>)" if stray.on == "module" else r".requires_grad = \g<value>"
    if (corrected := re.sub(wrong, right, line)) != line:
        return corrected
    value = stray.value in ("True", "1")
    owner = code(stray.owner)
    return f"{owner}.requires_grad_({value})" if stray.on == "module" else f"{owner}.requires_grad = {value}"
