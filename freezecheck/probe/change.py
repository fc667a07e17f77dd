"""What moved: byte for byte, and without a second copy of the frozen weights."""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

from .raw import CHUNK, ROWS_ON_DEVICE, parts, runs, words

_ROWS_AT_ONCE = 2**22
"""Elements that are compared at once where it is done row by row."""
_ROW = CHUNK // 8
"""Words of 64 bits in a chunk."""
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By element size in bytes, the dtype that compares every bit."""


class _Room(threading.local):
    """Per thread and device: the weights of the positions in a chunk, and a buffer for the products."""

    def __init__(self) -> None:
        self.by_device: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return (weights, buffer) of this thread for a device."""
        room = self.by_device.get(device)
        if room is None:
            rows = 1 if device.type == "cpu" else ROWS_ON_DEVICE
            with torch.inference_mode(False):
                buffer = torch.empty(rows * _ROW, dtype=torch.int64, device=device)
                room = self.by_device[device] = (_weights().to(device), buffer)
        return room


_room = _Room()


def _weights() -> Tensor:
    """Return one weight a position: odd, no two alike in their lowest 33 bits, all bits above the first random."""
    generator = torch.Generator("cpu").manual_seed(0x5EED)

    def draw(bits: int, count: int) -> Tensor:
        return torch.randint(0, 2**bits, (count,), generator=generator, dtype=torch.int64, device="cpu")

    low: Tensor = torch.unique(draw(32, 2 * _ROW))
    low = low[torch.randperm(len(low), generator=generator, device="cpu")][:_ROW]
    return (draw(31, _ROW) << 33) | (low << 1) | 1


def fingerprint(tensor: Tensor) -> Tensor:
    """Return a small int64 tensor, on the tensor's device, that tells whether any of its bytes changed.

    Two sums for every chunk of 1 MiB: of its 64-bit words, and of their upper halves, each word times the odd weight
    of its position, modulo 2**64. A change of one element and an exchange of two unequal elements always show. For
    one element: odd * d = 0 mod 2**64 only if d = 0. For two: halves a and b of words at i and j give
    (a - b) * (w_i - w_j), and neither |a - b| < 2**32 nor the weights, unlike in their lowest 33 bits, bring 64
    factors of two together. Other changes stay hidden with a chance below 2**-30 in a chunk (sign bits alone, the
    worst case), 2**-60 as a rule.

    Compare with `torch.equal`. Two fingerprints are comparable when dtype, shape, strides and device are; of a meta
    tensor there is none (the result is empty).
    """
    sums = []
    for part in parts(tensor):
        halves = torch.view_as_real(part).unbind(-1) if part.dtype == torch.complex128 else (part,)
        for half in halves:
            for (run,) in runs(half):
                if run.numel():
                    sums += _weigh(_whole_words(run))
    return torch.cat(sums) if sums else torch.empty(0, dtype=torch.int64, device=tensor.device)


def _whole_words(run: Tensor) -> Tensor:
    (raw,) = words(run)
    if raw.dtype == torch.int64:
        return raw
    padded = raw.new_zeros(-(-raw.numel() // 8) * 8)
    padded[: raw.numel()] = raw
    return padded.view(torch.int64)


def _weigh(run: Tensor) -> list[Tensor]:
    weights, buffer = _room.on(run.device)
    whole = run.numel() // _ROW * _ROW
    sums = []
    for block in (run[:whole].view(-1, _ROW), run[whole:].view(1, -1)):
        if block.numel():
            product = buffer[: block.numel()].view(block.shape)
            weight = weights[: block.shape[1]]
            sums.append(torch.mul(block, weight, out=product).sum(1))
            sums.append(torch.bitwise_right_shift(block, 32, out=product).mul_(weight).sum(1))
    return sums


def same_bytes(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors hold the same bytes: NaN equals the same NaN, -0.0 is not 0.0.

    Tensors of different dtype, shape or device are not the same. Meta tensors hold nothing and are the same.
    """
    if a.dtype != b.dtype or a.device != b.device:
        return False
    pairs = _pairs(a, b)
    return pairs is not None and all(same_part(x, y) for x, y in pairs)


def same_part(a: Tensor, b: Tensor) -> bool:
    """Return whether two parts (see `raw.parts`) hold the same bytes."""
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    integers = _INTEGERS.get(a.element_size())
    if integers is not None and a.nbytes <= CHUNK and a.is_contiguous() and b.is_contiguous():
        return torch.equal(a.view(integers), b.view(integers))  # most tensors are small, and there are many
    return all(torch.equal(*words(*run)) for run in runs(a, b))


def _pairs(a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor]] | None:
    """Return the parts of two tensors side by side; None when they differ in structure."""
    left, right = parts(a), parts(b)
    if [(x.shape, x.dtype) for x in left] != [(y.shape, y.dtype) for y in right]:
        # An expanded and a full tensor differ in parts though not in shape.
        if a.shape != b.shape or a.layout != torch.strided or b.layout != torch.strided or a.is_meta or b.is_meta:
            return None
        left, right = [a.detach()], [b.detach()]
    return list(zip(left, right, strict=True))


def changed_rows(before: Tensor, after: Tensor) -> Tensor:
    """Return, for two strided tensors [n, …] of one shape and dtype, a bool [n]: whether any byte of a row differs."""
    differ = torch.zeros(len(before), dtype=torch.bool, device=before.device)
    if not before.numel():
        return differ
    at_once = max(1, _ROWS_AT_ONCE // before[0].numel())
    raw = _INTEGERS.get(before.element_size(), torch.int64)
    for start in range(0, len(before), at_once):
        pair = (t[start : start + at_once] for t in (before, after))
        one, other = (t.reshape(len(t), -1).contiguous().view(raw) for t in pair)
        differ[start : start + at_once] = (one != other).any(1)
    return differ


def max_abs_change(before: Tensor, after: Tensor) -> float:
    """Return the largest absolute change of an element, in the tensor's own unit; 0.0 when no byte differs.

    Infinity where an element became NaN, was NaN or changed its NaN, and where dtype, shape or device differ or torch
    cannot read the dtype as numbers.
    """
    pairs = _pairs(before, after) if (before.dtype, before.device) == (after.dtype, after.device) else None
    if pairs is None:
        return math.inf
    return max((_change(*run) for x, y in pairs for run in runs(x, y) if run[0].numel()), default=0.0)


def _change(before: Tensor, after: Tensor) -> float:
    """Return the largest change in one run; both flat and contiguous."""
    if not (before.is_floating_point() or before.is_complex()):
        return _integer_change(before, after)
    wide = torch.complex128 if before.is_complex() else torch.float64
    exact = before.dtype in (torch.float32, torch.float64)
    try:
        change = _furthest(before, after) if exact else _distance(before, after, wide).amax().item()
    except (RuntimeError, NotImplementedError):
        return math.inf  # packed floats, which torch itself cannot read as numbers
    if math.isfinite(change):
        return float(change)
    each = _distance(before, after, wide).nan_to_num_(nan=math.inf, posinf=math.inf)
    size = before.element_size()
    differ = (before.view(torch.uint8) != after.view(torch.uint8)).view(-1, size).any(1)
    return float(each.masked_fill_(~differ, 0.0).amax().item())


def _furthest(before: Tensor, after: Tensor) -> float:
    """Return the largest distance of two runs of one exact dtype, in a pass less than by absolute values."""
    low, high = torch.aminmax(after - before)
    return max(high.item(), -low.item()) if low == low else math.nan


def _distance(before: Tensor, after: Tensor, dtype: torch.dtype) -> Tensor:
    return (after.to(dtype) - before.to(dtype)).abs()


def _integer_change(before: Tensor, after: Tensor) -> float:
    if before.dtype == torch.uint64:
        # int64 has the same order once the top bit is turned over; the difference is the same.
        before, after = (tensor.view(torch.int64) ^ torch.iinfo(torch.int64).min for tensor in (before, after))
    before, after = before.to(torch.int64), after.to(torch.int64)
    difference = torch.maximum(before, after) - torch.minimum(before, after)
    wrapped = difference[difference < 0]  # beyond int64
    return float(wrapped.amax().item() + 2**64 if wrapped.numel() else difference.amax().item())
