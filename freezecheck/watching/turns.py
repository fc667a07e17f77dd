"""The turn from one phase of a training to a later one, and how it is noticed.

Three things tell: the phase's own `setup` was called by the script; flags changed, and fit the later phase better now;
an optimizer was made, and the flags are what both phases expect.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim.optimizer import Optimizer

from ..places import kind
from ..probe.replaced import hand_on, replaced

if TYPE_CHECKING:
    from .stages import Stages
    from .watched import Watched


class Turns:
    """Looks for a turn when a step's first forward begins. Costs a tuple of flags a step."""

    def __init__(self, stages: Stages, folder: str) -> None:
        """`folder` is the spec's, from which it names the files of its setups."""
        self._stages, self._folder = stages, folder
        self._flags: dict[int, tuple[bool, ...]] = {}
        self._strangers: dict[int, nn.Module] = {}
        """Modules of no model under watch that were looked at already."""
        self._called: int | None = None
        self._made: list[Any] = []
        """Optimizers that were made since the phase began."""
        self._stack = ExitStack()
        self._listening = False

    def listen(self) -> None:
        """Know of setups and optimizers from now on. To be called again is harmless."""
        if self._listening or not self._stages.later:
            return
        self._listening = True
        self._stack.enter_context(replaced(Optimizer, "add_param_group", self._around_add))
        setups = (self._stages.setups[number] for number in self._stages.later)
        for setup in dict.fromkeys(one for one in setups if one is not None):
            for module, name in _bindings(setup, self._folder):
                self._stack.enter_context(replaced(module, name, functools.partial(self._around_setup, setup)))

    def close(self) -> None:
        """Put back what stood in the script's modules."""
        self._stack.close()
        self._listening = False

    @property
    def made(self) -> list[Any]:
        """The optimizers that were made since the phase began."""
        return list(self._made)

    def begin(self) -> None:
        """Begin a phase, or the watch of another model."""
        self._called = None
        self._made.clear()

    def turned(self, models: Sequence[Watched], *, begun: bool) -> bool:
        """Go on to a later phase if the training did; return whether. `begun`: the phase has made a step."""
        flags = {id(one.model): tuple(p.requires_grad for p in one.model.parameters()) for one in models}
        before = self._flags if self._flags else flags
        changed = [m for m in (one.model for one in models) if any(flags[id(m)]) and flags[id(m)] != before.get(id(m))]
        self._flags = flags
        found = self._called
        if found is None and begun:
            found = next((n for n in map(self._stages.nearer, changed) if n is not None), None)
            if found is None and self._made:
                found = next((n for n in (self._stages.alike(one.model) for one in models) if n is not None), None)
        return self._go(found)

    def turned_to(self, called: nn.Module, root: Callable[[], nn.Module]) -> bool:
        """The same, of a module that belongs to none of the models watched; `root` finds the model around it."""
        if id(called) in self._strangers or next(called.parameters(), None) is None:
            return False
        self._strangers[id(called)] = called
        model = root()
        return self._go(self._stages.nearer(model) if any(p.requires_grad for p in model.parameters()) else None)

    def _go(self, number: int | None) -> bool:
        if number is None:
            return False
        self._stages.now = number
        return True

    def _around_add(self, add: Any) -> Any:
        def noted_add(optimizer: Any, group: Any) -> None:
            if not optimizer.param_groups:  # it is being made
                self._made.append(optimizer)
            hand_on(add, optimizer, group)

        return noted_add

    def _around_setup(self, setup: str, function: Any) -> Any:
        @functools.wraps(function)
        def noted_setup(*args: Any, **kwargs: Any) -> Any:
            self._called = next((n for n in self._stages.later if self._stages.setups[n] == setup), self._called)
            return hand_on(function, *args, **kwargs)

        return noted_setup


def _bindings(reference: str, folder: str) -> Iterator[tuple[ModuleType, str]]:
    """Every name in the user's own modules for the function that a spec calls `train.py:unfreeze`."""
    where, _, function = reference.rpartition(":")
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or kind(path) != "user":
            continue
        for name, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value.__qualname__ == function and _lies_in(value, where, folder):
                yield module, name


def _lies_in(function: FunctionType, where: str, folder: str) -> bool:
    file = str(os.path.realpath(inspect.unwrap(function).__code__.co_filename))
    if where.endswith(".py"):
        return file == os.path.realpath(os.path.join(folder, where))
    return function.__module__ == where or file.endswith(os.sep + where.replace(".", os.sep) + ".py")
