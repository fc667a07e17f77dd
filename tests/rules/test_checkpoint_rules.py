"""FZ701 to FZ704 on hand-made rows, and the examples in the docstrings of those that compare two checkpoints."""

from __future__ import annotations

import re
import runpy

import pytest
import torch

from freezecheck.differ import diff
from freezecheck.discover import rules
from freezecheck.records import Change, Comparison, Conditions, Need, RowsSeen, Stored
from freezecheck.spec import Spec
from tests.rules.tables import buffer, frozen, hit, hits, layer, row, rule, table, trained

torch.set_num_threads(1)

W = Stored((40, 4), "float32")
SAME = Change(W, W, True, 0.0, 0.0, 0)
MOVED = Change(W, W, False, 0.5, 0.25, 160, rows=((0, 40),))
BOTH = Comparison("a.pt", "b.pt")


def between(*facts, **known):
    """A table of two compared checkpoints."""
    return table(*facts, comparison=BOTH, optimizers=(), conditions=Conditions(), **known)


def changed(make, name, change, **known):
    """A row with a change."""
    return make(name, moved=not change.same, change=change, **known)


# ---- silent


@pytest.mark.parametrize(
    "facts",
    [
        [changed(frozen, "a.weight", SAME), changed(trained, "b.weight", MOVED)],
        [row("a.weight", "unchecked", change=MOVED)],
        [row("a.weight", "unchecked", change=Change(None, W))],
        [changed(buffer, "bn.running_mean", MOVED, may_move=True)],
        [changed(frozen, "a.weight", Change(W, W, why="it lies on the meta device"))],
        [changed(trained, "empty", SAME, numel=0)],
    ],
    ids=["as it should", "unchecked", "unchecked and new", "may move", "not compared", "empty"],
)
def test_what_is_right_is_silent(facts):
    """What stayed and moved as expected, what nothing is expected of, and what was not compared give no finding."""
    for code in ("FZ701", "FZ702", "FZ703", "FZ704"):
        assert hits(code, between(*facts)) == []


def test_rows_that_were_kept_are_silent():
    """A partly trained embedding of which only the trainable rows changed is right."""
    rows = {"frozen_rows": RowsSeen(30, ((0, 30),)), "trainable_rows": RowsSeen(10, ((30, 40),), 10, ((30, 40),))}
    fact = changed(trained, "embed.weight", MOVED, **rows)
    assert hits("FZ701", between(fact)) == hits("FZ702", between(fact)) == []


def test_a_pretrained_tensor_that_is_there_is_silent():
    """Frozen weights that equal the pretrained checkpoint, and tensors that were not asked for, are right."""
    assert hits("FZ704", table(frozen("a", pretrained=SAME), frozen("b"), trained("c"))) == []


COUNTER = Stored((), "int64")
"""What counts steps, as it is stored."""


@pytest.mark.parametrize("name", ["bn.num_batches_tracked", "num_batches_tracked", "n_averaged", "ema.n_averaged"])
@pytest.mark.parametrize("change", [Change(None, COUNTER), Change(COUNTER, None)], ids=["new", "gone"])
def test_a_counter_that_one_side_lacks_is_silent(name, change):
    """load_state_dict makes do without a counter of steps, and no output hangs on it: it is no weight."""
    assert hits("FZ703", between(changed(buffer, name, change, differentiable=False))) == []
    assert hits("FZ704", table(buffer(name, pretrained=change, differentiable=False))) == []


# ---- firing


def test_frozen_parameters_that_differ_are_one_finding():
    """The message names the tensors, the two files and how far it is; one tensor also its rows and its mean."""
    two = hit("FZ701", between(changed(frozen, "a.weight", MOVED), changed(frozen, "a.bias", MOVED)))
    assert two.message == "`a.weight` and `a.bias` are expected frozen, but differ between a.pt and b.pt by up to 0.5."
    few = Change(W, W, False, 0.5, 0.001, 4, rows=((3, 4), (7, 9)))
    one = hit("FZ701", between(changed(frozen, "e.weight", few)))
    assert one.message == (
        "`e.weight` is expected frozen, but differs between a.pt and b.pt by up to 0.5 (mean 0.001), only in rows "
        "3 and 7–8 of 40."
    )
    assert one.evidence["rows"] == [[3, 4], [7, 9]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            Change(W, Stored((10, 4), "float32"), False, why="the shapes differ"),
            "float32[40, 4] before, float32[10, 4] after",
        ),
        (Change(W, W, False, 0.0, 0.0, 3), "in bytes though not in value (-0.0 is not 0.0)"),
        (Change(W, W, False, 0.0, 0.0, 3, nonfinite=3), ": 3 changed elements are NaN or infinite"),
        (
            Change(W, W, False, 0.5, 0.1, 3, nonfinite=1),
            "by up to 0.5 (mean 0.1) and 1 changed element is NaN or infinite",
        ),
    ],
    ids=["shape", "sign of zero", "NaN alone", "NaN too"],
)
def test_what_is_no_plain_difference_is_put_in_words(change, told):
    """Another shape, the sign of zero and NaN each have words of their own."""
    assert told in hit("FZ701", between(changed(frozen, "a.weight", change))).message


def test_frozen_statistics_that_differ_name_the_layer_to_keep_in_eval():
    """Running statistics say what moves them, count steps apart, and give the line that holds them."""
    case = between(
        changed(buffer, "body.bn.running_mean", MOVED),
        changed(buffer, "body.bn.num_batches_tracked", Change(W, W, False, 9.0, 9.0, 1), differentiable=False),
        layers=(layer("", "", "mixed"), layer("body", ""), layer("body.bn", "BatchNorm")),
    )
    found = hit("FZ701", case)
    assert "by up to 0.5 (mean 0.25): a layer in train mode updates them in every forward" in found.message
    assert found.fix.startswith("model.body.eval() after every model.train()")
    assert 'buffers_may_move = ["body"]' in found.fix
    assert "eval = " not in found.fix  # two checkpoints do not tell whether the loop does as the spec says


def test_frozen_rows_that_differ_are_named():
    """Of a partly trained embedding only the frozen rows count."""
    rows = RowsSeen(30, ((0, 30),), 2, ((4, 6),), 0.1)
    found = hit("FZ701", between(changed(trained, "e.weight", MOVED, frozen_rows=rows)))
    assert found.message == (
        "2 of the 30 rows of `e.weight` that are expected frozen (`e.weight[0:30]`) differ between a.pt and b.pt by "
        "up to 0.1: rows 4–5."
    )


def test_trainable_tensors_that_stayed_are_found():
    """Some that stayed are a warning; all that stayed ask whether the two files are of one step."""
    still, moved = changed(trained, "a", SAME), changed(trained, "b", MOVED)
    some = hit("FZ702", between(still, moved))
    assert some.message == "`a` is expected trainable, but is the same byte for byte in a.pt and b.pt."
    every = hit("FZ702", between(still, changed(trained, "c", SAME)))
    assert "are the two of the same step?" in every.message


def test_trainable_rows_that_stayed_are_found():
    """Rows that should train and stood still, while others moved, point at the mask."""
    rows = RowsSeen(10, ((30, 40),))
    found = hit("FZ702", between(changed(trained, "e.weight", MOVED, trainable_rows=rows)))
    assert "None of the 10 rows of `e.weight` that are expected trainable (`e.weight[30:40]`) changed" in found.message


def test_what_one_side_lacks_is_found_by_side_and_expectation():
    """A frozen tensor that was lost and a trainable one that was added are two findings."""
    lost = changed(frozen, "a.weight", Change(W, None))
    new = changed(trained, "b.weight", Change(None, W))
    first, second = hits("FZ703", between(lost, new))
    assert first.message == "`a.weight` is expected frozen and is in a.pt, but not in b.pt."
    assert second.message == "`b.weight` is expected trainable and is in b.pt, but not in a.pt."
    assert 'unchecked = ["b"]' in second.fix


def mend_of_missing(*missing, beside=()):
    """The spec's line that FZ703 offers for these frozen tensors, with others beside them that both sides have."""
    lost = [changed(buffer if "running" in name else frozen, name, Change(W, None)) for name in missing]
    found = hit("FZ703", between(*lost, *(changed(frozen, name, SAME) for name in beside)))
    return found.fix.partition("on purpose, ")[2]


def test_the_mend_for_what_is_missing_covers_that_and_nothing_else():
    """A whole layer by its name, a single tensor by its own where its siblings are there, and every one of them."""
    assert mend_of_missing("a.weight", "a.bias", beside=["b.weight"]) == '`unchecked = ["a"]`'
    assert mend_of_missing("a.bias", beside=["a.weight"]) == '`unchecked = ["a.bias"]`'
    assert mend_of_missing("x.a.w", "x.b.w", beside=["b.w"]) == '`unchecked = ["x"]`'
    assert mend_of_missing("x.a.w", "y.b.w", beside=["x.c.w", "y.b.v"]) == '`unchecked = ["x.a", "y.b.w"]`'
    many = [f"blocks.{n}.lora.w" for n in range(12)]
    assert mend_of_missing(*many, beside=[f"blocks.{n}.fc.w" for n in range(12)]) == "list them as `unchecked`"


def test_the_mend_for_a_missing_batch_norm_takes_its_counter_along():
    """The counter is no part of the finding, and no reason to name the other tensors one by one."""
    counter = changed(buffer, "a.num_batches_tracked", Change(W, None), differentiable=False)
    lost = [changed(buffer, "a.running_mean", Change(W, None)), changed(frozen, "a.weight", Change(W, None))]
    found = hit("FZ703", between(*lost, counter, changed(frozen, "b.weight", SAME)))
    assert found.tensors == ("a.running_mean", "a.weight")
    assert '`unchecked = ["a"]`' in found.fix


def test_a_buffer_that_is_not_pretrained_is_not_to_be_trained():
    """Buffers never train: the mend looks for their name, or says that they are made anew."""
    case = table(
        buffer("bn.running_mean", pretrained=Change(None, W)),
        buffer("bn.running_var", pretrained=Change(None, W)),
        frozen("bn.weight", pretrained=SAME),
        conditions=Conditions(steps=1, pretrained="resnet.pt"),
    )
    absent = hit("FZ704", case)
    assert absent.message == (
        "`bn.running_mean` and `bn.running_var` are expected frozen, but are not in resnet.pt: they keep the values "
        "that the model was built with."
    )
    assert absent.fix == (
        "look under which names the checkpoint holds them; if they are not meant to come from it, "
        '`unchecked = ["bn.running_mean", "bn.running_var"]` in the spec'
    )
    both = table(frozen("a.w", pretrained=Change(None, W)), buffer("b.table", pretrained=Change(None, W)))
    assert "``" not in hit("FZ704", both).fix


def test_what_is_not_pretrained_is_found():
    """Absent and different are two findings, each with what to do."""
    case = table(
        frozen("head.weight", pretrained=Change(None, W)),
        frozen("body.weight", pretrained=MOVED),
        trained("other.weight"),
        conditions=Conditions(steps=1, pretrained="resnet.pt"),
    )
    absent, differs = hits("FZ704", case)
    assert absent.message == (
        "`head.weight` is expected frozen, but is not in resnet.pt: frozen at its initial values, it will never "
        "be trained."
    )
    assert "`model.head.requires_grad_(True)`" in absent.fix
    assert "`body.weight` is expected frozen, but differs from resnet.pt by up to 0.5 (mean 0.25)" in differs.message


# ---- the examples in the docstrings


def compared(folder, text):
    """Run the script of a docstring's section and compare the two checkpoints that it wrote by the section's spec."""
    (script,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    (spec,) = re.findall(r"^```toml\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    (folder / "train.py").write_text(script)
    (folder / "freeze.toml").write_text(spec)
    runpy.run_path("train.py")
    return {finding.code for finding in diff("before.pt", "after.pt", Spec.load("freeze.toml")).findings}


OF_TWO = [one.code for one in rules() if Need.COMPARISON in one.needs]


@pytest.mark.parametrize("code", OF_TWO)
def test_the_examples_of_the_docstrings(code, tmp_path, monkeypatch):
    """The example fires its rule alone, and what to use instead fires none."""
    monkeypatch.chdir(tmp_path)
    example, _, instead = rule(code).doc.partition("## Example")[2].partition("## Use instead")
    assert compared(tmp_path, example) == {code}
    assert compared(tmp_path, instead.partition("## Known problems")[0]) == set()
