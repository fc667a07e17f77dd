"""Parameters that had all they need to train and did not move: FZ302 and FZ303 share this."""

from __future__ import annotations

from ..records import Case, Facts, Gradient


def still(case: Case) -> list[Facts]:
    """Expected trainable, in an optimizer with a learning rate, with a gradient, and not one byte changed."""
    return [
        fact
        for fact in case.trainable
        if fact.tensor.requires_grad and fact.lr and fact.gradient is Gradient.NONZERO and fact.moved is False
    ]


def below_resolution(fact: Facts) -> bool:
    """Whether every update rounds away: it is less than half the way to the next number of the dtype.

    An update of exactly 0 has nothing to do with the dtype: the optimizer did not make one.
    """
    return fact.update is not None and 0 < fact.update.size < fact.update.resolution / 2
