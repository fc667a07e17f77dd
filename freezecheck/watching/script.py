"""Run somebody's training script as `python SCRIPT ARGS` would, and watch it train."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import FreezecheckError, UsageError
from ..guard import exits_seen
from ..places import shown, told_from_here
from .ending import Ended, nothing_seen
from .finish import named
from .later import Later
from .main import LeftAtOnce, as_main, execute, is_ours, raised, status_of
from .patches import none_left_on
from .ranks import agreed
from .roots import root_of
from .session import Session
from .several import another_is_meant, beside
from .stages import Stages
from .steps import let_go, listen
from .together import together
from .turns import Turns
from .verdict import report_on
from .waiting import Waiting

if TYPE_CHECKING:
    from torch import nn

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

    Of a spec with phases, the first steps of each are judged. What the script raises is shown as Python would show it
    and told in the report, its exit status is in `script.status`, and what had been seen by then is judged.
    Raises ProbeError when it made no step and reached no backward, UsageError when there is no such script.
    """
    if not script.as_module and not os.path.isfile(script.path):
        what = "is a directory, not a script" if os.path.isdir(script.path) else "does not exist"
        raise UsageError(f"{script.path} {what}", hint="freezecheck run [OPTIONS] SCRIPT [ARGS...]")
    with told_from_here():
        return _Run(script, spec).run()


class _Run:
    """One run under way: a watch for each phase of the spec, and what goes on between two."""

    def __init__(self, script: Script, spec: Spec | None) -> None:
        self.script, self.spec = script, spec
        self.target = f"-m {script.path}" if script.as_module else shown(script.path)
        self.stages = Stages(spec, script.phase)
        self.turns = Turns(self.stages, str(spec.folder) if spec else os.curdir)
        self.reports: list[Report] = []
        """One for each phase that was watched."""
        self.phases: list[str] = []
        self.misfit: Report | None = None
        """The report on the first model that the spec does not mean."""
        self.others: dict[str, None] = {}
        """The models that were seen and are not meant."""
        self.judged: Session | None = None
        """The last session that was judged."""
        self.fitted = False
        """Whether that saw the model that is meant."""
        self.failed: FreezecheckError | None = None
        self.ended: Ended | None = None
        self.stopping = False
        self.steps = 0
        """The optimizer steps before the present watch."""
        self.waiting: Waiting | None = None
        self.later: Later | None = None
        self.hooks = ExitStack()
        self.session = self._session()

    def run(self) -> Report:
        with none_left_on(), self.hooks:
            self.session.__enter__()
            try:
                self._execute()
            finally:
                self._rest()
                self.session.close()
                self.turns.close()
                let_go()
        let_go()
        if self.failed is None and self.judged is not self.session:
            self._judge_what_is_left()
        if self.failed is None and not self.reports:
            self._judge_another()
        if self.failed is not None:
            self.failed.exit_code = self.script.status or self.failed.exit_code
            raise self.failed
        report = together(self.reports, self.stages, self.phases)
        return report if self.ended is None else self.ended.told_in(report, self.script.status)

    # ------------------------------------------------------------ watching

    def _session(self) -> Session:
        session = Session(self.stages.spec, steps=self.script.steps, choose=self.script.model, enough=self._enough)
        session.step_begins = self._step_begins
        session.stepwise = bool(self.stages.later)
        return session

    def _watch(self, module: nn.Module | None, args: Any) -> None:
        """Begin to watch a phase, or another model, with the forward that told of it."""
        self._rest()
        before, self.session = self.session, self._session()
        self.session.follow(before, self.turns.made)
        self.turns.begin()
        self.session.__enter__()
        if module is not None:
            self.session.forward_begins(module, args)

    def _step_begins(self, module: nn.Module, args: Any) -> bool:
        """Close the verdict of a phase that is over before all its steps were made."""
        session = self.session
        if not self.stages.later:
            return False
        if session.total:
            self.turns.listen()
        phase = self.stages.now
        if not self.turns.turned(session.models, begun=session.total > 0):
            return False
        session.close()
        session.passed_on = self.turns.made
        if session.total:
            self._conclude(session, phase)
            self._stop_if_failed()
        self._watch(module, args)
        return True

    def _enough(self) -> None:
        """Judge while the training still stands; then stop it, or let it go on."""
        session, every = self.session, self.script.every
        self._conclude(session, self.stages.now)
        self._stop_if_failed()
        if session.disagreements or (self.fitted and not self.stages.later and every is None):
            self._stop()
        if not self.stages.later:
            self.turns.close()
        if not self.fitted or self.stages.later:
            self.turns.listen()
            self.waiting = Waiting(self._look, compiled=session.uncompiled.used)
        if self.fitted and every is not None:
            self.later = Later(self.stages.spec, session, every, self._judge_later, self.steps)

    def _look(self, module: nn.Module | None, args: Any, *, first: bool) -> None:
        """Between two watches: see whether the phase, or the model, that is waited for has come."""
        models = self.session.models
        strange = None if module is None or any(one.holds(module) for one in models) else module
        if not self.fitted:
            come = module is None or (strange is not None and next(strange.parameters(), None) is not None)
        else:
            come = first and self.turns.turned(models, begun=True)
            come = come or (strange is not None and self._turned_to(strange))
        if come:
            self._watch(module, args)

    def _turned_to(self, strange: nn.Module) -> bool:
        frame = sys._getframe(1)
        return self.turns.turned_to(strange, lambda: root_of(strange, frame)[1])

    def _rest(self) -> None:
        """Look at nothing between two watches any more."""
        if self.waiting is not None:
            self.waiting.close()
        if self.later is not None:
            self.steps = self.later.count
            self.later.close()
        self.waiting = self.later = None

    def _stop_if_failed(self) -> None:
        """Stop a script that cannot be judged."""
        if self.failed is not None:
            self._stop()

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
            _say("all is judged, but the script catches what should stop it: it goes on, and the report comes after")

        stop = listen(again, lambda _: None)
        self.hooks.callback(stop)
        raise Enough

    # ------------------------------------------------------------ judging

    def _conclude(self, session: Session, phase: int) -> None:
        """Judge a session whose watch is over, or note why that cannot be done."""
        self.judged, self.fitted = session, False
        self.steps += session.total
        choose = self.script.model
        every = [*session.models, *beside(session)]
        if choose is not None and not any(named(one, choose) for one in every):
            self._go_on_for_another(session, f"no model called {choose} has trained yet")
            return
        try:
            report = agreed(self._judge(session), session.ranks)
        except FreezecheckError as error:
            self.failed = error
            return
        if choose is None and not session.disagreements and another_is_meant(session.spec, report.case, every):
            self.misfit = self.misfit or report
            self._go_on_for_another(session, "the spec does not fit what trains")
            return
        self.fitted = True
        self.reports.append(report)
        self.phases += self.stages.names[phase : phase + 1]
        self._tell(report, phase)

    def _go_on_for_another(self, session: Session, why: str) -> None:
        seen = [one.said for one in (*session.models, *beside(session))]
        self.others |= dict.fromkeys(seen)
        _say(f"{why} ({', '.join(seen)}): the script goes on until another model comes, or it ends")

    def _tell(self, report: Report, phase: int) -> None:
        """Say on stderr what was found where the script goes on after that."""
        if not self.stages.later and self.script.every is None:
            return
        name = self.stages.names[phase] if self.stages.names else None
        _say(f"{f'phase {name} is' if name else 'the first steps are'} judged, the script goes on")
        for finding in report.findings if len(self.stages.names) > 1 else ():
            _say(f"{finding.code} in phase {name}: {finding.message}")

    def _judge(self, session: Session, left_out: Collection[str] = ()) -> Report:
        script = self.script
        report = report_on(
            session,
            self.spec,
            target=self.target,
            choose=script.model,
            select=script.select,
            ignore=script.ignore,
            left_out=left_out,
        )
        return report if script.fail_on is None else replace(report, fail_on=script.fail_on)

    def _judge_later(self, session: Session, step: int) -> None:
        """Add what a later step shows and no earlier one did."""
        assert self.later is not None, "it is later steps that are judged here"
        report = self.reports[-1]
        try:
            now = self._judge(session).findings
        except FreezecheckError as error:  # the training is not ours to end
            _say(f"step {step} could not be judged: {error.message}")
            return
        new = self.later.news(now, report.findings, lambda names: self._judge(session, names).findings)
        for finding in new:
            _say(f"{finding.code} at step {step}: {finding.message}")
        seen = replace(report.case.conditions, steps=report.case.conditions.steps + session.total)
        self.reports[-1] = replace(
            report, findings=(*report.findings, *new), case=replace(report.case, conditions=seen)
        )

    def _judge_what_is_left(self) -> None:
        """Judge a watch that the end of the script cut short."""
        session = self.session
        losses = [one.evidence.loss for one in session.models if one.evidence.loss is not None]
        if session.total == 0 and all(loss.reaches for loss in losses):  # a loss that reaches nothing is told at once
            if not (self.reports or self.misfit or self.others):
                raise nothing_seen(self.script.path, session, self.ended, self.script.status)
            return
        if self.ended is not None:
            self.ended.explained_by(session)
        if not (session.stepwise and session.total):
            session.measure()
        self._conclude(session, self.stages.now)

    def _judge_another(self) -> None:
        """Judge the first model that was trained where the one that is meant never came."""
        if self.script.model is not None:
            seen = ", ".join(self.others) or "none"
            self.failed = UsageError(f"no model called {self.script.model} was trained", hint=f"seen: {seen}")
        elif self.misfit is not None:
            self.reports.append(self.misfit)
            self.phases += self.stages.names[self.stages.now : self.stages.now + 1]

    # ------------------------------------------------------------ the script

    def _execute(self) -> None:
        """Run the script, and note how it ended. What it does about being stopped is not its own ending."""
        script = self.script
        try:
            with (
                as_main(script.path, script.arguments, as_module=script.as_module),
                exits_seen(LeftAtOnce, everywhere=False),
            ):
                execute(script.path, as_module=script.as_module)
        except Enough:
            pass
        except UsageError:
            raise
        except BaseException as error:
            if is_ours(error):
                raise
            if not self.stopping:
                script.status = _status(error)
                self.ended = Ended.of(error) if script.status else None


def _status(error: BaseException) -> int:
    """Return the exit status that what came out of a script would have given it; show what it raised."""
    if isinstance(error, LeftAtOnce):
        return error.status
    if isinstance(error, SystemExit):
        return status_of(error)
    raised(error)
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def _say(what: str) -> None:
    print(f"freezecheck: {what}", file=sys.stderr)
