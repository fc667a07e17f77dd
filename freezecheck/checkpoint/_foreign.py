"""Stand-ins for the objects beside a checkpoint's tensors: an argparse.Namespace, a numpy number, a path.

Whatever a pickle asks for that is no part of torch is replaced by a class that takes everything and does nothing, in
torch's own `weights_only` reader. No code of the file's, and none that it names, is run.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


class Holds(pickle.UnpicklingError):
    """An object holds tensors: what it is cannot be left out."""


class _StandIn:
    """In the place of one foreign object. Subclassed for each class or function that a file names."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _StandIn:
        """Take whatever the object would be made of."""
        _refuse_tensors((args, kwargs))
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing with it."""

    def __setstate__(self, state: Any) -> None:
        """Take whatever the object would remember."""
        _refuse_tensors(state)


@contextmanager
def left_out(names: Iterable[str]) -> Iterator[None]:
    """Have `torch.load(..., weights_only=True)` make stand-ins of these, given as `module.name`, within the block.

    Raises AttributeError or TypeError where torch is too old to know of such (2.5 and before).
    """
    stand_ins: list[Any] = [(type(name, (_StandIn,), {}), name) for name in names]
    with torch.serialization.safe_globals(stand_ins):
        yield


def _refuse_tensors(value: Any) -> None:
    """Raise Holds where there is a tensor in what an object is made of, as there is in a pickled module."""
    stack, seen = [value], set()
    while stack:
        one = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor | torch.UntypedStorage | torch.storage.TypedStorage):
            raise Holds("an object of a class of its own holds tensors")
        if isinstance(one, Mapping):
            stack += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            stack += one
