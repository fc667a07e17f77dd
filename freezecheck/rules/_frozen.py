"""What becomes of a parameter that is expected frozen and still requires grad: FZ101, FZ107 and FZ108 share this.

The three answers exclude each other, so that one tensor never gets two of these findings.
"""

from __future__ import annotations

from typing import Literal

from ..records import Case, Facts, Gradient, Need

Fate = Literal["moves", "held", "no optimizer"]


def fate(case: Case, fact: Facts) -> Fate | None:
    """Whether training moves it, something other than its flag holds it, or only its absence from optimizers does.

    None where its flag is right, where no probe ran, or where it moved by something else than an optimizer (FZ301).
    """
    if not fact.tensor.requires_grad or fact.gradient is None:
        return None
    watched = Need.TRAINING not in case.missing and fact.moved is False  # a loop that zeroes its gradients itself
    known = watched or bool(fact.gradient_hook or fact.cuts)
    silenced = fact.gradient is Gradient.ZERO and known and fact.moved is not True
    if fact.gradient is Gradient.NONE or silenced:
        return None if fact.moved else "held"
    if fact.memberships:
        return "moves" if fact.lr else (None if fact.moved else "held")
    if Need.OPTIMIZER in case.missing:
        return "moves"
    return "no optimizer"
