"""What only looks wrong, collected: set-ups register themselves here, and `test_traps` verifies them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Setup = tuple[Any, ...]
"""The model, its inputs, and further arguments of `verified`."""
TRAPS: dict[str, Callable[[], Setup]] = {}


def trap(make: Callable[[], Setup]) -> Callable[[], Setup]:
    """Register a set-up that is right."""
    TRAPS[make.__name__] = make
    return make


class Of(nn.Module):
    """Named layers, joined by a function of the model and its inputs."""

    def __init__(self, way: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        self.way = way
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: Any) -> Any:
        return self.way(self, *inputs)


def frozen(layer: nn.Module) -> nn.Module:
    return layer.requires_grad_(False)


def image(channels: int = 3, side: int = 8) -> torch.Tensor:
    return torch.randn(4, channels, side, side)
