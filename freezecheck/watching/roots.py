"""Which module is the model: the outermost one, in the frames that led to a forward, that holds the module called."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType

from torch import nn

from ..places import kind

_MOST_FRAMES = 60


def root_of(called: nn.Module, frame: FrameType | None) -> tuple[str, nn.Module]:
    """Return (name, module) of the model that `called` belongs to.

    Scripts that call `model.encoder(x)` and `model.head(x)` themselves, and trainers whose `training_step` does, never
    call the model itself; but it stands in a variable of some frame on the way.
    """
    best, name = called, ""
    size = _size(called)
    for _ in range(_MOST_FRAMES):
        if frame is None:
            break
        if kind(frame.f_code.co_filename) in ("user", "library"):
            for label, module in _modules_of(frame):
                if module is best and not name:
                    name = label
                elif _size(module) > size and _holds(module, called):
                    best, name, size = module, label, _size(module)
        frame = frame.f_back
    return _plain(name, best), best


def _modules_of(frame: FrameType) -> Iterator[tuple[str, nn.Module]]:
    for variable, value in list(frame.f_locals.items()):
        yield from _modules_in(variable, value)


def _modules_in(variable: str, value: object) -> list[tuple[str, nn.Module]]:
    """A module in a variable; or in an attribute of `self`, where a trainer or an agent keeps its model."""
    if isinstance(value, nn.Module):
        return [(variable, value)]
    attributes = getattr(value, "__dict__", None) if variable == "self" else None
    if not isinstance(attributes, dict):
        return []
    return [(key, inner) for key, inner in list(attributes.items()) if isinstance(inner, nn.Module)]


def _size(module: nn.Module) -> int:
    return sum(1 for _ in module.modules())


def _holds(module: nn.Module, inner: nn.Module) -> bool:
    return any(one is inner for one in module.modules())


def _plain(name: str, module: nn.Module) -> str:
    return name if name and name not in ("self", "module") else type(module).__name__
