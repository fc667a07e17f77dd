"""The history of the `requires_grad` flags: who set which, and where."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import CodeType, FrameType

import torch

from ..places import library_location, located, user_calls
from ..probe.flag_lines import FlagLine
from ..records import Location


@dataclass(frozen=True, slots=True)
class _Setting:
    """One flag being set: to what, by which lines of the user's (the innermost first), or by which library's."""

    value: bool
    calls: tuple[tuple[CodeType, int], ...]
    theirs: Location | None

    @property
    def place(self) -> Location | None:
        """The innermost line of the user's that did it, else the library's."""
        return located(self.calls[0]) if self.calls else self.theirs

    def apart(self, other: _Setting) -> Location | None:
        """Where this was done: of lines through which `other` was done as well, the line that called them."""
        if not self.calls:
            return self.theirs
        shared = 0
        for mine, others in zip(self.calls, other.calls, strict=False):
            if mine != others:
                break
            shared += 1
        return located(self.calls[shared if shared < len(self.calls) else 0])


class Flags:
    """Every change of a flag since the watch began, by parameter."""

    def __init__(self) -> None:
        self._history: dict[int, list[_Setting]] = {}
        self._first: dict[tuple[tuple[CodeType, int], bool], _Setting] = {}
        """Of each innermost line and value, the first flag that it set."""
        self._taken: dict[int, bool] = {}
        self._alive: list[torch.Tensor] = []

    def note(self, tensor: torch.Tensor, value: bool, frame: FrameType | None = None) -> None:
        """Note that a flag is being set; `frame` is where (default: the caller's caller)."""
        frame = frame or sys._getframe(2)
        calls = user_calls(frame)
        setting = _Setting(value, calls, None if calls else library_location(frame))
        if calls:
            self._first.setdefault((calls[0], value), setting)
        if id(tensor) not in self._history:
            self._alive.append(tensor)
        self._history.setdefault(id(tensor), []).append(setting)

    def lines(self) -> dict[int, FlagLine]:
        """Return, by identity of a parameter, what its flag was last set to, and where."""
        last = {key: (settings[-1].value, settings[-1].place) for key, settings in self._history.items()}
        return {key: (value, place) for key, (value, place) in last.items() if place is not None}

    def taken(self, tensor: torch.Tensor) -> None:
        """Note that an optimizer has taken a tensor, and the flag that it had then."""
        if id(tensor) not in self._taken:
            self._alive.append(tensor)
            self._taken[id(tensor)] = tensor.requires_grad

    def flipped(self, tensor: torch.Tensor, wanted: bool) -> Location | None:
        """Return where a flag that had been as wanted was set otherwise; None when it never was as wanted.

        A helper that freezes as well as it unfreezes is right: then it is the line from which it was called.
        The value a parameter is born with counts for nothing: only one that somebody set, or with which an optimizer
        took it.
        """
        history = self._history.get(id(tensor), [])
        last = next((i for i in reversed(range(len(history))) if history[i].value != wanted), None)
        if last is None:
            return None
        if self._taken.get(id(tensor)) != wanted and all(earlier.value != wanted for earlier in history[:last]):
            return None
        flip = history[last]
        also = self._first.get((flip.calls[0], wanted)) if flip.calls else None
        return flip.apart(also or flip)
