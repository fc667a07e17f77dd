"""Random inputs of a declared shape, and how inputs are named in a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SpecError
from .found import Found


@dataclass(frozen=True, slots=True)
class Declared:
    """One example input as it was declared: a random tensor."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float | None = None
    """Smallest value drawn; without bounds floats are normal, integers 0 or 1 (uint8: 0 to 255)."""
    high: float | None = None
    """Upper bound, itself not drawn."""

    def draw(self) -> Tensor:
        """Draw one. Raises SpecError for a dtype that torch does not have."""
        dtype = getattr(torch, self.dtype.removeprefix("torch."), None)
        if not isinstance(dtype, torch.dtype):
            raise SpecError(f"`inputs`: torch has no dtype {self.dtype!r}", hint="float32, float16, bfloat16, int64 …")
        if dtype == torch.bool:
            return torch.randint(0, 2, self.shape).bool()
        if not (dtype.is_floating_point or dtype.is_complex):
            first = int(self.low or 0)
            end = int(self.high) if self.high is not None else first + (256 if dtype == torch.uint8 else 2)
            return torch.randint(first, end, self.shape).to(dtype)
        if self.low is None and self.high is None:
            return torch.randn(self.shape).to(dtype)
        low = self.low if self.low is not None else min(0.0, (self.high or 0.0) - 1.0)
        high = self.high if self.high is not None else low + 1.0
        return (low + (high - low) * torch.rand(self.shape)).to(dtype)


def declared(inputs: Sequence[Any]) -> Found:
    """Random inputs for declarations with `shape`, `dtype`, `low` and `high`: one tensor, or several by position."""
    drawn = [Declared(tuple(one.shape), one.dtype, one.low, one.high) for one in inputs]
    make: Callable[[], Any] = drawn[0].draw if len(drawn) == 1 else lambda: tuple(one.draw() for one in drawn)
    with torch.device("meta"):
        return Found(make, said_of(make()))


def of_shape(model: nn.Module, shape: tuple[int, ...]) -> Found:
    """Random inputs of a shape whose dtype was not said: the ids of a model that begins with an embedding, else floats.

    Floats have the dtype of the model's first floating parameter.
    """
    first = next((m for m in model.modules() if next(m.parameters(recurse=False), None) is not None), None)
    if isinstance(first, nn.Embedding | nn.EmbeddingBag):
        return declared([Declared(shape, "int64", 0, first.num_embeddings)])
    floating = (p.dtype for p in model.parameters() if p.dtype.is_floating_point)
    return declared([Declared(shape, name_of(next(floating, torch.float32)))])


def name_of(dtype: torch.dtype) -> str:
    """Return `float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def said_of(inputs: Any) -> str:
    """Say what inputs are: `float32[2, 3, 224, 224]`; several one after another, equal ones of a list once."""
    if isinstance(inputs, Tensor):
        return f"{name_of(inputs.dtype)}{list(inputs.shape)}"
    if isinstance(inputs, Mapping):
        return ", ".join(f"{key}: {said_of(value)}" for key, value in inputs.items())
    if isinstance(inputs, tuple):
        return ", ".join(said_of(value) for value in inputs)
    if isinstance(inputs, list) and inputs:
        said = [said_of(value) for value in inputs]
        return f"a list of {f'{len(said)} × {said[0]}' if len(set(said)) == 1 else ', '.join(said)}"
    return "None" if inputs is None else type(inputs).__name__
