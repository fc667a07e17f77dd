"""The model as it stands, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from .words import Location

_COUNTERS = frozenset({"num_batches_tracked", "n_averaged"})
"""What torch's batch norms and its `AveragedModel` call the buffers in which they count."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A parameter or buffer of the model, described before anything runs."""

    name: str
    """Its first full name, wrappers' prefixes stripped, such as `encoder.layer.0.weight`."""
    kind: Literal["parameter", "buffer"]
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    """As torch names it, without `torch.`."""
    numel: int = 1
    """Number of elements."""
    requires_grad: bool = True
    differentiable: bool = True
    """Floating or complex: only such a tensor can require grad."""
    aliases: tuple[str, ...] = ()
    """Its further names, when it is tied."""
    had_gradient: bool = False
    """Whether its `.grad` held a tensor, be it of zeros, before the check began."""
    device: str = "cpu"

    @property
    def names(self) -> tuple[str, ...]:
        """All its names, the canonical one first."""
        return (self.name, *self.aliases)

    @property
    def owner(self) -> str:
        """Path of the layer that owns it under its first name; empty for the root."""
        return self.name.rpartition(".")[0]

    @property
    def is_counter(self) -> bool:
        """Whether it only counts steps: weights without it are whole, and torch loads them without a word."""
        return self.kind == "buffer" and self.name.rpartition(".")[2] in _COUNTERS


@dataclass(frozen=True, slots=True)
class StrayFlag:
    """A look-alike of `requires_grad` that somebody assigned and torch ignores."""

    owner: str
    """Path of the module, or full name of the parameter, that carries it."""
    on: Literal["parameter", "module"]
    attribute: str
    """The name assigned, such as `require_grad`; `requires_grad` itself on a module."""
    value: str
    """`repr` of what was assigned."""
    tensors: tuple[str, ...]
    """The parameters whose real flag says otherwise: those that the assignment was meant to reach and did not."""
    location: Location | None = None
    """The assignment in the user's source, when it was found."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A module of the model, described before anything runs."""

    name: str
    """Its path; empty for the root."""
    type: str
    """Its class's name; empty where that is not known, as in a checkpoint."""
    bases: tuple[str, ...] = ()
    """Names of its class and of all base classes up to and including `Module`."""
    training: bool = True
    """Its mode as it was found, before `model.train()`."""
    tensors: tuple[str, ...] = ()
    """Full names of the tensors it owns itself (under this path, so perhaps an alias)."""
    items: tuple[str, ...] | None = None
    """Names of its children in order when it can be indexed (ModuleList, Sequential), else None."""
    more: bool = False
    """Whether it may have more items than these, behind them and without tensors: a checkpoint does not say."""
    dropout: float | None = None
    """Its drop probability, when it is a dropout layer."""
    statistics: tuple[str, ...] = ()
    """Full names of its own buffers that a forward in training mode moves by design (BatchNorm statistics …)."""
    defined_at: Location | None = None
    """Where its class begins, when that is the user's own."""

    @property
    def depth(self) -> int:
        """0 for the root, 1 for its children, and so on."""
        return self.name.count(".") + 1 if self.name else 0


@dataclass(frozen=True)
class Description:
    """The model's tensors and layers, in the order of `named_parameters` and `named_modules`."""

    tensors: tuple[Tensor, ...] = ()
    layers: tuple[Layer, ...] = ()
    strays: tuple[StrayFlag, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, Tensor]:
        """Every tensor under each of its names."""
        return {name: tensor for tensor in self.tensors for name in tensor.names}

    @cached_property
    def layer_by_name(self) -> dict[str, Layer]:
        """Every layer under its path."""
        return {layer.name: layer for layer in self.layers}
