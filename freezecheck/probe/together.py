"""Small tensors, copied and compared all at once: a model has many, and each call costs more than their bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from .raw import INTEGERS, ORDINARY

TOGETHER = frozenset(dtype for dtype in ORDINARY if dtype.itemsize in INTEGERS)
"""Dtypes of what can be held together."""
_MEASURED = frozenset(
    {torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
)  # fmt: skip
"""Dtypes whose differences torch takes without rounding them more than the numbers are."""


class Together:
    """What some contiguous tensors of one device and one dtype held at one moment, in one copy."""

    def __init__(self, parts: Sequence[Tensor], sizes: list[int]) -> None:
        """Copy them; each has elements, of a dtype out of `TOGETHER`, and lies in a storage of so many bytes."""
        self._parts, self._sizes = parts, sizes
        self._ends = list(accumulate(part.numel() for part in parts))
        self._before = _joined(parts)

    def copy_of(self, place: int) -> Tensor:
        """Return what one of them held. It lies in the memory of all: never write to it."""
        return self._of(self._before, place).view(self._parts[place].shape)

    def changed(self) -> dict[int, float | None]:
        """Return by place those that do not hold the same bytes by now, with the largest absolute change.

        NaN equals the same NaN, -0.0 is not 0.0. The change is None where it is not a finite number, or not of a dtype
        that is measured here; all are None when a storage was resized: reading beyond its end would crash.
        """
        if [part.untyped_storage().nbytes() for part in self._parts] != self._sizes:
            return dict.fromkeys(range(len(self._parts)))
        before, now = self._before, _joined(self._parts)
        integers = INTEGERS[before.element_size()]
        differ = now.view(integers) != before.view(integers)
        # How many elements differ up to the end of each tensor: more than up to the end of the one before it.
        last = torch.tensor(self._ends, device=differ.device) - 1
        upto = differ.cumsum(0)[last]
        places = upto.diff(prepend=upto.new_zeros(1)).nonzero().view(-1).tolist()
        if not places or before.dtype not in _MEASURED:
            return dict.fromkeys(places)
        apart = torch.maximum(now, before) - torch.minimum(now, before)
        if not apart.is_floating_point() and (apart < 0).any():
            return dict.fromkeys(places)  # beyond the integers' own range
        largest = torch.stack([self._of(apart, place).amax() for place in places]).tolist()
        finite = [float(change) if change < math.inf else None for change in largest]
        return dict(zip(places, finite, strict=True))

    def _of(self, joined: Tensor, place: int) -> Tensor:
        end = self._ends[place]
        return joined[end - self._parts[place].numel() : end]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part if part.dim() == 1 else part.view(-1) for part in parts])
