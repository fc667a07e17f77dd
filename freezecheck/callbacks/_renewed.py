"""A watch that is renewed whenever another set of parameters begins to train: what the trainers' callbacks share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..spec import Spec
from ..watching.context import OnViolation, Watch
from ..watching.session import Session
from ..watching.stages import Stages

if TYPE_CHECKING:
    from torch import nn

    from ..check import Result


class Renewed:
    """Watches the first steps of a training, and again the first after each change of what trains.

    Without a spec the flags as they are then are what is meant; of a spec with phases, the phase that they fit.
    """

    def __init__(self, spec: Spec | str | os.PathLike[str] | None, on_violation: OnViolation, steps: int) -> None:
        """`spec` may be a file's path. Raises SpecError when it is wrong, ValueError for another `on_violation`."""
        if on_violation not in ("raise", "warn"):
            raise ValueError(f'on_violation is "raise" or "warn", not {on_violation!r}')
        self._spec = Spec.load(os.fspath(spec)) if isinstance(spec, (str, os.PathLike)) else spec
        self._on_violation, self._steps = on_violation, steps
        self._stages = Stages(self._spec)
        self._watch: Watch | None = None
        self._trained: frozenset[int] = frozenset()
        self.results: list[Result] = []
        """One for each set of parameters that was watched."""

    def begin(self, model: nn.Module) -> None:
        """Begin to watch a model; what was watched before is dropped."""
        self.drop()
        self._trained = _trained(model)
        session = Session(self._stages.spec, steps=self._steps, model=model)
        self._watch = Watch(session, self._spec, type(model).__name__, self._on_violation, tell=self.results.append)
        self._watch.__enter__()

    def renew(self, model: nn.Module) -> None:
        """Begin anew if another set of parameters trains than when the watch saw its first step."""
        if self._watch is not None and not self._watch.stepped:
            self._trained = _trained(model)  # all that came before was set-up
            if self._stages.advance(model):
                self.begin(model)
            return
        if _trained(model) == self._trained:
            return
        self.end()
        self._stages.advance(model)
        self.begin(model)

    def end(self) -> None:
        """Judge what was seen, if anything was, and watch no more. Raises FreezeError or warns."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.finish()

    def drop(self) -> None:
        """Watch no more, and judge nothing."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()


def _trained(model: nn.Module) -> frozenset[int]:
    return frozenset(id(parameter) for parameter in model.parameters() if parameter.requires_grad)
