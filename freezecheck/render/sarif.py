"""For code scanning: SARIF 2.1.0 (OASIS), as GitHub takes it: every result has a file and a line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256

from .. import __version__
from ..discover import rules
from ..errors import FreezecheckError
from ..records import Finding, Json, Location, Report, Rule, Severity
from ._places import from_root, place_of, root, uri
from ._renderer import EVERY_COMMAND, Renderer, Style
from ._rule_text import paragraph, sections
from ._words import error_text, full_text, skipped_lines

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "SRCROOT"
_PROBLEM = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "recommendation"}
"""GitHub's words for how grave the problems of a rule are."""


def _render(report: Report, style: Style) -> str:  # noqa: ARG001 - a program reads it the same in any style
    told = {code for item in report.skipped for code in item.codes} | {f.code for f in report.findings}
    known = [rule for rule in rules() if rule.code in told.union(report.ran)]
    index = {rule.code: place for place, rule in enumerate(known)}
    notes = [_notification("note", f"not checked: {line}") for line in skipped_lines(report.skipped)]
    run = _run([_rule(rule) for rule in known], report.exit_code, notes)
    run["automationDetails"] = {"id": f"freezecheck/{report.command}/{report.spec or report.target}/"}
    run["results"] = list(_results(report, index))
    return _document([run])


def _error(error: FreezecheckError) -> str:
    notification = _notification("error", error_text(error), error.location)
    notification["descriptor"] = {"id": error.kind}
    return _document([_run([], 2, [notification])])


def _run(known: list[Json], exit_code: int, notifications: list[Json]) -> dict[str, Json]:
    return {
        "tool": {"driver": {"name": "freezecheck", "semanticVersion": __version__, "rules": known}},
        "invocations": [
            {
                "executionSuccessful": exit_code != 2,
                "exitCode": exit_code,
                "toolExecutionNotifications": notifications,
            }
        ],
        "originalUriBaseIds": {_ROOT: {"uri": f"{root().as_uri()}/"}},
        "columnKind": "unicodeCodePoints",
        "results": [],
    }


def _rule(rule: Rule) -> dict[str, Json]:
    parts = sections(rule.doc)
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": paragraph(parts[""])},
        "fullDescription": {"text": paragraph(parts["What it does"])},
        "help": {"text": rule.doc.strip(), "markdown": rule.doc.strip()},
        "defaultConfiguration": {"level": rule.severity.value},
        "properties": {"problem.severity": _PROBLEM[rule.severity], "precision": "very-high", "tags": ["pytorch"]},
    }


def _results(report: Report, index: dict[str, int]) -> Iterator[dict[str, Json]]:
    seen: Counter[str] = Counter()
    for finding in report.findings:
        print_ = _fingerprint(finding)
        seen[print_] += 1
        yield {
            "ruleId": finding.code,
            **({"ruleIndex": index[finding.code]} if finding.code in index else {}),
            "level": finding.severity.value,
            "message": {"text": full_text(finding)},
            "locations": [
                {
                    "physicalLocation": _physical(place_of(finding, report)),
                    "logicalLocations": [{"fullyQualifiedName": name, "kind": "member"} for name in finding.tensors],
                }
            ],
            "partialFingerprints": {"freezecheckFinding/v1": f"{print_}:{seen[print_]}"},
        }


def _fingerprint(finding: Finding) -> str:
    """Return what stays the same when lines are added above: the rule, the line's text, else the first tensor."""
    place = finding.location
    what = (place.file, place.function or "", place.text) if place else finding.tensors[:1]
    return sha256("\0".join((finding.code, finding.phase or "", *what)).encode(errors="surrogateescape")).hexdigest()[
        :32
    ]


def _notification(level: str, text: str, place: Location | None = None) -> dict[str, Json]:
    where = {"locations": [{"physicalLocation": _physical(place)}]} if place else {}
    return {"level": level, "message": {"text": text}, **where}


def _physical(place: Location) -> dict[str, Json]:
    path = from_root(place.file)
    base = {} if path.startswith("/") else {"uriBaseId": _ROOT}
    snippet = {"snippet": {"text": place.text}} if place.text else {}
    return {"artifactLocation": {"uri": uri(path), **base}, "region": {"startLine": place.line, **snippet}}


def _document(runs: list[Json]) -> str:
    document = {"$schema": _SCHEMA, "version": "2.1.0", "runs": runs}
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _joined(texts: Sequence[str]) -> str:
    """One document whose runs are those of all."""
    return _document([run for text in texts for run in json.loads(text)["runs"]])


RENDERER = Renderer("sarif", _render, EVERY_COMMAND, error=_error, join=_joined)
