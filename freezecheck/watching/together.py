"""One report over all phases of a watched training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..records import Finding, Report, Skipped

if TYPE_CHECKING:
    from .stages import Stages

_OF_THE_SPEC = "FZ00"
"""Findings that have to do with the spec alone are the same in every phase that shares its lists."""


def together(reports: Sequence[Report], stages: Stages, watched: Sequence[str]) -> Report:
    """Return one report of those of the phases `watched`, in their order; the table is the last one's."""
    last = reports[-1]
    if not stages.names:
        return last
    findings: dict[Any, Finding] = {}
    for finding in (one for report in reports for one in report.findings):
        phase = None if finding.code.startswith(_OF_THE_SPEC) else finding.phase
        findings.setdefault((finding.code, finding.message, finding.location, finding.tensors, phase), finding)
    skipped = dict.fromkeys(s for report in reports for s in report.skipped)
    conditions = replace(last.case.conditions, phases=tuple(watched))
    return replace(
        last,
        case=replace(last.case, conditions=conditions),
        findings=tuple(sorted(findings.values(), key=lambda finding: -finding.severity.rank)),
        skipped=(*skipped, *_not_reached(stages, watched)),
        ran=tuple(dict.fromkeys(code for report in reports for code in report.ran)),
    )


def _not_reached(stages: Stages, watched: Sequence[str]) -> list[Skipped]:
    """The phases of which no step was seen, each with what would have told that it began."""
    first = stages.names.index(watched[0])
    left_out = [
        Skipped(f"phase {name}", f"the first steps were taken for phase {watched[0]}") for name in stages.names[:first]
    ]
    for name, setup in list(zip(stages.names, stages.setups, strict=True))[first + 1 :]:
        if name not in watched:
            called = f", and {setup} was not seen to be called" if setup else ""
            why = f"the script ended in phase {watched[-1]}: no change of flags fitted {name} better{called}"
            left_out.append(Skipped(f"phase {name}", why))
    return left_out
