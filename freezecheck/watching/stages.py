"""Which phase of a spec a training is in: the flags tell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import SpecError
from ..probe.describe import describe
from ..records import Expected
from ..spec.match import match

if TYPE_CHECKING:
    from ..spec import Spec
    from .watched import Watched


class Stages:
    """The phases in their order, and the one that the training is in. A spec without phases is one."""

    def __init__(self, spec: Spec | None, first: str | None = None) -> None:
        """Raises SpecError when the spec has no phase called `first`."""
        self._every = [phase.spec for phase in spec.phases] if spec and spec.phases else [spec]
        self._now = self._every.index(spec.phase(first)) if spec and first else 0

    @property
    def spec(self) -> Spec | None:
        """What is expected by now."""
        return self._every[self._now]

    def advance(self, models: Iterable[Watched]) -> bool:
        """Go on to the first later phase that the flags fit, unless they still fit this one; return whether."""
        seen = list(models)
        for number in range(self._now, len(self._every)):
            if any(_fits(self._every[number], one) for one in seen):
                advanced, self._now = number != self._now, number
                return advanced
        return False


def _fits(spec: Spec | None, one: Watched) -> bool:
    """Whether a model has all that the selectors name, and every flag is as expected."""
    if spec is None:
        return True
    description = describe(one.model)
    try:
        plan = match(spec, description)
    except SpecError:
        return False
    flags = {t.name: t.requires_grad for t in description.tensors if t.kind == "parameter" and t.differentiable}
    wanted = {Expected.FROZEN: False, Expected.TRAINABLE: True}
    return not plan.unmatched and all(
        wanted.get(plan.expected[name], flag) == flag for name, flag in flags.items() if name in plan.expected
    )
