"""What is said of each pair of tensors, against edits that the tests made themselves."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import freezecheck.checkpoint as checkpoint
from freezecheck.checkpoint import _compare
from freezecheck.errors import UsageError
from freezecheck.records import Change, Stored
from tests.checkpoint import stored


@pytest.fixture
def compared(tmp_path):
    """Compare two state dicts through files; give the change of each tensor by name."""

    def compare(before, after, form=stored.as_pt):
        for side in ("before", "after"):
            (tmp_path / side).mkdir(exist_ok=True)
        with (
            checkpoint.open(form(tmp_path / "before", before)) as first,
            checkpoint.open(form(tmp_path / "after", after)) as second,
        ):
            found = checkpoint.compare_checkpoints(first, second)
        return {name: change for pair, change in zip(found.pairs, found.changes, strict=True) for name in pair.names}

    return compare


# ---- what is the same


def test_nan_equals_the_same_nan(compared):
    """Bytes are compared, so that a NaN that stayed is no change."""
    values = torch.tensor([1.0, math.nan, math.inf])
    assert compared({"w": values}, {"w": values.clone()})["w"].same is True


def test_what_is_empty_is_the_same(compared):
    """A tensor without elements has nothing that could change."""
    assert compared({"w": torch.zeros(0, 3)}, {"w": torch.zeros(0, 3)})["w"].same is True


def test_a_tied_tensor_that_one_side_stores_once_is_there(compared):
    """Safetensors of Hugging Face leave the tied name out: it is not missing."""
    weight = torch.randn(3, 2)
    found = compared({"embed.weight": weight, "head.weight": weight}, {"embed.weight": weight.clone()})
    assert {name: change.same for name, change in found.items()} == {"embed.weight": True, "head.weight": True}


def test_lower_precision_of_the_same_values_is_the_same(compared):
    """A bfloat16 copy of float32 weights is compared in bfloat16, which is said."""
    weight = torch.randn(50)
    for first, second in ((weight, weight.bfloat16()), (weight.bfloat16(), weight)):
        found = compared({"w": first}, {"w": second})["w"]
        assert found.same is True
        assert found.compared_as == "bfloat16"


# ---- what changed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_floats_say_by_how_much(dtype, compared):
    """Largest and mean change, and the number of elements, in every floating dtype."""
    before = torch.tensor([1.0, 2.0, -4.0, 0.5]).to(dtype)
    after = torch.tensor([1.0, 3.0, -4.0, 1.0]).to(dtype)
    found = compared({"w": before}, {"w": after})["w"]
    assert (found.same, found.max_abs, found.mean_abs, found.changed) == (False, 1.0, 0.375, 2)


@pytest.mark.parametrize(
    ("before", "after", "far"),
    [
        (torch.tensor([2**62, 5]), torch.tensor([2**62 + 1, 5]), 1.0),
        (torch.tensor([True, False]), torch.tensor([True, True]), 1.0),
        (torch.tensor([0, 255], dtype=torch.uint8), torch.tensor([255, 255], dtype=torch.uint8), 255.0),
        (torch.tensor([1 + 1j, 0j]), torch.tensor([1 + 1j, 3 + 4j]), 5.0),
    ],
    ids=["int64", "bool", "uint8", "complex"],
)
def test_other_numbers_say_by_how_much(before, after, far, compared):
    """Integers beyond 2**53, booleans and complex numbers are exact."""
    found = compared({"w": before}, {"w": after})["w"]
    assert (found.same, found.max_abs, found.changed) == (False, far, 1)


def test_the_sign_of_zero_is_a_change_of_nothing(compared):
    """-0.0 and 0.0 differ in bytes and by 0."""
    found = compared({"w": torch.tensor([0.0])}, {"w": torch.tensor([-0.0])})["w"]
    assert (found.same, found.max_abs, found.changed, found.nonfinite) == (False, 0.0, 1, 0)


def test_what_became_nan_is_counted_and_poisons_no_sum(compared):
    """A NaN is told apart from the largest finite change, and makes the change infinite as a whole."""
    found = compared({"w": torch.tensor([1.0, 2.0, 3.0])}, {"w": torch.tensor([1.5, math.nan, 3.0])})["w"]
    assert (found.max_abs, found.mean_abs, found.nonfinite, found.largest) == (0.5, 0.25, 1, math.inf)


def test_rows_are_named(compared):
    """Which rows of a table changed comes back as half-open ranges."""
    before = torch.randn(3000, 200)
    after = before.clone()
    after[7] += 1
    after[1500:1502, 3] += 1
    after[2999, 199] += 1
    assert compared({"w": before}, {"w": after})["w"].rows == ((7, 8), (1500, 1502), (2999, 3000))


def test_a_table_that_grew_is_compared_where_it_was(compared):
    """New tokens: the old rows are compared, the new ones count as changed rows."""
    before = torch.randn(10, 4)
    after = torch.cat([before, torch.randn(3, 4)])
    found = compared({"w": before}, {"w": after})["w"]
    assert (found.same, found.changed, found.rows, found.why) == (False, 0, ((10, 13),), "the numbers of rows differ")
    assert compared({"w": after}, {"w": before})["w"].rows == ((10, 13),)


def test_another_shape_is_a_change_without_numbers(compared):
    """A replaced head has nothing to be compared with."""
    found = compared({"w": torch.zeros(10, 4)}, {"w": torch.zeros(4, 10)})["w"]
    assert (found.same, found.max_abs, found.why) == (False, None, "the shapes differ")


def test_each_side_says_what_it_lacks(compared):
    """A tensor of one side only is missing on the other, and neither same nor changed."""
    found = compared({"a": torch.ones(1), "b": torch.ones(2)}, {"a": torch.ones(1), "c": torch.ones(3)})
    assert found["b"] == Change(Stored((2,), "float32"), None)
    assert found["c"] == Change(None, Stored((3,), "float32"))


def test_a_change_above_the_lower_dtypes_step_is_seen(compared):
    """Two dtypes are compared in the lower one, and what differs there differs."""
    found = compared({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.0, 3.0], dtype=torch.float16)})["w"]
    assert (found.same, found.compared_as, found.max_abs) == (False, "float16", 1.0)


# ---- what is no plain tensor


def test_meta_tensors_are_neither_same_nor_changed(compared):
    """A meta tensor holds no values, which is the reason given."""
    found = compared({"w": torch.empty(3, device="meta")}, {"w": torch.empty(3, device="meta")})["w"]
    assert found.same is None
    assert "meta device" in found.why


@pytest.mark.filterwarnings("ignore")
def test_quantised_tensors_are_compared_with_their_scales(compared):
    """The same integers under another scale are other values."""
    values = torch.tensor([1.0, 2.0])
    before = torch.quantize_per_tensor(values, 0.5, 0, torch.qint8)
    assert compared({"w": before}, {"w": torch.quantize_per_tensor(values, 0.5, 0, torch.qint8)})["w"].same is True
    found = compared({"w": before}, {"w": torch.quantize_per_tensor(2 * values, 1.0, 0, torch.qint8)})["w"]
    assert (found.same, found.max_abs) == (False, 2.0)


def test_sparse_tensors_are_compared(compared):
    """A sparse tensor is taken whole; one against a dense one differs in kind."""
    before = torch.eye(3).to_sparse()
    assert compared({"w": before}, {"w": torch.eye(3).to_sparse()})["w"].same is True
    assert compared({"w": before}, {"w": (2 * torch.eye(3)).to_sparse()})["w"].max_abs == 1.0
    assert (
        compared({"w": before}, {"w": torch.eye(3)})["w"].why
        == "one is sparse coo float32 and the other strided float32"
    )


def test_a_dtype_that_torch_does_not_compute_with_is_compared_by_bytes(tmp_path):
    """Packed four-bit floats have no numbers here, but they have bytes."""
    import json
    import struct

    paths = []
    for name, raw in (("a", b"\x12\x34"), ("b", b"\x12\x35")):
        header = json.dumps({"w": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}).encode()
        paths.append(tmp_path / name)
        paths[-1].write_bytes(struct.pack("<Q", len(header)) + header + raw)
    with checkpoint.open(paths[0]) as first, checkpoint.open(paths[1]) as second, checkpoint.open(paths[0]) as again:
        assert checkpoint.compare_checkpoints(first, again).changes[0].same is True
        (found,) = checkpoint.compare_checkpoints(first, second).changes
    assert (found.same, found.max_abs) == (False, None)
    assert "cannot be read as numbers" in found.why


def test_two_models_without_a_common_name_are_refused(compared):
    """Nothing in common is no difference but a mistake."""
    with pytest.raises(UsageError, match="no tensor name in common: `a` there, `b` here"):
        compared({"a": torch.ones(1)}, {"b": torch.ones(1)})


# ---- against a live model


def test_a_model_is_compared_with_what_it_was_loaded_from(tmp_path):
    """A backbone inside a model equals its checkpoint; what the checkpoint lacks has no `before`."""
    backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(4, 2)})
    torch.save(backbone.state_dict(), tmp_path / "w.pt")
    with torch.no_grad():
        backbone[0].bias[1] += 0.5
    with checkpoint.open(tmp_path / "w.pt") as found:
        changes = checkpoint.compare_model(found, model.state_dict())
    assert {name for name, change in changes.items() if change.before is None} == {"head.weight", "head.bias"}
    assert changes["backbone.0.weight"].same is True
    assert changes["backbone.0.bias"].max_abs == pytest.approx(0.5)


def test_a_checkpoint_that_holds_the_model_twice_is_not_guessed_at(tmp_path):
    """It is asked for which is meant; a model of two equal towers is compared by one of them, as no key could say."""
    layer, twice = nn.Linear(3, 4), nn.ModuleDict({"student": nn.Linear(3, 4), "teacher": nn.Linear(3, 4)})
    torch.save(twice.state_dict(), tmp_path / "twice.pt")
    with (
        checkpoint.open(tmp_path / "twice.pt") as found,
        pytest.raises(UsageError, match=r"behind `student\.` and behind"),
    ):
        checkpoint.compare_model(found, layer.state_dict())
    with checkpoint.open(tmp_path / "twice.pt", "teacher.") as found:
        changes = checkpoint.compare_model(found, twice["teacher"].state_dict())
    assert {name: change.same for name, change in changes.items()} == {"weight": True, "bias": True}
    torch.save(layer.state_dict(), tmp_path / "one.pt")
    with checkpoint.open(tmp_path / "one.pt") as found:
        changes = checkpoint.compare_model(found, twice.state_dict())
    assert sum(change.before is not None for change in changes.values()) == 2


# ---- any edit


@st.composite
def edits(draw):
    """A choice of tensors and of one element in each."""
    tensors = stored.small()
    names = [name for name, tensor in tensors.items() if tensor.numel()]
    chosen = draw(st.sets(st.sampled_from(names)))
    return {name: draw(st.integers(0, tensors[name].numel() - 1)) for name in sorted(chosen)}


@settings(max_examples=25)
@given(edits(), st.sampled_from(stored.FORMS), st.sampled_from(stored.FORMS), st.sampled_from([16, 48, 2**18]))
def test_exactly_the_edited_tensors_are_found(edited, first_form, second_form, piece):
    """One bit of one element in any choice of tensors: these tensors, and this row in each, and no others."""
    before, after = stored.small(), stored.small()
    for name, place in edited.items():
        flat = after[name].view(-1)
        if flat.dtype is torch.bool:
            flat[place] = ~flat[place]
        else:
            flat.view(torch.uint8)[place * flat.element_size()] ^= 1
    usual, _compare.PIECE = _compare.PIECE, piece
    try:
        with tempfile.TemporaryDirectory() as folder:
            for side in ("a", "b"):
                (Path(folder) / side).mkdir()
            with (
                checkpoint.open(first_form(Path(folder) / "a", before)) as first,
                checkpoint.open(second_form(Path(folder) / "b", after)) as second,
            ):
                found = checkpoint.compare_checkpoints(first, second)
    finally:
        _compare.PIECE = usual
    changes = {pair.names[0]: change for pair, change in zip(found.pairs, found.changes, strict=True)}
    assert {name for name, change in changes.items() if not change.same} == set(edited)
    for name, place in edited.items():
        assert changes[name].changed == 1
        if before[name].dim():
            row = place // before[name][0].numel()
            assert changes[name].rows == ((row, row + 1),)


SHARDED = """\
import sys
import torch
import torch.distributed as dist
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,))
torch.save({"w": distribute_tensor(torch.arange(12.0).view(6, 2), mesh, [Shard(0)])}, sys.argv[1])
dist.destroy_process_group()
"""


def test_a_saved_dtensor_is_compared_by_its_part(tmp_path):
    """What a process saved of a sharded tensor is read without a process group, and is what it was."""
    path = tmp_path / "sharded.pt"
    subprocess.run([sys.executable, "-c", SHARDED, str(path)], check=True, capture_output=True, timeout=120)
    torch.save({"w": torch.arange(12.0).view(6, 2)}, tmp_path / "plain.pt")
    with checkpoint.open(path) as first, checkpoint.open(tmp_path / "plain.pt") as second:
        assert checkpoint.compare_checkpoints(first, second).changes[0].same is True
