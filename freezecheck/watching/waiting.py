"""Between two watches: the first forward of every step is looked at, and nothing else of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from .steps import listen


class Waiting:
    """Calls `look` with the module and its arguments when, after a step, the first forward with gradients begins.

    A global hook on modules stays no longer than until then. Where something is compiled it would make torch warn and
    guard, so there `look` is called as a step ends, with no module: a turn is then noticed one step late.
    """

    def __init__(self, look: Callable[[nn.Module | None, Any], None], *, compiled: bool) -> None:
        self._look, self._compiled = look, compiled
        self._process, self._thread = os.getpid(), threading.get_ident()
        self._handle: Any = None
        self._stop = listen(lambda *_: None, self._stepped)
        if not compiled:
            self._arm()

    def _arm(self) -> None:
        if self._handle is None:
            self._handle = register_module_forward_pre_hook(self._forward)

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _stepped(self, _optimizer: Any) -> None:
        if self._compiled:
            self._look(None, ())
        else:
            self._arm()

    def _forward(self, module: nn.Module, args: Any) -> None:
        if not torch.is_grad_enabled() or threading.get_ident() != self._thread or os.getpid() != self._process:
            return
        if self._handle is not None:
            self._disarm()
            with torch._C.DisableTorchFunction():
                self._look(module, args)

    def close(self) -> None:
        """Wait no more."""
        self._stop()
        self._disarm()
