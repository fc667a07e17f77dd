"""Custom autograd functions and reentrant checkpointing, which the tracer sees as one operation each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..places import library_location, location_in, user_location
from ..records import Cut, Location
from .flow import tensors_in
from .graph import leaves_of
from .replaced import replaced
from .trace import Trace
from .transforms import following_transforms


@contextmanager
def following_functions(trace: Trace) -> Iterator[None]:
    """See every `Function.apply` and `nn.Parameter(...)` while the context lasts: the mode itself sees neither."""

    def around_apply(apply: Any) -> Any:
        def followed(cls: type, *args: Any, **kwargs: Any) -> Any:
            return _apply(trace, cls, apply.__get__(None, cls), args, kwargs)

        return classmethod(followed)

    def around_new(new: Any) -> Any:
        def followed(cls: type, *args: Any, **kwargs: Any) -> Any:
            made = new.__get__(None, cls)(cls, *args, **kwargs)
            _wrapped(trace, made, args, kwargs)
            return made

        return staticmethod(followed)

    with (
        replaced(torch.autograd.Function, "apply", around_apply),
        replaced(torch.nn.Parameter, "__new__", around_new),
        following_transforms(trace.flow),
    ):
        yield


def _wrapped(trace: Trace, made: torch.Tensor, args: Any, kwargs: Any) -> None:
    """Note a parameter that the forward itself makes: it is a leaf, and whatever it is made of ends there.

    One that is made of nothing that trains (a layer built anew in each forward) trains in no optimizer: it is left to
    be found as a stranger in the graph.
    """
    upstream, cuts = 0, 0
    for tensor in tensors_in(args, kwargs):
        above, lost = trace.flow.of(tensor)
        upstream, cuts = upstream | above, cuts | lost
    if upstream:
        trace.made.append(made)
        frame = sys._getframe(2)
        reason = "nn.Parameter() makes a new leaf of the values, without the graph that led to them"
        cut = Cut("Parameter()", reason, user_location(frame), library_location(frame))
        trace.flow.put(made, upstream, cuts | trace.add_cut(cut, upstream))


def _apply(trace: Trace, cls: type, call: Any, args: Any, kwargs: Any) -> Any:
    upstream, cuts = 0, 0
    for tensor in tensors_in(args, kwargs):
        above, lost = trace.flow.of(tensor)
        upstream, cuts = upstream | above, cuts | lost
    used_before, trace.flow.used = trace.flow.used, 0
    simulated, trace.simulated = trace.simulated, torch.is_grad_enabled()
    known = len(trace.cuts)
    try:
        result = call(*args, **kwargs)
    finally:
        trace.simulated = simulated
        touched, trace.flow.used = trace.flow.used, trace.flow.used | used_before
    upstream |= touched
    recomputes = _recomputes(cls)
    inner = sum(1 << i for i in range(known, len(trace.cuts))) if recomputes else 0
    for output in tensors_in((result,), {}):
        if not upstream:
            continue
        lost = cuts | inner
        if output.requires_grad:
            trace.functions.append((output.grad_fn, user_location(sys._getframe(2))))
        else:
            lost |= _dead_result(trace, cls, upstream)
        trace.flow.put(output, upstream, lost)
    return result


def _recomputes(cls: type) -> bool:
    """Whether this is reentrant checkpointing, whose backward runs the same code again with gradients on."""
    return cls.__name__ == "CheckpointFunction"


def _dead_result(trace: Trace, cls: type, upstream: int) -> int:
    frame = sys._getframe(3)
    if not torch.is_grad_enabled():
        operation, reason = "no_grad", f"{cls.__name__}.apply() runs under torch.no_grad()"
    elif _recomputes(cls):
        operation = "checkpoint(use_reentrant=True)"
        reason = (
            "reentrant checkpointing passes a gradient only when one of its inputs requires grad, and here none does"
        )
    else:
        operation = f"{cls.__name__}.apply()"
        reason = f"the custom autograd function {cls.__name__} gives a result that carries no gradient"
    return trace.add_cut(Cut(operation, reason, user_location(frame), library_location(frame)), upstream)


def place_of(node: Any, trace: Trace) -> Location | None:
    """Return the line that called a custom function, or where its backward is defined."""
    for known, location in trace.functions:
        if known is node:
            return location
    backward: Any = getattr(getattr(type(node), "_forward_cls", None), "backward", None)
    code = getattr(backward, "__code__", None)
    return location_in(code) if code is not None else None


class NoneReturned:
    """Watches the custom functions of one graph during its backward for gradients returned as None."""

    def __init__(self, trace: Trace, functions: list[Any]) -> None:
        self._trace = trace
        self._lost: dict[Any, list[int]] = {}
        self._handles = [node.register_hook(self._hook(node)) for node in functions]

    def _hook(self, node: Any) -> Any:
        def note(grad_inputs: Any, _grad_outputs: Any) -> None:
            for i, (gradient, (below, _)) in enumerate(zip(grad_inputs, node.next_functions, strict=False)):
                if gradient is None and below is not None:
                    self._lost.setdefault(node, []).append(i)

        return note

    def cuts(self) -> dict[int, list[Cut]]:
        """Return, by identity of the parameter, the functions that kept its gradient; call it after the backward."""
        found: dict[int, list[Cut]] = {}
        for node, inputs in self._lost.items():
            name = type(node).__name__.removesuffix("Backward")
            for i in inputs:
                said = f"its backward returns None as the gradient of input {i + 1}"
                cut = Cut(f"{name}.backward()", said, place_of(node, self._trace))
                for leaf in leaves_of(node.next_functions[i][0]):
                    found.setdefault(id(leaf), []).append(cut)
        return found

    def close(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
