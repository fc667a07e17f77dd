"""Checkpoints: open one, whatever wrote it, and compare two, or one with a live model.

`open` gives a `Checkpoint`; `compare_checkpoints` and `compare_model` give a `Change` for every tensor. Both stream:
no more than a few MB of either side are in memory at once.
"""

from __future__ import annotations

from ._checkpoint import Checkpoint
from ._describe import describe
from ._open import open  # noqa: A004 - read as checkpoint.open
from ._optimizer import misfits
from ._sides import Compared, compare_checkpoints, compare_model

__all__ = ["Checkpoint", "Compared", "compare_checkpoints", "compare_model", "describe", "misfits", "open"]
