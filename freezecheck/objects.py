"""A `Subject` from objects that the caller already holds, completed by what the spec names."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from .arguments import given_spec
from .inputs import declared, said_of
from .loaders._build import described
from .loaders._optimizer import from_function, from_table
from .loaders._reference import user_function
from .places import kind
from .subject import PYTHON, Subject

if TYPE_CHECKING:
    from torch import nn

    from .spec import Spec


def from_objects(
    model: nn.Module,
    spec: Spec | None = None,
    *,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    inputs: Any = None,
    loss: Callable[[nn.Module, Any], Any] | None = None,
) -> Subject:
    """Gather what `verify` was given; what it was not given is taken from the spec's own keys, else left open.

    Raises TypeError when an argument is not what `verify` documents, SpecError or TargetError for the spec's keys.
    """
    spec = given_spec(spec)
    subject = Subject(given_model(model), type(model).__name__, files=_files(model), asking=PYTHON)
    if optimizer is not None:
        subject.optimizers = given_optimizers(optimizer)
    elif spec is not None and spec.optimizer is not None:
        subject.optimizers = _from_spec(spec, model)
    if inputs is not None:
        batch = inputs
        subject.make_inputs = inputs if callable(inputs) else lambda: copied(batch)
        subject.inputs_said = "made by the caller" if callable(inputs) else f"{said_of(inputs)} from the caller"
    elif spec is not None and spec.inputs is not None:
        subject.make_inputs, subject.inputs_said = _inputs_of(spec)
    if loss is not None and not callable(loss):
        raise TypeError(f"loss must be a function of (model, inputs) that returns the loss, not {described(loss)}")
    subject.compute_loss = loss
    if loss is not None:
        subject.loss_said = getattr(loss, "__qualname__", type(loss).__name__)
    elif spec is not None and spec.loss is not None:
        subject.compute_loss = user_function(spec.loss, str(spec.folder), "loss", spec.locations.get("loss"))[0]
        subject.loss_said = f"from {spec.loss}"
    return subject


def given_model(model: Any) -> nn.Module:
    """Return the model. Raises TypeError where it is none, or only the class of one."""
    if isinstance(model, torch.nn.Module):
        return model
    if isinstance(model, type) and issubclass(model, torch.nn.Module):
        raise TypeError(f"model must be an instance, such as {model.__name__}(...), not the class itself")
    raise TypeError(f"model must be a torch.nn.Module, not {described(model)}")


def given_optimizers(optimizer: Any) -> list[Optimizer]:
    """Return one optimizer or several as a list. Raises TypeError where one of them is none."""
    found = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    for one in found:
        if not hasattr(one, "param_groups") or not callable(getattr(one, "step", None)):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer or several, not {described(one)}")
    return found


def _from_spec(spec: Spec, model: nn.Module) -> list[Optimizer]:
    at = spec.locations.get("optimizer")
    if isinstance(spec.optimizer, Mapping):
        return [from_table(spec.optimizer, model, at)]
    reference = str(spec.optimizer)
    return from_function(user_function(reference, str(spec.folder), "optimizer", at)[0], reference, model)


def _inputs_of(spec: Spec) -> tuple[Callable[[], Any], str]:
    if isinstance(spec.inputs, str):
        function, _ = user_function(spec.inputs, str(spec.folder), "inputs", spec.locations.get("inputs"))
        return function, f"from {spec.inputs}"
    found = declared(spec.inputs or ())
    return found.make, f"{found.said} from the spec"


def copied(batch: Any) -> Any:
    """Return a batch with its tensors copied, so that a model that writes to its input leaves the caller's alone."""
    if isinstance(batch, torch.Tensor):
        copy = batch.detach().clone()
        return copy.requires_grad_() if batch.requires_grad else copy
    if isinstance(batch, Mapping):
        return {key: copied(value) for key, value in batch.items()}
    if type(batch) in (list, tuple):
        return type(batch)(copied(value) for value in batch)
    return batch


def _files(model: nn.Module) -> tuple[str, ...]:
    """The user's sources in reach: where the model's classes are defined, and the script that called."""
    found: dict[str, None] = {}
    for module in model.modules():
        try:
            found[inspect.getfile(type(module))] = None
        except (TypeError, OSError):
            continue  # a class made at a prompt has no file
    frame = sys._getframe(1)
    while frame is not None:
        found[frame.f_code.co_filename] = None
        frame = frame.f_back  # type: ignore[assignment]  # None ends the walk
    return tuple(file for file in found if kind(file) == "user")
