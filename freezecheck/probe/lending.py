"""A parameter's own memory, out of reach while a copy stands in for it: nothing is written to it, nothing put back.

That takes memory which nobody else holds. Who has a view of it, or its numbers by numpy, would see the parameter leave
it, and could write to what counts as its content.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Container, Iterator
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


class Loans:
    """Copies that stand in for parameters, each in memory of its own, until the parameters lie in theirs again."""

    what = "views of what stood in for a weight"
    """As a message calls it."""

    def __init__(self) -> None:
        self._lent: list[tuple[Tensor, Tensor, tuple[int, int]]] = []

    def lend(self, parameter: Tensor, own: Tensor, copy: Tensor) -> None:
        """Let `copy`, of the parameter's shape and strides, lie in its place, and its `own` memory lie still."""
        self._lent.append((own, copy, holders(copy)))
        parameter.data = copy

    def restore(self) -> None:
        """Call it when the parameters lie in their own memory again.

        Whoever took a view of a copy meanwhile and still has it finds the parameter's content in it; a tensor of
        Python's is moved to the parameter's own memory.
        """
        taken = {}
        for own, copy, alone in self._lent:
            if holders(copy) != alone:
                storage = copy.untyped_storage()
                if storage.nbytes() < own.nbytes:
                    storage.resize_(own.nbytes)
                copy.copy_(own)
                taken[storage._cdata] = own
        copies = {id(copy) for _, copy, _ in self._lent}
        for view, storage in _views(taken) if taken else ():
            if id(view) not in copies:
                with suppress(RuntimeError, TypeError):  # kept as it is where torch cannot move it
                    _move(view, taken[storage._cdata])
                    # Its numbers may have been handed out by address (numpy): they must not be freed before it.
                    weakref.finalize(view, id, storage).atexit = False
        self._lent.clear()


def _views(storages: Container[int]) -> Iterator[tuple[Tensor, torch.UntypedStorage]]:
    """Yield every tensor of Python's in one of these storages, in one pass over all objects: there may be millions."""
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor):  # `isinstance` would run the code of proxies
            with suppress(Exception):  # sparse, wrapped and lazy tensors have no storage of their own
                storage = thing.untyped_storage()
                if storage._cdata in storages:
                    yield thing, storage


def _move(view: Tensor, own: Tensor) -> None:
    with torch.inference_mode(view.is_inference()):
        there = torch.empty(0, dtype=view.dtype, device=view.device)
        view.data = there.set_(own.untyped_storage(), view.storage_offset(), view.shape, view.stride())
