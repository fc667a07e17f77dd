"""The checkpoint that a spec names, held against the model that a script really trains."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.watching.loops import MODEL, codes, report_of, run, write

torch.set_num_threads(1)

SPEC = 'trainable = ["head"]\nfrozen = ["body"]\npretrained = "base.pt"\n'
LOADED = MODEL.replace("model = Net()\n", "model = Net()\nmodel.load_state_dict(torch.load('base.pt'), strict=False)\n")
LOOP = "for _ in range(5):\n    step()\n"


@pytest.fixture
def base(tmp_path, monkeypatch):
    """Write a checkpoint of the body, each name beginning with a prefix."""
    monkeypatch.chdir(tmp_path)

    def save(prefix=""):
        body = nn.Linear(4, 8)
        torch.save({f"{prefix}body.{name}": value for name, value in body.state_dict().items()}, "base.pt")

    return save


def watched(folder, source, spec=SPEC):
    write(folder, source, spec=spec)
    return run(folder, "--format", "json", "train.py")


def test_a_body_that_was_loaded_is_silent(tmp_path, base):
    """And the report tells what it was held against."""
    base()
    ran = watched(tmp_path, LOADED + LOOP)
    assert (ran.code, codes(ran)) == (0, [])
    assert report_of(ran)["conditions"]["pretrained"] == "base.pt"


def test_what_an_earlier_phase_trained_is_not_compared(tmp_path, base):
    """The body of a first phase that trains all is no longer the checkpoint's in the second."""
    base()
    phases = '[[phase]]\nname = "all"\ntrainable = ["*"]\n[[phase]]\nname = "head"\ntrainable = ["head"]\n'
    source = LOADED.replace("model.body.requires_grad_(False)\n", "").replace("model.head.p", "model.p")
    ran = watched(
        tmp_path,
        source + LOOP + "model.body.requires_grad_(False)\noptimizer = torch.optim.SGD("
        "model.head.parameters(), lr=0.1)\nmodel.zero_grad()\n" + LOOP,
        f'pretrained = "base.pt"\n{phases}',
    )
    assert (ran.code, codes(ran)) == (0, [])


def test_a_body_that_was_never_loaded(tmp_path, base):
    """The prefix in the checkpoint fits no name of the model, and strict=False says nothing."""
    base("module.")
    ran = watched(tmp_path, LOADED + LOOP)
    assert (ran.code, codes(ran)) == (1, ["FZ704"])
    assert report_of(ran)["findings"][0]["tensors"] == ["body.weight", "body.bias"]


def test_one_that_cannot_be_read_is_named(tmp_path, base):
    """The training is not ended for it, and the report does not hide that nothing was compared."""
    (tmp_path / "base.pt").write_bytes(b"no checkpoint")
    ran = watched(tmp_path, MODEL + LOOP)
    assert codes(ran) == []
    assert "FZ704" in [one["what"] for one in report_of(ran)["skipped"]]
