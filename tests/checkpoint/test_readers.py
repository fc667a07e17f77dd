"""Every reader gives what was saved, and refuses what it must not run or cannot trust."""

from __future__ import annotations

import json
import os
import pickle
import struct

import pytest
import torch
from safetensors.torch import save_model
from torch import nn

import freezecheck.checkpoint as checkpoint
from freezecheck.checkpoint._distributed import _Piece, _whole
from freezecheck.checkpoint._file import File
from freezecheck.checkpoint._torch import _places, load_torch
from freezecheck.errors import UsageError
from freezecheck.records import Stored
from tests.checkpoint import stored


@pytest.mark.parametrize("form", stored.FORMS, ids=lambda form: form.__name__)
def test_every_reader_gives_what_was_saved(form, tmp_path):
    """Names, shapes, dtypes and bytes come back from every form in which a state dict can be saved."""
    tensors = stored.small()
    with checkpoint.open(form(tmp_path, tensors)) as found:
        assert set(found.names) == set(tensors)
        for name, tensor in tensors.items():
            assert found.shape(name) == tuple(tensor.shape)
            assert found.dtype(name) == str(tensor.dtype).removeprefix("torch.")
            assert torch.equal(found.tensor(name), tensor)


@pytest.mark.parametrize("form", stored.FORMS, ids=lambda form: form.__name__)
def test_of_every_form_the_names_behind_a_prefix_can_be_taken(form, tmp_path):
    """A key that ends in a dot is the beginning of the names that are meant; a tie to another part is no name of it."""
    tensors = {"a.0.weight": torch.ones(2, 3), "a.0.bias": torch.ones(2), "b.0.weight": torch.zeros(2, 3)}
    with checkpoint.open(form(tmp_path, tensors), "a.") as found:
        assert set(found.names) == {"0.weight", "0.bias"}
        assert {name for entry in found.entries.values() for name in entry.names} == {"0.weight", "0.bias"}
        assert torch.equal(found.tensor("0.weight"), torch.ones(2, 3))
        assert not any("begins with" in note for note in found.notes)
    (tmp_path / "again").mkdir()
    with checkpoint.open(form(tmp_path / "again", tensors), "c.") as found:
        assert set(found.names) == set(tensors)
        assert any("begins with `c.`: `--key c.` says nothing of it" in note for note in found.notes)


@pytest.mark.parametrize("form", stored.FORMS, ids=lambda form: form.__name__)
def test_every_two_forms_of_one_state_dict_are_the_same(form, tmp_path):
    """No form differs from safetensors in a byte."""
    tensors = stored.small()
    with (
        checkpoint.open(stored.as_safetensors(tmp_path, tensors)) as first,
        checkpoint.open(form(tmp_path, tensors)) as b,
    ):
        compared = checkpoint.compare_checkpoints(first, b)
    assert [change.same for change in compared.changes] == [True] * len(tensors)
    assert not compared.notes


def test_tensors_that_are_not_contiguous_come_back_as_they_are(tmp_path):
    """A transposed and a strided tensor of torch.save are read in the order of their elements."""
    table = torch.arange(24.0).view(4, 6)
    tensors = {"t": table.t(), "strided": table[:, ::2], "part": table[1:3], "channels": torch.randn(2, 3, 4, 5)}
    tensors["channels"] = tensors["channels"].to(memory_format=torch.channels_last)
    with checkpoint.open(stored.as_pt(tmp_path, tensors)) as found:
        for name, tensor in tensors.items():
            assert torch.equal(found.tensor(name), tensor)


def test_zip_files_are_read_from_the_file_and_not_from_a_mapping(tmp_path):
    """What torch mapped is read by its place in the file, so that pages of the mapping never count as memory."""

    path = str(stored.as_pt(tmp_path, stored.small()))
    file = File(path)
    tensors = load_torch(path, file)
    places = _places(tensors.values(), file)
    assert set(places) == {t.untyped_storage().data_ptr() for t in tensors.values() if t.numel()}
    file.close()


@pytest.mark.parametrize("save", ["pt", "save_model"])
def test_tied_tensors_are_one_under_both_names(save, tmp_path):
    """Torch stores a tied tensor once, safetensors leaves a name out: both come back as one tensor with two names."""
    model = nn.ModuleDict({"embed": nn.Embedding(4, 3), "head": nn.Linear(3, 4, bias=False)})
    model["head"].weight = model["embed"].weight
    path = str(tmp_path / "tied")
    torch.save(model.state_dict(), path) if save == "pt" else save_model(model, path)
    with checkpoint.open(path) as found:
        assert set(found.names) == {"embed.weight", "head.weight"}
        assert found.entries["embed.weight"] is found.entries["head.weight"]


def test_a_tied_name_outside_of_the_prefix_is_left_out(tmp_path):
    """Of a tensor that two parts share, the part that is meant knows its own name alone."""
    shared = torch.ones(2)
    torch.save({"a.w": shared, "b.w": shared}, tmp_path / "w.pt")
    with checkpoint.open(tmp_path / "w.pt", "a.") as found:
        assert [entry.names for entry in found.entries.values()] == [("w",)]


def test_wrappers_prefixes_are_taken_off(tmp_path):
    """DataParallel, compile and FSDP leave no trace in the names."""
    tensors = {"module._orig_mod.a.weight": torch.ones(2), "module._orig_mod._fsdp_wrapped_module.b": torch.ones(1)}
    with checkpoint.open(stored.as_pt(tmp_path, tensors)) as found:
        assert found.names == ("a.weight", "b")


def test_dtensors_cut_along_any_dimension_are_put_together(tmp_path):
    """Pieces of a distributed checkpoint that are no whole rows give the tensor all the same."""

    full = torch.arange(12.0).view(3, 4)
    pieces = []
    for offset, size in ((0, 1), (1, 3)):
        path = tmp_path / f"{offset}.distcp"
        torch.save(full[:, offset : offset + size].clone(), path)
        pieces.append(_Piece((0, offset), (3, size), File(str(path)), 0, path.stat().st_size))
    room = bytearray(48)
    _whole(pieces, Stored((3, 4), "float32"))(0, memoryview(room))
    assert torch.equal(torch.frombuffer(room, dtype=torch.float32).view(3, 4), full)


# ---- what must not run


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_a_malicious_pickle_does_not_run(zipped, tmp_path):
    """A pickle that wants to call a function is refused, the function is named and not called."""
    trap = tmp_path / "it_ran"
    torch.save({"w": torch.ones(2), "x": Malicious(trap)}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        UsageError, match=r"w\.pt holds more than tensors.*`(posix|nt|os)\.mkdir`.*Nothing of it was run"
    ):
        checkpoint.open(tmp_path / "w.pt")
    assert not trap.exists()


def test_a_malicious_metadata_of_a_distributed_checkpoint_does_not_run(tmp_path):
    """Torch would unpickle a folder's .metadata as it is; here it is refused."""
    folder, trap = tmp_path / "dcp", tmp_path / "it_ran"
    folder.mkdir()
    (folder / ".metadata").write_bytes(pickle.dumps(Malicious(trap)))
    with pytest.raises(UsageError, match=r"asks Python to run `(posix|nt)\.mkdir`, which is not done"):
        checkpoint.open(folder)
    assert not trap.exists()


def test_a_whole_pickled_model_is_refused_with_the_class_it_wants(tmp_path):
    """`torch.save(model)` needs the model's classes: the message names them and says what to save."""
    torch.save(nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(UsageError, match=r"torch\.nn\.modules\.linear\.Linear") as caught:
        checkpoint.open(tmp_path / "model.pth")
    assert "state_dict()" in caught.value.hint


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_is_refused_by_its_name(tmp_path):
    """A TorchScript archive is code, and the message says so."""
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "m.pt"))
    with pytest.raises(UsageError, match="TorchScript archive"):
        checkpoint.open(tmp_path / "m.pt")


# ---- what cannot be trusted


@pytest.mark.parametrize(
    "form", [stored.as_pt, stored.as_safetensors, stored.as_old_pt], ids=lambda form: form.__name__
)
@pytest.mark.parametrize("left", [0, 1, 8, 300])
def test_a_truncated_file_is_no_checkpoint(form, left, tmp_path):
    """A file that was cut anywhere ends in an error that says so, never in an answer."""
    path = form(tmp_path, stored.small())
    with open(path, "r+b") as file:
        file.truncate(left)
    with pytest.raises(UsageError) as caught:
        checkpoint.open(path)
    assert path.name in caught.value.message
    assert "runcated" in caught.value.hint


@pytest.mark.parametrize(
    "header",
    [b"not json", b"{}", b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}', b'{"a": 3}'],
    ids=["no json", "no tensors", "wrong size", "wrong entry"],
)
def test_a_corrupt_safetensors_header_is_refused(header, tmp_path):
    """A header that does not fit the file is said to be wrong."""
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(UsageError, match=r"w\.safetensors"):
        checkpoint.open(tmp_path / "w.safetensors")


def test_a_file_that_shrinks_while_it_is_read_is_said_to_be_truncated(tmp_path):
    """Whoever writes the file at the same time gives an error and no answer."""
    path = stored.as_safetensors(tmp_path, {"w": torch.zeros(5000)})
    with checkpoint.open(path) as found:
        os.truncate(path, 2000)
        with pytest.raises(UsageError, match="in the middle of its tensors"):
            found.tensor("w")


def test_a_file_that_is_written_while_it_is_read_is_refused(tmp_path):
    """A change of size or time between opening and the end of the comparison is an error."""
    path = stored.as_safetensors(tmp_path, {"w": torch.zeros(50)})
    with checkpoint.open(path) as found, checkpoint.open(path) as other:
        with open(path, "ab") as file:
            file.write(b"more")
        with pytest.raises(UsageError, match="changed while it was read"):
            checkpoint.compare_checkpoints(found, other)


def test_a_folder_without_a_checkpoint_says_what_it_could_hold(tmp_path):
    """An empty folder, and one that holds only what trainers save beside the weights, are refused."""
    (tmp_path / "optimizer.pt").write_bytes(b"")
    with pytest.raises(UsageError, match="a folder without a checkpoint") as caught:
        checkpoint.open(tmp_path)
    assert ".safetensors" in caught.value.hint


def test_a_folder_with_several_checkpoints_lists_them(tmp_path):
    """Two files and no index: the user has to say which."""
    stored.as_pt(tmp_path, stored.small())
    stored.as_safetensors(tmp_path, stored.small())
    with pytest.raises(UsageError, match=r"w\.pt, w\.safetensors"):
        checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "told"),
    [
        ({"a": "gone.safetensors"}, "does not exist"),
        ({"a": "../w.safetensors"}, "outside of its folder"),
        ({"zz": "w.safetensors"}, "says that w.safetensors holds `zz`, and it does not"),
        (3, "no `weight_map`"),
    ],
    ids=["shard missing", "outside", "tensor missing", "no map"],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(weight_map, told, tmp_path):
    """A shard or a tensor that the index promises has to be there, and no path leads out of the folder."""
    stored.as_safetensors(tmp_path, {"a": torch.ones(1)})
    (tmp_path / "x.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UsageError, match=told):
        checkpoint.open(tmp_path / "x.index.json")


def test_a_distributed_checkpoint_with_a_file_gone_is_refused(tmp_path):
    """The metadata alone is no checkpoint."""
    folder = stored.as_distributed(tmp_path, stored.small())
    for file in folder.glob("*.distcp"):
        file.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        checkpoint.open(folder)


def test_a_path_that_does_not_exist_is_said(tmp_path):
    """A misspelled path is a usage error."""
    with pytest.raises(UsageError, match="does not exist"):
        checkpoint.open(tmp_path / "nothing.pt")
