"""Parameters that had all they need to train and did not move: FZ302 and FZ303 share this."""

from __future__ import annotations

from ..records import Case, Facts, Gradient

_EXACT = {"float32": 2.0**-23, "float64": 2.0**-52}
"""The distance from 1 to the next number of each dtype whose rounding noise is far below any gradient that trains."""
_NOISE = 1024
"""So many of those distances a sum of cancelling terms may be away from zero, in parts of the largest gradient."""


def still(case: Case) -> list[Facts]:
    """Expected trainable, in an optimizer with a learning rate, with a gradient, and not one byte changed."""
    return [
        fact
        for fact in case.trainable
        if fact.tensor.requires_grad
        and fact.lr
        and fact.gradient is Gradient.NONZERO
        and fact.moved is False
        and not _noise(case, fact)
    ]


def _noise(case: Case, fact: Facts) -> bool:
    """Whether its gradient is zero but for rounding: what follows takes away whatever it adds or scales.

    A convolution's bias before a BatchNorm, a bias on attention keys, the weight of a norm before another norm.
    """
    around = max((f.gradient_max or 0.0 for f in case.trainable), default=0.0)
    return fact.gradient_max is not None and fact.gradient_max < _NOISE * _EXACT.get(fact.tensor.dtype, 0.0) * around


def shifts_nothing(case: Case, fact: Facts) -> bool:
    """Whether it is a bias that what follows takes away: its gradient is zero while its own layer's weight has one."""
    owner, _, key = fact.name.rpartition(".")
    if "bias" not in key or fact.gradient_hook or fact.cuts:
        return False
    beside = (f for f in case.trainable if f.name != fact.name and f.name.rpartition(".")[0] == owner)
    return any(f.gradient is Gradient.NONZERO and "bias" not in f.name.rpartition(".")[2] for f in beside)


def below_resolution(fact: Facts) -> bool:
    """Whether every update rounds away: it is less than half the way to the next number of the dtype.

    An update of exactly 0 has nothing to do with the dtype: the optimizer did not make one.
    """
    return fact.update is not None and 0 < fact.update.size < fact.update.resolution / 2
