"""When a watch has seen enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..records import Gradient
from .watched import tensors_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

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
        mine = index >= session.inherited or _waited_for(session, tensors)
        may_step = mine and any(tensor.requires_grad for tensor in tensors)
        if index in session.stepped or may_step:
            counts += [one.steps.get(index, 0) for one in chosen or session.models if one.owns(tensors)]
            if not chosen:  # those that have yet to run with gradients
                counts += [0 for _ in session.beside.owners(tensors, session.models)]
    if not counts:  # the optimizers hold nothing of any model
        return session.total >= session.wanted * max(1, len(session.stepped))
    return min(counts) >= session.wanted


def _waited_for(session: Session, tensors: Sequence[torch.Tensor]) -> bool:
    """Whether an earlier session's optimizer alone holds something that got a gradient: it may be a slow one."""
    held = {id(tensor) for index in session.stepped for tensor in tensors_of(session.optimizers[index])}
    own = [id(tensor) for tensor in tensors if id(tensor) not in held]
    return any(
        one.evidence.gradients.get(one.names[key]) is Gradient.NONZERO
        for one in session.models
        for key in own
        if key in one.names
    )


def named(one: Watched, choose: str | None) -> bool:
    """Whether a model is in the variable, or of the class, that was chosen."""
    return choose is not None and choose in (one.name, type(one.model).__name__)
