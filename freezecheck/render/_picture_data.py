"""What the page's script draws from, small enough for a model of many thousand tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from ..records import Case, Facts, Gradient, Json, Report
from ._paint import printable
from ._picture import Box, Picture
from ._picture_words import does, meant

_DIGITS = 4
"""Digits of a measured number that the page keeps."""


def page_data(report: Report, picture: Picture, depth: int | None) -> dict[str, Json]:
    """Return what the page's script draws from: columns rather than rows, each word of a column said once."""
    return {
        "boxes": _boxes(picture.boxes),
        "tensors": _tensors(report.case, picture),
        "findings": [
            {"severity": finding.severity.value, "code": finding.code, "boxes": _boxes_of(picture, names)}
            for finding, names in zip(report.findings, picture.subjects, strict=True)
        ],
        "fromSpec": report.case.plan.from_spec,
        "watched": any(f.moved is not None for f in report.case.facts),
        "depth": depth,
    }


def _boxes_of(picture: Picture, names: Sequence[str]) -> list[int]:
    """Return the boxes of these tensors and layers, of a tied tensor all of them."""
    aliases = {f.name: f.tensor.aliases for f in picture.case.facts if f.tensor.aliases}
    every = [alias for name in names for alias in (name, *aliases.get(name, ()))]
    return sorted({picture.of_path[name] for name in every if name in picture.of_path})


def _boxes(boxes: Sequence[Box]) -> dict[str, Json]:
    words: dict[str, Callable[[Box], str | None]] = {
        "label": lambda box: box.label,
        "kind": lambda box: box.kind,
        "type": lambda box: box.type,
        "expected": lambda box: box.expected,
        "state": lambda box: box.state,
        "wrong": lambda box: box.wrong,
        "gradient": lambda box: box.gradient.value if box.gradient else None,
        "mode": lambda box: box.mode,
        "heldBy": lambda box: box.held_by,
        "saved": lambda box: box.saved,
    }
    numbers: dict[str, list[Json]] = {
        "parent": [box.parent for box in boxes],
        "fact": [box.fact for box in boxes],
        "size": [box.size for box in boxes],
        "trained": [box.trained for box in boxes],
        "rank": [box.rank for box in boxes],
        "problems": [box.problems for box in boxes],
        "worst": [box.worst for box in boxes],
        "gradientMax": [_number(box.gradient_max) for box in boxes],
        "change": [_number(box.change) for box in boxes],
        "drift": [_number(box.drift) for box in boxes],
        "astray": [_number(box.astray) for box in boxes],
    }
    return {name: _coded(word(box) for box in boxes) for name, word in words.items()} | numbers


def _tensors(case: Case, picture: Picture) -> dict[str, Json]:
    facts = case.facts
    places = [f.memberships[0] if f.memberships else None for f in facts]
    return {
        "box": [picture.of_path[f.name] for f in facts],
        "aliases": {
            str(n): [printable(name) for name in f.tensor.aliases] for n, f in enumerate(facts) if f.tensor.aliases
        },
        "kind": _coded(f.tensor.kind for f in facts),
        "shape": _coded("×".join(map(str, f.tensor.shape)) for f in facts),
        "dtype": _coded(f.tensor.dtype for f in facts),
        "numel": [f.tensor.numel for f in facts],
        "expected": _coded(meant(f) for f in facts),
        "actual": _coded(_actual(f) for f in facts),
        "requiresGrad": _coded("yes" if f.tensor.requires_grad else "no" for f in facts),
        "gradient": _coded(_gradient(f.gradient) for f in facts),
        "gradientMax": [_number(f.gradient_max) for f in facts],
        "moved": _coded({None: None, True: "yes", False: "no"}[f.moved] for f in facts),
        "change": [_number(f.max_abs_change) for f in facts],
        "optimizer": _coded(f"group {place.group}" if place else None for place in places),
        "lr": [_number(f.lr) for f in facts],
        "weightDecay": [_number(place.weight_decay) if place else None for place in places],
    }


def _actual(facts: Facts) -> str:
    if facts.is_buffer:
        return {None: "none", True: "moved", False: "stayed"}[facts.moved]
    return does(facts)


def _gradient(gradient: Gradient | None) -> str | None:
    return gradient.value if gradient else None


def _coded(words: Iterable[str | None]) -> dict[str, Json]:
    """Return a column of words as the distinct words and each row's index into them."""
    known: dict[str | None, int] = {}
    index = [known.setdefault(word, len(known)) for word in words]
    return {"words": list(known), "index": index}


def _number(value: float | None) -> Json:
    """Return a measured number in a few digits; JSON has no NaN and no infinity, so these are words."""
    if value is None or not value:
        return None if value is None else 0
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞"
    return float(f"{value:.{_DIGITS}g}")
