"""Models that run beside the training without gradients: a teacher, an encoder whose features are taken.

No gradient and no optimizer moves them, but in train mode their statistics follow every batch. They are compared from
the first step on, since what is run before that may be set-up or a first validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from torch import nn

from .roots import root_of
from .watched import Watched, tensors_of


class Beside:
    """The models of which only forwards without gradients were seen."""

    def __init__(self, *, statistics_only: bool) -> None:
        """`statistics_only`: nobody asks for a model by a name, and one that has no buffers cannot drift."""
        self._statistics_only = statistics_only
        self._models: list[Watched] = []
        self._others: set[int] = set()
        """Identities of modules that belong to the training itself, or that nobody asks about."""

    def forward_begins(self, module: nn.Module, frame: FrameType | None, trained: Sequence[Watched]) -> None:
        """Note a forward without gradients, outside of any other; `trained` are the models of the training."""
        if id(module) in self._others:
            return
        found = next((one for one in self._models if one.holds(module)), None)
        if found is None:
            if not self._may_matter(module):
                self._others.add(id(module))
                return
            name, root = root_of(module, frame)
            if any(part is one.root for one in trained for part in root.modules()):
                self._others.add(id(module))
                return
            found = Watched(name, root, root, None)
            found.trained = dict.fromkeys(found.parameters, False)
            self._models.append(found)
        found.modes = {path: part.training for path, part in found.body.modules.items()}

    def _may_matter(self, module: nn.Module) -> bool:
        buffers = not self._statistics_only or next(module.buffers(), None) is not None
        return buffers and next(module.parameters(), None) is not None

    def measure(self, optimizers: Sequence[Any]) -> None:
        """Compare all with what they were."""
        for one in self._models:
            one.measure(optimizers, set())

    def models(self, trained: Sequence[Watched], optimizers: Sequence[Any]) -> list[Watched]:
        """Those that nothing trains: neither an optimizer nor, by now, a gradient."""
        owners = self.owners([t for optimizer in optimizers for t in tensors_of(optimizer)], trained)
        return [one for one in self._apart(trained) if one not in owners]

    def owners(self, tensors: Sequence[torch.Tensor], trained: Sequence[Watched]) -> list[Watched]:
        """Those that own some of these tensors, and are not `trained` by now."""
        return [one for one in self._apart(trained) if one.owns(tensors)]

    def _apart(self, trained: Sequence[Watched]) -> list[Watched]:
        return [one for one in self._models if not any(other.holds(one.root) for other in trained)]


def drifted(one: Watched) -> bool:
    """Whether a model stood still but for the statistics of its layers."""
    statistics = {name for layer in one.body.description.layers for name in layer.statistics}
    moved = {name for name, (changed, _) in one.moved.items() if changed}
    follow = {name for name in moved & statistics if not name.endswith("num_batches_tracked")}
    return bool(follow) and not any(name in one.parameters for name in moved)
