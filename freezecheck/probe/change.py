"""What moved: byte for byte, and without a second copy of the frozen weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .raw import CHUNK, INTEGERS, parts, runs, words

_ROWS_AT_ONCE = 2**22
"""Elements that are compared at once where it is done row by row."""
_SUMMED = 2**26
"""Bytes whose fingerprint is taken at once: nothing of their size is made on the way."""
_BLOCKS = ((127, 257), (31, 37))
"""Rows and columns, all prime, into which 64-bit words are laid: blocks of 255 KiB, and small ones for what is left.

What is remembered of a block is 3 KiB, an 85th of it. Larger blocks would leave less, and keep fewer threads at work.
"""


def fingerprint(tensor: Tensor) -> Tensor:
    """Return a small int64 tensor, on the tensor's device, that tells whether any of its bytes changed.

    Its 64-bit words are laid into blocks of rows and columns, and each row and each column is summed modulo 2**64; the
    last few words are kept as they are. A change within three words, such as of one element, and an exchange of two
    unequal elements always show: to stay hidden, the changes in every row and in every column of a block must cancel,
    which takes four at the least, in a rectangle. What does not aim at that hits it with a chance below 2**-60. Rows
    and columns are of odd length, so that one change made to all words (a sign turned over) does not cancel itself.

    Compare with `torch.equal`. Two fingerprints are comparable when dtype, shape, strides and device are; of a meta
    tensor there is none (the result is empty).
    """
    sums: list[Tensor] = []
    for part in parts(tensor):
        if part.dtype is torch.float32 and part.is_contiguous() and part.numel() % 2 == part.storage_offset() % 2 == 0:
            sums += _sums(part.view(-1).view(torch.int64))  # most weights are so, and there are many
            continue
        halves = torch.view_as_real(part).unbind(-1) if part.dtype == torch.complex128 else (part,)
        for half in halves:
            for (run,) in runs(half, at_once=_SUMMED):
                if run.numel():
                    sums += _sums(_whole_words(run))
    return torch.cat(sums) if sums else torch.empty(0, dtype=torch.int64, device=tensor.device)


def _whole_words(run: Tensor) -> Tensor:
    (raw,) = words(run)
    if raw.dtype == torch.int64:
        return raw
    padded = raw.new_zeros(-(-raw.numel() // 8) * 8)
    padded[: raw.numel()] = raw
    return padded.view(torch.int64)


def _sums(left: Tensor) -> Iterator[Tensor]:
    for rows, columns in _BLOCKS:
        whole = left.numel() // (rows * columns) * (rows * columns)
        if whole:
            block = left[:whole].view(-1, rows, columns)
            yield block.sum(1).view(-1)
            yield block.sum(2).view(-1)
            left = left[whole:]
    yield left


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
    integers = INTEGERS.get(a.element_size())
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
    raw = INTEGERS.get(before.element_size(), torch.int64)
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
    return max((part_change(x, y) for x, y in pairs), default=0.0)


def part_change(before: Tensor, after: Tensor) -> float:
    """Return what `max_abs_change` does, of two parts (see `raw.parts`) of one shape."""
    if (before.dtype, before.device) != (after.dtype, after.device):
        return math.inf
    if before.dtype in (torch.float32, torch.float64):
        furthest = _furthest(run for run in runs(before, after) if run[0].numel())
        if math.isfinite(furthest):
            return furthest
    return max((_change(*run) for run in runs(before, after) if run[0].numel()), default=0.0)


def _furthest(cut: Iterable[tuple[Tensor, ...]]) -> float:
    """Return the largest distance in runs of an exact dtype, with one wait for all; not finite where one is not."""
    room: Tensor | None = None
    ends: list[Tensor] = []
    for before, after in cut:
        if room is None or room.numel() < before.numel():
            room = torch.empty_like(before)
        ends += torch.aminmax(torch.sub(after, before, out=room[: before.numel()]))  # a pass less than by absolutes
    if len(ends) > 2:
        return float(torch.stack(ends).abs().amax())
    return max((float(ends[1]), -float(ends[0]))) if ends else 0.0


def _change(before: Tensor, after: Tensor) -> float:
    """Return the largest change in one run; both flat and contiguous."""
    wide = torch.complex128 if before.is_complex() else torch.float64
    try:
        if not (before.is_floating_point() or before.is_complex()):
            return _integer_change(before, after)
        change = _distance(before, after, wide).amax().item()
    except (RuntimeError, NotImplementedError):
        return math.inf  # packed numbers, which torch itself cannot read
    if math.isfinite(change):
        return float(change)
    each = _distance(before, after, wide).nan_to_num_(nan=math.inf, posinf=math.inf)
    size = before.element_size()
    differ = (before.view(torch.uint8) != after.view(torch.uint8)).view(-1, size).any(1)
    return float(each.masked_fill_(~differ, 0.0).amax().item())


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
