"""The transforms of torch.func: inside of vmap and grad, tensors are wrapped in others."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from .flow import Flow
from .replaced import replaced

_WRAPPERS = (
    ("torch._functorch.vmap", ("_add_batch_dim", "_remove_batch_dim")),
    ("torch._functorch.eager_transforms", ("_wrap_for_grad", "_unwrap_for_grad")),
)
"""By module, the functions that wrap a tensor or take it out again; a torch without them is followed less far."""


@contextmanager
def following_transforms(flow: Flow) -> Iterator[None]:
    """Let a wrapped tensor and what is taken out of it have the same parameters and cuts upstream."""
    with ExitStack() as stack:
        for path, names in _WRAPPERS:
            module = importlib.import_module(path)
            for name in names:
                if hasattr(module, name):
                    stack.enter_context(replaced(module, name, partial(_followed, flow)))
        yield


def _followed(flow: Flow, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(tensor: Any, *rest: Any) -> Any:
        result = function(tensor, *rest)
        if isinstance(tensor, torch.Tensor) and isinstance(result, torch.Tensor) and result is not tensor:
            upstream, cuts = flow.of(tensor)
            if upstream:
                flow.put(result, upstream, cuts)
        return result

    return call
