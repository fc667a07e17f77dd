"""Which phase of a spec a training is in: the flags tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..errors import SpecError
from ..probe.describe import describe
from ..records import Expected
from ..spec.match import match

if TYPE_CHECKING:
    from torch import nn

    from ..spec import Spec


class Stages:
    """The phases in their order, and the one that the training is in. A spec without phases is one."""

    def __init__(self, spec: Spec | None, first: str | None = None) -> None:
        """Raises SpecError when the spec has no phase called `first`."""
        phases = spec.phases if spec else ()
        self._every: list[Spec | None] = [phase.spec for phase in phases] or [spec]
        self.names = tuple(phase.name for phase in phases)
        self.setups = tuple(phase.setup for phase in phases)
        self.now = self._every.index(spec.phase(first)) if spec and first else 0
        """Its place among the phases."""

    @property
    def spec(self) -> Spec | None:
        """What is expected by now."""
        return self._every[self.now]

    @property
    def later(self) -> range:
        """The places of the phases that are yet to come."""
        return range(self.now + 1, len(self._every))

    def advance(self, model: nn.Module) -> bool:
        """Go on to the first later phase that the flags fit, unless they still fit this one; return whether."""
        for number in range(self.now, len(self._every)):
            if self.distance(number, model) == 0:
                advanced, self.now = number != self.now, number
                return advanced
        return False

    def nearer(self, model: nn.Module) -> int | None:
        """The later phase that the flags of a model fit best, if they fit it better than this one."""
        best = min(self.later, key=lambda number: self.distance(number, model), default=None)
        return best if best is not None and self.distance(best, model) < self.distance(self.now, model) else None

    def alike(self, model: nn.Module) -> int | None:
        """The next phase, if a model's flags are all that both it and this one expect."""
        following = self.now + 1
        both = following in self.later and self.distance(self.now, model) == self.distance(following, model) == 0
        return following if both else None

    def distance(self, number: int, model: nn.Module) -> float:
        """How many flags are other than a phase expects; infinite where a selector of it selects nothing."""
        spec = self._every[number]
        if spec is None:
            return 0
        description = describe(model)
        try:
            plan = match(spec, description)
        except SpecError:
            return math.inf
        if plan.unmatched:
            return math.inf
        flags = {t.name: t.requires_grad for t in description.tensors if t.kind == "parameter" and t.differentiable}
        wanted = {Expected.FROZEN: False, Expected.TRAINABLE: True}
        return sum(wanted.get(plan.expected[n], flag) != flag for n, flag in flags.items() if n in plan.expected)
