"""The layer table as cells of text, before it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..records import Case
from ._layers import LayerTable, Row
from ._paint import COLOR_OF, columns_of, paint, printable, shortened
from ._renderer import Style
from ._words import count, in_bytes, share, ties, totals

_GAP = 2
"""Spaces between two columns."""
_SHORT_TYPE, _SHORT_NAME = 10, 12
"""What is left at least of a class's and of a layer's name that is too long."""

KEPT = "kept"
"""Head of the column that says what each layer keeps for the backward pass."""
_Cell = Callable[[Row], str]
_COMFORT = 100
"""A table up to so wide is worth its depth, even where the terminal is narrower and long names have to be shortened."""

LayerCells = tuple[list[str], list[list[str]], list[str]]
"""Heads, rows and the row of totals."""


def depth_to_show(case: Case, table: LayerTable, style: Style) -> int:
    """Return the depth the user asked for, else the deepest that fits a screen; with `all`, the deepest there is."""
    if style.depth is not None:
        return style.depth
    if style.all:
        return table.deepest
    room = max(style.width, _COMFORT)

    def fits(rows: Sequence[Row]) -> bool:
        lines = _lines(case, rows)
        _shorten(lines, "type", _SHORT_TYPE)
        return _width(lines) <= room

    return table.depth(fits)


def layer_cells(case: Case, rows: Sequence[Row], style: Style) -> LayerCells:
    """Return the table's cells, coloured and shortened as the style asks."""
    lines = _lines(case, rows)
    if not style.all:
        _fit(lines, style.width)
    columns, *cells, total = lines
    for row, line in zip(rows, cells, strict=True):
        for head in ("state", "actual", "expected"):
            if head in line:
                color = "red" if row.wrong and head == "actual" else COLOR_OF.get(line[head])
                line[head] = paint(line[head], color, style.color)
    return list(columns), [list(line.values()) for line in cells], list(total.values())


def _lines(case: Case, rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the heads, the rows and the totals, each cell under its column's head."""
    columns = _columns(case, rows)
    seen = totals(case)
    total = dict.fromkeys(columns, "") | {
        "layer": "total",
        "trainable": f"{seen.trainable:,}",
        "frozen": f"{seen.frozen:,}",
        "%": share(seen.trainable, seen.parameters, 1),
    }
    if KEPT in columns:
        total[KEPT] = in_bytes(case.layers[0].saved_bytes)
    cells = [{head: cell(row) for head, cell in columns.items()} for row in rows]
    return [dict(zip(columns, columns, strict=True)), *cells, total]


def _columns(case: Case, rows: Sequence[Row]) -> dict[str, _Cell]:
    columns: dict[str, _Cell] = {
        "layer": _name,
        "type": lambda row: printable(row.type),
        "trainable": lambda row: f"{row.trainable:,}",
        "frozen": lambda row: f"{row.frozen:,}",
        "%": _percent,
    }
    if case.plan.from_spec:
        columns["expected"] = lambda row: row.expected
        columns["actual"] = lambda row: row.actual + (" !" if row.wrong else "")
    else:
        columns["state"] = lambda row: row.actual
    if held_otherwise(rows):
        columns["held by"] = lambda row: row.held_by or ""
    if any(row.saved is not None for row in rows):
        columns[KEPT] = lambda row: in_bytes(row.saved)
    columns["mode"] = lambda row: row.mode + (" *" if row.drifts else "")
    return columns


def held_otherwise(rows: Sequence[Row]) -> bool:
    """Whether anything but `requires_grad` holds a layer, so that the table needs a column for it."""
    return any(row.held_by not in (None, "requires_grad") for row in rows)


def _name(row: Row) -> str:
    name = printable(row.name)
    return f"{name} ×{row.times}" if row.times > 1 else name


def _percent(row: Row) -> str:
    whole = row.trainable + row.frozen
    return share(row.trainable, whole, 1) if whole else ""


def _widths(lines: Sequence[dict[str, str]]) -> dict[str, int]:
    return {head: max(columns_of(line[head]) for line in lines) for head in lines[0]}


def _width(lines: Sequence[dict[str, str]]) -> int:
    widths = _widths(lines).values()
    return sum(widths) + _GAP * (len(widths) - 1)


def _fit(lines: Sequence[dict[str, str]], width: int) -> None:
    """Narrow the table in place, each only if need be: cut long types, do without types, without %, cut long names."""
    if (excess := _width(lines) - width) > 0:
        _shorten(lines, "type", max(_widths(lines)["type"] - excess, _SHORT_TYPE))
    for head in ("type", "%"):
        if _width(lines) > width:
            for line in lines:
                del line[head]
    if (excess := _width(lines) - width) > 0:
        _shorten(lines, "layer", max(_widths(lines)["layer"] - excess, _SHORT_NAME))


def _shorten(lines: Sequence[dict[str, str]], head: str, width: int) -> None:
    for line in lines:
        line[head] = shortened(line[head], width)


def layer_notes(case: Case, rows: Sequence[Row], hidden: int, style: Style) -> list[str]:
    """Say below the table what its marks mean and what it does not show."""
    notes = []
    if any(row.wrong for row in rows):
        compared = "between the two it changed, or stayed, against what the spec says"
        flags = "its requires_grad flags are not what the spec says"
        notes.append(f"! {flags if case.comparison is None else compared}")
    if any(row.drifts for row in rows):
        notes.append("* in this mode its buffers (BatchNorm statistics and the like) still move, although it is frozen")
    if any(row.held_by for row in rows) and not held_otherwise(rows):
        notes.append("what is frozen is held by requires_grad")
    if any(row.saved is not None for row in rows):
        notes.append("kept: the activations that one forward keeps for the backward pass")
    if any(row.times > 1 for row in rows):
        notes.append(f"×N: N equal layers in one row, their counts summed; {style.ask('all')} opens them")
    if hidden:
        notes.append(f"{count(hidden, 'layer')} without parameters or buffers left out; {style.ask('all')} shows them")
    return notes + [printable(line) for line in ties(case)]


def tensor_line(case: Case) -> str:
    """Count tensors: `2 trainable tensors, 60 frozen tensors, 40 buffers`."""
    seen = totals(case)
    if not case.facts:
        return "the model has no parameters and no buffers"
    moved, still = ("trainable", "frozen") if case.comparison is None else ("changed", "unchanged")
    return ", ".join(
        (
            count(seen.trainable_tensors, f"{moved} tensor"),
            count(seen.frozen_tensors, f"{still} tensor"),
            count(seen.buffers, "buffer"),
        )
    )
