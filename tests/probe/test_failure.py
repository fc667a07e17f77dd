"""A forward that fails says what it was given, which layer refused it, and how to give something else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import freezecheck
from freezecheck.check import verify_subject
from freezecheck.loading import load
from freezecheck.subject import Subject
from tests.probe.verified import Base, sgd, verified


class Image(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4 * 30 * 30, 2)

    def forward(self, x):
        return self.head(F.relu(self.conv(x)).flatten(1))


def failure(model: nn.Module, **options) -> freezecheck.FreezecheckError:
    with pytest.raises(freezecheck.FreezecheckError) as caught:
        verified(model, **options)
    return caught.value


def test_a_wrong_shape_names_the_layer_that_refused_it() -> None:
    """Too many pixels for the head: the shape given, the head with its sizes, and the two ways to give another."""
    error = failure(Image(), inputs=torch.randn(2, 3, 64, 64))
    assert "head (Linear(3600, 2))" in error.message
    assert "float32[2, 3, 64, 64]" in error.message
    assert "--input-shape" in error.hint
    assert "example_inputs()" in error.hint


def test_a_declared_shape_says_where_it_was_declared(tmp_path, monkeypatch) -> None:
    """A shape from the command line is named as such."""
    source = "import torch\nfrom torch import nn\nmodel = nn.Sequential(nn.Conv2d(1, 2, 3))\n"
    (tmp_path / "model.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    subject = load("model.py", input_shape=(2, 3, 8, 8))
    with pytest.raises(freezecheck.FreezecheckError) as caught:
        verify_subject(subject)
    assert "0 (Conv2d(1, 2))" in caught.value.message
    assert "from --input-shape" in caught.value.message


def test_what_the_user_raised_is_not_taken_for_a_shape() -> None:
    """An exception of the user's own gets no advice on shapes."""

    class Net(Base):
        def forward(self, x):
            raise ValueError("bad depth")

    error = failure(Net())
    assert "raised ValueError: bad depth" in error.message
    assert error.hint == ""
    assert error.location is not None
    assert error.location.text == 'raise ValueError("bad depth")'


def test_a_loss_that_fails_is_not_blamed_on_a_layer() -> None:
    """A target of the wrong shape is the loss's affair: no layer is named."""
    model = Image()
    error = failure(
        model,
        optimizer=sgd(model),
        inputs=torch.randn(2, 3, 32, 32),
        loss=lambda m, x: F.cross_entropy(m(x), torch.tensor([1, 0, 1])),
    )
    assert "conv" not in error.message
    assert "head" not in error.message


def on_meta(way: str, tmp_path, monkeypatch) -> Subject:
    source = (
        "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.fc = nn.Linear(3, 4)\n        self.head = nn.Linear(4, 2)\n\n"
        f"    def forward(self, x):\n        x = self.fc(x) * 1\n        {way}\n        return self.head(x)\n\n"
        "def example_inputs():\n    return torch.randn(2, 3)\n"
    )
    (tmp_path / "model.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return load("model.py", device="meta")


@pytest.mark.parametrize("way", ["x = x * 2 if x.sum() > 0 else x", "x = x * x.mean().item()", "x = x[x.nonzero()]"])
def test_control_flow_by_values_on_meta_is_an_error_and_no_verdict(way: str, tmp_path, monkeypatch) -> None:
    """What the meta device cannot decide ends the check with the line and a way out."""
    with pytest.raises(freezecheck.FreezecheckError, match="meta") as caught:
        verify_subject(on_meta(way, tmp_path, monkeypatch))
    assert "leave --meta out" in caught.value.hint
    assert caught.value.location is not None
    assert caught.value.location.text == way


def test_masks_that_the_meta_device_can_follow_do_not_matter(tmp_path, monkeypatch) -> None:
    """Writing through a mask needs no values."""
    assert not verify_subject(on_meta("x[x > 0] = 1.0", tmp_path, monkeypatch)).findings
