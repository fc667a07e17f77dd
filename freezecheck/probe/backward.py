"""What happens while a backward runs: hooks of the user's, and gradients that do not stay until it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from .evidence import Evidence
from .replaced import replaced
from .trace import Trace


@contextmanager
def inside_backward(trace: Trace) -> Iterator[None]:
    """See what the user's hooks do inside a backward.

    `torch.autograd.backward` is itself a torch function: while it runs, torch has taken the mode off its stack. Here
    the mode goes back on for the engine's own run.
    """

    def around(engine: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            with trace:
                return engine(*args, **kwargs)

        return run

    with replaced(torch.autograd, "_engine_run_backward", around):
        yield
    trace.settled = True


@contextmanager
def gradients_on_arrival(parameters: Mapping[str, torch.Tensor], evidence: Evidence) -> Iterator[None]:
    """Note the gradients of parameters whose own hooks step and clear them inside the backward, as they arrive."""
    arrived: dict[str, torch.Tensor] = {}
    handles = []
    for name, parameter in parameters.items():
        if getattr(parameter, "_post_accumulate_grad_hooks", None):
            keep = partial(arrived.__setitem__, name)
            handles.append(parameter.register_hook(keep))  # type: ignore[no-untyped-call]  # torch's own
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    for name, gradient in arrived.items():
        if parameters[name].grad is None:  # what a hook left there is what counts
            evidence.note_gradient(name, gradient)
