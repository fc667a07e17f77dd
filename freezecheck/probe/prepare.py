"""What must be there before the first step: a batch, and weights for layers that wait for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.parameter import is_lazy

from ..errors import ProbeError
from ..guard import users_code
from ..subject import call_model
from .step import eager, seed_everything

if TYPE_CHECKING:
    from ..subject import Subject
    from .untouched import Ground


def prepare(subject: Subject, ground: Ground, seed: int) -> None:
    """Find inputs for a subject that brought none, and run lazy layers once so that they have weights.

    Call it inside `untouched`, which makes lazy layers lazy again. Raises ProbeError when no inputs fit.
    """
    from ..inputs import infer

    seed_everything(seed)
    if subject.make_inputs is None:
        with torch.enable_grad(), eager():
            found = infer(subject.model, subject.extras)
        subject.make_inputs, subject.inputs_said = found.make, found.said
    if any(is_lazy(t) for t in (*subject.model.parameters(), *subject.model.buffers())):
        with users_code("the first forward of a lazy layer", ProbeError), torch.no_grad(), eager():
            call_model(subject.model, subject.make_inputs())
        ground.settle()
