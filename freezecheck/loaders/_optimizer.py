"""The optimizers that the user gives: made by a function, standing beside the model, or named in the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from ..errors import FreezecheckError, SpecError, TargetError
from ..guard import users_code
from ._build import described, where
from ._nearest import listed, perhaps

if TYPE_CHECKING:
    from torch import nn

    from ..records import Location


def from_function(function: Callable[[nn.Module], Any], name: str, model: nn.Module) -> list[Optimizer]:
    """Call `build_optimizer(model)`, by whatever name. Raises TargetError when it raises or returns anything else."""
    with users_code(f"making the optimizer, {name}(model),", TargetError):
        made = function(model)
    optimizers = list(made) if isinstance(made, list | tuple) else [made]
    if optimizers and all(isinstance(optimizer, Optimizer) for optimizer in optimizers):
        return optimizers
    hint = "return the optimizer, or a list of optimizers"
    if made is None:
        hint = "is a `return optimizer` missing at its end?"
    elif isinstance(made, list | tuple) and any(isinstance(optimizer, Optimizer) for optimizer in made):
        hint += ", without the scheduler"
    raise TargetError(f"{name} returned {described(made)} instead of an optimizer", hint=hint, location=where(function))


def from_table(table: Mapping[str, Any], model: nn.Module, location: Location | None = None) -> Optimizer:
    """Make a torch optimizer by its class's name over all tensors that require grad. Raises SpecError."""
    options = dict(table)
    name = options.pop("name", None)
    cls = _classes().get(str(name))
    if cls is None:
        what = f"`optimizer` names {name!r}, which is no class of torch.optim"
        hint = perhaps(str(name), _classes()) or f"its classes: {listed(sorted(_classes()))}"
        raise SpecError(what, hint=hint, location=location)
    taken = {key: p for key, p in signature(cls).parameters.items() if key != "params"}
    for key in options:
        if key not in taken and not any(p.kind is Parameter.VAR_KEYWORD for p in taken.values()):
            what = f"`optimizer`: {name} takes no `{key}`"
            raise SpecError(what, hint=perhaps(key, taken) or f"it takes {listed(list(taken))}", location=location)
    tensors = [tensor for tensor in model.parameters() if tensor.requires_grad]
    try:
        with users_code(f"`optimizer`: {name}", SpecError):
            # a group, for torch refuses an empty list of tensors but not an empty group
            return cls([{"params": tensors}], **options)
    except FreezecheckError as error:
        error.location = location
        error.frames = ()
        raise


def _classes() -> dict[str, type[Optimizer]]:
    return {
        name: value
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, Optimizer) and value is not Optimizer
    }
