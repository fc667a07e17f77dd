"""A forward that failed, told so that the next try can work: what was given, which layer it reached, what to give."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import ProbeError
from ..guard import said
from ..inputs import explain_shape_failure, misfit, said_of
from ..places import frames_of, kind, raised_at

if TYPE_CHECKING:
    from ..subject import Subject

_NO_VALUES = (
    "the meta device holds no values to decide by: check it (or a smaller model of the same class) on the CPU, which "
    "is to leave --meta out"
)
_INFERENCE = (
    "what runs under torch.inference_mode() gives tensors that nothing can be trained on: use torch.no_grad() there, "
    "or clone() what comes out before it goes on"
)


def failed(subject: Subject, inputs: Any, doing: str, error: Exception) -> ProbeError:
    """Return the error to raise for what a forward (with its loss) raised; it says the inputs and the layer."""
    message = f"{doing} {said(error)}"
    given = said_of(inputs)
    whence = subject.inputs_said.removeprefix(given).removeprefix(",").strip()
    whence = f" ({whence})" if whence else ""
    if "meta" in str(error).lower() and any(p.is_meta for p in subject.model.parameters()):
        return ProbeError(message, hint=_NO_VALUES, location=raised_at(error), frames=frames_of(error))
    if subject.compute_loss is None and (unfit := misfit(subject.model, inputs, error)):
        message += f"\nthe model was given {given}{whence}: {unfit}"
        frames = frames_of(error) if raised_at(error) else ()
        return ProbeError(message, hint=subject.asking.fewer, location=raised_at(error), frames=frames)
    if "Inference tensors cannot be" in str(error):
        return ProbeError(message, hint=_INFERENCE, location=raised_at(error), frames=frames_of(error))
    hint = ""
    if _in_a_layer(subject.model, error):
        message += f"\nin {explain_shape_failure(subject.model, inputs, error)}{whence}"
        hint = subject.asking.shape if _by_torch(error) else ""
    return ProbeError(message, hint=hint, location=raised_at(error), frames=frames_of(error))


def _in_a_layer(model: nn.Module, error: Exception) -> bool:
    """Whether it was raised below a forward of the model, and not by the loss after it."""
    modules = {id(module) for module in model.modules()}
    return any(id(frame.f_locals.get("self")) in modules for frame, _ in traceback.walk_tb(error.__traceback__))


def _by_torch(error: Exception) -> bool:
    """Whether torch refused, and no `raise` of the user's or a library's."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return kind(frame.filename) == "torch" or not (frame.line or "").startswith("raise")
