"""FZ401 to FZ405 stand at the line that made the optimizer, and call it by the user's own name."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

from freezecheck.probe.made_at import lines_of, optimizers_noted
from freezecheck.records import Location
from freezecheck.rules._words import optimizer_variable
from tests.probe.verified import told
from tests.rules.tables import table

MODEL = """\
import torch
from torch import nn

model = nn.Sequential()
model.add_module("body", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
model.body.requires_grad_(False)
MADE

def example_inputs():
    return torch.randn(3, 4)
"""
BUILT = "def build_optimizer(model):\n    return torch.optim.SGD(model.parameters(), lr=0.1)"


@pytest.mark.parametrize("command", ["verify", "run"])
@pytest.mark.parametrize(
    ("made", "code"),
    [
        ("optimizer = torch.optim.SGD(model.parameters(), lr=0.1)", "FZ401"),
        ("optimizer = torch.optim.SGD(nn.Linear(8, 2).parameters(), lr=0.1)", "FZ403"),
        ("optimizer = torch.optim.SGD(model.head.parameters(), lr=0.0)", "FZ405"),
        ("optimizer = torch.optim.SGD([model.head.bias], lr=0.1)", "FZ402"),
    ],
)
def test_the_finding_stands_at_the_line(tmp_path: Path, command: str, made: str, code: str) -> None:
    """In `verify` and in a watched training alike."""
    found = told(tmp_path, command, MODEL.replace("MADE", made), code)
    assert (found["location"]["file"], found["location"]["line"]) == ("train.py", 8)


def test_a_function_that_makes_it_is_looked_into(tmp_path: Path) -> None:
    """`build_optimizer` beside the model: the line within, and no name, for it has none there."""
    found = told(tmp_path, "verify", MODEL.replace("MADE", BUILT), "FZ401")
    assert found["location"]["line"] == 9
    assert found["fix"].startswith("optimizer = torch.optim.SGD(")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("opt = torch.optim.SGD(model.parameters(), lr=0.1)", "opt"),
        ("self.opt = SGD(self.parameters())", "self.opt"),
        ("return torch.optim.SGD(model.parameters(), lr=0.1)", "optimizer"),
        ("opts = [torch.optim.SGD(m.parameters()) for m in models]", "optimizer"),
        ("a, b = SGD(x), SGD(y)", "optimizer"),
        ("if opt == make(SGD(x)):", "optimizer"),
    ],
)
def test_it_is_called_as_the_user_calls_it(text: str, name: str) -> None:
    """By the name that one optimizer is assigned to, and by no other."""
    assert optimizer_variable(table(optimizer_lines=(Location("a.py", 1, None, text),)), [0]) == name


def test_a_group_that_is_added_later_made_nothing() -> None:
    """The line is the one of the first group, and the optimizer is not kept alive for it."""
    layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    with optimizers_noted():
        optimizer = torch.optim.SGD(layers[0].parameters(), lr=0.1)
        first = lines_of([optimizer])
        optimizer.add_param_group({"params": layers[1].parameters()})
        assert lines_of([optimizer]) == first
    assert first[0] is not None
    assert "optimizer = torch.optim.SGD(layers[0]" in first[0].text
    assert lines_of([torch.optim.SGD(layers.parameters(), lr=0.1)]) == (None,)
    alive = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert alive() is None
