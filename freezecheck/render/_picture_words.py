"""What a tensor did, what was expected of it, and in a few words what is wrong with it and why."""

from __future__ import annotations

from ..records import Expected, Facts, Finding, Gradient

_MOVING_BUFFER = "should stay, but moves"
_OF_LAYER = {_MOVING_BUFFER: "buffers should stay, but move"}
_NO_OPTIMIZER = frozenset({"FZ108", "FZ402", "FZ403"})
"""Rules of a tensor that no optimizer holds."""


def does(facts: Facts) -> str:
    """Return `trainable` for a parameter that moved, else `frozen`; by its gradient or flag where that is all there is.

    A buffer does neither, and gives `none`.
    """
    if facts.is_buffer:
        return "none"
    trains = facts.tensor.requires_grad and facts.gradient is not Gradient.NONE
    if facts.moved is not None:
        trains = facts.moved
    return "trainable" if trains else "frozen"


def meant(facts: Facts) -> str:
    """Return what is expected of a tensor; `mixed` for a parameter of which only some rows are to train."""
    return "mixed" if facts.frozen_rows is not None else facts.expected.value


def trouble(facts: Facts, finding: Finding) -> str:
    """Say in a few words what is wrong with a tensor that a finding names, and where it is known, why."""
    done = does(facts)
    if facts.frozen_rows is None and facts.expected is Expected.FROZEN:
        if facts.is_buffer and facts.moved:
            return _MOVING_BUFFER
        if done == "trainable":
            return f"should be frozen, but {'trains' if facts.tensor.requires_grad else 'moves'}"
        if not facts.is_buffer and facts.tensor.requires_grad:
            return "should be frozen: requires_grad is True"
    if facts.expected is Expected.TRAINABLE and (done == "frozen" or facts.frozen_rows is None):
        if why := _cause(facts, finding):
            return f"should train: {why}"
        if done == "frozen":
            return "should train, but does not"
    return finding.name.replace("-", " ")


def of_layer(words: str) -> str:
    """Return what is said of a layer of whose tensors this is said."""
    return _OF_LAYER.get(words, words)


def _cause(facts: Facts, finding: Finding) -> str:
    """Say what keeps a tensor from being trained, the first thing in the way from flag to step; else nothing."""
    seen = facts.gradient
    causes = {
        "the loss has no graph": finding.code == "FZ206",
        "requires_grad is False": not facts.tensor.requires_grad,
        "the forward does not use it": seen is Gradient.NONE and facts.used is False,
        "no gradient reaches it": seen is Gradient.NONE,
        "its gradient is gone before the step": facts.cleared,
        "its gradient is NaN or infinite": seen is Gradient.NONFINITE,
        "its gradient is zero": seen is Gradient.ZERO,
        "in no optimizer": finding.code in _NO_OPTIMIZER,
        "lr is 0": facts.lr == 0,
        "the next forward writes over it": facts.undone,
        "its update rounds to nothing": finding.code == "FZ303",
    }
    return next((words for words, holds in causes.items() if holds), "")
