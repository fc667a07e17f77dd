"""The history of the `requires_grad` flags: who set which, and where."""

from __future__ import annotations

import sys
from types import FrameType

import torch

from ..places import library_location, user_location
from ..records import Location


class Flags:
    """Every change of a flag since the watch began, by parameter."""

    def __init__(self) -> None:
        self._history: dict[int, list[tuple[bool, Location | None]]] = {}
        self._taken: dict[int, bool] = {}
        self._alive: list[torch.Tensor] = []

    def note(self, tensor: torch.Tensor, value: bool, frame: FrameType | None = None) -> None:
        """Note that a flag is being set; `frame` is where (default: the caller's caller)."""
        frame = frame or sys._getframe(2)
        location = user_location(frame) or library_location(frame)
        if id(tensor) not in self._history:
            self._alive.append(tensor)
        self._history.setdefault(id(tensor), []).append((value, location))

    def taken(self, tensor: torch.Tensor) -> None:
        """Note that an optimizer has taken a tensor, and the flag that it had then."""
        if id(tensor) not in self._taken:
            self._alive.append(tensor)
            self._taken[id(tensor)] = tensor.requires_grad

    def flipped(self, tensor: torch.Tensor, wanted: bool) -> Location | None:
        """Return where a flag that had been as wanted was set otherwise; None when it never was as wanted.

        The value a parameter is born with counts for nothing: only one that somebody set, or with which an optimizer
        took it.
        """
        history = self._history.get(id(tensor), [])
        last = next((i for i in reversed(range(len(history))) if history[i][0] != wanted), None)
        if last is None:
            return None
        meant = any(value == wanted for value, _ in history[:last])
        return history[last][1] if meant or self._taken.get(id(tensor)) == wanted else None
