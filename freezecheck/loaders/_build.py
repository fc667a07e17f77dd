"""Make a model of whatever a target names: an instance, a class, or a factory."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import TargetError
from ..guard import printing_to_stderr, said, users_code
from ..places import location_in, raised_at
from ..records import Skipped
from ._nearest import listed, perhaps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..records import Location

_device: ContextVar[str | None] = ContextVar("device that models are built on", default=None)
_refused: ContextVar[list[Skipped] | None] = ContextVar("constructors that could not build on it", default=None)


def build(found: Any, name: str, arguments: Mapping[str, object]) -> nn.Module:
    """Return the model that `found` is or makes; `name` is how the user would name it.

    Raises TargetError when it makes something else, when it needs arguments that were not given, takes none of that
    name, or raises.
    """
    if isinstance(found, nn.Module):
        if arguments:
            raise TargetError(
                f"{name} is built already: --arg {next(iter(arguments))}=… has nothing to go into",
                hint="name the class or the factory instead",
            )
        return found
    if not callable(found) or (isinstance(found, type) and not _makes_modules(found)):
        raise TargetError(f"{name} is {described(found)}, no model", hint=_instead(found))
    _check_arguments(found, name, arguments)
    made = constructed(f"building {name}({_written(arguments)})", lambda: found(**arguments))
    if not isinstance(made, nn.Module):
        raise _not_a_model(made, name, found)
    return made


@contextmanager
def building_on(device: str | None) -> Iterator[list[Skipped]]:
    """Within the block `constructed` makes models on this device; only `meta` makes a difference.

    Gives the list into which constructors that could not build there are noted, each with its reason.
    """
    refused: list[Skipped] = []
    tokens = _device.set(device), _refused.set(refused)
    try:
        yield refused
    finally:
        _device.reset(tokens[0])
        _refused.reset(tokens[1])


def constructed(doing: str, make: Callable[[], Any]) -> Any:
    """Return what `make` makes; raises TargetError, beginning with `doing`, when it raises.

    Where the model is to be on the meta device it is built there, so that it takes no memory; a constructor that
    reads its own numbers cannot, and is run again on the CPU.
    """
    if _device.get() == "meta":
        try:
            with printing_to_stderr(), torch.device("meta"):
                return make()
        except Exception as error:
            refused = _refused.get()
            if refused is not None:
                where = raised_at(error)
                reason = f"it {said(error)}{f' at {where}' if where else ''}"
                refused.append(Skipped(f"{doing} on the meta device", f"{reason}; it was built on the CPU instead"))
    with users_code(doing, TargetError):
        return make()


def _makes_modules(cls: type) -> bool:
    """A class may also make a model in its `__new__`."""
    return issubclass(cls, nn.Module) or cls.__new__ is not object.__new__


def accepts(found: Callable[..., Any], arguments: Mapping[str, object]) -> bool:
    """Whether `found` can be called with these arguments by keyword and no others."""
    signature = _signature(found)
    if signature is None:
        return True
    try:
        signature.bind(**arguments)
    except TypeError:
        return False
    return True


def signature_of(found: Any) -> str:
    """Return how it is called, such as `Net(depth, width=64)`, without annotations."""
    signature = _signature(found)
    name = getattr(found, "__name__", type(found).__name__)
    if signature is None:
        return f"{name}(…)"
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return f"{name}{signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)}"


def _signature(found: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(found)
    except (TypeError, ValueError):
        return None


def _check_arguments(found: Any, name: str, arguments: Mapping[str, object]) -> None:
    signature = _signature(found)
    if signature is None or accepts(found, arguments):
        return
    parameters = signature.parameters
    unknown = [key for key in arguments if key not in parameters]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise TargetError(
            f"{name} takes no argument `{unknown[0]}`: {signature_of(found)}",
            hint=perhaps(unknown[0], parameters),
            location=where(found),
        )
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in arguments
    ]
    raise TargetError(
        f"{name} needs {listed([f'`{m}`' for m in missing])} to be built: {signature_of(found)}",
        hint=f"give it: {' '.join(f'--arg {m}=VALUE' for m in missing)}; or define build_model() beside it",
        location=where(found),
    )


def where(found: Any) -> Location | None:
    """Return where a function, or a class's `__init__`, begins; None for what has no Python source."""
    function = inspect.unwrap(vars(found).get("__init__", found) if isinstance(found, type) else found)
    code = getattr(function, "__code__", None)
    return location_in(code) if code is not None else None


def _written(arguments: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())


def _not_a_model(made: Any, name: str, factory: Any) -> TargetError:
    hint = _instead(made)
    if made is None:
        hint = "is a `return model` missing at its end?"
    elif isinstance(made, tuple | list) and made and isinstance(made[0], nn.Module):
        hint = "return the model alone; what makes the optimizer goes into build_optimizer(model)"
    return TargetError(f"{name} returned {described(made)} instead of a model", hint=hint, location=where(factory))


def _instead(found: Any) -> str:
    if isinstance(found, type) and issubclass(found, nn.Module):
        return f"return an instance: {found.__name__}(…)"
    if isinstance(found, Mapping) and any(hasattr(value, "dtype") for value in found.values()):
        return "a state dict holds weights only: build the model and load them into it with load_state_dict"
    return "name an nn.Module, a class of them or a function that returns one"


def described(value: Any) -> str:
    """Say what a value is, for a message: `None`, `a tuple (Net, SGD)`, `the class Net`, `a DataLoader`."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, tuple | list) and value:
        inside = ", ".join("None" if v is None else type(v).__name__ for v in value[:4])
        return f"a {type(value).__name__} ({inside}{', …' if len(value) > 4 else ''})"
    article = "an" if type(value).__name__[:1].lower() in "aeiou" else "a"
    return f"{article} {type(value).__name__}"


def weights_in(model: nn.Module) -> int:
    """Number of parameters' elements; a lazy parameter that has no shape yet counts as one."""
    return sum(1 if is_lazy(p) else p.numel() for p in model.parameters())
