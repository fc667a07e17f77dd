"""Run somebody's training script as `python SCRIPT ARGS` would, and watch it train."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from ..errors import FreezecheckError, ProbeError, UsageError
from ..places import shown, told_from_here
from .later import Later
from .main import LeftAtOnce, as_main, execute, is_ours, leaving_seen, raised, status_of
from .patches import none_left_on
from .ranks import agreed
from .session import Session
from .stages import Stages
from .steps import let_go, listen

if TYPE_CHECKING:
    from ..records import Report, Severity
    from ..spec import Spec

INTERRUPTED = 130
"""The shell's status of a program that Ctrl-C ended."""


_INSISTING = 3
"""Steps at which a script that did not let itself be stopped is stopped again."""


class Enough(BaseException):
    """Everything was seen: unwinds the script. No Exception, so that a script's own `except Exception` lets it by."""


@dataclass
class Script:
    """What to run and how to judge it."""

    path: str
    """A file; with `as_module`, a module's dotted name."""
    arguments: Sequence[str] = ()
    as_module: bool = False
    steps: int = 3
    every: int | None = None
    """Let the script go on after the first steps, and look at one step in so many; None stops it."""
    model: str | None = None
    phase: str | None = None
    """Of a spec with phases, the one that the first steps are in; None: the first one."""
    select: Sequence[str] = ()
    ignore: Sequence[str] = ()
    fail_on: Severity | None = None
    status: int = 0
    """Afterwards: the exit status of the script itself; 0 when freezecheck stopped it."""


def run(script: Script, spec: Spec | None) -> Report:
    """Run the script and return the judgement of its first steps (and of later ones, where it goes on).

    What the script raises is shown as Python would show it, its exit status is in `script.status`, and what had been
    seen by then is judged. Raises ProbeError when it made no step and reached no backward, UsageError when there is no
    such script.
    """
    if not script.as_module and not os.path.isfile(script.path):
        what = "is a directory, not a script" if os.path.isdir(script.path) else "does not exist"
        raise UsageError(f"{script.path} {what}", hint="freezecheck run [OPTIONS] SCRIPT [ARGS...]")
    with told_from_here():
        return _Run(script, spec).run()


class _Run:
    """One run under way."""

    def __init__(self, script: Script, spec: Spec | None) -> None:
        self.script, self.spec = script, spec
        self.target = f"-m {script.path}" if script.as_module else shown(script.path)
        self.stages = Stages(spec, script.phase)
        self.report: Report | None = None
        self.failed: FreezecheckError | None = None
        self.stopping = False
        self.later: Later | None = None
        self.hooks = ExitStack()
        self.session = Session(self.stages.spec, steps=script.steps, enough=self._enough)

    def run(self) -> Report:
        with none_left_on(), self.session, self.hooks:
            self._execute()
        if self.later is not None:
            self.later.close()
        let_go()
        if self.failed is not None:
            raise self.failed
        if self.report is None:
            self.report = self._report_so_far()
        return self.report

    def _enough(self) -> None:
        """Judge while the training still stands; then stop it, or let it go on."""
        try:
            self.report = agreed(self._judge(self.session), self.session.ranks)
        except FreezecheckError as error:
            self.failed = error
        if self.failed is not None or self.script.every is None or self.session.disagreements:
            self._stop()
        assert self.report is not None, "judged above"
        later = tuple(s for s in self.report.skipped if not s.what.startswith("phase "))  # looked at from here on
        self.report = replace(self.report, skipped=later)
        print("freezecheck: the first steps are judged, the script goes on", file=sys.stderr)
        self.later = Later(self.stages, self.session, self.script.every, self._judge_later)

    def _stop(self) -> NoReturn:
        """Unwind the script; once more at each of the next steps of one that catches everything around its steps."""
        self.stopping = True
        left = _INSISTING

        def again(*_: object) -> None:
            nonlocal left
            if left:
                left -= 1
                raise Enough
            stop()
            said = "all is judged, but the script catches what should stop it: it goes on, and the report comes after"
            print(f"freezecheck: {said}", file=sys.stderr)

        stop = listen(again, lambda _: None)
        self.hooks.callback(stop)
        raise Enough

    def _judge(self, session: Session) -> Report:
        from .verdict import report_on

        script = self.script
        report = report_on(
            session,
            self.spec,
            target=self.target,
            choose=script.model,
            select=script.select,
            ignore=script.ignore,
        )
        return report if script.fail_on is None else replace(report, fail_on=script.fail_on)

    def _judge_later(self, session: Session, step: int) -> None:
        """Add what a later step shows and no earlier one did."""
        assert self.report is not None, "later steps come after the first"
        assert self.later is not None, "and it is they that are judged here"
        try:
            now = self._judge(session).findings
        except FreezecheckError as error:  # the training is not ours to end
            print(f"freezecheck: step {step} could not be judged: {error.message}", file=sys.stderr)
            return
        new = self.later.news(now, self.report.findings)
        for finding in new:
            print(f"freezecheck: {finding.code} at step {step}: {finding.message}", file=sys.stderr)
        case = self.report.case
        seen = replace(case.conditions, steps=case.conditions.steps + session.total)
        self.report = replace(self.report, findings=(*self.report.findings, *new), case=replace(case, conditions=seen))

    def _report_so_far(self) -> Report:
        """Judge a script that ended on its own before all steps were made."""
        session, script = self.session, self.script
        losses = [one.evidence.loss for one in session.models if one.evidence.loss is not None]
        if session.total == 0 and all(loss.reaches for loss in losses):  # a loss that reaches nothing is told at once
            raise _nothing_seen(script, session)
        session.measure()
        return agreed(self._judge(session), session.ranks)

    def _execute(self) -> None:
        """Run the script, and note how it ended. What it does about being stopped is not its own ending."""
        script = self.script
        try:
            with as_main(script.path, script.arguments, as_module=script.as_module), leaving_seen():
                execute(script.path, as_module=script.as_module)
        except Enough:
            pass
        except UsageError:
            raise
        except LeftAtOnce as left:
            script.status = left.status
        except SystemExit as leaving:
            script.status = 0 if self.stopping else status_of(leaving)
        except BaseException as error:
            if is_ours(error):
                raise
            if not self.stopping:
                raised(error)
                script.status = INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def _nothing_seen(script: Script, session: Session) -> ProbeError:
    seen = ", ".join(f"{one.name} ({type(one.model).__name__})" for one in session.models) or "no model's forward"
    after = f"ended with status {script.status}" if script.status else "ended"
    made = ", ".join(type(one).__name__ for one in session.optimizers) or "no optimizer"
    hint = (
        "Nothing was trained, so nothing can be judged. A training in processes of its own (multiprocessing spawn) is "
        "watched with `torchrun … -m freezecheck run`; `freezecheck verify` checks a model without its script."
    )
    return ProbeError(
        f"{script.path} {after} without an optimizer step; seen by then: {seen}, {made}",
        hint="Its own error stands above." if script.status else hint,
    )
