"""How far apart two runs of elements are, as numbers. numpy, because importing it costs a tenth of importing torch.

`lowered` is for two dtypes, and lets torch round.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]
_OF_NUMPY = ("float64", "float32", "float16", "complex64", "complex128", "bool")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@dataclass
class Sums:
    """What was added up over the runs of one tensor."""

    changed: int = 0
    nonfinite: int = 0
    largest: float = 0.0
    total: float = 0.0
    readable: bool = True
    """Whether the elements could be read as numbers; else only `changed` counts."""

    def plus(self, other: Sums | None) -> Sums:
        """Return the sums over both runs."""
        if other is None:
            return self
        return Sums(
            self.changed + other.changed,
            self.nonfinite + other.nonfinite,
            max(self.largest, other.largest),
            self.total + other.total,
            self.readable and other.readable,
        )


def measure(before: bytearray, after: bytearray, dtype: str, itemsize: int) -> tuple[Sums, Array]:
    """Return the sums over two runs of bytes of one dtype, and for each element whether any of its bytes differs."""
    raw = [np.frombuffer(room, np.uint8).reshape(-1, itemsize) for room in (before, after)]
    differ: Array = (raw[0] != raw[1]).any(axis=1)
    sums = Sums(changed=int(differ.sum()))
    if dtype in _INTEGERS:
        _add_integers(np.frombuffer(before, dtype), np.frombuffer(after, dtype), sums)
        return sums, differ
    numbers = [_decoded(room, dtype) for room in (before, after)]
    if numbers[0] is None or numbers[1] is None:
        sums.readable = False
        return sums, differ
    with np.errstate(all="ignore"):
        change = np.abs(numbers[1] - numbers[0])
    finite = np.isfinite(change)
    sums.nonfinite = int((differ & ~finite).sum())
    change[~finite] = 0.0
    sums.total = float(change.sum())
    sums.largest = float(change.max())
    return sums, differ


def _add_integers(before: Array, after: Array, sums: Sums) -> None:
    """Exact also beyond 2**53 and where a difference does not fit its own dtype."""
    wide = before.astype(np.int64) if before.dtype != np.uint64 else before
    other = after.astype(wide.dtype)
    change = (np.maximum(wide, other) - np.minimum(wide, other)).view(np.uint64)
    sums.largest = float(change.max())
    sums.total = float(change.sum(dtype=np.float64))


def _decoded(room: bytearray, dtype: str) -> Array | None:
    """The elements as float64 or complex128; None where their dtype has no numbers here."""
    if dtype in _OF_NUMPY:
        return np.frombuffer(room, dtype).astype(np.complex128 if dtype.startswith("complex") else np.float64)
    if dtype == "bfloat16":
        return (np.frombuffer(room, np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    table = _table(dtype)
    return None if table is None else table[np.frombuffer(room, np.uint8)]


@cache
def _table(dtype: str) -> Array | None:
    """The numbers that the 256 bytes of a float of eight bits stand for."""
    byte = np.arange(256)
    if dtype == "float8_e5m2":
        return (byte.astype(np.uint16) << 8).view(np.float16).astype(np.float64)
    if dtype == "float8_e8m0fnu":
        return np.where(byte == 255, np.nan, 2.0 ** (byte - 127.0))
    if dtype != "float8_e4m3fn":
        return None
    sign, exponent, mantissa = np.where(byte > 127, -1.0, 1.0), byte >> 3 & 15, byte & 7
    size = np.where(exponent > 0, (8 + mantissa) * 2.0 ** (exponent - 10.0), mantissa * 2.0**-9)
    return np.where(byte & 127 == 127, np.nan, sign * size)


def lowered(room: bytearray, dtype: str, low: str) -> bytearray:
    """Return a run of bytes of one dtype, rounded to another."""
    import torch

    if dtype == low or not room:
        return room
    run = torch.frombuffer(room, dtype=torch.uint8).view(getattr(torch, dtype)).to(getattr(torch, low))
    return bytearray(run.contiguous().view(torch.uint8).numpy())


def lower(first: str, second: str) -> str | None:
    """Return the one of two dtypes that tells fewer numbers apart, by their names; None where there is none."""
    import torch

    one, other = (getattr(torch, name, None) for name in (first, second))
    if not isinstance(one, torch.dtype) or not isinstance(other, torch.dtype):
        return None
    if any(name.startswith(("q", "float4")) for name in (first, second)):
        return None
    return min((one, first), (other, second), key=lambda pair: _fineness(pair[0]))[1]


def _fineness(dtype: torch.dtype) -> tuple[int, float]:
    """Sorts dtypes by how many numbers they tell apart; among floats the one with the larger step is the lower."""
    import torch

    if dtype.is_complex:
        return 0, -torch.finfo(dtype).eps  # a real number made complex loses nothing
    if dtype.is_floating_point:
        return 1, -torch.finfo(dtype).eps
    return 2, dtype.itemsize if dtype is not torch.bool else 0
