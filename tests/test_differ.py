"""From two checkpoints to a judgement: how the spec's names meet the stored ones, and what is noted beside."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from freezecheck.checkpoint import describe
from freezecheck.differ import diff
from freezecheck.errors import SpecError, UsageError
from freezecheck.records import Expected, Stored
from freezecheck.spec import Spec

torch.set_num_threads(1)

HEAD = Spec.of(trainable=["fc"])


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Save state dicts under `before.pt` and `after.pt` in the working directory."""
    monkeypatch.chdir(tmp_path)

    def save(before, after):
        torch.save(before, "before.pt")
        torch.save(after, "after.pt")
        return "before.pt", "after.pt"

    return save


def net(**changes):
    """A small state dict; a change adds to one tensor."""
    tensors = {"body.0.weight": torch.ones(3, 2), "body.0.bias": torch.ones(3), "fc.weight": torch.ones(2, 3)}
    return {name: tensor + changes.get(name.replace(".", "_"), 0.0) for name, tensor in tensors.items()}


def codes(report):
    return [finding.code for finding in report.findings]


def test_only_what_trains_changed(files):
    """The right case: one tensor expected trainable changed, and the rest did not."""
    report = diff(*files(net(), net(fc_weight=0.1)), HEAD)
    assert (codes(report), report.exit_code) == ([], 0)
    assert [fact.moved for fact in report.case.facts] == [False, False, True]


def test_without_a_spec_nothing_is_judged(files):
    """What changed is told and the exit code is 0."""
    report = diff(*files(net(), net(body_0_bias=1.0)))
    assert (codes(report), report.exit_code) == ([], 0)
    assert [f.name for f in report.case.facts if f.moved] == ["body.0.bias"]
    assert "no freeze spec was given" in report.skipped[0].why


def test_what_was_frozen_and_changed_is_found(files):
    """A frozen tensor that moved, and a trainable one that did not."""
    assert codes(diff(*files(net(), net(body_0_weight=1.0)), HEAD)) == ["FZ701", "FZ702"]


@pytest.mark.parametrize("selected", [["FZ702"], ["FZ4"]], ids=["one of its own", "another's"])
def test_select_and_ignore_are_heeded(selected, files):
    """Only the rules asked for are judged, and those of other commands say nothing here."""
    report = diff(*files(net(), net(body_0_weight=1.0)), HEAD, select=selected)
    assert codes(report) == [code for code in selected if code == "FZ702"]
    assert diff(*files(net(), net(body_0_weight=1.0)), HEAD, ignore=["FZ7"]).findings == ()


@pytest.mark.parametrize("side", ["before", "after", "both"])
def test_the_specs_names_are_found_below_a_prefix(side, files):
    """A Lightning checkpoint keeps the network under `model.`; the spec speaks of the network."""
    wrapped = {f"model.{name}": tensor for name, tensor in net(fc_weight=0.1).items()}
    plain = {f"model.{name}": tensor for name, tensor in net().items()}
    pair = {"before": (plain, net(fc_weight=0.1)), "after": (net(), wrapped), "both": (plain, wrapped)}[side]
    report = diff(*files(*pair), HEAD)
    assert codes(report) == []
    assert {f.name: f.expected for f in report.case.facts}["fc.weight"] is Expected.TRAINABLE


def test_an_index_into_numbered_layers_counts_the_gaps(files):
    """Layers without tensors leave gaps among the numbers, which an index has to count."""
    before = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).state_dict()
    before = {f"body.{name}": tensor for name, tensor in before.items()}
    after = {name: tensor + name.startswith("body.2") for name, tensor in before.items()}
    assert codes(diff(*files(before, after), Spec.of(trainable=["body[2]"]))) == []
    with pytest.raises(SpecError, match="out of range"):
        diff(*files(before, after), Spec.of(trainable=["body[3]"]))


def test_a_selector_by_class_is_said_to_be_of_no_use(files):
    """Running statistics give a batch norm away; any other class is not stored, which is said and is no mistake."""
    norm = nn.BatchNorm1d(2).state_dict()
    tensors = {**net(), **{f"bn.{name}": tensor for name, tensor in norm.items()}}
    moved = {**tensors, "bn.running_mean": tensors["bn.running_mean"] + 1, "fc.weight": tensors["fc.weight"] + 1}
    assert codes(diff(*files(tensors, moved), Spec.of(trainable=["fc"], buffers_may_move=["type:BatchNorm*"]))) == []
    report = diff(*files(net(), net(fc_weight=1.0)), Spec.of(trainable=["fc"], unchecked=["type:Dropout"]))
    assert codes(report) == []
    assert report.skipped[0].what == "the selector `type:Dropout`"


def test_a_selector_that_matches_nothing_is_found(files):
    """A misspelled selector is a finding as in verify."""
    assert "FZ001" in codes(diff(*files(net(), net(fc_weight=1.0)), Spec.of(trainable=["fc", "heed"])))


def test_rows_of_an_embedding_are_judged_apart(files):
    """Only the new rows may change; one of the old ones did."""
    before = {"embed.weight": torch.zeros(10, 2), "fc.weight": torch.zeros(2)}
    after = {name: tensor.clone() for name, tensor in before.items()}
    after["embed.weight"][8:] += 1
    spec = Spec.of(trainable=["embed.weight[8:]"])
    assert codes(diff(*files(before, after), spec)) == []
    after["embed.weight"][3] += 1
    (found,) = diff(*files(before, after), spec).findings
    assert found.code == "FZ701"
    assert found.evidence["rows"] == [[3, 4]]


def test_all_phases_together_say_what_may_change(files):
    """Over a whole training a tensor may change that any phase trains; one phase alone is asked for by its name."""
    spec = Spec.parse(
        '[[phase]]\nname = "head"\ntrainable = ["fc"]\n[[phase]]\nname = "all"\ntrainable = ["fc", "body"]\n'
    )
    pair = files(net(), net(fc_weight=1.0, body_0_weight=1.0, body_0_bias=1.0))
    assert codes(diff(*pair, spec)) == []
    assert codes(diff(*pair, spec, phase="head")) == ["FZ701"]
    with pytest.raises((SpecError, UsageError), match="no phase"):
        diff(*pair, spec, phase="tail")


def test_keys_choose_among_state_dicts(files):
    """Each file has its own key."""
    pair = files({"model": net(fc_weight=5.0), "ema": net()}, net(fc_weight=0.1))
    assert codes(diff(*pair, HEAD, keys=("ema", None))) == []
    notes = diff(*pair, HEAD).case.comparison.notes
    assert notes == ("before.pt: `model` was taken; `ema` hold tensors too (`--key ema`)",)


def test_lowered_dtypes_are_noted(files):
    """A half precision copy is compared in half precision, and the report says so."""
    after = {name: tensor.half() for name, tensor in net(fc_weight=1.0).items()}
    report = diff(*files(net(), after), HEAD)
    assert codes(report) == []
    assert report.case.comparison.notes == ("3 tensors are float32 before and float16 after: compared as float16",)


def test_an_optimizer_that_moved_another_layer_is_noted(files):
    """The state of one layer that will be loaded onto another of the same shape is told, and changes no exit code."""
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model["a"].parameters(), lr=0.1)
    model["a"](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    pair = files(before, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    assert diff(*pair, Spec.of(trainable=["a"])).case.comparison.notes == ()
    (note,) = diff(*pair, Spec.of(trainable=["b"])).case.comparison.notes
    assert note.startswith("after.pt: the optimizer state `optimizer` moved a.weight and will be loaded onto b.weight")


def test_what_could_not_be_compared_is_said(files):
    """A meta tensor is in the list of what was not checked."""
    report = diff(*files({**net(), "m": torch.empty(2, device="meta")}, {**net(fc_weight=1), "m": torch.ones(2)}), HEAD)
    assert [item.what for item in report.skipped] == ["m"]


def test_names_shapes_and_dtypes_tell_buffers_from_parameters():
    """Statistics and integers are buffers, quantised weights are parameters."""
    stock = [
        (("bn.running_mean",), Stored((2,), "float32")),
        (("ids",), Stored((2,), "int64")),
        (("q.qweight",), Stored((2,), "int32")),
        (("fc.weight", "tied.weight"), Stored((2,), "float16")),
    ]
    described = describe(stock)
    assert [t.kind for t in described.tensors] == ["buffer", "buffer", "parameter", "parameter"]
    assert [layer.name for layer in described.layers] == ["", "bn", "q", "fc", "tied"]
