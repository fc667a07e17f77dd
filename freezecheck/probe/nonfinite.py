"""Where the first NaN or infinity came from: a step that gave one is looked at once more, operation by operation."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ProbeError
from ..places import library_location, user_location
from ..records import Gradient, NonFinite
from .describe import largest_in
from .flow import tensors_in
from .functions import place_of
from .operations import Effect, call_words, effect_of
from .switches import Switch, generators
from .trace import Trace

if TYPE_CHECKING:
    from .step import Probe

_HANDS_ON = frozenset({Effect.ORDINARY, Effect.WRITES, Effect.CUTS, Effect.ENTERS})
"""What a call does whose results are numbers."""


class Search(Trace):
    """A trace that looks into every result, and into every gradient that an operation's backward hands on."""

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe.trainable.values(), probe.ground.tensors, probe.ground.keep)
        self.in_forward: NonFinite | None = None
        """What made the first NaN."""
        self.in_backward: NonFinite | None = None
        """What was given a finite gradient and did not hand one on."""
        self._names = probe.names
        self._infinite: dict[int, tuple[weakref.ref[Any], NonFinite, bool]] = {}
        """By identity of a tensor that holds infinities, what made them, and whether they were asked for (a mask's)."""
        self._nodes: set[Any] = set()
        self._handles: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at what goes in, trace on, and look at what comes out."""
        if self.phase != "forward" or effect_of(func) not in _HANDS_ON:
            return super().__torch_function__(func, types, args, kwargs)
        inputs = tensors_in(args, kwargs or {})
        held = [_worst(tensor) for tensor in inputs]  # before the call, which may write to them
        for tensor in inputs:
            self._follow(tensor.grad_fn, None)  # what is not known by now was made out of the mode's sight
        result = super().__torch_function__(func, types, args, kwargs)
        frame = sys._getframe(1)
        made = NonFinite(call_words(func), "forward", user_location(frame) or library_location(frame))
        with torch.no_grad():
            self._note(made, inputs, held, tensors_in((result,), {}), asked=_asks_for_infinity(args, kwargs or {}))
        return result

    def _note(
        self,
        made: NonFinite,
        inputs: Sequence[torch.Tensor],
        held: Sequence[float],
        outputs: Iterable[torch.Tensor],
        *,
        asked: bool,
    ) -> None:
        known = [self._infinite.get(id(tensor)) for tensor in inputs]
        sources = [entry[1:] for entry, tensor in zip(known, inputs, strict=True) if entry and entry[0]() is tensor]
        source, meant = min(sources, key=itemgetter(1), default=(None, False))  # what nobody asked for comes first
        for tensor, worst in zip(inputs, held, strict=True):
            if math.isnan(worst) and self.in_forward is None:  # and nothing has made one yet
                self.in_forward = NonFinite(self._names.get(id(tensor), ""), "given", made.location)
        for output in outputs:
            worst = _worst(output)
            if math.isnan(worst) and self.in_forward is None:
                self.in_forward = replace(made, fed=source) if source is None or meant else source
            elif math.isinf(worst):
                self._infinite[id(output)] = weakref.ref(output), source or made, asked if source is None else meant
            self._follow(output.grad_fn, replace(made, phase="backward"))

    def _follow(self, root: Any, made: NonFinite | None) -> None:
        """Look at the gradients of every new node below a result; `made` None: each speaks for itself."""
        stack = [root]
        while stack:
            node = stack.pop()
            if node is None or node in self._nodes or hasattr(node, "variable"):
                continue
            self._nodes.add(node)
            self._handles.append(node.register_hook(partial(self._passed, made or self._itself(node))))
            stack.extend(below for below, _ in node.next_functions)

    def _itself(self, node: Any) -> NonFinite:
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            name = type(node).__name__.removesuffix("Backward")
            return NonFinite(f"{name}.apply()", "backward", place_of(node, self))
        return NonFinite(node.name(), "backward")

    def _passed(self, made: NonFinite, handed_on: Any, given: Any) -> None:
        if self.in_backward is None and _finite(given) and not _finite(handed_on):
            self.in_backward = made

    def close(self) -> None:
        """Take the hooks away, and let go of the graph."""
        for handle in self._handles:
            handle.remove()
        self._nodes.clear()


def first_nonfinite(probe: Probe, drawn: Iterable[Switch]) -> NonFinite | None:
    """Say what made the first NaN or infinity of the step under way; None where none was, or it did not come again.

    `drawn` are the random generators as they were before that step's forward: the same is drawn once more. The
    gradients and the generators are afterwards what they were.
    """
    if probe.meta or Gradient.NONFINITE not in probe.evidence.gradients.values():
        return None
    search, now = Search(probe), [*generators()]
    gradients = {name: parameter.grad for name, parameter in probe.trainable.items()}
    _set(drawn)
    loss = math.nan
    try:
        with suppress(ProbeError):
            loss = _worst(probe.look(search))
    finally:
        search.close()
        _set(now)
        for name, gradient in gradients.items():
            probe.parameters[name].grad = gradient
    # Where the loss is finite, a NaN in the forward lies beside its way, or is masked there as a `where` does it.
    found = (search.in_forward, search.in_backward)
    return next(filter(None, found if not math.isfinite(loss) else reversed(found)), None)


def _asks_for_infinity(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return any(isinstance(value, float) and math.isinf(value) for value in (*args, *kwargs.values()))


def _set(states: Iterable[Switch]) -> None:
    for state in states:
        state.restore()


def _finite(gradients: Any) -> bool:
    return all(math.isfinite(_worst(gradient)) for gradient in gradients if gradient is not None)


def _worst(tensor: torch.Tensor) -> float:
    """Return NaN or infinity where a tensor holds one, else a finite number."""
    if tensor.is_meta or not (tensor.is_floating_point() or tensor.is_complex()):
        return 0.0
    try:
        return largest_in(tensor)
    except (RuntimeError, NotImplementedError):  # packed numbers, or a layout that torch cannot look into
        return 0.0
