"""Run somebody's training script as `python SCRIPT ARGS` would, and watch it train."""

from __future__ import annotations

import importlib.machinery
import os
import runpy
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import FreezecheckError, ProbeError, UsageError
from ..places import kind, shown
from ..records import Finding, Report
from .later import Later
from .ranks import agreed
from .session import Session
from .verdict import report_on

if TYPE_CHECKING:
    from ..records import Severity
    from ..spec import Spec

INTERRUPTED = 130
"""The shell's status of a program that Ctrl-C ended."""


class Enough(BaseException):
    """Everything was seen: unwinds the script. No Exception, so that a script's own `except Exception` lets it by."""


class LeftAtOnce(BaseException):
    """The script called `os._exit`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


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
        what = "is a directory" if os.path.isdir(script.path) else "does not exist"
        raise UsageError(f"{script.path} {what}", hint="freezecheck run [OPTIONS] SCRIPT [ARGS...]")
    return _Run(script, spec).run()


class _Run:
    """One run under way."""

    def __init__(self, script: Script, spec: Spec | None) -> None:
        self.script, self.spec = script, spec
        self.report: Report | None = None
        self.failed: FreezecheckError | None = None
        self.later: Later | None = None
        self.session = Session(spec, steps=script.steps, enough=self._enough)

    def run(self) -> Report:
        with self.session:
            self._execute()
        if self.later is not None:
            self.later.close()
        if self.failed is not None:
            raise self.failed
        if self.report is None:
            self.report = self._report_so_far()
        return self.report

    def _enough(self) -> None:
        """Judge while the training still stands; then stop it, or let it go on."""
        try:
            self.report = agreed(self._judge(self.session))
        except FreezecheckError as error:
            self.failed = error
            raise Enough from error
        if self.script.every is None:
            raise Enough
        print("freezecheck: the first steps are judged, the script goes on", file=sys.stderr)
        self.later = Later(self.spec, self.script.every, self._judge_later)

    def _judge(self, session: Session) -> Report:
        script = self.script
        options = {} if script.fail_on is None else {"fail_on": script.fail_on}
        return report_on(
            session,
            self.spec,
            target=script.path if script.as_module else shown(script.path),
            choose=script.model,
            select=script.select,
            ignore=script.ignore,
            **options,
        )

    def _judge_later(self, session: Session, step: int) -> None:
        """Add what a later step shows and the first did not."""
        assert self.report is not None, "later steps come after the first"
        known = {(f.code, f.tensors) for f in self.report.findings}
        new = [f for f in self._judge(session).findings if (f.code, f.tensors) not in known]
        for finding in new:
            print(f"freezecheck: {finding.code} at step {step}: {finding.message}", file=sys.stderr)
        self.report = _with_findings(self.report, new)

    def _report_so_far(self) -> Report:
        """Judge a script that ended on its own before all steps were made."""
        session, script = self.session, self.script
        if session.total == 0 and not any(one.evidence.loss for one in session.models):
            seen = ", ".join(f"{one.name} ({type(one.model).__name__})" for one in session.models) or "no model"
            after = f"ended with status {script.status}" if script.status else "ended"
            raise ProbeError(
                f"{script.path} {after} without an optimizer step; seen by then: {seen}",
                hint="Nothing was trained, so nothing can be judged. A training in processes of its own "
                "(multiprocessing spawn) is watched with `torchrun … -m freezecheck run`; "
                "`freezecheck verify` checks a model without its script.",
            )
        session.measure()
        return self._judge(session)

    # ------------------------------------------------------------ the script itself

    def _execute(self) -> None:
        script = self.script
        try:
            with _as_main(script), _leaving_seen():
                _run_module(script) if script.as_module else _run_file(script.path)
        except Enough:
            pass
        except LeftAtOnce as left:
            script.status = left.status
        except SystemExit as leaving:
            script.status = _status_of(leaving)
        except KeyboardInterrupt:
            script.status = INTERRUPTED
        except BaseException as error:
            _show(error)
            script.status = 1


def _run_file(path: str) -> None:
    """Run a file as the main module: as `runpy.run_path`, but in a real `__main__` that spawned workers can find."""
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=__builtins__, __spec__=None)
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    sys.modules["__main__"] = main
    exec(code, main.__dict__)  # that is what running a script is


def _run_module(script: Script) -> None:
    runpy.run_module(script.path, run_name="__main__", alter_sys=True)


@contextmanager
def _as_main(script: Script) -> Iterator[None]:
    """Give the script its own argv, first place on the path and `__main__`, and put ours back."""
    main, argv, path = sys.modules["__main__"], sys.argv, list(sys.path)
    folder = os.getcwd() if script.as_module else os.path.dirname(os.path.abspath(script.path))
    sys.argv = [script.path, *script.arguments]
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = main, argv, path


@contextmanager
def _leaving_seen() -> Iterator[None]:
    """Turn `os._exit` of this process into an exception, so that what was seen is still told."""
    leave, process = os._exit, os.getpid()

    def watched_leave(status: int) -> None:
        if os.getpid() != process:
            leave(status)
        raise LeftAtOnce(status)

    os._exit = watched_leave  # type: ignore[assignment]  # put back below
    try:
        yield
    finally:
        os._exit = leave


def _status_of(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code
    print(leaving.code, file=sys.stderr)
    return 1


def _show(error: BaseException) -> None:
    """Print a traceback as Python would, without freezecheck's own frames at its head."""
    trace = error.__traceback__
    while trace is not None and kind(trace.tb_frame.f_code.co_filename) in ("freezecheck", "python"):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace, file=sys.stderr)


def _with_findings(report: Report, new: Sequence[Finding]) -> Report:
    from dataclasses import replace

    return replace(report, findings=(*report.findings, *new))
