"""Which module is the model: the outermost one, in the frames that led to a forward, that holds the module called.

Of that, the part that the spec's selectors are written for: a trainer's wrapper puts `model.` before every name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import SpecError
from ..places import kind
from ..probe.describe import describe
from ..spec.match import match

if TYPE_CHECKING:
    from ..spec import Spec

_MOST_FRAMES = 60
_MOST_WRAPPERS = 4
"""Depth to which the model that the spec means is looked for inside of another."""
_MOST_CANDIDATES = 32


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


def stands_in(variable: str, module: nn.Module, frame: FrameType | None) -> bool:
    """Whether a variable of that name holds the module in some frame on the way; a function's own name is another."""
    while frame is not None:
        if frame.f_locals.get(variable) is module:
            return True
        frame = frame.f_back
    return False


def _plain(name: str, module: nn.Module) -> str:
    return name if name and name not in ("self", "module") else type(module).__name__


def owner_of(tensors: Sequence[torch.Tensor], frame: FrameType | None) -> tuple[str, nn.Module] | None:
    """Return (name, module) of the model that owns some of these, whose forward nobody saw: it is in some frame."""
    owned = {id(t) for t in tensors}
    while frame is not None:
        for label, module in _modules_of(frame):
            if any(id(parameter) in owned for parameter in module.parameters()):
                return _plain(label, module), module
        frame = frame.f_back
    return None


def meant_by(spec: Spec | None, root: nn.Module) -> nn.Module:
    """Return the module, `root` or one inside it, that every selector of the spec selects something in.

    The outermost one; `root` where there is none, so that what is missing is told in its names.
    """
    if spec is None:
        return root
    waiting = deque([(0, root)])
    for _ in range(_MOST_CANDIDATES):
        if not waiting:
            break
        depth, module = waiting.popleft()
        if _fits(spec, module):
            return module
        if depth < _MOST_WRAPPERS:
            waiting += [(depth + 1, child) for child in module.children() if any(True for _ in child.children())]
    return root


def _fits(spec: Spec, module: nn.Module) -> bool:
    try:
        return not match(spec, describe(module)).unmatched
    except SpecError:  # an index that is out of range here
        return False
