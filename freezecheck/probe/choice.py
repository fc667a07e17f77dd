"""Whether a forward chooses by its data which of several layers gets which rows, as a router among experts does.

That a forward looks at its data proves nothing: it may only assert that there is no NaN. A choice is seen where what a
choosing function made (the indices of a topk, the rows that a mask picked) meets one of the layers and not the others.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

from .flow import Flow, tensors_in
from .operations import Effect, effect_of, name_of

_CHOOSING = frozenset(
    {"topk", "argmax", "argsort", "sort", "nonzero", "argwhere", "multinomial", "masked_select", "unique", "bincount"}
    | {"gumbel_softmax"}
)
"""Functions by which a forward decides from its data which layer gets which row."""
_OF_TWO_RESULTS = frozenset({"max", "min"})
"""Functions that choose where they give indices as well."""
_ASKING = frozenset({"__bool__", "is_nonzero"})


class Choice:
    """What one forward chose by, and what it met. Tell it of every call, before and after it ran."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._known: dict[int, tuple[weakref.ref[Any], int, bool]] = {}
        """By identity of a tensor: its number, and whether a choosing function is upstream."""
        self._count = 0
        self._met: set[tuple[int, int, int]] = set()
        """(parameters upstream of a tensor, the number of what it met, the parameters upstream of that and of the
        choice)"""
        self._asked_of = 0
        self._steers = False
        self.asked = False
        """Whether any data was looked at by Python, or any choosing function called."""

    def before(self, func: Any, inputs: list[torch.Tensor]) -> None:
        """Note which of the inputs of a call were chosen, and what they meet there."""
        chosen = [tensor for tensor in inputs if self._number(tensor)[1]]
        if effect_of(func) is Effect.LEAVES or name_of(func) in _ASKING:
            self.asked = True
            if chosen:
                self._steers = True
                for tensor in chosen:
                    self._asked_of |= self._flow.of(tensor)[0]
        if not chosen and not self._steers:
            return
        for tensor in inputs:
            upstream = self._flow.of(tensor)[0]
            applied = self._steers and self._flow.bit(tensor)
            for other in inputs if upstream else ():
                if other is tensor or self._flow.bit(other):
                    continue
                number, is_chosen = self._number(other)
                if is_chosen or applied:
                    above = self._flow.of(other)[0] | (0 if is_chosen else self._asked_of)
                    self._met.add((upstream, number, above))

    def after(self, func: Any, inputs: list[torch.Tensor], result: Any) -> None:
        """Note whether the results of a call were chosen."""
        outputs = tensors_in((result,), {})
        name = name_of(func)
        chooses = name in _CHOOSING or (name in _OF_TWO_RESULTS and len(outputs) > 1)
        chooses = chooses or (name == "where" and len(inputs) == 1)
        chooses = chooses or (name == "__getitem__" and any(t.dtype is torch.bool for t in inputs[1:]))
        self.asked = self.asked or chooses
        if chooses or any(self._number(tensor)[1] for tensor in inputs):
            for output in outputs:
                number, _ = self._number(output)
                self._known[id(output)] = (weakref.ref(output), number, True)

    def among(self, layers: list[int]) -> bool:
        """Whether what was chosen met one of these layers (the bits of their parameters) and not all alike."""
        everyone = 0
        for bits in layers:
            everyone |= bits
        met = [
            {number for upstream, number, above in self._met if upstream & bits and not above & everyone}
            for bits in layers
        ]
        alike = set.intersection(*met) if len(met) > 1 else set()
        return any(numbers - alike for numbers in met)

    def _number(self, tensor: torch.Tensor) -> tuple[int, bool]:
        entry = self._known.get(id(tensor))
        if entry is not None and entry[0]() is tensor:
            return entry[1], entry[2]
        self._count += 1
        self._known[id(tensor)] = (weakref.ref(tensor), self._count, False)
        return self._count, False
