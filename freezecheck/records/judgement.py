"""Rules, what they found, and the report that a renderer takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from .case import Case
from .seen import Skipped
from .words import Json, Location, Need, Severity


@dataclass(frozen=True, slots=True)
class Hit:
    """What a rule found; the rule's code, name and severity make a `Finding` of it."""

    tensors: tuple[str, ...]
    message: str
    """What is wrong, in which tensors, seen by which evidence: sentences for a tired reader at midnight."""
    fix: str
    """The line to change, as a line of code or of the spec where that is possible."""
    evidence: Mapping[str, Json] = field(default_factory=dict)
    location: Location | None = None
    covers: tuple[str, ...] | None = None
    """The tensors whose other findings this one explains, when they are more than `tensors`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One mistake that freezecheck names. Each lives in a module of its own under `freezecheck.rules`."""

    code: str
    name: str
    severity: Severity
    check: Callable[[Case], Iterable[Hit]]
    doc: str
    """The module's docstring: What it does, Why is this bad, Example, Use instead, Known problems."""
    needs: frozenset[Need] = frozenset()
    swallows: tuple[str, ...] = ()
    """Codes that are effects of this one: they do not fire on the tensors that this rule covers."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule broken."""

    code: str
    name: str
    severity: Severity
    tensors: tuple[str, ...]
    message: str
    fix: str
    evidence: Mapping[str, Json] = field(default_factory=dict)
    location: Location | None = None
    phase: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a script that was watched ended on its own, when that was with an error."""

    status: int
    """The process's exit status."""
    said: str
    """In a clause: `raised ValueError: bad depth`."""
    location: Location | None = None


@dataclass(frozen=True)
class Report:
    """All that a renderer needs."""

    command: str
    target: str
    spec: str | None
    case: Case
    findings: tuple[Finding, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    fail_on: Severity = Severity.WARNING
    ran: tuple[str, ...] = ()
    """Codes of the rules that were run, whether or not they found something."""
    files: tuple[str, ...] = ()
    """The user's source files, the model's own first: where a finding that no line belongs to is shown."""
    made_at: Location | None = None
    """Where the user's file makes the model, such as the line of `def build_model`."""

    ending: Ending | None = None
    """The error with which the script that was watched ended; None where it came to its end, or was stopped."""

    @property
    def ok(self) -> bool:
        """Whether no finding is at or above `fail_on`, and what was run did not end with an error."""
        return not self.failed and self.ending is None

    @property
    def failed(self) -> bool:
        """Whether a finding is at or above `fail_on`."""
        return any(f.severity.rank >= self.fail_on.rank for f in self.findings)

    @property
    def exit_code(self) -> int:
        """0 or 1, as the contract says; of a script that ended with an error, its own exit status."""
        return self.ending.status if self.ending else int(self.failed)
