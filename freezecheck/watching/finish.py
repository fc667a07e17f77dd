"""When a watch has seen enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .watched import tensors_of

if TYPE_CHECKING:
    from .session import Session
    from .watched import Watched

_PATIENCE = 10
"""So many times `steps` are waited for an optimizer that was made and has not stepped enough (a GAN's slow one)."""


def finished(session: Session) -> bool:
    """Whether every optimizer that trains something of a model made the steps wanted, or was waited for enough.

    Where one model is chosen, only its own steps count as soon as it trains.
    """
    if session.total >= _PATIENCE * session.wanted:
        return True
    counts: list[int] = []
    chosen = [one for one in session.models if named(one, session.choose) and session.trained(one)]
    for index, optimizer in enumerate(session.optimizers):
        tensors = tensors_of(optimizer)
        may_step = index >= session.inherited and any(tensor.requires_grad for tensor in tensors)
        if index in session.stepped or may_step:
            counts += [one.steps.get(index, 0) for one in chosen or session.models if one.owns(tensors)]
            if not chosen:  # those that have yet to run with gradients
                counts += [0 for _ in session.beside.owners(tensors, session.models)]
    if not counts:  # the optimizers hold nothing of any model
        return session.total >= session.wanted * max(1, len(session.stepped))
    return min(counts) >= session.wanted


def named(one: Watched, choose: str | None) -> bool:
    """Whether a model is in the variable, or of the class, that was chosen."""
    return choose is not None and choose in (one.name, type(one.model).__name__)
