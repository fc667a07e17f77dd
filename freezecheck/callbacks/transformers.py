"""A Transformers `TrainerCallback` that checks what the first steps of a training really train."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from transformers import TrainerCallback

from ._renewed import Renewed

if TYPE_CHECKING:
    from ..check import Result
    from ..spec import Spec


class FreezeCheckCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]  # untyped in some versions
    """Watch the first `steps` optimizer steps of `trainer.train()`, and again the first after what trains changed.

    `spec` is a `freezecheck.Spec` or its file's path; None takes the `requires_grad` flags, as they stand when a
    watch begins, as the intent. Of a spec with phases the one is taken that the flags fit. On a violation FreezeError
    is raised out of `trainer.train()`; with `on_violation="warn"` it is a warning. `results` holds what was found, one
    for each watch.

    A Trainer tells its callbacks nothing of an error of its own: the watch of a training that failed within the first
    steps ends with the next one that this callback sees begin, or with the process.
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

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # theirs
        """Begin to watch."""
        self._watch.begin(kwargs["model"])

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # theirs
        """Look whether something else trains than before."""
        self._watch.renew(kwargs["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # theirs
        """Judge a training that had fewer steps than were to be watched."""
        self._watch.end()
