"""The pytest fixture `freezecheck`, in test suites of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SUITE = """\
import pytest
import torch
from torch import nn

torch.set_num_threads(1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(x))

    def train(self, mode=True):
        super().train(mode)
        self.body.eval()
        return self

@pytest.fixture
def model():
    net = Net()
    net.body.requires_grad_(False)
    return net

@pytest.fixture
def inputs():
    return torch.randn(6, 4)
"""
RIGHT = """
def test_selectors(freezecheck, model, inputs):
    result = freezecheck.assert_only_trains(model, "head", inputs=inputs)
    assert result.ok

def test_optimizer_and_loss(freezecheck, model, inputs):
    optimizer = torch.optim.Adam(model.head.parameters())
    loss = lambda model, x: model(x).square().mean()
    freezecheck.assert_only_trains(model, "head.*", "!body", optimizer=optimizer, inputs=inputs, loss=loss)
    freezecheck.verify(model, "freeze.toml", optimizer=optimizer, inputs=inputs)
    freezecheck.verify(model)

def test_nothing(freezecheck, model, inputs):
    model.requires_grad_(False)
    freezecheck.assert_only_trains(model, inputs=inputs, ignore=["FZ206"])
"""


WRONG = """
def test_optimizer(freezecheck, model, inputs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    freezecheck.assert_only_trains(model, "head", optimizer=optimizer, inputs=inputs)

def test_flags(freezecheck, model, inputs):
    model.body.requires_grad_(True)
    freezecheck.verify(model, "freeze.toml", inputs=inputs)

def test_selector(freezecheck, model, inputs):
    freezecheck.assert_only_trains(model, "haed", inputs=inputs)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What pytest says of both suites, run once in a process of its own."""
    folder = tmp_path_factory.mktemp("suites")
    (folder / "test_suites.py").write_text(SUITE + RIGHT + WRONG)
    (folder / "freeze.toml").write_text('trainable = ["head"]')
    return outside(folder).stdout


def failure(text, name):
    """The part of pytest's output that is about one test."""
    return text.partition(f"_ {name} _")[2].partition("\n______")[0]


def test_a_right_model_passes(told):
    """Selectors, a spec's file, an optimizer and a loss of one's own, and a model that trains nothing."""
    assert "3 failed, 3 passed" in told
    assert "FAILED test_suites.py::test_selectors" not in told


def test_a_wrong_model_fails_with_the_report(told):
    """The failure shows the text report, with code, tensors and fix, and none of our own frames."""
    said = failure(told, "test_optimizer")
    lines = [line.strip("E ") for line in said.splitlines()]
    assert '>       freezecheck.assert_only_trains(model, "head", optimizer=optimizer, inputs=inputs)' in said
    assert "warning FZ401 frozen-parameter-in-optimizer" in lines
    assert any(line.startswith("body.0.weight, body.0.bias") for line in lines)
    assert any(line.startswith("fix: ") for line in lines)
    assert any(line.startswith("freezecheck: 1 warning") for line in lines)
    assert "freezecheck/pytest_plugin.py" not in said
    assert "test_optimizer - freezecheck.errors.FreezeError: FZ401 frozen-parameter-in-optimizer" in told


def test_verify_fails_by_the_file_too(told):
    """`verify` takes a path; what it finds fails the test."""
    assert "error FZ101 frozen-requires-grad" in failure(told, "test_flags")


def test_a_misspelled_selector_fails(told):
    """A name that the model does not have is no success."""
    said = failure(told, "test_selector")
    assert "FZ001" in said
    assert "haed" in said


LISTING = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
NO_TORCH = "import sys\n\ndef test_light():\n    assert 'torch' not in sys.modules\n"


def outside(folder, *options):
    """Run pytest in a process of its own, with the plugins that are installed."""
    return subprocess.run(
        [*LISTING, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_it_is_loaded_by_itself_and_without_torch(tmp_path):
    """An installed freezecheck offers the fixture to every suite, at no more cost than a small import."""
    (tmp_path / "test_light.py").write_text(NO_TORCH)
    assert outside(tmp_path).returncode == 0
    assert "Assertions about what a model trains" in outside(tmp_path, "--fixtures").stdout


def test_it_can_be_left_out(tmp_path):
    """`-p no:freezecheck` takes the fixture away and breaks nothing else."""
    (tmp_path / "test_light.py").write_text(NO_TORCH + "\ndef test_asks(freezecheck):\n    pass\n")
    done = outside(tmp_path, "-p", "no:freezecheck")
    assert "1 passed, 1 error" in done.stdout
    assert "fixture 'freezecheck' not found" in done.stdout
