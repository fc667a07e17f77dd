"""What a model's forward takes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def parameters_of(model: nn.Module) -> dict[str, inspect.Parameter]:
    """The parameters of the model's forward, by name; none where there is no Python signature."""
    try:
        return dict(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        return {}
