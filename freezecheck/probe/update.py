"""How large a tensor's step should have been, and whether its dtype can hold it."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from ..records import Update


def lost_update(optimizer: Any, group: dict[str, Any], tensor: torch.Tensor) -> Update | None:
    """Return the update that `optimizer` would make to a tensor with a gradient, in float64, against its resolution.

    The same class of optimizer, with the group's own options and no state, steps a float64 copy. Where it cannot be
    built or stepped alone (a closure, options of its own), the update is taken as lr × the largest gradient. Returns
    None for a tensor without gradient, without values (meta), or sharded.
    """
    gradient = tensor.grad
    if gradient is None or tensor.is_meta or gradient.is_sparse or not tensor.dtype.is_floating_point:
        return None
    if hasattr(tensor, "_local_tensor"):
        return None
    exact = tensor.detach().double()
    change = _stepped(optimizer, group, exact, gradient.detach().double())
    if change is not None and not change.any():  # less than even float64 resolves there: from zero it shows
        change = _stepped(optimizer, group, torch.zeros_like(exact), gradient.detach().double())
    if change is None:
        change = float(group.get("lr", 0.0)) * gradient.detach().double().abs()
    resolution = _resolution(exact, tensor.dtype)
    ratio = change / resolution
    if not ratio.numel():
        return None
    at = int(ratio.argmax())
    return Update(float(change.reshape(-1)[at]), float(resolution.reshape(-1)[at]))


def _stepped(optimizer: Any, group: dict[str, Any], value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor | None:
    shadow = torch.nn.Parameter(value.clone())
    shadow.grad = gradient
    try:
        accepted = inspect.signature(type(optimizer).__init__).parameters
        options = {k: v for k, v in group.items() if k in accepted and k != "params"}
        alone = type(optimizer)([shadow], **{**options, "lr": float(group["lr"])})
        step = type(alone).step
        getattr(step, "__wrapped__", step)(alone)  # without the hooks that somebody set on every optimizer's step
    except Exception:  # an optimizer of any make may refuse; the estimate below then serves
        return None
    return (shadow.detach() - value).abs()


def _resolution(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the distance from each element to the next number of `dtype` (IEEE 754: eps × 2^floor(log2 |x|))."""
    limits = torch.finfo(dtype)
    exponent = torch.floor(torch.log2(values.abs().clamp_min(limits.tiny)))
    return limits.eps * torch.exp2(exponent)
