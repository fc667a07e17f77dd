"""Which lines made the optimizers, while the user's own code makes them."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch.optim.optimizer import Optimizer

from ..places import user_location
from ..records import Location
from .replaced import hand_on, replaced

_made: weakref.WeakKeyDictionary[Any, Location] = weakref.WeakKeyDictionary()


def note_made(optimizer: Any, frame: FrameType | None) -> None:
    """Note where an optimizer is being made, if it has no group yet; `frame` is the caller of its first one."""
    location = None if optimizer.param_groups else user_location(frame)
    if location is not None:
        _made.setdefault(optimizer, location)


def lines_of(optimizers: Iterable[Any]) -> tuple[Location | None, ...]:
    """Return the line that made each optimizer; None where nobody looked, or it is no line of the user's."""
    return tuple(_made.get(optimizer) for optimizer in optimizers)


@contextmanager
def optimizers_noted() -> Iterator[None]:
    """Note every optimizer that is made within the block."""

    def around(add: Any) -> Any:
        def noted_add(optimizer: Any, group: Any) -> None:
            note_made(optimizer, sys._getframe(1))
            hand_on(add, optimizer, group)

        return noted_add

    with replaced(Optimizer, "add_param_group", around):
        yield
