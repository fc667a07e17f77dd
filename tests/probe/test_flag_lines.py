"""FZ101 and FZ102 name the line that gave a parameter its flag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from freezecheck.probe.flag_lines import FlagLines, standing
from tests.probe.verified import told

MODEL = """\
import torch
from torch import nn

model = nn.Sequential()
model.add_module("body", nn.Linear(4, 8))
model.add_module("head", nn.Linear(8, 2))
SETS
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def example_inputs():
    return torch.randn(3, 4)
"""


def finding(folder: Path, command: str, sets: str, code: str) -> dict[str, Any]:
    (folder / "freeze.toml").write_text('trainable = ["head"]\n', encoding="utf-8")
    return told(folder, command, MODEL.replace("SETS", sets), code, "--spec", "freeze.toml")


@pytest.mark.parametrize("command", ["verify", "run"])
class TestInTheReport:
    def test_a_head_that_was_frozen_with_the_rest(self, tmp_path: Path, command: str) -> None:
        """By a loop over everything."""
        found = finding(tmp_path, command, "for p in model.parameters():\n    p.requires_grad = False", "FZ102")
        assert "requires_grad is False since train.py:8 (`p.requires_grad = False`): they get" in found["message"]
        assert (found["location"]["file"], found["location"]["line"]) == ("train.py", 8)

    def test_the_last_line_counts(self, tmp_path: Path, command: str) -> None:
        """The head alone was to be thawed again."""
        sets = "model.head.requires_grad_(False)\nmodel.requires_grad_(True)"
        found = finding(tmp_path, command, sets, "FZ101")
        assert "require grad since train.py:8 (`model.requires_grad_(True)`), get a gradient" in found["message"]
        assert found["location"]["line"] == 8

    def test_what_nobody_set_has_no_line(self, tmp_path: Path, command: str) -> None:
        """A parameter is born with its flag."""
        found = finding(tmp_path, command, "", "FZ101")
        assert "expected frozen, but require grad, get a gradient" in found["message"]
        assert found["location"] is None


class TestFlagLines:
    def test_only_the_flag_that_stands(self) -> None:
        """A line that set another value than a parameter has by now did not set it."""
        layer = torch.nn.Linear(2, 2)
        with FlagLines() as lines:
            layer.weight.requires_grad = False
            layer.bias.requires_grad_(False)
        known = lines.of(layer)
        assert [value for value, _ in known.values()] == [False, False]
        layer.bias.requires_grad_(True)
        assert list(standing(known, dict(layer.named_parameters()))) == ["weight"]

    def test_another_tensor_at_the_same_address_is_none_of_it(self) -> None:
        """What was set is known by the tensor, not by a number that another one may get."""
        with FlagLines() as lines:
            torch.nn.Parameter(torch.ones(2)).requires_grad_(False)
            layers = [torch.nn.Linear(2, 2) for _ in range(50)]
        assert all(lines.of(layer) == {} for layer in layers)
