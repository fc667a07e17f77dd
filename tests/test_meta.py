"""The meta device and others: the inputs follow the model."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch

from freezecheck.inputs import on_device
from tests.readme import freezecheck_command

torch.set_num_threads(1)

MODEL = """\
import torch
from torch import nn


def build_model():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].requires_grad_(False)
    return model


def build_optimizer(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
"""


@pytest.mark.parametrize(
    "own", ["", "\n\ndef example_inputs():\n    return torch.randn(3, 4)\n"], ids=["found", "given"]
)
@pytest.mark.parametrize("words", [("verify", "-v"), ("verify", "--input-shape", "3,4"), ("report",)])
def test_meta_checks_a_model_whose_inputs_are_anywhere(tmp_path, own, words):
    """Inputs that are found, given or of a shape: gradient flow is seen, movement is not claimed."""
    (tmp_path / "model.py").write_text(MODEL + own, encoding="utf-8")
    ran = freezecheck_command(words[0], "model.py", "--meta", *words[1:], folder=tmp_path)
    assert ran.code == 0, ran.err
    if words[0] == "verify":
        assert "2 trainable tensors got gradients, 2 frozen tensors not watched for change" in ran.out
        assert "the meta device holds no values" in " ".join(ran.out.split())


def test_meta_finds_what_has_no_gradient(tmp_path):
    """A cut of the graph is found without a single weight in memory."""
    broken = MODEL.replace("nn.ReLU()", "Cut()").replace(
        "def build_model",
        "class Cut(nn.Module):\n    def forward(self, x):\n        return x.detach()\n\n\ndef build_model",
    )
    (tmp_path / "model.py").write_text(broken.replace("model[0].requires_grad_(False)", "pass"), encoding="utf-8")
    ran = freezecheck_command("verify", "model.py", "--meta", folder=tmp_path)
    assert ran.code == 1, ran.err
    assert "FZ201 no-gradient" in ran.out


Pair = namedtuple("Pair", "image label")


class Encoding(dict):
    """Stands in for a tokenizer's."""


@pytest.mark.parametrize(
    "inputs",
    [
        torch.zeros(2),
        (torch.zeros(2), None, 3),
        [torch.zeros(2), {"x": torch.zeros(1)}],
        Pair(torch.zeros(2), torch.zeros(1)),
        Encoding(ids=torch.zeros(2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_tensor_of_the_inputs_is_moved(inputs):
    """In whatever they are packed, which stays what it was as far as the model can tell."""
    moved = on_device(lambda: inputs, "meta")()
    tensors = list(leaves(moved))
    assert tensors
    assert all(one.is_meta for one in tensors)
    assert type(moved) is type(inputs) or isinstance(moved, dict)


def leaves(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (leaf for inner in value.values() for leaf in leaves(inner))
    elif isinstance(value, list | tuple):
        yield from (leaf for inner in value for leaf in leaves(inner))
