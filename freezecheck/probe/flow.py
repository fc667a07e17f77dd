"""What is upstream of each tensor while a forward runs: the parameters it was made of, and the cuts on the way."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from .graph import leaves_of


class Flow:
    """Per tensor, the parameters upstream and the cuts upstream, as bit sets. Holds no activation alive."""

    def __init__(self, parameters: Iterable[torch.Tensor] | None) -> None:
        """Follow these parameters; with None, every `nn.Parameter` that requires grad, from when it is first used."""
        self._open = parameters is None
        self._followed = list(parameters or ())
        self._bits = {id(p): 1 << i for i, p in enumerate(self._followed)}
        self._state: dict[int, tuple[weakref.ref[Any], int, int]] = {}
        self.used = 0

    def bit(self, parameter: torch.Tensor) -> int:
        """Return the bit of a followed parameter, 0 for any other tensor."""
        return self._bits.get(id(parameter), 0)

    def of(self, tensor: torch.Tensor) -> tuple[int, int]:
        """Return (parameters, cuts) upstream of a tensor."""
        bit = self._bits.get(id(tensor))
        if bit is not None:
            self.used |= bit
            return bit, 0
        entry = self._state.get(id(tensor))
        if entry is not None and entry[0]() is tensor:
            return entry[1], entry[2]
        if not tensor.requires_grad:
            return 0, 0
        if tensor.grad_fn is not None:
            return self._from_graph(tensor), 0
        return self._follow(tensor) if self._open and isinstance(tensor, torch.nn.Parameter) else 0, 0

    def _follow(self, parameter: torch.Tensor) -> int:
        bit = self._bits[id(parameter)] = 1 << len(self._followed)
        self._followed.append(parameter)
        self.used |= bit
        return bit

    def known(self, tensor: torch.Tensor) -> bool:
        """Whether the flow has seen where this tensor comes from."""
        entry = self._state.get(id(tensor))
        return id(tensor) in self._bits or (entry is not None and entry[0]() is tensor)

    def put(self, tensor: torch.Tensor, upstream: int, cuts: int) -> None:
        """Note what is upstream of a tensor."""
        if id(tensor) not in self._bits:
            self._state[id(tensor)] = (weakref.ref(tensor), upstream, cuts)

    def _from_graph(self, tensor: torch.Tensor) -> int:
        upstream = 0
        for leaf in leaves_of(tensor.grad_fn):
            bit = self._bits.get(id(leaf))
            if bit is None and self._open and isinstance(leaf, torch.nn.Parameter):
                bit = self._follow(leaf)
            upstream |= bit or 0
        self.used |= upstream
        self.put(tensor, upstream, 0)
        return upstream

    def decode(self, bits: int) -> list[torch.Tensor]:
        """Return the parameters in a bit set."""
        return [parameter for i, parameter in enumerate(self._followed) if bits >> i & 1]

    def forget(self) -> None:
        """Begin a new step: what was upstream of the old activations no longer matters."""
        self._state.clear()


def alive(tensor: torch.Tensor) -> bool:
    """Whether a gradient would flow into a tensor; of one that a transform of torch.func wraps, what is inside."""
    if tensor.requires_grad:
        return True
    functorch = torch._C._functorch
    return functorch.is_functorch_wrapped_tensor(tensor) and alive(functorch.get_unwrapped(tensor))


def storage_of(tensor: torch.Tensor) -> int:
    """Return the identity of a tensor's memory, which aliases share (also on meta, where addresses are all 0)."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError, AttributeError, ValueError):
        return -id(tensor)  # sparse, wrapped and lazy tensors have no storage of their own


_PLAIN = frozenset({type(None), bool, int, float, str})
_TENSORS = frozenset({torch.Tensor, torch.nn.Parameter})


def tensors_in(args: Iterable[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """Return the tensors among arguments, also inside of lists, tuples and dicts."""
    found: list[torch.Tensor] = []
    _collect(args, found)
    if kwargs:
        _collect(kwargs.values(), found)
    return found


def _collect(values: Iterable[Any], found: list[torch.Tensor]) -> None:
    for value in values:
        kind = type(value)  # asked first: most are plain, and this runs for every call of torch
        if kind in _PLAIN:
            continue
        if kind in _TENSORS or isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            _collect(value, found)
        elif isinstance(value, dict):
            _collect(value.values(), found)
