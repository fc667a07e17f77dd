"""What torch has no global hook for, put in place for the time of a watch and taken away again."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import nn
from torch.nn.utils import stateless
from torch.optim.optimizer import Optimizer

from ..probe.made_at import note_made
from ..probe.replaced import hand_on, replaced


class Watcher(Protocol):
    """Who wants to know."""

    def backward(self, backward: Callable[..., None], tensors: Any, args: Any, kwargs: Any) -> None:
        """A backward is asked for; call `backward` to run it."""

    def lent(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """A module is about to be called with other tensors in its parameters' places; `call` does it."""

    def evaluated(self, module: nn.Module) -> None:
        """Somebody called `module.eval()`."""

    def take(self, optimizer: Any) -> None:
        """An optimizer was given tensors."""

    def compiled(self) -> None:
        """A model or function was compiled."""

    def close(self) -> None:
        """Watch no more."""


_watchers: list[Watcher] = []
"""Who watches now."""


@contextmanager
def patched(watcher: Watcher) -> Iterator[None]:
    """Tell the watcher of every backward, `functional_call`, `eval()`, new parameter group and compiled model."""

    def around_backward(backward: Any) -> Any:
        def watched_backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            watcher.backward(backward, tensors, args, kwargs)

        return watched_backward

    def around_eval(evaluate: Any) -> Any:
        def watched_eval(module: nn.Module) -> nn.Module:
            watcher.evaluated(module)
            return cast("nn.Module", hand_on(evaluate, module))

        return watched_eval

    def around_add(add: Any) -> Any:
        def watched_add(optimizer: Optimizer, group: Any) -> None:
            note_made(optimizer, sys._getframe(1))
            hand_on(add, optimizer, group)
            watcher.take(optimizer)

        return watched_add

    def around_compile(compile_: Any) -> Any:
        def watched_compile(*args: Any, **kwargs: Any) -> Any:
            compiled = hand_on(compile_, *args, **kwargs)
            watcher.compiled()
            return compiled

        return watched_compile

    _watchers.append(watcher)
    try:
        with (
            replaced(torch.autograd, "backward", around_backward),
            replaced(stateless, "_functional_call", _around_lending(watcher)),
            replaced(nn.Module, "eval", around_eval),
            replaced(Optimizer, "add_param_group", around_add),
            replaced(torch, "compile", around_compile),
        ):
            yield
    finally:
        _watchers.remove(watcher)


def _around_lending(watcher: Watcher) -> Callable[[Any], Any]:
    def around(call: Any) -> Any:
        def watched_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return watcher.lent(call, module, args, kwargs)

        return watched_call

    return around


@contextmanager
def none_left_on() -> Iterator[None]:
    """End, when the context does, the watches that were begun in it and that nobody ended: a script has been left."""
    before = list(_watchers)
    try:
        yield
    finally:
        for watcher in [one for one in _watchers if one not in before]:
            watcher.close()


def _take_out(filters: list[Any]) -> None:
    for entry in filters:
        with suppress(ValueError):
            warnings.filters.remove(entry)  # type: ignore[attr-defined]  # a list, though typed as a sequence


class Uncompiled:
    """Runs compiled models as they were written while they are watched: a compiled graph hides where a gradient ends.

    torch decides at every call whether to use what it compiled, so this may begin and end between two steps. Nothing
    of the compiler is imported before the script itself does.
    """

    _going: ClassVar[list[Uncompiled]] = []
    """Who wants it so now; they may end in another order than they began."""
    _stack: ClassVar[ExitStack] = ExitStack()

    def __init__(self) -> None:
        self.used = False
        """Whether anything compiled was there."""

    def __enter__(self) -> Uncompiled:
        if "torch._dynamo" in sys.modules:
            self.begin()
        return self

    def __exit__(self, *exception: object) -> None:
        if self in self._going:
            self._going.remove(self)
            if not self._going:
                self._stack.close()

    def begin(self) -> None:
        """Have models run as they were written from now on."""
        if not hasattr(torch.compiler, "set_stance") or self in self._going:
            return
        if not self._going:
            self._stack.enter_context(torch.compiler.set_stance("force_eager"))
            before = list(warnings.filters)
            warnings.filterwarnings("ignore", "Using `torch.compile")  # with global hooks: they are ours
            added = [entry for entry in warnings.filters if entry not in before]
            self._stack.callback(_take_out, added)
        self._going.append(self)
