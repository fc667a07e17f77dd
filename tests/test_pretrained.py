"""`pretrained = "file"`: what is frozen must be what the checkpoint holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import freezecheck
from freezecheck.errors import UsageError
from freezecheck.records import Need
from freezecheck.spec import Spec

torch.set_num_threads(1)


class Net(nn.Module):
    """A frozen body with statistics and a buffer that no checkpoint holds, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        self.head = nn.Linear(8, 2)
        self.register_buffer("positions", torch.arange(8), persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(inputs) + self.positions)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """A folder with base.pt; what it holds."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    weights = Net().state_dict()
    torch.save(weights, "base.pt")
    return weights


def loaded(weights: dict[str, torch.Tensor], model: nn.Module | None = None) -> nn.Module:
    """A model with these weights and a frozen body."""
    model = model or Net()
    model.load_state_dict(weights, strict=False)
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    return model


def verified(model: nn.Module, text: str = "", *, pretrained: str = '"base.pt"') -> freezecheck.Result:
    """Verify with SGD over what requires grad."""
    body = text or 'trainable = ["head"]\neval = ["body"]'
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    spec = Spec.parse(f"pretrained = {pretrained}\n{body}\n", "freeze.toml")
    return freezecheck.verify(model, spec, optimizer=optimizer, inputs=torch.randn(5, 4))


def found(result: freezecheck.Result) -> dict[str, tuple[str, ...]]:
    """The tensors of each code."""
    return {finding.code: finding.tensors for finding in result.findings}


class TestSilent:
    """Right models, however the checkpoint wraps them."""

    def test_the_weights_were_loaded(self, base: dict[str, torch.Tensor]) -> None:
        """Parameters and statistics are compared; the head, which trains, and what is not persistent are not."""
        result = verified(loaded(base))
        assert found(result) == {}
        asked = [fact.name for fact in result.report.case.facts if fact.pretrained is not None]
        assert asked == [name for name in base if name.startswith("body")]
        assert "pretrained base.pt" in " ".join(str(result).split())

    @pytest.mark.parametrize(
        ("wrap", "pretrained"),
        [
            (lambda weights: {"state_dict": {f"module.{k}": v for k, v in weights.items()}, "epoch": 3}, '"base.pt"'),
            (
                lambda weights: {"model": {k: v + 1 for k, v in weights.items()}, "ema": weights},
                '{ file = "base.pt", key = "ema" }',
            ),
        ],
    )
    def test_wrappings(self, base: dict[str, torch.Tensor], wrap: object, pretrained: str) -> None:
        """A prefix and a state dict inside are found; which of two is meant can be said."""
        torch.save(wrap(base), "base.pt")  # type: ignore[operator]  # a function of the table above
        assert found(verified(loaded(base), pretrained=pretrained)) == {}

    def test_a_tied_tensor_is_there_under_one_of_its_names(self, base: dict[str, torch.Tensor]) -> None:
        """Many checkpoints save a shared tensor once."""
        model = Net()
        model.again = nn.Linear(4, 8, bias=False)
        model.again.weight = model.body[0].weight
        del base["body.0.weight"]
        base["again.weight"] = model.again.weight.detach().clone()
        torch.save(base, "base.pt")
        assert found(verified(loaded(base, model))) == {}

    def test_statistics_that_may_move_may_differ(self, base: dict[str, torch.Tensor]) -> None:
        """What `buffers_may_move` names is not held to the checkpoint."""
        base["body.1.running_mean"] += 1
        text = 'trainable = ["head"]\nbuffers_may_move = ["body"]'
        assert found(verified(loaded(base), text)) == {}

    def test_what_an_earlier_phase_trained_may_differ(self, base: dict[str, torch.Tensor]) -> None:
        """The head is trained and then frozen: it is no longer what it was loaded as, and need not be."""
        Path("setups.py").write_text(
            "def swap(model, optimizer):\n"
            "    model.head.requires_grad_(False)\n"
            "    model.body[0].requires_grad_(True)\n"
            "    return type(optimizer)(model.body[0].parameters(), lr=0.1)\n"
        )
        text = (
            'eval = ["body"]\n[[phase]]\nname = "one"\ntrainable = ["head"]\n'
            '[[phase]]\nname = "two"\ntrainable = ["body[0]"]\nsetup = "setups.py:swap"'
        )
        result = verified(loaded(base), text)
        assert found(result) == {}
        asked = {fact.name for fact in result.report.case.facts if fact.pretrained is not None}
        assert asked == {name for name in base if name.startswith("body.1")}


class TestFiring:
    """What a run of the training would not show."""

    def test_random_weights_were_frozen(self, base: dict[str, torch.Tensor]) -> None:
        """`strict=False` skipped a layer of another name, and it was frozen as it was initialised."""
        del base["body.0.weight"]
        assert found(verified(loaded(base))) == {"FZ704": ("body.0.weight",)}

    def test_statistics_were_not_loaded(self, base: dict[str, torch.Tensor]) -> None:
        """A buffer is held to the checkpoint as a parameter is."""
        model = loaded(base)
        model.body[1].running_var.mul_(2)
        assert found(verified(model)) == {"FZ704": ("body.1.running_var",)}

    def test_a_head_is_frozen_by_default(self, base: dict[str, torch.Tensor]) -> None:
        """The new head is not in the checkpoint and does not train: it never will be anything but random."""
        torch.save({name: value for name, value in base.items() if "head" not in name}, "base.pt")
        model = loaded(base)
        model.head.requires_grad_(False)
        model.body[0].requires_grad_(True)
        result = verified(model, 'trainable = ["body[0]"]\neval = ["body"]')
        assert found(result) == {"FZ704": ("head.weight", "head.bias")}
        assert "not in base.pt" in result.findings[0].message

    def test_the_head_alone_is_frozen(self, base: dict[str, torch.Tensor]) -> None:
        """Also where nothing else is frozen, so that no frozen name is in the checkpoint."""
        torch.save({name: value for name, value in base.items() if "head" not in name}, "base.pt")
        model = loaded(base)
        model.requires_grad_(True)
        model.head.requires_grad_(False)
        assert found(verified(model, 'frozen = ["head"]')) == {"FZ704": ("head.weight", "head.bias")}

    def test_a_phase_loads_another_body(self, base: dict[str, torch.Tensor]) -> None:
        """The best checkpoint is loaded between two phases, and its body is not the pretrained one."""
        torch.save({name: value + 1 for name, value in base.items()}, "best.pt")
        Path("loading.py").write_text(
            "import torch\n\n"
            "def load_best(model, optimizer):\n"
            "    model.load_state_dict(torch.load('best.pt', weights_only=True))\n"
        )
        text = (
            'eval = ["body"]\ntrainable = ["head"]\n[[phase]]\nname = "one"\n'
            '[[phase]]\nname = "two"\nsetup = "loading.py:load_best"'
        )
        result = verified(loaded(base), text)
        assert [(finding.code, finding.phase) for finding in result.findings] == [("FZ704", "two")]
        assert "body.0.weight" in result.findings[0].tensors


class TestCouldNotCheck:
    """A checkpoint that is none."""

    def test_no_checkpoint(self, base: dict[str, torch.Tensor]) -> None:
        """Said with the line of the spec."""
        Path("base.pt").write_text("no weights")
        with pytest.raises(UsageError) as caught:
            verified(loaded(base))
        assert str(caught.value.location) == "freeze.toml:1"

    def test_two_state_dicts(self, base: dict[str, torch.Tensor]) -> None:
        """Where nobody can tell which is meant, the hint shows how the spec says it."""
        torch.save({"one": base, "two": base}, "base.pt")
        with pytest.raises(UsageError) as caught:
            verified(loaded(base))
        assert 'pretrained = { file = "base.pt", key = ' in caught.value.hint

    def test_on_meta(self, base: dict[str, torch.Tensor]) -> None:
        """Without values nothing is compared, and that is said."""
        with torch.device("meta"):
            model = Net()
            inputs = torch.randn(5, 4)
        model.body.requires_grad_(False)
        spec = Spec.of(trainable=["head"], eval=["body"], pretrained="base.pt")
        optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
        result = freezecheck.verify(model, spec, optimizer=optimizer, inputs=inputs)
        assert Need.PRETRAINED in result.report.case.missing
        assert any("FZ704" in item.codes for item in result.report.skipped)

    def test_without_the_key_it_is_not_mentioned(self, base: dict[str, torch.Tensor]) -> None:
        """A spec that names no checkpoint has nothing to leave out."""
        spec = Spec.of(trainable=["head"], eval=["body"])
        model = loaded(base)
        optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
        result = freezecheck.verify(model, spec, optimizer=optimizer, inputs=torch.randn(5, 4))
        assert not any("FZ704" in item.codes for item in result.report.skipped)
