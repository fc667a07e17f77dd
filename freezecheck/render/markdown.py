"""For a pull request's comment or `$GITHUB_STEP_SUMMARY`: GitHub's Markdown."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Sequence
from html import escape

from ..errors import FreezecheckError
from ..records import Finding, Report, Severity
from ._compared import change_cells, change_lines
from ._layer_text import KEPT, depth_to_show, layer_cells, layer_notes, tensor_line
from ._layers import LayerTable
from ._paint import printable
from ._renderer import EVERY_COMMAND, Renderer, Style
from ._words import by_severity, comparison_notes, count, skipped_lines, titled, trainable_line, verdict

_WIDE = 10_000
"""Columns: Markdown wraps its text itself, and a table may be as wide as it needs."""
_SPAN = re.compile(r"(`[^`\n]+`)")
_SPECIAL = re.compile(r"([\\`*_\[\]~$]|^[#+-])")
_MOST_NAMES = 3
_NUMBERS = frozenset({"trainable", "frozen", "%", KEPT, "changed", "largest", "mean"})


def _render(report: Report, style: Style) -> str:
    return "\n\n".join(block for block in _blocks(report, style) if block) + "\n"


def _blocks(report: Report, style: Style) -> Iterator[str]:
    groups = by_severity(report.findings)
    overview = report.command == "report"
    yield _heading(report)
    if overview and not style.quiet:
        yield from _layers(report, style)
    for severity in (Severity.ERROR, Severity.WARNING):
        yield from (_finding(finding, style) for finding in groups[severity])
    if style.quiet:
        return
    notes = "\n\n".join(_finding(finding, style) for finding in groups[Severity.NOTE])
    yield notes if style.verbose or not notes else _folded(count(len(groups[Severity.NOTE]), "note"), notes)
    yield "\n".join(f"- note: {escaped(note)}" for note in comparison_notes(report.case))
    yield "\n".join(f"- not checked: {escaped(line)}" for line in skipped_lines(report.skipped))
    if not overview and report.case.layers:
        table = _layers(report, style) if report.case.comparison is None else _changes(report, style)
        yield _folded(trainable_line(report.case), "\n\n".join(part for part in table if part))


def _heading(report: Report) -> str:
    if report.command == "report" and not report.findings:
        return f"### freezecheck: {escaped(report.target)}"
    return f"### {'✅' if report.ok else '❌'} {escaped(verdict(report))}"


def _finding(finding: Finding, style: Style) -> str:
    place = finding.location
    lines = [f"#### {finding.severity.value} {escaped(titled(finding))}"]
    if finding.tensors:
        lines.append(_named(finding.tensors, len(finding.tensors) if style.verbose else _MOST_NAMES))
    lines.append("  \n".join(escaped(line) for line in finding.message.splitlines()))
    if place:
        lines.append(code(str(place)) + (f" in {code(place.function)}" if place.function else ""))
        if place.text:
            lines.append(fenced(place.text, "python" if place.file.endswith(".py") else "toml"))
    if finding.fix:
        lines.append(f"fix:\n{fenced(finding.fix)}" if is_code(finding.fix) else f"fix: {escaped(finding.fix)}")
    return "\n\n".join(lines)


def is_code(fix: str) -> bool:
    """Whether a fix is nothing but lines of Python or of a spec; most are prose around some."""
    for parse in (ast.parse, tomllib.loads):
        try:
            parse(fix)
        except (ValueError, SyntaxError):
            continue
        return True
    return False


def _named(names: Sequence[str], most: int) -> str:
    shown = names if len(names) <= most + 1 else names[:most]
    said = ", ".join(code(name) for name in shown)
    more = f" and {len(names) - len(shown):,} more" if len(shown) < len(names) else ""
    return said + more + (f" ({count(len(names), 'tensor')})" if len(names) > 1 else "")


def _layers(report: Report, style: Style) -> Iterator[str]:
    wide = Style(width=_WIDE, depth=style.depth, all=style.all)
    table = LayerTable(report.case, every=style.all)
    depth = depth_to_show(report.case, table, wide)
    rows = table.rows(depth)
    if rows:
        yield _table(*layer_cells(report.case, rows, wide), code_columns=2)
        yield "\n".join(f"- {escaped(note)}" for note in layer_notes(report.case, rows, table.hidden(depth), style))
    yield f"{escaped(tensor_line(report.case))}  \n{escaped(trainable_line(report.case))}"


def _changes(report: Report, style: Style) -> Iterator[str]:
    yield _table(*change_cells(report, Style(width=_WIDE, depth=style.depth, all=style.all)), code_columns=1)
    yield "\n".join(f"- {escaped(line)}" for line in change_lines(report.case, style))


def _table(heads: list[str], cells: list[list[str]], total: list[str], *, code_columns: int) -> str:
    """Draw a table; the first columns are names, shown as code, and the row of totals is bold."""
    from tabulate import tabulate

    lines = [[*map(code, line[:code_columns]), *map(escaped, line[code_columns:])] for line in cells]
    lines.append([f"**{cell}**" if cell else "" for cell in total])
    return tabulate(
        [[cell.replace("|", "\\|") for cell in line] for line in lines],
        headers=heads,
        tablefmt="pipe",
        colalign=["right" if head in _NUMBERS else "left" for head in heads],
        disable_numparse=True,
    )


def _error(error: FreezecheckError) -> str:
    blocks = [f"### ❌ freezecheck: could not check ({error.kind})", fenced("\n".join([error.message, *error.frames]))]
    if error.location and not error.frames:
        blocks.append(f"at {code(str(error.location))}")
        blocks.append(fenced(error.location.text, "") if error.location.text else "")
    if error.hint:
        blocks.append(f"hint: {escaped(error.hint)}")
    return "\n\n".join(block for block in blocks if block) + "\n"


def _folded(summary: str, body: str) -> str:
    return f"<details>\n<summary>{escape(summary, quote=False)}</summary>\n\n{body}\n\n</details>"


def escaped(text: str) -> str:
    """Return prose that Markdown shows as it is written; code between backticks stays code."""
    return "".join(code(part[1:-1]) if _SPAN.fullmatch(part) else _plain(part) for part in _SPAN.split(text))


def _plain(text: str) -> str:
    return escape(_SPECIAL.sub(r"\\\1", printable(text)), quote=False)


def code(text: str) -> str:
    """Return a text as inline code, whatever backticks it holds."""
    text = printable(text)
    fence = "`" * (_longest_run(text) + 1)
    room = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{room}{text}{room}{fence}" if text else ""


def fenced(text: str, language: str = "") -> str:
    """Return a text as a code block, whatever backticks it holds."""
    fence = "`" * max(_longest_run(text) + 1, 3)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


RENDERER = Renderer("markdown", _render, EVERY_COMMAND, error=_error)
