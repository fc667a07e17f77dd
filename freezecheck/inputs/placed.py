"""Inputs on the device that the model is on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def on_device(make: Callable[[], Any], device: str | torch.device) -> Callable[[], Any]:
    """Return a function that makes the same inputs with every tensor in them moved to `device`."""
    return lambda: _moved(make(), device)


def _moved(value: Any, device: str | torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(inner, device) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        inner = [_moved(one, device) for one in value]
        return type(value)(*inner) if hasattr(value, "_fields") else type(value)(inner)
    if isinstance(value, Mapping) and hasattr(value, "to"):  # a tokenizer's BatchEncoding
        return value.to(device)
    return value
