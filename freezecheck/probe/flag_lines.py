"""Which lines gave the parameters their flags, while the user's own code makes the model."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..places import library_location, user_location
from ..records import Location
from .operations import Effect, effect_of

FlagLine = tuple[bool, Location]
"""What a flag was set to, and where."""


class FlagLines(TorchFunctionMode):
    """While entered, notes where `requires_grad` is set."""

    def __init__(self) -> None:
        super().__init__()
        self._set: dict[int, tuple[weakref.ref[Any], bool, Location | None]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note a flag that is set; whatever else torch is asked for goes on."""
        kwargs = kwargs or {}
        if effect_of(func) is Effect.FLAG:
            frame, tensor = sys._getframe(1), args[0]
            value = bool(args[1] if len(args) > 1 else kwargs.get("requires_grad", True))
            self._set[id(tensor)] = weakref.ref(tensor), value, user_location(frame) or library_location(frame)
        return func(*args, **kwargs)

    def of(self, model: torch.nn.Module) -> dict[int, FlagLine]:
        """Return, by identity of the model's parameters, what was set last, and where."""
        last = {}
        for parameter in model.parameters():
            tensor, value, location = self._set.get(id(parameter), (None, False, None))
            if tensor is not None and tensor() is parameter and location is not None:
                last[id(parameter)] = value, location
        return last


def standing(lines: Mapping[int, FlagLine], parameters: Mapping[str, torch.Tensor]) -> dict[str, Location]:
    """Return, by name, the lines that gave parameters the flags that they have now."""
    known = {name: lines.get(id(parameter), (None, None)) for name, parameter in parameters.items()}
    return {
        name: location
        for name, (value, location) in known.items()
        if location is not None and value == parameters[name].requires_grad
    }
