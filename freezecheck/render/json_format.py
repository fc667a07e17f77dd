"""For programs: JSON, described by `freezecheck rule --json-schema` (schema version 1)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence

from .. import __version__
from ..errors import FreezecheckError, ProbeError
from ..records import Case, Change, Comparison, Facts, Finding, Json, LayerFacts, Location, Report, Stored
from ._renderer import EVERY_COMMAND, Renderer, Style
from ._words import by_severity, totals

SCHEMA_VERSION = 1


def as_json(report: Report) -> dict[str, Json]:
    """Return the report as the published schema describes it."""
    case = report.case
    seen = totals(case)
    codes = _codes_below(case, report.findings)
    return (
        {
            "schema_version": SCHEMA_VERSION,
            "freezecheck_version": __version__,
            "command": report.command,
            "target": report.target,
            "spec": report.spec,
            "ok": report.ok,
            "exit_code": report.exit_code,
            "summary": {
                "parameters": {"total": seen.parameters, "trainable": seen.trainable, "frozen": seen.frozen},
                "findings": {severity.value: len(found) for severity, found in by_severity(report.findings).items()},
            },
            "layers": [_layer(layer, codes.get(layer.name, set())) for layer in case.layers],
            "tensors": [_tensor(facts) for facts in case.facts],
            "findings": [_finding(finding) for finding in report.findings],
            "conditions": {
                name: getattr(case.conditions, name)
                for name in ("seed", "device", "torch", "optimizer", "inputs", "loss", "steps")
            }
            | ({"pretrained": case.conditions.pretrained} if case.conditions.pretrained else {})
            | ({"phases": list(case.conditions.phases)} if case.conditions.phases else {}),
            "skipped": [{"what": item.what, "why": item.why} for item in report.skipped],
        }
        | ({"comparison": _comparison(case.comparison)} if case.comparison else {})
        | _ended(report)
    )


def error_as_json(error: FreezecheckError) -> dict[str, Json]:
    """Return what is printed instead when the check could not be made."""
    return {
        "schema_version": SCHEMA_VERSION,
        "ok": False,
        "exit_code": error.exit_code,
        "error": _error(error),
    }


def _error(error: FreezecheckError) -> dict[str, Json]:
    return {
        "kind": error.kind,
        "message": error.message,
        "location": _location(error.location),
        "hint": error.hint,
    }


def _ended(report: Report) -> dict[str, Json]:
    """The error of a script that was run, where that and no finding decides."""
    if report.ending is None or report.failed:
        return {}
    where = report.ending.location
    message = f"{report.target} {report.ending.said}"
    hint = "No rule was broken until then: mend the error, and run it again."
    return {"error": _error(ProbeError(message, location=where, hint=hint))}


def _layer(facts: LayerFacts, codes: set[str]) -> dict[str, Json]:
    return {
        "name": facts.name,
        "type": facts.layer.type,
        "depth": facts.layer.depth,
        "trainable": facts.trainable,
        "frozen": facts.frozen,
        "expected": facts.expected,
        "actual": facts.actual,
        "held_by": facts.held_by,
        "training": facts.layer.training if facts.training is None else facts.training,
        "saved_bytes": facts.saved_bytes,
        "findings": sorted(codes),
    }


def _tensor(facts: Facts) -> dict[str, Json]:
    tensor = facts.tensor
    place = facts.memberships[0] if facts.memberships else None
    return {
        "name": tensor.name,
        "aliases": list(tensor.aliases),
        "kind": tensor.kind,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "numel": tensor.numel,
        "requires_grad": tensor.requires_grad,
        "expected": facts.expected.value,
        "gradient": None if facts.gradient is None else facts.gradient.value,
        "moved": facts.moved,
        "max_abs_change": facts.max_abs_change,
        "optimizer_group": place.group if place else None,
        "lr": facts.lr,
        "weight_decay": place.weight_decay if place else None,
    } | ({"change": _change(facts.change)} if facts.change else {})


def _comparison(comparison: Comparison) -> dict[str, Json]:
    return {"before": comparison.before, "after": comparison.after, "notes": list(comparison.notes)}


def _change(change: Change) -> dict[str, Json]:
    return {
        "same": change.same,
        "before": _stored(change.before),
        "after": _stored(change.after),
        "max_abs": change.max_abs,
        "mean_abs": change.mean_abs,
        "changed_elements": change.changed,
        "nonfinite_elements": change.nonfinite,
        "rows": None if change.rows is None else [list(span) for span in change.rows],
        "compared_as": change.compared_as,
        "why": change.why,
    }


def _stored(stored: Stored | None) -> dict[str, Json] | None:
    return None if stored is None else {"shape": list(stored.shape), "dtype": stored.dtype}


def _finding(finding: Finding) -> dict[str, Json]:
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.value,
        "phase": finding.phase,
        "tensors": list(finding.tensors),
        "message": finding.message,
        "fix": finding.fix,
        "evidence": dict(finding.evidence),
        "location": _location(finding.location),
    }


def _location(location: Location | None) -> dict[str, Json] | None:
    if location is None:
        return None
    return {"file": location.file, "line": location.line, "function": location.function}


def _codes_below(case: Case, findings: Sequence[Finding]) -> dict[str, set[str]]:
    """For every layer the codes of the findings that name a tensor of its subtree, under any of its names."""
    names = {name: facts.tensor.names for facts in case.facts for name in facts.tensor.names}
    codes: dict[str, set[str]] = {}
    for finding in findings:
        for tensor in finding.tensors:
            for name in names.get(tensor, ()):
                for path in _above(name):
                    codes.setdefault(path, set()).add(finding.code)
    return codes


def _above(name: str) -> Iterator[str]:
    while name:
        name = name.rpartition(".")[0]
        yield name


def _finite(value: Json) -> Json:
    """Put null for NaN and the infinities, which JSON does not have, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _text(value: Json) -> str:
    return json.dumps(_finite(value), indent=2, allow_nan=False) + "\n"


def _render(report: Report, style: Style) -> str:  # noqa: ARG001 - a program reads it the same in any style
    return _text(as_json(report))


def _joined(texts: Sequence[str]) -> str:
    """One document stays as it is; several become one array."""
    if len(texts) == 1:
        return texts[0]
    return _text([json.loads(text) for text in texts])


RENDERER = Renderer(
    "json",
    _render,
    EVERY_COMMAND,
    error=lambda error: _text(error_as_json(error)),
    join=_joined,
)
