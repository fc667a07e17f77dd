"""How far apart two runs of elements are, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..probe.change import max_abs_change

_NOT_READ = (RuntimeError, NotImplementedError)
"""What torch raises for a dtype that it stores and does not compute with."""


@dataclass
class Sums:
    """What was added up over the runs of one tensor."""

    changed: int = 0
    nonfinite: int = 0
    largest: float = 0.0
    total: float = 0.0
    counted: int = 0
    """Elements that `total` and `largest` are over."""
    readable: bool = True
    """Whether torch could read the elements as numbers."""

    def plus(self, other: Sums | None) -> Sums:
        """Return the sums over both runs."""
        if other is None:
            return self
        return Sums(
            self.changed + other.changed,
            self.nonfinite + other.nonfinite,
            max(self.largest, other.largest),
            self.total + other.total,
            self.counted + other.counted,
            self.readable and other.readable,
        )


def measure(before: Tensor, after: Tensor, sums: Sums) -> Tensor:
    """Add two flat runs of one dtype to the sums; return, for every element, whether any of its bytes differs."""
    size = before.element_size()
    differ = (before.view(torch.uint8) != after.view(torch.uint8)).view(-1, size).any(1)
    sums.changed += int(differ.sum())
    if sums.readable:
        try:
            _add(before, after, differ, sums)
        except _NOT_READ:
            sums.readable = False
    return differ


def _add(before: Tensor, after: Tensor, differ: Tensor, sums: Sums) -> None:
    wide = torch.complex128 if before.is_complex() else torch.float64
    change = (after.to(wide) - before.to(wide)).abs()
    finite = change.isfinite()
    broken = int((differ & ~finite).sum())
    if not bool(finite.all()):
        change.masked_fill_(~finite, 0.0)
    sums.nonfinite += broken
    sums.counted += change.numel() - broken
    sums.total += float(change.sum())
    largest = float(change.max())
    if before.dtype in (torch.int64, torch.uint64):
        largest = max_abs_change(before, after)  # float64 does not tell neighbours apart beyond 2**53
    sums.largest = max(sums.largest, largest)


def lower(first: str, second: str) -> str | None:
    """Return the one of two dtypes that tells fewer numbers apart, by their names; None where there is none."""
    one, other = (getattr(torch, name, None) for name in (first, second))
    if not isinstance(one, torch.dtype) or not isinstance(other, torch.dtype):
        return None
    if any(name.startswith(("q", "float4")) for name in (first, second)):
        return None
    return min((one, first), (other, second), key=lambda pair: _fineness(pair[0]))[1]


def _fineness(dtype: torch.dtype) -> tuple[int, float]:
    """Sorts dtypes by how many numbers they tell apart; among floats the one with the larger step is the lower."""
    if dtype.is_complex:
        return 0, -torch.finfo(dtype).eps  # a real number made complex loses nothing
    if dtype.is_floating_point:
        return 1, -torch.finfo(dtype).eps
    return 2, dtype.itemsize if dtype is not torch.bool else 0
