"""For GitHub Actions: workflow commands, which the runner turns into annotations on the lines of a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import FreezecheckError
from ..records import Finding, Location, Report, Severity
from ._paint import printable
from ._places import from_root, place_of
from ._renderer import EVERY_COMMAND, Renderer, Style
from ._words import by_severity, error_text, full_text, skipped_lines, titled, verdict

_LEVEL = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


def _render(report: Report, style: Style) -> str:  # noqa: ARG001 - a program reads it the same in any style
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    for findings in by_severity(report.findings).values():
        yield from (_annotation(finding, report) for finding in findings)
    yield from (printable(f"not checked: {line}") for line in skipped_lines(report.skipped))
    yield printable(verdict(report))


def _annotation(finding: Finding, report: Report) -> str:
    return _command(_LEVEL[finding.severity], titled(finding), full_text(finding), place_of(finding, report))


def _error(error: FreezecheckError) -> str:
    return _command("error", f"freezecheck could not check ({error.kind})", error_text(error), error.location) + "\n"


def _command(level: str, title: str, message: str, place: Location | None) -> str:
    """Return one workflow command, escaped as GitHub's toolkit does it (packages/core/src/command.ts)."""
    properties = {"file": from_root(place.file), "line": str(place.line)} if place else {}
    given = ",".join(f"{key}={_property(value)}" for key, value in {**properties, "title": title}.items())
    return f"::{level} {given}::{_message(message)}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


RENDERER = Renderer("github", _render, EVERY_COMMAND, error=_error)
