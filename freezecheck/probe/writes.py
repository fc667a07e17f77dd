"""Writes in place to watched tensors: seen before they happen, through every alias, with the line that wrote."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import torch

from ..places import user_location
from ..records import Phase, Write
from .flow import storage_of
from .operations import Effect, call_words, effect_of

_THE_TRACER = 2
"""Frames between a function of torch and `Writes.note`: the mode's own."""


class Writes:
    """What was written in place, by identity of the tensor written."""

    def __init__(self, before_write: Callable[[torch.Tensor], None] | None) -> None:
        """Call `before_write` (where given) with a tensor that is about to be written."""
        self.seen: dict[int, list[Write]] = {}
        self.ids: set[int] = set()
        """Identities of the watched tensors."""
        self._before_write = before_write
        self._settled: dict[int, int] = {}
        self._by_storage: dict[int, list[torch.Tensor]] = {}
        self._passing: dict[int, list[torch.Tensor]] = {}
        """By storage, what is watched until `settle`: gradients, of which every step has others."""
        self._opened: dict[int, list[tuple[torch.Tensor, Write]]] = {}
        """By address, tensors whose memory was handed out, and by which call: whoever has it can write unseen."""

    def watch(self, tensors: Iterable[torch.Tensor]) -> None:
        """Note writes to these tensors, from now on."""
        for tensor in tensors:
            if id(tensor) not in self.ids:
                self.ids.add(id(tensor))
                self._by_storage.setdefault(storage_of(tensor), []).append(tensor)

    def watch_for_now(self, tensors: Iterable[torch.Tensor]) -> None:
        """Note writes to these tensors in place of those given before; `settle` forgets them and their writes."""
        self._let_pass()
        for tensor in tensors:
            self.seen.pop(id(tensor), None)  # another one's, that is gone
            self._passing.setdefault(storage_of(tensor), []).append(tensor)

    def _let_pass(self) -> None:
        for tensors in self._passing.values():
            for tensor in tensors:
                self.seen.pop(id(tensor), None)
        self._passing.clear()

    def _in_storage(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return the watched tensors that share a tensor's memory."""
        storage = storage_of(tensor)
        return [*self._by_storage.get(storage, ()), *self._passing.get(storage, ())]

    def settle(self) -> None:
        """Begin to count anew what `since` tells."""
        self._let_pass()
        self._settled = {key: len(writes) for key, writes in self.seen.items()}

    def since(self, phase: Phase) -> set[int]:
        """Return the identities of the tensors that a line wrote to in this phase which had not done so before."""
        new = {key: writes[self._settled.get(key, 0) :] for key, writes in self.seen.items()}
        return {key for key, writes in new.items() if any(write.phase == phase for write in writes)}

    def keep(self, tensors: Iterable[torch.Tensor]) -> None:
        """Tell of every watched tensor in the memory of these that it is about to be written, and note nothing."""
        if self._before_write is not None:
            for tensor in tensors:
                for watched in self._in_storage(tensor):
                    self._before_write(watched)

    def note(self, func: Any, written: Iterable[torch.Tensor], phase: Phase) -> None:
        """Note that `func` is about to write to these tensors. An optimizer's own step only keeps what was there."""
        targets = [watched for tensor in written for watched in self._targets(tensor)]
        if not targets:
            return
        if self._before_write is not None:
            for watched in targets:
                self._before_write(watched)
        frame = sys._getframe(_THE_TRACER)
        if phase != "step" or not _by_an_optimizer(frame):
            write = Write(call_words(func), user_location(frame), phase)
            for watched in targets:
                self._add(watched, write)

    def note_opening(self, func: Any, tensors: Iterable[torch.Tensor], phase: Phase) -> None:
        """Note that `func` hands out the memory of these tensors."""
        frame = sys._getframe(_THE_TRACER)
        told = effect_of(func) is not Effect.IGNORED and (phase != "step" or not _by_an_optimizer(frame))
        tensors = list(tensors)
        self.keep(tensors)
        for tensor in tensors if told else ():
            for watched in self._in_storage(tensor):
                write = Write(call_words(func), user_location(frame), phase, opened=True)
                self._add(watched, write)
                self._opened.setdefault(_address(tensor), []).append((watched, write))

    def _targets(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return the watched tensors in the memory of one that is written, also where numpy led to it."""
        found = self._in_storage(tensor)
        if found or not self._opened:
            return found
        opened = self._opened.pop(_address(tensor), [])
        for watched, opening in opened:
            self.seen[id(watched)].remove(opening)  # the write itself is the better place
        return [watched for watched, _ in opened]

    def _add(self, watched: torch.Tensor, write: Write) -> None:
        seen = self.seen.setdefault(id(watched), [])
        if write not in seen:
            seen.append(write)


def _address(tensor: torch.Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0


def _by_an_optimizer(frame: FrameType | None) -> bool:
    """Whether an optimizer's own `step` is what runs, and no hook that somebody put around it."""
    while frame is not None and frame.f_code.co_name != "wrapper":
        # A frame's locals are gathered when they are asked for: only where there is such a one.
        if "self" in frame.f_code.co_varnames and isinstance(frame.f_locals.get("self"), torch.optim.Optimizer):
            return True
        frame = frame.f_back
    return False
