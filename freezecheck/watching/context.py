"""`freezecheck.watch`: the same watch inside the user's own loop."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ..arguments import given_count, given_severity, given_spec
from ..check import Result
from ..errors import ProbeError
from ..objects import given_model, given_optimizers
from ..records import Skipped
from .ranks import agreed
from .session import Session
from .steps import let_go
from .verdict import phase_of, report_on

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from ..spec import Spec

OnViolation = Literal["raise", "warn", "ignore"]


class Watch(AbstractContextManager["Watch"]):
    """Watches a model from entry until its optimizers made their steps; `result` is then there."""

    def __init__(
        self,
        session: Session,
        spec: Spec | None,
        target: str,
        on_violation: OnViolation,
        *,
        fail_on: str = "warning",
        tell: Callable[[Result], object] = lambda _: None,
    ) -> None:
        """`tell` is given the result before a violation is raised."""
        self._session, self._spec, self._target = session, spec, target
        self._fail_on, self._on_violation, self._tell = given_severity(fail_on), on_violation, tell
        self._result: Result | None = None
        session.enough = self._judge

    @property
    def done(self) -> bool:
        """Whether all steps were seen; the training is no longer watched then."""
        return self._result is not None

    @property
    def stepped(self) -> bool:
        """Whether an optimizer has made a step by now."""
        return self._session.total > 0

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
        if kind is not None:
            self.close()
        elif not self.finish():
            raise ProbeError(
                "the watched block ended without an optimizer step, so nothing can be judged",
                hint="put the training loop inside of `with freezecheck.watch(model, optimizer, spec):`",
            )

    def finish(self) -> bool:
        """Judge what was seen by now and look no more; return whether there was a step, now or before, to judge."""
        if self.done:
            let_go()
            return True
        stepped = self.stepped
        self.close()
        if stepped:
            self._session.measure()
            self._judge()
        return stepped

    def close(self) -> None:
        """Look no more. Not to be called within a step."""
        self._session.close()
        let_go()

    def _judge(self) -> None:
        report = report_on(self._session, self._spec, target=self._target, fail_on=self._fail_on)
        report = replace(report, skipped=(*report.skipped, *_other_phases(self._spec, self._session.spec)))
        self._result = Result(agreed(report, self._session.ranks))
        self._tell(self._result)
        if self._on_violation == "raise":
            self._result.raise_if_failed()
        elif self._on_violation == "warn" and not self._result.ok:
            warnings.warn(f"\n{self._result}", stacklevel=2)


def _other_phases(spec: Spec | None, stage: Spec | None) -> tuple[Skipped, ...]:
    """What a watch of one phase leaves out."""
    now = phase_of(spec, stage)
    others = [phase.name for phase in (spec.phases if spec else ()) if phase.name != now]
    if now is None or not others:
        return ()
    return (Skipped(f"phase {', '.join(others)}", f"the steps watched were in phase {now}"),)


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
    forward; of a spec with phases, the first one). On a violation FreezeError is raised out of that
    `optimizer.step()`; with `on_violation="warn"` it is a warning, with `"ignore"` only `result` tells. `optimizer`
    None takes whichever optimizers step.

    The training itself is not changed, and costs nothing more once the steps are seen.
    Raises ProbeError when the block ends without a step, TypeError or ValueError for another kind of argument.
    """
    if on_violation not in ("raise", "warn", "ignore"):
        raise ValueError(f'on_violation is "raise", "warn" or "ignore", not {on_violation!r}')
    spec = given_spec(spec)
    stage = spec.phases[0].spec if spec and spec.phases else spec
    session = Session(stage, steps=given_count("steps", steps), model=given_model(model))
    for one in [] if optimizer is None else given_optimizers(optimizer):
        session.take(one)
    return Watch(session, spec, type(model).__name__, on_violation, fail_on=fail_on)
