"""Between two watches: the forwards are looked at, and nothing else."""

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
    """Calls `look` for each forward with gradients: its module and arguments, and whether it is the step's `first`.

    All are looked at: the model that is waited for may be called after one that is known. Where something is compiled
    a global hook on modules would make torch warn and guard, so there `look` is called as a step ends, with no module:
    what is waited for is then noticed one step late.
    """

    def __init__(self, look: Callable[..., None], *, compiled: bool) -> None:
        self._look, self._compiled = look, compiled
        self._process, self._thread = os.getpid(), threading.get_ident()
        self._first = True
        self._handle = None if compiled else register_module_forward_pre_hook(self._forward)
        self._stop = listen(lambda *_: None, self._stepped)

    def _stepped(self, _optimizer: Any) -> None:
        self._first = True
        if self._compiled:
            self._look(None, (), first=True)

    def _forward(self, module: nn.Module, args: Any) -> None:
        if not torch.is_grad_enabled() or threading.get_ident() != self._thread or os.getpid() != self._process:
            return
        first, self._first = self._first, False
        with torch._C.DisableTorchFunction():
            self._look(module, args, first=first)

    def close(self) -> None:
        """Wait no more."""
        self._stop()
        if self._handle is not None:
            self._handle.remove()
