"""What a search for inputs finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Found:
    """Example inputs, and how they are named in a report."""

    make: Callable[[], Any]
    """Draws them anew: a Tensor, a tuple (positional) or a dict (keyword)."""
    said: str
    """Such as `float32[2, 1, 28, 28], found from the shape of conv1`."""
    sure: bool = False
    """Not to be tried: a trial could not run on the meta device and would take as long as the probe."""
