"""For people: the layer table, the findings, and the verdict as the last line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..records import Conditions, Finding, Json, Location, Report, Severity
from ._compared import change_cells, change_lines
from ._layer_text import depth_to_show, layer_cells, layer_notes, tensor_line
from ._layers import LayerTable
from ._paint import COLOR_OF, LEAST_WIDTH, paint, printable, wrapped
from ._renderer import EVERY_COMMAND, Renderer, Style
from ._words import (
    by_severity,
    comparison_notes,
    count,
    listed,
    skipped_lines,
    subject,
    titled,
    trainable_line,
    verdict,
)

_LEFT = frozenset({"layer", "type", "expected", "actual", "state", "held by", "mode"})


def render(report: Report, style: Style) -> str:
    """Return the report as a person reads it, wrapped to `style.width` columns."""
    order = {"report": _layers_first, "diff": _changes_first}.get(report.command, _findings_first)
    blocks = list(order(report, style))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _layers_first(report: Report, style: Style) -> Iterable[str]:
    last = trainable_line(report.case)
    if style.quiet:
        yield "\n".join([*_grave_in_brief(report, style), last])
        return
    yield _layer_block(report, style)
    yield from _findings(report, style)
    yield _unchecked(report, style)
    if report.findings:
        yield _verdict(report, style)
    yield f"{tensor_line(report.case)}\n{last}"


def _findings_first(report: Report, style: Style) -> Iterable[str]:
    if style.quiet:
        yield "\n".join([*_grave_in_brief(report, style), _verdict(report, style)])
        return
    if style.verbose:
        yield _layer_block(report, style)
        yield f"{tensor_line(report.case)}\n{trainable_line(report.case)}"
    yield from _findings(report, style)
    yield _unchecked(report, style)
    yield "\n".join(line for line in (_conditions(report.case.conditions, style), _verdict(report, style)) if line)


def _changes_first(report: Report, style: Style) -> Iterable[str]:
    if style.quiet:
        yield "\n".join([*_grave_in_brief(report, style), _verdict(report, style)])
        return
    heads, cells, total = change_cells(report, style)
    yield report.target if report.spec is None else f"{report.target} against {report.spec}"
    yield "\n".join(_drawn(heads, cells, total))
    yield "\n".join(_wrapped(line, style, "") for line in change_lines(report.case, style))
    yield from _findings(report, style)
    yield "\n".join(_wrapped(f"note: {printable(note)}", style, "") for note in comparison_notes(report.case))
    yield _unchecked(report, style)
    yield _verdict(report, style)


def _drawn(heads: list[str], cells: list[list[str]], total: list[str]) -> list[str]:
    """Return a table's lines."""
    from tabulate import SEPARATING_LINE, tabulate

    drawn = tabulate(
        [heads, SEPARATING_LINE, *cells, SEPARATING_LINE, total],  # as `headers`, the heads would get two spaces more
        tablefmt="simple",
        colalign=["left" if head in _LEFT else "right" for head in heads],
        disable_numparse=True,
    )
    return [line.rstrip() for line in drawn.splitlines()[1:-1]]


def _layer_block(report: Report, style: Style) -> str:
    """Return the head, the table and what its marks mean."""
    head = report.target if report.spec is None else f"{report.target} against {report.spec}"
    table = LayerTable(report.case, every=style.all)
    depth = depth_to_show(report.case, table, style)
    rows = table.rows(depth)
    if not rows:
        return head
    heads, cells, total = layer_cells(report.case, rows, style)
    notes = (_wrapped(note, style, "") for note in layer_notes(report.case, rows, table.hidden(depth), style))
    return "\n".join([head, "", *_drawn(heads, cells, total), *notes])


def _findings(report: Report, style: Style) -> Iterable[str]:
    groups = by_severity(report.findings)
    for severity in (Severity.ERROR, Severity.WARNING):
        yield from (_finding(finding, style) for finding in groups[severity])
    notes = groups[Severity.NOTE]
    if style.verbose:
        yield from (_finding(finding, style) for finding in notes)
    elif notes:
        lines = [_painted(_wrapped(_brief(note, 1), style, ""), note, style) for note in notes]
        yield "\n".join([*lines, f"  ({style.ask('verbose')} explains {'it' if len(notes) == 1 else 'them'})"])


def _grave_in_brief(report: Report, style: Style) -> list[str]:
    grave = [f for f in report.findings if f.severity.rank >= report.fail_on.rank]
    return [_painted(_brief(finding, 3), finding, style) for finding in grave]


def _brief(finding: Finding, most: int) -> str:
    return f"{_head(finding)}: {printable(subject(finding, most))}"


def _head(finding: Finding) -> str:
    return f"{finding.severity.value} {titled(finding)}"


def _painted(text: str, finding: Finding, style: Style) -> str:
    """Colour the severity, with which a finding's text begins."""
    word = finding.severity.value
    return paint(word, COLOR_OF[word], style.color) + text.removeprefix(word)


def _finding(finding: Finding, style: Style) -> str:
    lines = [_painted(_head(finding), finding, style)]
    if finding.tensors:
        named = listed(finding.tensors, len(finding.tensors) if style.verbose else 3)
        tally = f" ({count(len(finding.tensors), 'tensor')})" if len(finding.tensors) > 1 else ""
        lines.append(_wrapped(printable(named) + tally, style))
    lines.extend(_wrapped(line, style) for line in finding.message.splitlines())
    if finding.location:
        lines.extend(_quoted(finding.location))
    if finding.fix:
        lines.extend(_fix(finding.fix, style))
    if style.verbose and finding.evidence:
        lines.append(_wrapped(f"seen: {_evidence(finding.evidence.items())}", style))
    return "\n".join(lines)


def _fix(fix: str, style: Style) -> Iterable[str]:
    """Return the fix below its word; a line that is too long is wrapped, the others keep their indentation."""
    first, *others = fix.splitlines()
    yield _wrapped(f"fix: {first}", style, "  ", "       ")
    yield from (f"       {line}" for line in others)


def _quoted(location: Location) -> list[str]:
    where = f"  {location}" + (f" in {location.function}" if location.function else "")
    return [where, f"    {location.text}"] if location.text else [where]


def _evidence(items: Iterable[tuple[str, Json]]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in items)


def _value(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        if {"file", "line"} <= value.keys():
            return f"{value['file']}:{value['line']}"
        return f"({_evidence(value.items())})"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return str(value)


def _unchecked(report: Report, style: Style) -> str:
    return "\n".join(_wrapped(f"not checked: {line}", style, "") for line in skipped_lines(report.skipped))


def _conditions(conditions: Conditions, style: Style) -> str:
    if not conditions.steps:
        return ""
    said = [
        "" if conditions.seed is None else f"seed {conditions.seed}",
        conditions.device,
        f"torch {conditions.torch}" if conditions.torch else "",
    ]
    for what in ("optimizer", "inputs", "loss"):
        value = getattr(conditions, what)
        said.append(f"{what} {value}" if value else "")
    if conditions.pretrained:
        said += [f"pretrained {conditions.pretrained}", *conditions.pretrained_notes]
    said.append(count(conditions.steps, "step"))
    if len(conditions.phases) > 1:
        said[-1] += f" in phase {conditions.phases[-1]}, after {', '.join(conditions.phases[:-1])}"
    return _wrapped("; ".join(part for part in said if part), style, "")


def _verdict(report: Report, style: Style) -> str:
    color, said = COLOR_OF["ok" if report.ok else "error"], verdict(report)
    if style.quiet or not style.wrap_verdict:
        return paint(said, color, style.color)
    return "\n".join(paint(line, color, style.color) for line in _wrapped(said, style, "").splitlines())


def _wrapped(text: str, style: Style, indent: str = "  ", then: str = "  ") -> str:
    return wrapped(text, max(style.width, LEAST_WIDTH), indent, then)


RENDERER = Renderer("text", render, EVERY_COMMAND)
