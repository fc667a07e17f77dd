"""Torch's global hooks around every optimizer's step: one pair, for all who listen.

torch goes through a dict of hooks that must not change meanwhile, and who listens does come and go in the middle of a
step. So the pair stays until it is let go outside of any step, or where an error ends one.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ..probe.trace import leave_stopped

Before = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Called with optimizer, args and kwargs of the step; may return others as (args, kwargs)."""
After = Callable[[Any], None]
"""Called with the optimizer."""

_listeners: list[tuple[Before, After]] = []
_handles: list[Any] = []


def listen(before: Before, after: After) -> Callable[[], None]:
    """Call `before` and `after` around every optimizer's step, until the function that is returned is called."""
    entry = (before, after)
    _listeners.append(entry)
    if not _handles:
        _handles.append(register_optimizer_step_pre_hook(_before))
        _handles.append(register_optimizer_step_post_hook(_after))

    def stop() -> None:
        if entry in _listeners:
            _listeners.remove(entry)

    return stop


def let_go() -> None:
    """Take away what a watch that ended in the middle of something had to leave. Not to be called within a step."""
    leave_stopped()
    if not _listeners:
        while _handles:
            _handles.pop().remove()


def _before(optimizer: Any, args: Any, kwargs: Any) -> Any:
    changed = None
    for before, _ in _listeners.copy():
        changed = before(optimizer, *(changed or (args, kwargs))) or changed
    return changed


def _after(optimizer: Any, _args: Any, _kwargs: Any) -> None:
    try:
        for entry in _listeners.copy():
            if entry in _listeners:  # an earlier one may have sent it away
                entry[1](optimizer)
    except BaseException:
        let_go()  # torch goes through its hooks no further
        raise


def with_closure(args: Any, kwargs: Any, around: Callable[[Any], Any]) -> tuple[Any, Any] | None:
    """Return a step's args and kwargs with `around(its closure)` in the closure's place; None where it has none."""
    position = next((i for i, value in enumerate(args) if i and callable(value)), None)
    closure = kwargs.get("closure") if position is None else args[position]
    if closure is None:
        return None
    if position is None:
        return args, {**kwargs, "closure": around(closure)}
    return (*args[:position], around(closure), *args[position + 1 :]), kwargs


def overflowed(optimizer: Any) -> bool:
    """Whether a fused optimizer was told by a GradScaler to leave everything as it is."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, torch.Tensor) and found.any().item() is True


class Closing(Protocol):
    """Something that can be ended."""

    def close(self) -> None:
        """End it."""


def close_in_forks(watch: Closing) -> None:
    """Look at nothing in a forked process (a DataLoader's worker), which has its own copy of everything."""
    mine = weakref.ref(watch)  # what is registered stays for ever, the watch need not

    def close() -> None:
        if (still := mine()) is not None:
            still.close()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=close)
