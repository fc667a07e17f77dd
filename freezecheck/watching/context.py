"""`freezecheck.watch`: the same watch inside the user's own loop."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

from ..check import Result
from ..errors import ProbeError
from ..records import Severity
from .ranks import agreed
from .session import Session
from .verdict import report_on

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from ..spec import Spec

OnViolation = Literal["raise", "warn", "ignore"]


class Watch(AbstractContextManager["Watch"]):
    """Watches a model from entry until its optimizers made their steps; `result` is then there."""

    def __init__(self, session: Session, spec: Spec | None, target: str, fail_on: str, on_violation: OnViolation):
        self._session, self._spec, self._target = session, spec, target
        self._fail_on, self._on_violation = Severity(fail_on), on_violation
        self._result: Result | None = None
        session.enough = self.judge

    @property
    def done(self) -> bool:
        """Whether all steps were seen; the training is no longer watched then."""
        return self._result is not None

    @property
    def result(self) -> Result:
        """What was found. Raises ProbeError while nothing was judged yet."""
        if self._result is None:
            raise ProbeError("nothing was judged yet", hint="the watch judges after its steps, or when its block ends")
        return self._result

    def __enter__(self) -> Watch:
        self._session.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        stepped, was_done = self._session.total, self.done
        if not was_done and kind is None and stepped:
            self._session.measure()
        self._session.close()
        if was_done or kind is not None:
            return
        if not stepped:
            raise ProbeError(
                "the watched block ended without an optimizer step, so nothing can be judged",
                hint="put the training loop inside of `with freezecheck.watch(model, optimizer, spec):`",
            )
        self.judge()

    def judge(self) -> None:
        """Judge what was seen. Raises FreezeError, or warns, as `on_violation` says."""
        report = report_on(self._session, self._spec, target=self._target, fail_on=self._fail_on)
        self._result = Result(agreed(report, self._session.ranks))
        if self._on_violation == "raise":
            self._result.raise_if_failed()
        elif self._on_violation == "warn" and not self._result.ok:
            warnings.warn(f"\n{self._result}", stacklevel=2)


def watch(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    spec: Spec | None = None,
    *,
    steps: int = 3,
    fail_on: str = "warning",
    on_violation: OnViolation = "raise",
) -> Watch:
    """Watch the first `steps` optimizer steps of your own loop, then look no more.

    Use it as `with freezecheck.watch(model, optimizer, spec):` around the loop. When the steps are seen, or the block
    ends before, what they trained is judged by `spec` (None: the `requires_grad` flags as they stand at the first
    forward). On a violation FreezeError is raised out of that `optimizer.step()`; with `on_violation="warn"` it is a
    warning, with `"ignore"` only `result` tells. `optimizer` None takes whichever optimizers step.

    The training itself is not changed, and costs nothing more once the steps are seen.
    Raises ProbeError when the block ends without a step.
    """
    session = Session(spec, steps=steps, model=model)
    if optimizer is not None:
        for one in optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]:
            session.take(one)
    return Watch(session, spec, type(model).__name__, fail_on, on_violation)
