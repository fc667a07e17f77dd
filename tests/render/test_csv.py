"""CSV, read by Python's own reader."""

from __future__ import annotations

import csv
import io

from freezecheck.render._renderer import Style
from freezecheck.render.csv_format import COLUMNS, RENDERER
from freezecheck.render.json_format import as_json
from tests.render.golden import reported
from tests.render.samples import Sketch, bert, resnet50, tied


def rows(report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(RENDERER.render(report, Style()))))


def test_there_is_a_row_for_every_layer_under_its_full_name():
    """No layer is collapsed or shortened, whatever the table for people does."""
    report = reported(resnet50(), "x.py")
    assert [row["name"] for row in rows(report)] == [layer.name for layer in report.case.layers]


def test_the_numbers_are_those_of_the_json_report():
    """One truth: the totals of both are the same, and the columns are named alike."""
    report = reported(bert(), "x.py")
    layers = as_json(report)["layers"]
    assert list(COLUMNS) == list(layers[0])
    for row, layer in zip(rows(report), layers, strict=True):
        assert (int(row["trainable"]), int(row["frozen"])) == (layer["trainable"], layer["frozen"])
        assert row["training"] == str(layer["training"]).lower()


def test_nothing_is_an_empty_cell_and_codes_are_listed():
    """A layer that nothing holds has no word for what holds it; the codes of several findings stand in one cell."""
    report = reported(tied(), "x.py", "s.toml")
    assert [row["held_by"] for row in rows(report) if row["name"] == "blocks.0.fc"] == [""]
    found = as_json(report)["layers"]
    assert found[0]["findings"] == []


def test_a_name_may_hold_a_comma_a_quote_and_a_line_end():
    """Each comes back as it was."""
    net = Sketch("Net")
    names = ["a,b", 'c"d', "e\nf", "ü"]
    for name in names:
        net.linear(name, 2, 2)
    assert [row["name"] for row in rows(reported(net, "x.py"))[1:]] == names
