"""What torch has no global hook for, put in place for the time of a watch and taken away again."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.optimizer import Optimizer


class Watcher(Protocol):
    """Who wants to know."""

    def backward(self, backward: Callable[..., None], tensors: Any, args: Any, kwargs: Any) -> None:
        """A backward is asked for; call `backward` to run it."""

    def evaluated(self, module: nn.Module) -> None:
        """Somebody called `module.eval()`."""

    def take(self, optimizer: Any) -> None:
        """An optimizer was given tensors."""


_originals = (torch.autograd.backward, nn.Module.eval, Optimizer.add_param_group)
_watchers: list[Watcher] = []
"""Who watches now. They may end in another order than they began; torch's own come back with the last."""


@contextmanager
def patched(watcher: Watcher) -> Iterator[None]:
    """Tell the watcher of every backward, `eval()` and new parameter group."""
    _watchers.append(watcher)
    backward, evaluate, add = torch.autograd.backward, nn.Module.eval, Optimizer.add_param_group

    def watched_backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        watcher.backward(backward, tensors, args, kwargs)

    def watched_eval(module: nn.Module) -> nn.Module:
        watcher.evaluated(module)
        return evaluate(module)

    def watched_add(optimizer: Optimizer, group: Any) -> None:
        add(optimizer, group)
        watcher.take(optimizer)

    torch.autograd.backward = watched_backward
    nn.Module.eval = watched_eval  # type: ignore[method-assign, assignment]  # put back below
    Optimizer.add_param_group = watched_add  # type: ignore[method-assign, assignment]  # put back below
    try:
        yield
    finally:
        _watchers.remove(watcher)
        if not _watchers:
            backward, evaluate, add = _originals
            torch.autograd.backward = backward
            nn.Module.eval = evaluate  # type: ignore[method-assign]  # as it was
            Optimizer.add_param_group = add  # type: ignore[method-assign]  # as it was


def _take_out(filters: list[Any]) -> None:
    for entry in filters:
        with suppress(ValueError):
            warnings.filters.remove(entry)  # type: ignore[attr-defined]  # a list, though typed as a sequence


class Uncompiled:
    """Runs compiled models as they were written while they are watched: a compiled graph hides where a gradient ends.

    torch decides at every call whether to use what it compiled, so this may begin and end between two steps. Nothing
    of the compiler is imported before the script itself does.
    """

    def __init__(self) -> None:
        self.used = False
        """Whether anything compiled was there."""
        self._eager = False
        self._stack = ExitStack()
        self._compile = torch.compile

    def __enter__(self) -> Uncompiled:
        if "torch._dynamo" in sys.modules:
            self._go_eager()

        def watched_compile(*args: Any, **kwargs: Any) -> Any:
            compiled = self._compile(*args, **kwargs)
            self.used = True
            self._go_eager()
            return compiled

        torch.compile = watched_compile
        return self

    def __exit__(self, *exception: object) -> None:
        torch.compile = self._compile
        self._stack.close()

    def _go_eager(self) -> None:
        if hasattr(torch.compiler, "set_stance") and not self._eager:
            self._eager = True
            self._stack.enter_context(torch.compiler.set_stance("force_eager"))
            before = list(warnings.filters)
            warnings.filterwarnings("ignore", "Using `torch.compile")  # with global hooks: they are ours
            added = [entry for entry in warnings.filters if entry not in before]
            self._stack.callback(_take_out, added)
