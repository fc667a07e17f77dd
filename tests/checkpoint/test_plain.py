"""Plain files of torch.save are read without torch; whatever else is in one is left to torch.load."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from freezecheck.checkpoint._file import File
from freezecheck.checkpoint._open import open as open_checkpoint
from freezecheck.checkpoint._plain import NotPlain, PlainTensor, load_plain, plain_entries
from freezecheck.checkpoint._torch import entries, load_torch
from freezecheck.errors import UsageError
from tests.checkpoint import stored


def load(path: Path) -> object:
    file = File(str(path))
    try:
        return load_plain(file)
    finally:
        file.close()


def entry_bytes(path: Path) -> bytes:
    file = File(str(path))
    try:
        (entry,) = plain_entries(load_plain(file), file).values()
        into = bytearray(entry.nbytes)
        entry.read(0, memoryview(into))
        return bytes(into)
    finally:
        file.close()


def saved(folder: Path, what: object) -> Path:
    torch.save(what, folder / "w.pt")
    return folder / "w.pt"


def pickled(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def with_pickle(folder: Path, text: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """A file of torch.save with another pickle in it."""
    path = saved(folder, {"w": torch.zeros(3)})
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            pickled = name.endswith("data.pkl")
            archive.writestr(name, text if pickled else content, compression if pickled else zipfile.ZIP_STORED)
    return path


class TestReads:
    """State dicts as trainings save them."""

    def test_what_torch_reads(self, tmp_path):
        """Names, shapes, dtypes and bytes are those that torch.load gives."""
        tensors = {**stored.small(), "part": torch.arange(9.0)[2:6], "weight": nn.Parameter(torch.ones(2, 3))}
        path = str(saved(tmp_path, tensors))
        file = File(path)
        plain, ours = plain_entries(load_plain(file), file), entries(load_torch(path, file), file)
        assert list(plain) == list(ours)
        for name, entry in plain.items():
            assert entry.stored == ours[name].stored
            assert torch.equal(entry.tensor(), ours[name].tensor())
        file.close()

    def test_tied_tensors_are_one(self, tmp_path):
        """As they are for torch; two empty ones are two."""
        weight = torch.ones(3)
        tensors = {"a": weight, "b": weight, "c": weight.clone(), "d": torch.zeros(0), "e": torch.zeros(0)}
        file = File(str(saved(tmp_path, tensors)))
        found = plain_entries(load_plain(file), file)
        assert [entry.names for entry in found.values()] == [("a", "b"), ("a", "b"), ("c",), ("d",), ("e",)]
        file.close()

    def test_a_checkpoint_of_a_training(self, tmp_path):
        """A module's own state dict, an optimizer's and numbers beside them."""
        model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.randn(4, 3)).sum().backward()
        optimizer.step()
        tree = load(saved(tmp_path, {"model": model.state_dict(), "optim": optimizer.state_dict(), "epoch": 3}))
        assert tree["epoch"] == 3
        assert list(tree["model"]) == list(model.state_dict())
        assert isinstance(tree["optim"]["state"][0]["exp_avg"], PlainTensor)

    def test_torch_is_not_imported(self, tmp_path):
        """A diff of two plain files is made without it."""
        for name, seed in (("a", 0), ("b", 1)):
            torch.save(stored.small(seed), tmp_path / f"{name}.pt")
        code = (
            "import sys\nfrom freezecheck.cli import main\ntry:\n    main(['diff', 'a.pt', 'b.pt'])\n"
            "except SystemExit as stop:\n    assert not stop.code\nprint('torch' in sys.modules)"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False"


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


class TestLeavesToTorch:
    """What is not plain is not read, and nothing of it is run."""

    @pytest.mark.parametrize(
        "make",
        [
            lambda: torch.arange(6.0).view(2, 3).t(),
            lambda: torch.eye(3).to_sparse(),
            lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
            lambda: torch.empty(3, device="meta"),
            lambda: torch.view_as_complex(torch.ones(3, 2)).conj(),
            lambda: argparse.Namespace(lr=0.1),
            lambda: nn.Linear(2, 2),
        ],
        ids=["transposed", "sparse", "quantised", "meta", "conjugated", "namespace", "module"],
    )
    @pytest.mark.filterwarnings("ignore")
    def test_other_things(self, make, tmp_path):
        """Another class, or a tensor whose elements do not simply follow one another."""
        with pytest.raises(NotPlain):
            load(saved(tmp_path, {"w": torch.ones(1), "x": make()}))

    def test_a_function_is_not_called(self, tmp_path):
        """No name stands for anything that could do harm."""
        with pytest.raises(NotPlain):
            load(saved(tmp_path, {"x": Runs(tmp_path / "it_ran")}))
        assert not (tmp_path / "it_ran").exists()

    def test_a_name_of_a_module_that_is_let_in(self, tmp_path):
        """Beside the functions that make a tensor, torch has such as run code."""
        text = b"\x80\x02ctorch._utils\n_import_dotted_name\nX\x02\x00\x00\x00os\x85R."
        with pytest.raises(NotPlain):
            load(with_pickle(tmp_path, text))

    @pytest.mark.parametrize(
        "text",
        [
            b"\x80\x02N" + b"r" + struct.pack("<I", 0xFFFFFFFF) + b".",  # a memo of 64 GB
            b"\x80\x02(i__main__\nx\n.",  # INST
            b"\x80\x02\x82\x01.",  # an extension's code
            b"\x80\x02}",  # no end
            b"",
        ],
        ids=["memo", "instance", "extension", "truncated", "empty"],
    )
    def test_an_opcode_that_no_state_dict_needs(self, text, tmp_path):
        """They are refused before anything is made of them."""
        with pytest.raises(NotPlain):
            load(with_pickle(tmp_path, text))

    @pytest.mark.parametrize("offset", [1, -1, 2**40])
    def test_a_tensor_that_leaves_its_record(self, offset, tmp_path):
        """Its elements would be those of another, or of nothing."""
        text = pickled(saved(tmp_path, {"w": torch.zeros(3)}))
        (place,) = [at for op, argument, at in pickletools.genops(text) if op.name == "BININT1" and argument == 0]
        long = pickle.encode_long(offset)
        other = text[:place] + b"\x8a" + bytes([len(long)]) + long + text[place + 2 :]
        with pytest.raises(NotPlain):
            load(with_pickle(tmp_path, other))

    def test_a_tensor_that_is_changed_after_it_was_made(self, tmp_path):
        """A pickle can set attributes; these have none to set."""
        text = pickled(saved(tmp_path, {"w": torch.zeros(3)}))
        made = max(at for op, _, at in pickletools.genops(text) if op.name == "REDUCE") + 1
        with pytest.raises(NotPlain):
            load(with_pickle(tmp_path, text[:made] + b"}b" + text[made:]))

    @pytest.mark.parametrize("kind", [("bogus", 4), ("float32", -4)])
    def test_a_kind_of_elements_that_the_pickle_makes_up(self, kind, tmp_path):
        """Only torch's own classes of storages say what an element is."""

        class Named(pickle.Pickler):
            def persistent_id(self, one):
                return ("storage", kind, "0", "cpu", 3) if one is storage else None

        class Tensor:
            def __reduce__(self):
                return torch._utils._rebuild_tensor_v2, (storage, 0, (3,), (1,), False, OrderedDict())

        storage = object()
        text = io.BytesIO()
        Named(text, protocol=2).dump({"w": Tensor()})
        with pytest.raises(NotPlain):
            load(with_pickle(tmp_path, text.getvalue()))

    @pytest.mark.parametrize("name", ["archive/extra/data/0", "other/data.pkl", "twice"])
    def test_an_archive_that_two_readers_read_differently(self, name, tmp_path):
        """A second root or a second record of one name is torch's to sort out; a record elsewhere is none of ours."""
        path = saved(tmp_path, {"w": torch.zeros(3)})
        with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings(action="ignore"):
            first = next(one for one in archive.namelist() if one.endswith("data/0"))
            root = first.removesuffix("/data/0")
            archive.writestr(
                first if name == "twice" else name.replace("archive", root), torch.ones(3).numpy().tobytes()
            )
        if "extra" in name:
            assert entry_bytes(path) == torch.zeros(3).numpy().tobytes()
        else:
            with pytest.raises(NotPlain):
                load(path)

    def test_a_dict_that_contains_itself(self, tmp_path):
        """No endless walk, and no traceback."""
        tree = {"w": torch.zeros(3)}
        tree["again"] = tree
        with pytest.raises(UsageError, match="contains itself"):
            open_checkpoint(saved(tmp_path, tree))

    def test_a_compressed_pickle(self, tmp_path):
        """A few kilobytes could be gigabytes."""
        with pytest.raises(NotPlain):
            load(with_pickle(tmp_path, pickle.dumps({"w": "x" * 10000}, protocol=2), zipfile.ZIP_DEFLATED))

    @pytest.mark.parametrize("left", [0, 30, 300])
    def test_a_truncated_archive(self, left, tmp_path):
        """Torch has the words for it."""
        path = saved(tmp_path, stored.small())
        os.truncate(path, left)
        with pytest.raises(NotPlain):
            load(path)
