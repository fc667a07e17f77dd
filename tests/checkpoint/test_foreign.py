"""Objects of other classes beside a checkpoint's tensors: left out, never run, and refused where they hold tensors."""

from __future__ import annotations

import argparse
import datetime
import pathlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from freezecheck import checkpoint
from freezecheck.errors import UsageError

HELD = {
    "arguments": argparse.Namespace(lr=0.1, layers=[1, 2], out=pathlib.Path("runs")),
    "a numpy number": np.float64(0.75),
    "a numpy array": np.arange(3),
    "a path": pathlib.Path("runs"),
    "a date": datetime.datetime(2026, 1, 1),
    "an object of the user's": SimpleNamespace(best=0.5, names=("a", "b")),
    "several": [argparse.Namespace(lr=0.1), {"best": np.float32(1.0)}],
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_what_holds_no_tensors_is_left_out(held: Any, zipped: bool, tmp_path: pathlib.Path) -> None:
    """A training's own checkpoint, as most scripts save it."""
    state = nn.Linear(3, 2).state_dict()
    path = tmp_path / "last.pt"
    torch.save({"model": state, "epoch": 3, "extra": held}, path, _use_new_zipfile_serialization=zipped)
    with checkpoint.open(path) as opened:
        assert list(opened.entries) == ["weight", "bias"]
        assert torch.equal(opened.tensor("weight"), state["weight"])


class Kept:
    """An object of the user's that keeps a tensor."""

    def __init__(self) -> None:
        self.deep = {"list": [torch.ones(2)]}


@pytest.mark.parametrize("held", [nn.Linear(3, 2), Kept()], ids=["a module", "an object"])
def test_what_holds_tensors_is_refused(held: Any, tmp_path: pathlib.Path) -> None:
    """Left out, its tensors would go missing without a word."""
    path = tmp_path / "last.pt"
    torch.save({"model": nn.Linear(3, 2).state_dict(), "ema": held}, path)
    with pytest.raises(UsageError, match=r"last\.pt holds more than tensors.*Nothing of it was run"):
        checkpoint.open(path)


class Evaluates:
    """Asks for `eval` when it is unpickled."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return eval, (f"__import__('pathlib').Path({str(self.path)!r}).touch()",)


def test_a_function_that_a_file_names_does_not_run(tmp_path: pathlib.Path) -> None:
    """What stands in for it takes its arguments and does nothing."""
    trap, path = tmp_path / "it_ran", tmp_path / "last.pt"
    torch.save({"model": nn.Linear(3, 2).state_dict(), "extra": Evaluates(trap)}, path)
    try:
        with checkpoint.open(path) as opened:
            assert list(opened.entries) == ["weight", "bias"]
    except UsageError:
        pass  # a torch that lets no such name in
    assert not trap.exists()


def test_nothing_is_let_in_for_good(tmp_path: pathlib.Path) -> None:
    """torch's own list of what is safe is afterwards what it was."""
    before = set(map(str, torch.serialization.get_safe_globals()))
    torch.save({"w": torch.ones(2), "extra": argparse.Namespace(a=1)}, tmp_path / "w.pt")
    with checkpoint.open(tmp_path / "w.pt"):
        pass
    assert set(map(str, torch.serialization.get_safe_globals())) == before
