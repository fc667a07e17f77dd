"""The sentences that more than one output format says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import FreezecheckError
from ..records import Case, Change, Expected, Facts, Finding, Gradient, Need, Report, Severity, Skipped


@dataclass(frozen=True, slots=True)
class Totals:
    """Numbers of parameters by `requires_grad`, each tied tensor once."""

    trainable: int
    frozen: int
    trainable_tensors: int
    frozen_tensors: int
    buffers: int

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.trainable + self.frozen


def totals(case: Case) -> Totals:
    """Count the parameters, and the parameter tensors, that require grad and those that do not."""
    on = [f.tensor.numel for f in case.parameters if f.tensor.requires_grad]
    off = [f.tensor.numel for f in case.parameters if not f.tensor.requires_grad]
    return Totals(sum(on), sum(off), len(on), len(off), len(case.buffers))


def by_severity(findings: Sequence[Finding]) -> dict[Severity, list[Finding]]:
    """Group findings, gravest first; every severity has its list."""
    return {s: [f for f in findings if f.severity is s] for s in (Severity.ERROR, Severity.WARNING, Severity.NOTE)}


def count(number: int, noun: str) -> str:
    """Return `1 tensor`, `1,200 tensors`; a noun in -y is not among those used."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Name the first of many: `a, b, c and 57 more`."""
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most:,} more"


def titled(finding: Finding) -> str:
    """Return `FZ201 no-gradient`, with the phase where there is one."""
    return f"{finding.code} {finding.name}" + (f" (phase {finding.phase})" if finding.phase else "")


def subject(finding: Finding, most: int = 3) -> str:
    """Return what a finding is about, for one line: its tensors; where it has none, its message's first clause."""
    return listed(finding.tensors, most) or re.split(r"[.:](?:\s|$)", finding.message, maxsplit=1)[0]


def full_text(finding: Finding) -> str:
    """Return all that a finding says, one thing a line, for formats that give it no layout of their own."""
    tally = f" ({count(len(finding.tensors), 'tensor')})" if len(finding.tensors) > 1 else ""
    lines = [f"{listed(finding.tensors)}{tally}"] if finding.tensors else []
    lines.append(finding.message)
    if finding.location and finding.location.text:
        lines.append(f"{finding.location}: {finding.location.text}")
    if finding.fix:
        lines.append(f"fix: {finding.fix}")
    return "\n".join(lines)


def error_text(error: FreezecheckError) -> str:
    """Return all that is said of a check that could not be made: what, the user's frames, what to do."""
    place = f"at {error.location}" if error.location and not error.frames else ""
    hint = f"hint: {error.hint}" if error.hint else ""
    return "\n".join(part for part in (error.message, place, *error.frames, hint) if part)


def in_bytes(number: int | None) -> str:
    """Return `768 B`, `1.5 KiB`, `12.0 MiB`; nothing for None."""
    if number is None:
        return ""
    size, units = float(number), iter(("KiB", "MiB", "GiB"))
    unit = "B"
    while size >= 1024 and (larger := next(units, None)):
        size, unit = size / 1024, larger
    return f"{number} B" if unit == "B" else f"{size:,.1f} {unit}"


def share(part: int, whole: int, digits: int = 4) -> str:
    """Return `part` in percent of `whole`; of nothing it is 0."""
    return f"{100 * part / whole if whole else 0:.{digits}f}"


def trainable_line(case: Case) -> str:
    """Return the line that people know from PEFT."""
    seen = totals(case)
    percent = share(seen.trainable, seen.parameters)
    word = "trainable" if case.comparison is None else "changed"
    return f"{word} params: {seen.trainable:,} || all params: {seen.parameters:,} || {word}%: {percent}"


def ties(case: Case) -> list[str]:
    """Say which names are one tensor."""
    tied = [f for f in case.facts if f.tensor.aliases]
    return [
        f"{' and '.join(f.tensor.aliases)} {'is' if len(f.tensor.aliases) == 1 else 'are'} tied to {f.name}: "
        f"{count(f.tensor.numel, 'element')}, counted once in the total"
        for f in tied
    ]


def skipped_lines(skipped: Sequence[Skipped]) -> list[str]:
    """Say what was not checked, one line for each reason."""
    reasons: dict[str, list[str]] = {}
    for item in skipped:
        reasons.setdefault(item.why, []).append(item.what)
    return [f"{', '.join(dict.fromkeys(what))} — {why}" for why, what in reasons.items()]


def intent(report: Report) -> str:
    """Name where the expectation comes from."""
    return (report.spec or "the spec") if report.case.plan.from_spec else "its requires_grad flags"


def verdict(report: Report) -> str:
    """Say in one line how the check ended, and when it ended well, what that rests on."""
    groups = by_severity(report.findings)
    found = ", ".join(count(len(group), severity.value) for severity, group in groups.items() if group)
    skipped = f"; {count(len(report.skipped), 'thing')} not checked" if report.skipped else ""
    if report.case.comparison is not None:
        return _compared(report, found, skipped)
    if report.failed:
        says = "says" if report.case.plan.from_spec else "say"
        does = "does not" if groups[Severity.ERROR] else "may not"
        return f"freezecheck: {found} — {report.target} {does} train what {intent(report)} {says}{skipped}"
    phases = report.case.conditions.phases
    if report.ending is not None:
        at = f" at {report.ending.location}" if report.ending.location else ""
        until = f"until then {found}, " if found else "until then "
        return f"freezecheck: {report.target} {report.ending.said}{at} — {until}{evidence(report.case)}{skipped}"
    of = f"in phase {phases[-1]}: " if phases else ""
    return f"freezecheck: ok{f' with {found}' if found else ''} — {of}{evidence(report.case)}{skipped}"


def _compared(report: Report, found: str, skipped: str) -> str:
    """The verdict over two checkpoints: what changed and, where a spec says what may, whether it was allowed to."""
    what = tally(report.case)
    if report.spec is None:
        return f"freezecheck: {what}"
    if not report.ok:
        return f"freezecheck: {found} — {report.target} is not what {report.spec} says: {what}{skipped}"
    return f"freezecheck: ok{f' with {found}' if found else ''} — {what}{skipped}"


def tally(case: Case) -> str:
    """Count what changed between two checkpoints: `2 of 62 tensors changed, 60 are the same byte for byte`."""
    changes = [fact.change or Change() for fact in case.facts]
    same = sum(change.same is True for change in changes)
    differ = sum(change.same is False for change in changes)
    alone = sum(change.missing for change in changes)
    unknown = len(changes) - same - differ - alone
    parts = [f"{differ:,} of {count(len(changes), 'tensor')} changed"]
    if same:
        lowered = any(change.same and change.compared_as for change in changes)
        how = "as far as their dtypes tell" if lowered else "byte for byte"
        parts.append(f"{same:,} {'is' if same == 1 else 'are'} the same {how}")
    if alone:
        parts.append(f"{alone:,} {'is' if alone == 1 else 'are'} in one checkpoint only")
    if unknown:
        parts.append(f"{unknown:,} could not be compared")
    return ", ".join(parts)


def comparison_notes(case: Case) -> tuple[str, ...]:
    """Return what must be known of how two checkpoints were brought together."""
    return case.comparison.notes if case.comparison else ()


def evidence(case: Case) -> str:
    """Say what was seen of the tensors that have an expectation: never more than what was really observed."""
    parts = [_trained(case)] if case.trainable else []
    kept = [("frozen tensor", case.frozen), ("buffer", tuple(f for f in case.buffers if _must_stay(f)))]
    for moved, words in ((False, "stayed byte for byte"), (None, "not watched for change"), (True, "moved")):
        some = [(noun, sum(f.moved is moved for f in facts)) for noun, facts in kept]
        if any(number for _, number in some):
            parts.append(f"{' and '.join(count(number, noun) for noun, number in some if number)} {words}")
    held = [facts.frozen_rows for facts in case.facts if facts.frozen_rows is not None]
    if held and not any(rows.moved for rows in held):
        parts.append(f"{count(sum(rows.count for rows in held), 'frozen row')} stayed byte for byte")
    return ", ".join(parts) or "nothing is expected of any tensor"


def _must_stay(facts: Facts) -> bool:
    return facts.expected is Expected.FROZEN and not facts.may_move


def _trained(case: Case) -> str:
    """Say what the trainable tensors did. How far freezecheck's own optimizer moved them would say little."""
    own = Need.OPTIMIZER in case.missing
    tally = Counter(_seen(replace(f, moved=None) if own and f.gradient in _REACHED else f) for f in case.trainable)
    words = [f"{count(number, 'trainable tensor')} {words}" for words, number in sorted(tally.items())]
    return ", ".join(words)


_REACHED = (Gradient.NONZERO, Gradient.NONFINITE)


def _seen(facts: Facts) -> str:
    reached = facts.gradient in _REACHED
    if reached and facts.moved:
        return "got gradients and moved"
    if reached:
        return "got gradients" if facts.moved is None else "got gradients and did not move"
    if facts.moved:
        said = {Gradient.ZERO: "moved with a gradient of zero", Gradient.NONE: "moved without a gradient"}
        return said.get(facts.gradient, "moved") if facts.gradient else "moved"
    if facts.gradient is not None:
        return "got no gradient"
    return "with requires_grad set" if facts.tensor.requires_grad else "without requires_grad"
