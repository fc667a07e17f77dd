"""Small tensors, copied and compared all at once: a model has many, and each call costs more than their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from .raw import INTEGERS

COMPARED = frozenset(INTEGERS)
"""Element sizes, in bytes, of what can be held together."""


class Together:
    """What some contiguous tensors of one device and one dtype held at one moment, in one copy."""

    def __init__(self, parts: Sequence[Tensor], sizes: list[int]) -> None:
        """Copy them; each has elements, of a size out of `COMPARED`, and lies in a storage of so many bytes."""
        self._parts, self._sizes = parts, sizes
        self._ends = list(accumulate(part.numel() for part in parts))
        self._before = _joined(parts)

    def copy_of(self, place: int) -> Tensor:
        """Return what one of them held. It lies in the memory of all: never write to it."""
        part, end = self._parts[place], self._ends[place]
        return self._before[end - part.numel() : end].view(part.shape)

    def changed(self) -> set[int]:
        """Return the places of those that do not hold the same bytes by now: NaN equals the same NaN, -0.0 is not 0.0.

        All places when a storage was resized: reading beyond its end would crash.
        """
        if [part.untyped_storage().nbytes() for part in self._parts] != self._sizes:
            return set(range(len(self._parts)))
        integers = INTEGERS[self._before.element_size()]
        differ = _joined(self._parts).view(integers) != self._before.view(integers)
        # How many elements differ up to the end of each tensor: more than up to the end of the one before it.
        last = torch.tensor(self._ends, device=differ.device) - 1
        upto = differ.cumsum(0)[last]
        return set(upto.diff(prepend=upto.new_zeros(1)).nonzero().view(-1).tolist())


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part if part.dim() == 1 else part.view(-1) for part in parts])
