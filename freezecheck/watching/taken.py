"""Gradients that the loop itself takes away between a backward and the step: cleared, clipped to 0, multiplied by 0."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from ..records import Location, Write


class Taken:
    """What a backward gave the parameters of one model, and what the loop made of it before the step."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._given: dict[str, tuple[int, int]] = {}
        """Identity and version of the gradients that the last backward left, until a step used them."""
        self._rewritten: set[str] = set()
        """To whose gradient the loop has written since the last backward."""
        self.away: set[str] = set()
        """Whose gradient was gone at a step of their optimizer, or all zeros, though not by a backward."""
        self.lines: dict[str, Location | None] = {}
        """Lines that took a gradient away, or wrote to it, between a backward and the step."""

    def backward_ends(self) -> Collection[torch.Tensor]:
        """Remember which gradients a backward left, to know at the step whether they are the same; return them."""
        given = {name: p.grad for name, p in self._parameters.items() if p.grad is not None}
        self._given = {name: (id(gradient), gradient._version) for name, gradient in given.items()}
        self._rewritten.clear()
        return given.values()

    def note_writes(self, writes: Mapping[int, Sequence[Write]]) -> None:
        """Note which of these the loop has written to since; `writes` are by identity of what was written."""
        for name, (identity, _) in self._given.items():
            if writes.get(identity):
                self._rewritten.add(name)
                self.lines[name] = writes[identity][-1].location

    def rewritten(self, name: str) -> bool:
        """Whether the loop wrote to a parameter's gradient."""
        return name in self._rewritten

    def awaits(self, name: str | None) -> bool:
        """Whether a backward gave this parameter a gradient that no step has used."""
        return name in self._given

    def note_away(self, name: str) -> None:
        """Note that a step finds no gradient, or one of zeros, if that is not what the backward gave."""
        given, gradient = self._given.get(name), self._parameters[name].grad
        if given is not None and (gradient is None or given != (id(gradient), gradient._version)):
            self.away.add(name)

    def note_used(self, name: str) -> None:
        """Note that a step has used what the backward gave."""
        self._given.pop(name, None)
