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
    assert codes(diff(*files(before, after), Spec.of(trainable=["body[2:4]"]))) == []


def sequential(*layers, moved=()):
    """The state dict of a Sequential under `net`; those of the moved layers changed."""
    tensors = {f"net.{name}": tensor for name, tensor in nn.Sequential(*layers).state_dict().items()}
    return {n: t + 1 if n.split(".")[1] in moved else t * 0 for n, t in tensors.items()}


def test_the_last_blocks_are_what_they_are(files):
    """Of blocks, which have layers of their own, none is without tensors: an index from the end is certain."""
    blocks = [nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(3)]
    report = diff(*files(sequential(*blocks), sequential(*blocks, moved="12")), Spec.of(trainable=["net[-2:]"]))
    assert (codes(report), report.skipped) == ([], ())
    assert codes(
        diff(*files(sequential(*blocks), sequential(*blocks, moved="2")), Spec.of(trainable=["net[-2:]"]))
    ) == ["FZ702"]
    with pytest.raises(SpecError, match="out of range"):
        diff(*files(sequential(*blocks), sequential(*blocks, moved="12")), Spec.of(trainable=["net[3]"]))


@pytest.mark.parametrize("text", ["net[-2]", "net[-3:]", "net[-2:]"])
def test_a_sequential_may_go_on_behind_what_is_known_of_it(text, files):
    """Whether it ends in layers without tensors is not stored: what an index from the end means is not checked."""
    layers = nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU()
    spec = Spec.of(trainable=[text, "head"])
    head = {"head.weight": torch.zeros(2)}
    report = diff(
        *files({**sequential(*layers), **head}, {**sequential(*layers, moved="2"), "head.weight": torch.ones(2)}), spec
    )
    assert codes(report) == []
    assert [(one.what, one.why) for one in report.skipped] == [
        (f"the selector `{text}`", "a checkpoint does not say how many layers `net` has")
    ]
    assert {f.name: f.expected for f in report.case.facts}["net.2.weight"] is Expected.UNCHECKED


def test_what_an_index_from_the_end_cannot_reach_is_judged(files):
    """`net[-1]` is net.2 or a layer behind it, and never net.0."""
    layers = nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU()
    report = diff(*files(sequential(*layers), sequential(*layers, moved="02")), Spec.of(trainable=["net[-1]"]))
    assert [finding.tensors for finding in report.findings] == [("net.0.weight", "net.0.bias")]


@pytest.mark.parametrize("keys", [{"trainable": ["type:Linear"]}, {"frozen": ["type:Embedding"]}])
def test_what_hangs_on_an_unknown_class_is_not_judged(keys, files):
    """Which layers are Linear or Embedding is not stored: neither what moved nor what stood still is a mistake."""
    report = diff(*files(net(), net(fc_weight=1.0)), Spec.of(**keys))
    assert codes(report) == []
    assert {fact.expected for fact in report.case.facts} == {Expected.UNCHECKED}
    assert [one.why for one in report.skipped] == ["a checkpoint does not say of which class a layer is"]


def test_phases_in_doubt_are_taken_together(files):
    """What one phase may train is unchecked, unless another trains it for certain."""
    spec = Spec.parse(
        '[[phase]]\nname = "a"\ntrainable = ["net[-1]"]\n[[phase]]\nname = "b"\ntrainable = ["net[2]", "head"]\n'
    )
    layers = nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)
    head = {"head.weight": torch.zeros(2)}
    moved = {**sequential(*layers, moved="4"), "head.weight": torch.ones(2)}
    report = diff(*files({**sequential(*layers), **head}, moved), spec)
    said = {fact.name: fact.expected.value for fact in report.case.facts if fact.name.endswith("weight")}
    assert said == {
        "net.0.weight": "frozen",
        "net.2.weight": "trainable",
        "net.4.weight": "unchecked",
        "head.weight": "trainable",
    }
    assert codes(report) == ["FZ702"]
    assert [one.what for one in report.skipped] == ["the selector `net[-1]`"]


def test_rows_that_one_phase_may_train_are_not_judged(files):
    """Rows that another phase keeps frozen may have moved while the whole layer trained, if it did."""
    spec = Spec.parse(
        '[[phase]]\nname = "a"\ntrainable = ["net[-1]"]\n[[phase]]\nname = "b"\ntrainable = ["net[0].weight[2:]"]\n'
    )
    before = {"net.0.weight": torch.zeros(4, 2), "head.weight": torch.zeros(2)}
    after = {"net.0.weight": torch.ones(4, 2), "head.weight": torch.zeros(2)}
    report = diff(*files(before, after), spec)
    assert codes(report) == []
    assert codes(diff(*files(before, after), spec, phase="b")) == ["FZ701"]


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


def below(prefix, tensors):
    """These tensors with a prefix before their names."""
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


TWICE = {**below("student.", net(fc_weight=0.1)), **below("teacher.", net(body_0_weight=0.1, fc_weight=0.1))}


def test_a_file_that_holds_the_model_twice_is_not_guessed_at(files):
    """Which of the two prefixes is meant is asked for, and both are named; `--key` answers."""
    with pytest.raises(UsageError) as caught:
        diff(*files(net(), TWICE), HEAD)
    assert caught.value.message == (
        "the names in before.pt fit those in after.pt equally well behind `student.` and behind `teacher.`"
    )
    assert caught.value.hint == (
        "Say which is meant, such as `--key student.`, final dot included; a file without such names is taken whole."
    )
    report = diff(*files(net(), TWICE), HEAD, keys=("student.", "student."))
    assert codes(report) == []
    assert [fact.name for fact in report.case.facts] == list(net())
    assert report.case.comparison.notes == (
        "no name in before.pt begins with `student.`: `--key student.` says nothing of it",
    )
    assert codes(diff(*files(net(), TWICE), HEAD, keys=(None, "teacher."))) == ["FZ701"]
    assert codes(diff(*files(TWICE, net()), HEAD, keys=("teacher.", None))) == ["FZ701"]


def test_the_answer_offered_heeds_the_key_that_was_given(files):
    """Inside `ema` it is a name's beginning that is asked for, and it stays inside `ema`."""
    pair = files({"model": net(), "ema": net()}, {"model": net(), "ema": TWICE})
    with pytest.raises(UsageError) as caught:
        diff(*pair, HEAD, keys=("ema", "ema"))
    assert "`--key ema.student.`" in caught.value.hint
    report = diff(*pair, HEAD, keys=("ema.student.", "ema.student."))
    assert codes(report) == []
    assert [fact.name for fact in report.case.facts] == list(net())


def test_the_answer_offered_does_not_repeat_a_prefix_that_nothing_has(files):
    """A misspelled one is not built upon."""
    with pytest.raises(UsageError) as caught:
        diff(*files(net(), TWICE), HEAD, keys=("pupil.", "pupil."))
    assert "`--key student.`" in caught.value.hint


def test_two_files_that_hold_the_model_twice_are_compared_as_they_are(files):
    """Names that meet as they are need no prefix."""
    assert diff(*files(TWICE, TWICE)).case.comparison.notes == ()


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


def test_an_optimizer_is_not_held_against_what_is_in_doubt(files):
    """Which parameters the spec trains is not settled, so nothing is said of how many the optimizer should hold."""
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model[0].parameters(), lr=0.1)
    model(torch.randn(3, 2)).square().sum().backward()
    optimizer.step()
    pair = files(before, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    assert diff(*pair, Spec.of(trainable=["type:Linear"])).case.comparison.notes == ()
    assert diff(*pair, Spec.of(trainable=["0"])).case.comparison.notes == ()
    assert "the spec trains" in diff(*pair, Spec.of(trainable=["0.weight"])).case.comparison.notes[0]
    earlier = {"model": before, "optimizer": optimizer.state_dict()}
    assert diff(*files(earlier, model.state_dict()), Spec.of(trainable=["type:Linear"])).case.comparison.notes == ()


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


@pytest.mark.parametrize(
    ("names", "more"),
    [
        (["layer4.0.conv.weight", "layer4.1.conv.weight", "layer4.1.bn.weight"], False),
        (["layer4.0.0.weight", "layer4.1.0.weight"], False),
        (["layer4.0.conv.weight", "layer4.2.conv.weight"], True),
        (["layer4.0.conv.weight", "layer4.1.weight"], True),
        (["layer4.0.weight", "layer4.1.weight"], True),
    ],
)
def test_a_container_is_exact_where_each_of_its_items_is_known_to_be_a_block(names, more):
    """A gap, or an item that is a single layer, tells of a Sequential that may end in layers without tensors."""
    described = describe([((name,), Stored((2,), "float32")) for name in names])
    assert described.layer_by_name["layer4"].more is more
