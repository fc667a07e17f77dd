"""Compares what is no plain array of elements: quantised, sparse and sharded tensors, which are taken whole."""

from __future__ import annotations

import math

import torch

from ..probe.change import max_abs_change, same_bytes
from ..records import Change
from ._entry import Entry


def compare_whole(before: Entry, after: Entry) -> Change:
    """Return how two tensors of one shape differ. A sharded tensor gives what lies on this process."""
    first, second = before.tensor(), after.tensor()
    sides = (before.stored, after.stored)
    if type(first) is not type(second) or first.layout is not second.layout or first.dtype != second.dtype:
        return Change(*sides, same=False, why=f"one is {_kind(first)} and the other {_kind(second)}")
    if first.is_quantized:
        return _quantised(first, second, before, after)
    if same_bytes(first, second):
        return Change(*sides, True, 0.0, 0.0, 0)
    change = max_abs_change(first, second)
    finite = math.isfinite(change)
    why = "" if finite else f"{_kind(first)} tensors of which parts or values cannot be compared as numbers"
    return Change(*sides, same=False, max_abs=change if finite else None, why=why)


def _quantised(first: torch.Tensor, second: torch.Tensor, before: Entry, after: Entry) -> Change:
    """Their integers and their scales; the change is of the values that these stand for."""
    sides = (before.stored, after.stored)
    if same_bytes(first, second) and _scales(first) == _scales(second):
        return Change(*sides, True, 0.0, 0.0, 0)
    change = (first.dequantize().double() - second.dequantize().double()).abs()
    changed = int((change != 0).sum())
    return Change(*sides, False, float(change.max()), float(change.mean()), changed)


def _scales(tensor: torch.Tensor) -> tuple[object, ...]:
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return (tensor.q_scale(), tensor.q_zero_point())
    scales, zeros = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    return (tensor.q_per_channel_axis(), scales.tolist(), zeros.tolist())


def _kind(tensor: torch.Tensor) -> str:
    if tensor.is_quantized:
        return f"quantised ({str(tensor.dtype).removeprefix('torch.')})"
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return type(tensor).__name__
    layout = str(tensor.layout).removeprefix("torch.").replace("_", " ")
    return f"{layout} {str(tensor.dtype).removeprefix('torch.')}"
