"""The page: whole in one file, true to the table of facts, small, and deaf to what a name says."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from freezecheck.errors import SpecError
from freezecheck.records import Case, Expected, Facts, Gradient, Location, Membership, Report, Severity, Skipped, Tensor
from freezecheck.render._paint import printable
from freezecheck.render._picture import MOST_CHILDREN, Picture
from freezecheck.render._picture_layout import LEAST, LEAST_WRONG, place
from freezecheck.render._picture_words import does, trouble
from freezecheck.render.html import MOST_FINDINGS, RENDERER, join
from tests.render.pictures import EVIL, Page, evil, finding, huge, names, rendered
from tests.render.samples import DRIFT, DROPOUT, IN_OPTIMIZER, Sketch, bert, resnet50, tied, trained, verified


def fact(name: str = "w", **more) -> Facts:
    tensor = {key: more.pop(key) for key in ("kind", "requires_grad", "numel", "dtype") if key in more}
    return Facts(Tensor(name, tensor.pop("kind", "parameter"), **tensor), **more)


def reported(sketch: Sketch) -> Report:
    return Report("report", "x.py", None, sketch.case())


# ---- what must stay silent


@pytest.mark.parametrize("report", [verified(), reported(resnet50()), reported(bert()), reported(tied())])
def test_a_model_that_is_right_has_no_mark(report):
    """Where nothing is found no box is wrong, and the legend does not speak of mistakes."""
    page = Page(rendered(report))
    assert set(page.data[0]["boxes"]["wrong"]) == {""}
    assert not any(page.data[0]["boxes"]["problems"])
    assert "not as" not in page.text
    assert "No findings" in page.text


def test_a_note_is_no_mistake():
    """A note is marked, but nothing is drawn as wrong."""
    note = finding("FZ107", "head.weight", severity=Severity.NOTE)
    boxes = Page(rendered(verified([note]))).data[0]["boxes"]
    assert set(boxes["wrong"]) == {""}
    assert max(boxes["rank"]) == 1


def test_names_from_the_model_are_only_ever_text():
    """No name makes an element, closes the data, or is taken for the mark between two reports."""
    page = Page(rendered(evil()))
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "class": "data"}, {}]
    assert not [tag for tag, _ in page.elements if tag in ("img", "iframe", "object")]
    handlers = [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert handlers == []
    assert printable(EVIL[0]) in page.text
    assert "49" not in page.text


def test_evil_names_come_through_unchanged():
    """The names that the script reads are the model's own, control characters made visible."""
    data = Page(rendered(evil())).data[0]
    assert names(data)[::2] == [printable(f"{name}.weight") for name in EVIL]


def test_nothing_is_fetched():
    """The page names no address, and its policy forbids the browser to fetch anything or to run another script."""
    text = rendered(verified([DRIFT]))
    page = Page(text)
    links = [attributes[name] for _, attributes in page.elements for name in ("src", "href") if name in attributes]
    assert links == ["data:,"]
    assert "url(" not in page.styles[0]
    assert "@import" not in page.styles[0]
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    for kind, content in (("script", page.scripts[-1][1]), ("style", page.styles[0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not [attributes for _, attributes in page.elements if "style" in attributes]


def test_a_report_without_a_model_is_a_page():
    """Where there are no tensors (an empty model, a reading of source alone) there are findings and no picture."""
    for case in (Case(()), Sketch("Identity").case()):
        page = Page(rendered(Report("lint", "src", None, case, (finding("FZ601"),))))
        assert page.data == []
        assert "FZ601" in page.text


# ---- what the page says


def test_it_says_all_of_a_finding():
    """Code, name, tensors, message, place, quoted line and fix of every finding are in the page without a script."""
    page = Page(rendered(verified([DRIFT, IN_OPTIMIZER, DROPOUT], trained(moved=False))))
    for one in (DRIFT, IN_OPTIMIZER, DROPOUT):
        for part in (one.code, one.name, one.message.replace("`", ""), one.fix.replace("`", "")):
            assert " ".join(part.split()) in page.text
    assert "train.py:17 in Net.forward" in page.text
    assert DRIFT.location.text in page.text
    assert "and 57 more" in page.text


def test_it_says_verdict_conditions_and_what_was_skipped():
    """The verdict stands at the top in words; under what it was seen, and what was not checked, at the bottom."""
    page = Page(rendered(verified([DRIFT], trained(moved=False), skipped=(Skipped("FZ401", "there is no optimizer"),))))
    heading = page.text.index("1 error — train.py does not train what freeze.toml says")
    assert heading < page.text.index("FZ501") < page.text.index("FZ401 — there is no optimizer")
    assert "SGD from train.py:optimizer" in page.text
    assert "float32[8, 3, 16, 16] from train.py:example_inputs" in page.text


def test_a_report_speaks_of_no_training():
    """`report` ran nothing: its first line counts flags, and there are no conditions and no bars."""
    page = Page(rendered(reported(resnet50())))
    assert "17,013,736 of 25,557,032 parameters train; nothing was run" in page.text
    assert "Conditions" not in page.text
    assert "log scale" not in page.text


def test_too_many_findings_are_counted():
    """Beyond a number that a page can hold the rest is counted, never dropped in silence."""
    many = [finding("FZ101", message=f"number {n}") for n in range(MOST_FINDINGS + 7)]
    text = Page(rendered(verified(many))).text
    assert f"number {MOST_FINDINGS - 1}" in text
    assert f"number {MOST_FINDINGS} " not in text
    assert "7 more are not shown here" in text


def test_several_reports_are_one_page():
    """`verify` with two specs, one of which could not be used, gives one page with both answers."""
    broken = RENDERER.error(
        SpecError("unknown key `trainabel`", hint="say `trainable`", location=Location("a.toml", 3))
    )
    page = Page(join([rendered(evil()), broken, rendered(verified([DRIFT]))]))
    assert [tag for tag, _ in page.elements].count("article") == 3
    assert [tag for tag, _ in page.elements].count("html") == 1
    assert len(page.data) == 2
    assert "could not check: unknown key `trainabel`" in page.text
    assert "a.toml:3" in page.text


# ---- the data that the picture is drawn from


def test_the_tensors_are_the_facts():
    """Every tensor is in the table with its name, shape, state and numbers, buffers and tied ones too."""
    report = Report("verify", "x", "s", tied().case(spec=True))
    data = Page(rendered(report)).data[0]
    assert names(data) == [f.name for f in report.case.facts]
    assert data["tensors"]["numel"] == [f.tensor.numel for f in report.case.facts]
    assert data["tensors"]["expected"] == [f.expected.value for f in report.case.facts]
    assert data["tensors"]["aliases"] == {"1": ["lm_head.weight"]}


def test_no_number_breaks_json():
    """NaN and infinity, which JSON lacks, come as words; small numbers keep their digits."""
    net = Sketch("Net")
    for name, value in (("a", math.nan), ("b", math.inf), ("c", 1.23456e-9), ("d", None)):
        net.tensor(name, 2, gradient=Gradient.NONFINITE, gradient_max=value, moved=True, max_abs_change=value)
    data = Page(rendered(Report("verify", "x", None, net.case()))).data[0]
    assert data["tensors"]["change"] == ["NaN", "∞", 1.235e-09, None]
    assert data["boxes"]["change"][0] == "NaN"


def test_ten_thousand_tensors_stay_small():
    """The page of a model of 10,000 tensors is below 3 MB, and no box has more children than a column can show."""
    text = rendered(huge())
    assert len(text.encode()) < 3_000_000
    data = Page(text).data[0]
    assert len(data["tensors"]["box"]) == 10_000
    assert max(Counter(data["boxes"]["parent"]).values()) <= MOST_CHILDREN


def test_groups_do_not_change_names():
    """A layer with a thousand tensors gets groups in between, and its tensors keep their names and order."""
    net = Sketch("Net")
    for number in range(5000):
        net.tensor(f"w{number}", 1)
    data = Page(rendered(reported(net))).data[0]
    assert names(data) == [f"w{number}" for number in range(5000)]
    assert "w0 … w156" in data["boxes"]["label"]


@pytest.mark.parametrize(
    ("facts", "done"),
    [
        (fact(requires_grad=True), "trainable"),
        (fact(requires_grad=False), "frozen"),
        (fact(requires_grad=True, moved=False), "frozen"),
        (fact(requires_grad=False, moved=True), "trainable"),
        (fact(requires_grad=True, gradient=Gradient.NONE), "frozen"),
        (fact(requires_grad=True, gradient=Gradient.ZERO), "trainable"),
        (fact(kind="buffer", moved=True), "none"),
    ],
)
def test_what_was_seen_beats_the_flag(facts, done):
    """A tensor is drawn by what it did; by gradient or flag only where nothing was watched."""
    assert does(facts) == done


@pytest.mark.parametrize(
    ("facts", "code", "words"),
    [
        (fact(expected=Expected.FROZEN, moved=True), "FZ301", "should be frozen, but trains"),
        (fact(expected=Expected.FROZEN, moved=True, requires_grad=False), "FZ301", "should be frozen, but moves"),
        (fact(expected=Expected.FROZEN, moved=False), "FZ101", "should be frozen: requires_grad is True"),
        (fact(expected=Expected.FROZEN, moved=False, requires_grad=False), "FZ401", "frozen requires grad"),
        (fact(kind="buffer", expected=Expected.FROZEN, moved=True), "FZ501", "should stay, but moves"),
        (fact(moved=False, requires_grad=False), "FZ102", "should train: requires_grad is False"),
        (fact(moved=False, gradient=Gradient.NONE), "FZ201", "should train: no gradient reaches it"),
        (fact(moved=False, gradient=Gradient.NONE, used=False), "FZ201", "should train: the forward does not use it"),
        (fact(moved=False, gradient=Gradient.ZERO), "FZ202", "should train: its gradient is zero"),
        (fact(moved=True, gradient=Gradient.NONFINITE), "FZ204", "should train: its gradient is NaN or infinite"),
        (fact(moved=False, gradient=Gradient.NONZERO), "FZ402", "should train: in no optimizer"),
        (fact(moved=False, gradient=Gradient.NONZERO, memberships=(Membership(0, 0, 0.0),)), "FZ405",
         "should train: lr is 0"),
        (fact(moved=False, gradient=Gradient.NONZERO), "FZ303", "should train: its update rounds to nothing"),
        (fact(moved=False, gradient=Gradient.NONZERO), "FZ302", "should train, but does not"),
        (fact(moved=True, gradient=Gradient.NONZERO), "FZ404", "frozen requires grad"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_few_words(facts, code, words):
    """Beside a wrong box stands what is expected and the first thing in its way, else the finding's name."""
    if facts.expected is Expected.UNCHECKED:
        facts = replace(facts, expected=Expected.TRAINABLE)
    assert trouble(facts, finding(code)) == words


def test_a_warning_is_milder_than_an_error():
    """Warnings alone have a sign and a mark of their own; an error beside them brings its own into the legend."""
    warning = finding("FZ202", "head.weight", severity=Severity.WARNING)
    error = finding("FZ201", "head.bias")
    mild, grave = (Page(rendered(verified(found))) for found in ([warning], [warning, error]))
    assert ("⚠" in mild.text, "✗" in mild.text) == (True, False)
    assert ("⚠" in grave.text, "✗" in grave.text) == (False, True)
    assert "error: not as it should be" not in mild.text
    assert "error: not as it should be" in grave.text


def test_a_fix_is_code_only_where_it_is_nothing_else():
    """A fix that parses stands in a code box; prose stays prose, with the code in it marked."""
    fixes = ("model.eval()", "move `x = f(x)` out of the `no_grad` block")
    code, prose = (rendered(verified([replace(finding("FZ201"), fix=fix)])) for fix in fixes)
    assert "<pre>model.eval()</pre>" in code
    assert "<p>move <code>x = f(x)</code> out of the <code>no_grad</code> block</p>" in prose


def test_a_layer_says_which_of_its_tensors_is_wrong():
    """Where one parameter of several is wrong the layer names it; of its buffers it speaks in the plural."""
    drift = replace(DRIFT, tensors=("bn.running_mean",))
    picture = Picture(verified([finding("FZ402", "head.bias"), drift], trained(moved=False)))
    said = [picture.boxes[picture.of_path[path]].wrong for path in ("head", "bn")]
    assert said == ["bias should train: in no optimizer", "buffers should stay, but move"]


def test_a_finding_without_tensors_marks_those_of_its_evidence_or_message():
    """An optimizer that holds a replaced head names no tensor of the model; the new head is marked all the same."""
    by_evidence = finding("FZ403", evidence={"in_no_optimizer": ["head.weight"]}, message="`conv` is named too")
    by_message = finding("FZ403", message="`head.bias` is in no optimizer, `nowhere` is no tensor")
    picture = Picture(verified([by_evidence, by_message]))
    assert picture.subjects == (("head.weight",), ("head.bias",))
    assert picture.boxes[picture.of_path["head"]].wrong


def test_a_tied_tensor_is_wrong_under_each_of_its_names():
    """A finding about a tied tensor is seen in every layer that shares it."""
    report = Report("verify", "x", "s", tied().case(spec=True), (finding("FZ002", "emb.weight"),))
    picture = Picture(report)
    assert {path for path, box in picture.of_path.items() if picture.boxes[box].wrong} == {
        "emb", "emb.weight", "lm_head", "lm_head.weight"
    }  # fmt: skip


def test_only_a_layer_that_is_wrong_as_a_whole_is_drawn_so():
    """A container is wrong when all in it is; otherwise it counts what is wrong inside."""
    net = tied()
    some = Report("verify", "x", "s", net.case(spec=True), (finding("FZ101", "blocks.0.fc.weight"),))
    every = replace(some, findings=(finding("FZ101", *(n for n in net.facts if n.startswith("blocks"))),))
    for report, wrong, problems in ((some, "", 1), (every, "should be frozen, but trains", 6)):
        box = (picture := Picture(report)).boxes[picture.of_path["blocks"]]
        assert (box.wrong, box.problems) == (wrong, problems)


def test_a_checkpoint_without_layers_has_a_picture():
    """Where only tensors are known (two checkpoints compared) the layers are made of their names."""
    case = Case((fact("a.b.weight", moved=None, requires_grad=False), fact("a.c", moved=True)))
    picture = Picture(Report("diff", "x", None, case))
    assert [box.label for box in picture.boxes] == ["checkpoint", "a", "c", "b", "weight"]
    assert Page(rendered(Report("diff", "x", None, case))).data


# ---- where the boxes lie


@pytest.mark.parametrize("report", [reported(resnet50()), reported(bert()), verified([DRIFT]), huge(10)])
@pytest.mark.parametrize("columns", [1, 2, 4, 9])
def test_the_rows_fill_the_picture(report, columns):
    """Rows follow one another without gap or overlap, none too small to read, the larger never the smaller."""
    boxes = Picture(report).boxes
    places = place(boxes, 0, columns, 500)
    rows = [one for one in places if one.row]
    assert max(one.depth for one in places) < columns
    assert rows[0].top == 0
    for one, below in pairwise(rows):
        assert below.top == pytest.approx(one.top + one.height)
    assert rows[-1].top + rows[-1].height == pytest.approx(places[0].height)
    assert min(one.height for one in rows) >= LEAST - 1e-9
    plain = sorted((one for one in rows if not boxes[one.box].wrong), key=lambda one: boxes[one.box].size)
    assert all(one.height <= other.height + 1e-9 for one, other in pairwise(plain))


def test_what_is_wrong_is_in_sight():
    """The tensors of one wrong layer among hundreds are opened to, and its row is tall enough to be seen."""
    net = bert()
    report = Report("verify", "x", "s", net.case(spec=True), (finding("FZ201", "encoder.layer.7.output.dense.bias"),))
    picture = Picture(report)
    places = place(picture.boxes, 0, 8, 500)
    wrong = picture.of_path["encoder.layer.7.output.dense"]
    assert next(one.height for one in places if one.box == wrong) >= LEAST_WRONG


def test_space_goes_to_what_is_wrong():
    """Beside a fault every sound layer stays closed, and few rows make a low picture."""
    net = bert()
    report = Report("verify", "x", "s", net.case(spec=True), (finding("FZ201", "encoder.layer.7.output.dense.bias"),))
    picture = Picture(report)
    places = place(picture.boxes, 0, 8, 5000)
    opened = {one.box for one in places if not one.row}
    assert all(picture.boxes[box].problems for box in opened)
    assert picture.of_path["encoder.layer.7.output"] in opened
    assert places[0].height < 5000
