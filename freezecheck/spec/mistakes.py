"""What is wrong with a spec, in words: one line for each mistake, each with its place."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import SpecError
from ..records import Location

_TYPE = "`{key}` must be {meant}, not {described}"
_SAID = {
    "string_type": _TYPE.replace("{meant}", "a string"),
    "int_type": _TYPE.replace("{meant}", "a whole number"),
    "float_type": _TYPE.replace("{meant}", "a number"),
    "model_type": _TYPE.replace("{meant}", "a table"),
    "branch": _TYPE.replace("{meant}", "{msg}"),
    "literal_error": _TYPE.replace("{meant}", "{expected}"),
    "greater_than_equal": "`{key}` must be at least {ge}, not {came}",
    "too_short": "`{key}` is an empty list",
    "selector": "`{came}` in `{top}` {why}",
    "only_negated": '`{key}` {msg}; name first what they take away from, such as "*"',
    "bare_shape": "`{key}` is a bare list of numbers; a shape is written `inputs = {{ shape = {came} }}`",
    "missing": "`{table}` needs the key `{last}`",
}
"""What to say of each kind of pydantic's errors."""
_LISTS = {"shape": "a list of whole numbers", "ignore": "a list of rule codes", "phase": "a list of tables"}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a spec."""

    what: str
    location: Location | None = None

    def __str__(self) -> str:
        return f"{self.location}: {self.what}" if self.location else self.what


def spec_error(mistakes: Iterable[Mistake], hint: str = "") -> SpecError:
    """One error that holds all mistakes, in the order of their lines; its location is the first one's."""
    ordered = sorted(mistakes, key=lambda mistake: mistake.location.line if mistake.location else 0)
    return SpecError("\n".join(map(str, ordered)), hint=hint, location=ordered[0].location)


def in_words(error: Mapping[str, Any], known: Mapping[str, Iterable[str]]) -> str:
    """Say in words what one error of pydantic means.

    `error` has `type`, `loc` (without the branches of unions), `input` and perhaps `ctx`; `known` holds the keys of
    each table of the spec, those of the top under the empty name.
    """
    loc, kind, came = error["loc"], error["type"], error["input"]
    key = spelled(loc)
    if kind == "extra_forbidden":
        return _unknown_key(loc, known)
    if kind == "list_type":
        return _no_list(key, str(loc[-1]), came)
    if kind in ("rule_code", "string_pattern_mismatch"):
        return _unknown_rule(str(came))
    if kind == "string_too_short":
        return f"`{spelled(loc[:-1])}` has an empty selector" if isinstance(loc[-1], int) else f"`{key}` is empty"
    context = {name: str(value).replace("'", '"') for name, value in error.get("ctx", {}).items() if name != "why"}
    return _SAID.get(kind, "`{key}`: {msg}").format(
        key=key,
        msg=error["msg"],
        came=came,
        described=described(came),
        top=spelled(loc[:-1] if loc and isinstance(loc[-1], int) else loc),
        table=spelled(loc[:-1]),
        last=loc[-1] if loc else "",
        why=error.get("ctx", {}).get("why"),
        **context,
    )


def spelled(loc: tuple[str | int, ...]) -> str:
    """A path into the spec as one would write it: `inputs[0].shape`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")


def described(value: object) -> str:
    """A TOML value in words, short."""
    if isinstance(value, str):
        return f"the string {shortened(json.dumps(value, ensure_ascii=False))}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return shortened(str(value))
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a table"
    return f"`{shortened(str(value))}`"


def shortened(text: str) -> str:
    """At most sixty characters of a text."""
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(word: str, among: Iterable[str]) -> str:
    """A half-sentence that offers the nearest of some words, or nothing."""
    close = difflib.get_close_matches(word, list(among), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _no_list(key: str, last: str, came: object) -> str:
    meant = _LISTS.get(last, "a list of selectors")
    write = f"; write `{last} = [{json.dumps(came, ensure_ascii=False)}]`" if isinstance(came, str) and came else ""
    if last == "phase" and isinstance(came, dict):
        write = "; write `[[phase]]`"
    return f"`{key}` must be {meant}, not {described(came)}{write}"


def _unknown_key(loc: tuple[str | int, ...], known: Mapping[str, Iterable[str]]) -> str:
    key = str(loc[-1])
    if len(loc) == 1 and key == "tool":
        return "`[tool.freezecheck]` belongs in pyproject.toml; in a file of its own the keys stand at the top"
    table = next((part for part in reversed(loc[:-1]) if isinstance(part, str)), "")
    where = f" in `{spelled(loc[:-1])}`" if table else ""
    home = next((other for other, keys in known.items() if other != table and key in keys), None)
    close = nearest(key, known[table])
    if home is not None:
        belongs = {"": "at the top, before any table", "phase": "in `[[phase]]`"}.get(home, f"in `{home}`")
        return f"unknown key `{key}`{where}{close or ';'} `{key}` itself belongs {belongs}"
    return f"unknown key `{key}`{where}{close or f'; known are {_listed(known[table])}'}"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _unknown_rule(code: str) -> str:
    from ..discover import rules

    every = {rule.code: rule.name for rule in rules()}
    named = next((own for own, name in every.items() if name == code), None)
    offer = f"; its code is `{named}`" if named else nearest(code.upper(), every)
    return f"`{code}` in `ignore` is no rule's code or beginning of one{offer}; `freezecheck rule` lists all"
