"""What the Python functions are given, looked at before anything is done: a wrong argument is named, with the right."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from .records import Severity
from .spec import Spec


def given_spec(spec: Any) -> Spec | None:
    """Return a spec, or None where none was given. Raises TypeError that says how to make one of what was given."""
    if spec is None or isinstance(spec, Spec):
        return spec
    make = "freezecheck.Spec.load(path) reads a file, freezecheck.Spec.of(trainable=[...]) takes lists"
    if isinstance(spec, str | os.PathLike):
        make = f"freezecheck.Spec.load({os.fspath(spec)!r}) reads the file"
    elif isinstance(spec, Mapping):
        make = "freezecheck.Spec.of(**keys) makes one of a dict's keys"
    raise TypeError(f"spec must be a freezecheck.Spec, not a {type(spec).__name__}: {make}")


def given_severity(word: Any) -> Severity:
    """Return the severity that `fail_on` names. Raises ValueError for another word."""
    if word in list(Severity):
        return Severity(word)
    raise ValueError(f'fail_on is "error", "warning" or "note", not {word!r}')


def given_codes(argument: str, codes: Any) -> tuple[str, ...]:
    """Return the rules' codes under `select` or `ignore`. Raises TypeError where they are no collection of strings."""
    if isinstance(codes, str) or not isinstance(codes, Collection) or not all(isinstance(one, str) for one in codes):
        such = [codes] if isinstance(codes, str) else ["FZ4", "FZ501"]
        raise TypeError(f"{argument} must be a list of rule codes, such as {such}, not {codes!r}")
    return tuple(codes)


def given_count(argument: str, number: Any) -> int:
    """Return a number of steps. Raises TypeError where it is no whole number, ValueError below 1."""
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{argument} must be a whole number, not {number!r}")
    if number < 1:
        raise ValueError(f"{argument} must be at least 1, not {number}")
    return number
