"""The errors that end in exit code 2: what is wrong, where, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .records import Finding, Location


class FreezecheckError(Exception):
    """freezecheck could not check.

    `message` says what is wrong, `hint` what to do; `location` is the place in the user's file, and `frames` the
    lines of the user's own traceback, outermost first, when their code raised. The whole traceback is `__cause__`.
    """

    kind = "usage"
    exit_code = 2
    """With which the process ends; where a script that was run ended with an error, that is its own status."""

    def __init__(
        self, message: str, *, hint: str = "", location: Location | None = None, frames: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.location = location
        self.frames = tuple(frames)


class UsageError(FreezecheckError):
    """The command was called in a way that cannot work."""


class TargetError(FreezecheckError):
    """The model (or something beside it) could not be loaded."""

    kind = "target"


class SpecError(FreezecheckError):
    """The freeze spec is wrong. `message` holds every mistake, one a line, each with its line number."""

    kind = "spec"


class ProbeError(FreezecheckError):
    """Forward, loss, backward or step could not run."""

    kind = "probe"


class FreezeError(AssertionError):
    """The model does not train what it should; `findings` says how. Raised by `Result.raise_if_failed`."""

    def __init__(self, text: str, findings: Sequence[Finding]) -> None:
        super().__init__(text)
        self.findings = tuple(findings)
