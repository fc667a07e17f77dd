"""From a target and a spec to a `Subject`: the model, its optimizers, its inputs and its loss as the user gave them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from . import discover
from .errors import ProbeError, TargetError
from .guard import users_code
from .inputs import declared, of_shape, said_of
from .loaders._build import building_on, described
from .loaders._device import move
from .loaders._optimizer import from_function, from_table
from .loaders._reference import user_function
from .loaders.python_file import split
from .places import shown
from .probe.flag_lines import FlagLines
from .probe.made_at import optimizers_noted
from .records import Skipped
from .subject import Subject

if TYPE_CHECKING:
    from torch import nn

    from .loaders._loader import Loaded
    from .records import Location
    from .spec import Spec

__all__ = ["load", "target_of", "user_function"]


def load(
    target: str,
    *,
    spec: Spec | None = None,
    arguments: Mapping[str, object] | None = None,
    input_shape: tuple[int, ...] | None = None,
    device: str | None = None,
) -> Subject:
    """Load a target with everything that stands beside it or that the spec names instead.

    `arguments` go to the constructor or factory; `input_shape` beats every other source of inputs; the model is moved
    to `device` before an optimizer is made. Raises TargetError and SpecError. The inputs and the loss of the subject
    raise ProbeError when the user's code behind them raises.
    """
    path = _in_folder_of(spec, target)
    loader = next((loader for loader in discover.loaders() if loader.accepts(path)), None)
    if loader is None:
        raise TargetError(f"{target} is no target", hint="a target is model.py, model.py:NAME or package.module:NAME")
    with FlagLines() as flags, optimizers_noted():
        with building_on(device) as refused:
            loaded = loader.load(path, arguments or {})
        parts = _Parts(loaded, spec)
        if device is not None:
            move(loaded.model, device, _standing(loaded) or ())
        optimizers, optimizer_said = _optimizers(parts)
    make_inputs, inputs_said = _inputs(parts, input_shape)
    loss, loss_said = _loss(parts)
    return Subject(
        model=loaded.model,
        target=target,
        optimizers=optimizers,
        make_inputs=make_inputs,
        compute_loss=loss,
        optimizer_said=optimizer_said,
        inputs_said=inputs_said,
        loss_said=loss_said,
        device=device,
        files=tuple(dict.fromkeys(parts.files)),
        made_at=loaded.made_at,
        flag_lines=flags.of(loaded.model),
        skipped=(*refused, *(_ignored(loaded) if optimizers is None else ())),
        extras=loaded.extras,
    )


def target_of(spec: Spec) -> str | None:
    """Return the spec's target as the user would type it in the working directory; None when it names none."""
    if spec.target is None:
        return None
    path, name = split(spec.target)
    if not path.endswith(".py"):
        return spec.target
    return shown(os.path.join(spec.folder, path)) + (f":{name}" if name is not None else "")


def _in_folder_of(spec: Spec | None, target: str) -> str:
    """A target that the spec names, and that the working directory does not have, lies in the spec's folder."""
    if spec is None or target != spec.target or os.path.exists(split(target)[0]):
        return target
    return target_of(spec) or target


@dataclass
class _Parts:
    """Where the parts of a subject come from: the spec's key first, then the name beside the model."""

    loaded: Loaded
    spec: Spec | None

    def __post_init__(self) -> None:
        self.files = list(self.loaded.files)

    def key(self, key: str) -> Any:
        """What the spec says under a key; None when it says nothing."""
        return getattr(self.spec, key, None)

    def at(self, key: str) -> Location | None:
        """Where the spec says it."""
        return self.spec.locations.get(key) if self.spec else None

    def function(self, key: str, beside: str) -> tuple[Callable[..., Any], str] | None:
        """The function under the spec's key or beside the model, and how the user would name it."""
        reference = self.key(key)
        if isinstance(reference, str) and self.spec:
            found, files = user_function(reference, str(self.spec.folder), key, self.at(key))
            self.files += files
            return found, reference
        standing = self.loaded.beside.get(beside)
        if standing is None:
            return None
        name = f"{self.loaded.source}:{beside}"
        if not callable(standing):
            raise TargetError(f"{name} is {described(standing)}, not a function", hint=f"write it as def {beside}(…)")
        return standing, name


def _optimizers(parts: _Parts) -> tuple[list[Optimizer] | None, str]:
    model = parts.loaded.model
    table = parts.key("optimizer")
    if isinstance(table, Mapping):
        made = [from_table(table, model, parts.at("optimizer"))]
        return made, f"{_classes(made)} from {parts.spec.path if parts.spec and parts.spec.path else 'the spec'}"
    function = parts.function("optimizer", "build_optimizer")
    if function:
        made = from_function(*function, model)
        return made, f"{_classes(made)} from {function[1]}"
    standing = _standing(parts.loaded)
    return standing, f"{_classes(standing)} from {parts.loaded.source}:optimizer" if standing else ""


def _standing(loaded: Loaded) -> list[Optimizer] | None:
    """The module-level `optimizer`, or a list of them under that name."""
    found = loaded.beside.get("optimizer")
    several = list(found) if isinstance(found, list | tuple) else [found]
    optimizers = [one for one in several if isinstance(one, Optimizer)]
    return optimizers if optimizers and len(optimizers) == len(several) else None


def _classes(optimizers: list[Optimizer]) -> str:
    return ", ".join(type(optimizer).__name__ for optimizer in optimizers)


def _ignored(loaded: Loaded) -> tuple[Skipped, ...]:
    found = loaded.beside.get("optimizer")
    if found is None or _standing(loaded):
        return ()
    return (Skipped(f"`optimizer` in {loaded.source}", f"it is {described(found)}, no torch.optim.Optimizer"),)


def _inputs(parts: _Parts, shape: tuple[int, ...] | None) -> tuple[Callable[[], Any] | None, str]:
    if shape is not None:
        found = of_shape(parts.loaded.model, shape)
        return found.make, f"{found.said} from --input-shape"
    tables = parts.key("inputs")
    if tables is not None and not isinstance(tables, str):
        found = declared(tables)
        return found.make, f"{found.said} from {parts.spec.path if parts.spec and parts.spec.path else 'the spec'}"
    function = parts.function("inputs", "example_inputs")
    return (_guarded_inputs(*function), f"from {function[1]}") if function else (None, "")


def _guarded_inputs(function: Callable[[], Any], name: str) -> Callable[[], Any]:
    @wraps(function)
    def make() -> Any:
        with users_code(f"making example inputs, {name}(),", ProbeError):
            inputs = function()
        if not isinstance(inputs, Tensor | tuple | list | Mapping):
            hint = "return a tensor, a tuple (by position) or a dict (by keyword)"
            raise ProbeError(f"{name} returned {described(inputs)} instead of inputs for the model", hint=hint)
        return inputs

    return make


def _loss(parts: _Parts) -> tuple[Callable[[nn.Module, Any], Tensor] | None, str]:
    function = parts.function("loss", "compute_loss")
    if function is None:
        return None, ""
    compute, name = function

    @wraps(compute)
    def guarded(model: nn.Module, inputs: Any) -> Tensor:
        given = f"it was called with inputs = {said_of(inputs)}"
        with users_code(f"computing the loss, {name}(model, inputs),", ProbeError, hint=given):
            loss: Tensor = compute(model, inputs)
        return loss

    return guarded, f"from {name}"
