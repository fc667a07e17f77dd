"""Hand-made rows and tables for the tests of the rules: no torch, microseconds."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from freezecheck.discover import rules
from freezecheck.records import (
    Case,
    Conditions,
    Expected,
    Facts,
    Gradient,
    Hit,
    Layer,
    LayerFacts,
    Location,
    Membership,
    Plan,
    Rule,
    Tensor,
)

OF_THE_TENSOR = {field.name for field in fields(Tensor)}
SGD = Membership(optimizer=0, group=0, lr=0.1)


def row(name: str, expected: str, kind: str = "parameter", **known: Any) -> Facts:
    """One row; keywords go to the tensor or to the facts, wherever they belong."""
    tensor = {key: known.pop(key) for key in list(known) if key in OF_THE_TENSOR}
    return Facts(Tensor(name, kind, **tensor), expected=Expected(expected), **known)  # type: ignore[arg-type]


def frozen(name: str, **known: Any) -> Facts:
    """A parameter that is expected frozen and is."""
    return row(name, "frozen", **{"requires_grad": False, "moved": False, **known})


def leaking(name: str, **known: Any) -> Facts:
    """A parameter that is expected frozen, requires grad and gets a gradient."""
    given = {"requires_grad": True, "gradient": Gradient.NONZERO, "gradient_max": 0.5, "used": True}
    return frozen(name, **{**given, **known})


def trained(name: str, **known: Any) -> Facts:
    """A parameter that is expected trainable and is trained."""
    given = {"gradient": Gradient.NONZERO, "gradient_max": 0.5, "moved": True, "used": True, "memberships": (SGD,)}
    return row(name, "trainable", **{**given, **known})


def buffer(name: str, **known: Any) -> Facts:
    """A buffer that is expected frozen."""
    return row(name, "frozen", "buffer", **{"requires_grad": False, "moved": False, **known})


def layer(name: str, kind: str, expected: str = "frozen", **known: Any) -> LayerFacts:
    """A layer that was found in train mode and trained in it, unless said otherwise."""
    found = known.pop("found", True)
    return LayerFacts(
        Layer(name, kind, training=found, dropout=known.pop("dropout", None)),
        expected=expected,  # type: ignore[arg-type]  # the tests write the words
        **{"training": True, **known},
    )


def table(*facts: Facts, steps: int = 3, **known: Any) -> Case:
    """A case of these rows, of which the spec says what each row expects; one SGD."""
    plan = known.pop("plan", None) or Plan({fact.name: fact.expected for fact in facts})
    given = {"optimizers": ("SGD",), "conditions": Conditions(steps=steps)}
    return Case(facts, plan=plan, **{**given, **known})


def rule(code: str) -> Rule:
    """The rule of a code."""
    return next(one for one in rules() if one.code == code)


def hits(code: str, case: Case) -> list[Hit]:
    """All that one rule alone finds."""
    return list(rule(code).check(case))


def hit(code: str, case: Case) -> Hit:
    """The one thing that a rule finds."""
    (only,) = hits(code, case)
    return only


def line(number: int, text: str = "", file: str = "model.py") -> Location:
    """A line of the user's."""
    return Location(file, number, None, text)
