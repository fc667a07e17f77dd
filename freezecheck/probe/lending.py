"""A parameter's own memory, out of reach while a copy stands in for it: nothing is written to it, nothing put back.

That takes memory which nobody else holds. Who has a view of it, or its numbers by numpy, would see the parameter leave
it, and could write to what counts as its content.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor


def holders(tensor: Tensor) -> tuple[int, int]:
    """Return how many hold a strided tensor's storage: in torch, and as an object of Python's."""
    storage = tensor.untyped_storage()
    return torch._C._storage_Use_Count(storage._cdata), sys.getrefcount(storage)


def can_be_lent(tensor: Tensor) -> bool:
    """Return whether a tensor's memory is of the usual kind: the processor's, torch's own, and not of a larger one."""
    if tensor.device.type != "cpu" or not hasattr(torch._C, "_storage_Use_Count"):
        return False
    storage = tensor.untyped_storage()
    return storage.nbytes() == tensor.nbytes and storage.resizable() and not storage.is_shared()


class Loan:
    """A copy that stands in for a parameter's content, in memory of its own, from now until `end`."""

    def __init__(self, parameter: Tensor, copy: Tensor) -> None:
        """Let `copy`, of the parameter's shape and strides, lie in its place."""
        self._copy = copy
        self._alone = holders(copy)
        parameter.data = copy

    def end(self, own: Tensor) -> None:
        """Call it when the parameter lies in its `own` memory again, which nobody wrote to.

        Whoever took a view of the copy meanwhile and still has it finds the parameter's content in it; a tensor of
        Python's is moved to the parameter's own memory.
        """
        if holders(self._copy) == self._alone:
            return
        storage = self._copy.untyped_storage()
        if storage.nbytes() < own.nbytes:
            storage.resize_(own.nbytes)
        self._copy.copy_(own)
        for view in _tensors_in(storage):
            if view is not self._copy:
                with suppress(RuntimeError, TypeError):  # kept as it is where torch cannot move it
                    _move(view, own)
                    # Its numbers may have been handed out by address (numpy): they must not be freed before it.
                    weakref.finalize(view, id, storage).atexit = False


def _tensors_in(storage: torch.UntypedStorage) -> Iterator[Tensor]:
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor):  # `isinstance` would run the code of proxies
            with suppress(Exception):  # sparse, wrapped and lazy tensors have no storage of their own
                if thing.untyped_storage()._cdata == storage._cdata:
                    yield thing


def _move(view: Tensor, own: Tensor) -> None:
    with torch.inference_mode(view.is_inference()):
        there = torch.empty(0, dtype=view.dtype, device=view.device)
        view.data = there.set_(own.untyped_storage(), view.storage_offset(), view.shape, view.stride())
