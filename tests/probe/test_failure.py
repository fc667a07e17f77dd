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
    """Too many pixels for the head: the shape given, the head with its sizes, torch's words once, and what to give."""
    error = failure(Image(), inputs=torch.randn(2, 3, 64, 64))
    assert "head (Linear(3600, 2))" in error.message
    assert error.message.count("float32[2, 3, 64, 64]") == 1
    assert error.message.count("shapes cannot be multiplied") == 1
    assert "inputs=" in error.hint
    assert "--" not in error.hint


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((torch.randn(2, 3, 32, 32), torch.zeros(2)), "a tuple goes by position, here as 2 arguments"),
        ({"x": torch.randn(2, 3, 32, 32), "y": torch.zeros(2)}, "a dict goes by name, here as x=, y="),
        ([torch.randn(2, 3, 32, 32), torch.zeros(2)], "a list is one argument, a tuple goes by position"),
    ],
    ids=["tuple", "dict", "list"],
)
def test_a_batch_with_its_targets_is_more_than_the_model_takes(inputs, said: str) -> None:
    """It says how the batch was given and to what, and that a loss may take it apart; a shape would not help."""
    error = failure(Image(), inputs=inputs)
    assert f"{said}, and it is forward(x)" in error.message
    assert "loss=" in error.hint
    assert not any("site-packages" in frame for frame in error.frames)


def test_a_batch_that_fits_is_not_blamed() -> None:
    """A tuple for a forward of two arguments is right, whatever else went wrong in it."""

    class Two(Base):
        def forward(self, x, y):
            return self.enc(x) + self.head(y)

    error = failure(Two(), inputs=(torch.randn(2, 3), torch.randn(2, 3)))
    assert "goes by position" not in error.message
    assert "head (Linear(4, 2))" in error.message


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
    assert "--input-shape" in caught.value.hint
    assert "example_inputs()" in caught.value.hint


def test_a_file_whose_inputs_hold_the_targets_is_told_what_to_change(tmp_path, monkeypatch) -> None:
    """The words are those of a file: example_inputs() or compute_loss."""
    source = (
        "import torch\nfrom torch import nn\nmodel = nn.Linear(3, 2)\n"
        "def example_inputs():\n    return torch.randn(4, 3), torch.zeros(4)\n"
    )
    (tmp_path / "model.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(freezecheck.FreezecheckError) as caught:
        verify_subject(load("model.py"))
    assert "(from model.py:example_inputs)" in caught.value.message
    assert "compute_loss(model, inputs)" in caught.value.hint


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
    with pytest.raises(freezecheck.FreezecheckError, match=r"(?i)meta") as caught:
        verify_subject(on_meta(way, tmp_path, monkeypatch))
    assert "leave --meta out" in caught.value.hint
    assert caught.value.location is not None
    assert caught.value.location.text == way


def test_masks_that_the_meta_device_can_follow_do_not_matter(tmp_path, monkeypatch) -> None:
    """Writing through a mask needs no values."""
    assert not verify_subject(on_meta("x[x > 0] = 1.0", tmp_path, monkeypatch)).findings
