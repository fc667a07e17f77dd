"""What must be there before the first step: a batch, and weights for layers that wait for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import ProbeError
from ..guard import users_code
from ..subject import call_model
from .switches import eager, seed_everything

if TYPE_CHECKING:
    from ..subject import Subject
    from .untouched import Ground


def prepare(subject: Subject, ground: Ground, seed: int) -> None:
    """Find inputs for a subject that brought none, on the right device, and give lazy layers weights by one forward.

    Call it inside `untouched`, which makes lazy layers lazy again. Raises ProbeError when no inputs fit.
    """
    from ..inputs import infer, on_device

    if subject.make_inputs is None:
        seed_everything(seed)
        with torch.enable_grad(), eager():
            found = infer(subject.model, subject.extras, subject.asking)
        subject.make_inputs, subject.inputs_said = on_device(found.make, _device_of(subject)), found.said
    elif subject.device is not None:
        subject.make_inputs = on_device(subject.make_inputs, subject.device)
    if ground.lazy:
        seed_everything(seed)
        with users_code("the first forward of a lazy layer", ProbeError), torch.no_grad(), eager():
            call_model(subject.model, subject.make_inputs())
        ground.settle()


def _device_of(subject: Subject) -> str | torch.device:
    """Where the model is, or will be: the device asked for, else that of its first tensor."""
    tensors = (*subject.model.parameters(), *subject.model.buffers())
    return subject.device or next((t.device for t in tensors), torch.device("cpu"))
