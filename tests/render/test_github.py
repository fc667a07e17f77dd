"""Workflow commands, read back as GitHub's runner reads them."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from freezecheck.errors import TargetError
from freezecheck.records import Layer, LayerFacts, Location, Severity, Skipped
from freezecheck.render._renderer import Style
from freezecheck.render.github import RENDERER
from tests.render.golden import failed
from tests.render.placed import EVERYWHERE, checkout, everywhere, finding, placed
from tests.render.samples import DRIFT, verified

__all__ = ["checkout"]

COMMAND = re.compile(r"::(?P<level>\w+)(?: (?P<properties>.*?))?::(?P<message>.*)")


def read(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Every command as (level, properties, message), unescaped in the runner's order (ActionCommand.cs)."""
    found = []
    for line in text.split("\n"):
        if line.lstrip().startswith("::"):
            command = COMMAND.fullmatch(line)
            assert command, line
            pairs = (pair.partition("=") for pair in (command["properties"] or "").split(","))
            properties = {key: unescaped(value, property=True) for key, _, value in pairs}
            found.append((command["level"], properties, unescaped(command["message"])))
    return found


def unescaped(text: str, *, property: bool = False) -> str:  # noqa: A002 - the runner's own word
    for code, char in [("%0D", "\r"), ("%0A", "\n"), *([("%3A", ":"), ("%2C", ",")] if property else []), ("%25", "%")]:
        text = text.replace(code, char)
    return text


def rendered(report):
    return RENDERER.render(report, Style())


def test_nothing_found_is_no_annotation():
    """A check that is ok says so in the log and annotates nothing."""
    text = rendered(verified())
    assert read(text) == []
    assert text.startswith("freezecheck: ok")


def test_each_finding_is_annotated_by_its_severity():
    """Errors, warnings and notes, the gravest first: GitHub shows the first ten of a kind."""
    levels = [(level, properties["title"]) for level, properties, _ in read(rendered(failed()))]
    assert levels == [
        ("error", "FZ501 frozen-buffer-moved"),
        ("warning", "FZ401 frozen-parameter-in-optimizer"),
        ("notice", "FZ503 dropout-active-in-frozen-layer"),
    ]


def test_the_message_says_all():
    """Tensors, what is wrong, the line and the mend."""
    _, _, message = read(rendered(verified([DRIFT])))[0]
    assert message.splitlines() == [
        "bn.running_mean, bn.running_var, bn.num_batches_tracked (3 tensors)",
        DRIFT.message,
        "train.py:17: x = F.relu(self.bn(self.conv(x)))",
        "fix: model.bn.eval()   # after every model.train()",
    ]


def test_places_count_from_the_repository(checkout):
    """The code's line, else the spec's, from the root of the checkout whatever folder freezecheck runs in."""
    places = [(properties["file"], int(properties["line"])) for _, properties, _ in read(rendered(everywhere()))]
    assert places == [(f"models #1 ü/{file}", line) for file, line in EVERYWHERE]


def test_the_verdict_is_the_last_line_and_what_was_skipped_stands_before():
    """Both are in the log for whoever opens it."""
    lines = rendered(replace(failed(), skipped=(Skipped("FZ4", "no\noptimizer"),))).splitlines()
    assert lines[-1].startswith("freezecheck: 1 error")
    assert lines[-2] == "not checked: FZ4 — no\\noptimizer"


def test_an_error_is_annotated():
    """A check that could not be made is an error on the line that is to blame."""
    error = TargetError("it raised: 100%,\nreally", hint="mend it", location=Location("a.py", 3), frames=("  a.py:3",))
    ((level, properties, message),) = read(RENDERER.error(error))
    assert (level, properties) == (
        "error",
        {"file": "a.py", "line": "3", "title": "freezecheck could not check (target)"},
    )
    assert message == "it raised: 100%,\nreally\n  a.py:3\nhint: mend it"
    ((_, properties, _),) = read(RENDERER.error(TargetError("no place")))
    assert "file" not in properties


@given(st.text(), st.text(), st.text())
def test_whatever_a_name_holds_it_is_read_back(message, tensor, phase):
    """Per cent signs, colons, commas and line ends in names make no command of their own and lose nothing."""
    drift = replace(DRIFT, message=message, tensors=(tensor,), phase=phase, severity=Severity.ERROR)
    text = rendered(verified([drift]))
    start = text.partition("\n")[0]
    _, properties, said = read(start)[0]
    assert properties["title"] == "FZ501 frozen-buffer-moved" + (f" (phase {phase})" if phase else "")
    assert said.startswith(f"{tensor}\n{message}\n")
    assert text.count("\n::") == 0


def test_without_a_line_of_its_own_a_finding_is_shown_where_the_model_is_defined(checkout):
    """The nearest class of the user's around its tensors or layers, else the line that makes the model."""
    layers = [
        LayerFacts(Layer("", "Net", defined_at=Location("net.py", 9))),
        LayerFacts(Layer("block", "Block", defined_at=Location("net.py", 4))),
        LayerFacts(Layer("block.fc", "Linear")),
    ]
    found = [
        finding("FZ105", "block.layers.0.weight"),
        finding("FZ503", evidence={"layers": ["block.fc"]}),
        finding("FZ206"),
        finding("FZ201", "head.weight"),
    ]
    report = placed(*found, spec=False, made_at=Location("net.py", 20))
    with_classes = replace(report, case=replace(report.case, layers=tuple(layers)))
    lines = [properties["line"] for _, properties, _ in read(rendered(with_classes))]
    assert sorted(lines) == ["4", "4", "9", "9"]
    without = replace(report, case=replace(report.case, layers=()))
    assert {properties["line"] for _, properties, _ in read(rendered(without))} == {"20"}
