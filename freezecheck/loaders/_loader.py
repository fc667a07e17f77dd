"""What a loader is, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from ..records import Location


@dataclass(frozen=True)
class Loaded:
    """A model, and what stands beside it."""

    model: nn.Module
    beside: Mapping[str, Any] = field(default_factory=dict)
    """The names that the model's own file defines: `build_optimizer`, `example_inputs` … among them."""
    source: str = ""
    """The model's file or module as the user would name it."""
    files: tuple[str, ...] = ()
    """The user's source files that were read for it, absolute."""
    made_at: Location | None = None
    """The line that makes the model, or begins the function that does; None where its class says more."""
    extras: Mapping[str, object] = field(default_factory=dict)
    """What helps the search for inputs: the name under which a library knows the model."""


@dataclass(frozen=True, slots=True)
class Loader:
    """One form of target."""

    name: str
    order: int
    """Loaders are asked from the lowest on; the first that accepts a target loads it."""
    accepts: Callable[[str], bool]
    load: Callable[[str, Mapping[str, object]], Loaded]
    """(target, constructor arguments) → Loaded; raises TargetError."""
