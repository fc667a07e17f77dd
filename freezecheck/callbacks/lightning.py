"""A Lightning callback that checks what the first steps of a training really train."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

try:
    from lightning.pytorch import Callback
except ImportError:  # the same under its older name
    from pytorch_lightning import Callback  # type: ignore[assignment]  # another distribution of the same class

from ._renewed import Renewed

if TYPE_CHECKING:
    from ..check import Result
    from ..spec import Spec


class FreezeCheck(Callback):  # type: ignore[misc, unused-ignore]  # untyped where Lightning is not installed
    """Watch the first `steps` optimizer steps of `trainer.fit`, and again the first after a change of what trains.

    `spec` is a `freezecheck.Spec` or its file's path; None takes the `requires_grad` flags, as they stand when a
    watch begins, as the intent, so that a callback that unfreezes the backbone at a later epoch is right. Of a spec
    with phases the one is taken that the flags fit. On a violation FreezeError is raised out of `trainer.fit`; with
    `on_violation="warn"` it is a warning. `results` holds what was found, one for each watch.
    """

    def __init__(
        self,
        spec: Spec | str | os.PathLike[str] | None = None,
        on_violation: Literal["raise", "warn"] = "raise",
        *,
        steps: int = 3,
    ) -> None:
        self._watch = Renewed(spec, on_violation, steps)

    @property
    def results(self) -> list[Result]:
        """What was found so far, in the order of the watches."""
        return self._watch.results

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002  # Lightning's signature
        """Begin before anything is set up, so that the line that sets a flag can be told."""
        if stage == "fit":
            self._watch.begin(pl_module)

    def on_train_batch_start(
        self,
        trainer: Any,  # noqa: ARG002  # Lightning's signature
        pl_module: Any,
        batch: Any,  # noqa: ARG002  # as above
        batch_idx: int,
    ) -> None:
        """Look, once an epoch and after all callbacks have begun it, whether something else trains now."""
        if batch_idx == 0:
            self._watch.renew(pl_module)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # Lightning's signature
        """Judge a training that had fewer steps than were to be watched."""
        self._watch.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002  # as above
        """Leave nothing behind when the training fails."""
        self._watch.drop()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002  # Lightning's signature
        """Leave nothing behind."""
        self._watch.drop()
