"""For spreadsheets: `report` as CSV, a row for every layer under its full name."""

from __future__ import annotations

import csv
import io

from ..records import Json, Report
from ._renderer import Renderer, Style
from .json_format import as_json

COLUMNS = (
    "name",
    "type",
    "depth",
    "trainable",
    "frozen",
    "expected",
    "actual",
    "held_by",
    "training",
    "saved_bytes",
    "findings",
)
"""Those of a layer in the JSON report; the root's name is empty."""


def _render(report: Report, style: Style) -> str:  # noqa: ARG001 - a program reads it the same in any style
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(layer[column]) for column in COLUMNS] for layer in as_json(report)["layers"])
    return text.getvalue()


def _cell(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(value)
    return "" if value is None else str(value)


RENDERER = Renderer("csv", _render, frozenset({"report"}))
