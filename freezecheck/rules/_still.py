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
        and not _vanishing(case, fact)
        and not _waking(fact)
    ]


_ORDINARY_LR = 1e-6


def _waking(fact: Facts) -> bool:
    """Whether only a gradient that is still growing kept it still, in a dtype that resolves seven digits.

    One of LoRA's two factors has none in the first step and next to none in the second, while the other leaves zero:
    that passes. A gradient that was there from the first step, a learning rate that is itself too small, and a coarse
    dtype do not.
    """
    return fact.woken and fact.tensor.dtype in _EXACT and below_resolution(fact) and (fact.lr or 0.0) >= _ORDINARY_LR


def _noise(case: Case, fact: Facts) -> bool:
    """Whether its gradient is zero but for rounding: what follows takes away whatever it adds or scales.

    A convolution's bias before a BatchNorm, a bias on attention keys, the weight of a norm before another norm: always
    one number a channel, and far below what its own layer gets. That the whole layer gets little proves nothing.
    """
    if fact.gradient_max is None or not _per_channel(fact.tensor.shape):
        return False
    beside = [f for f in _beside(case, fact) if f.gradient_max]
    if all(_per_channel(f.tensor.shape) for f in beside) and (
        below_resolution(fact) or (_is_bias(fact) and not beside)
    ):
        beside = list(case.trainable)  # of a norm nothing else is left to compare with
    around = max((f.gradient_max or 0.0 for f in beside), default=0.0)
    return fact.gradient_max < _NOISE * _EXACT.get(fact.tensor.dtype, 0.0) * around


def _vanishing(case: Case, fact: Facts) -> bool:
    """Whether its gradient is nothing beside its own layer's others.

    What comes in is next to zero then, as random weights in eval mode may leave it. Neither the dtype nor the learning
    rate is the cause. An optimizer whose step does not round away has no such excuse, nor has a hook on the gradient.
    """
    if fact.gradient_hook or not below_resolution(fact):
        return False
    around = max((f.gradient_max or 0.0 for f in _beside(case, fact)), default=0.0)
    return fact.gradient_max is not None and fact.gradient_max < _EXACT.get(fact.tensor.dtype, 0.0) * around


def _per_channel(shape: tuple[int, ...]) -> bool:
    """Whether it holds one number a channel, as a bias, a norm's weight and weight norm's magnitude do."""
    return sum(length > 1 for length in shape) <= 1


def _beside(case: Case, fact: Facts) -> list[Facts]:
    owner = fact.name.rpartition(".")[0]
    return [f for f in case.trainable if f.name != fact.name and f.name.rpartition(".")[0] == owner]


def _is_bias(fact: Facts) -> bool:
    key = fact.name.rpartition(".")[2]
    return (key == "bias" or key.endswith("_bias")) and len(fact.tensor.shape) <= 1


def shifts_nothing(case: Case, fact: Facts) -> bool:
    """Whether it is a bias that what follows takes away: its gradient is zero while its own layer's weight has one."""
    if not _is_bias(fact) or fact.gradient_hook or fact.cuts:
        return False
    return any(f.gradient is Gradient.NONZERO and not _is_bias(f) for f in _beside(case, fact))


def below_resolution(fact: Facts) -> bool:
    """Whether every update rounds away: it is less than half the way to the next number of the dtype.

    An update of exactly 0 has nothing to do with the dtype: the optimizer did not make one.
    """
    return fact.update is not None and 0 < fact.update.size < fact.update.resolution / 2
