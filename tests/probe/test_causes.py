"""Why it moved, and why it did not: each cause is named, and proven by what was seen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import freezecheck
from freezecheck.check import verify_subject
from freezecheck.errors import ProbeError
from freezecheck.subject import Subject
from tests.probe.verified import Base, facts, found, loud, sgd, verified

SPEC = "trainable = ['mid', 'head']\nfrozen = ['enc']"


class Net(Base):
    def forward(self, x):
        return self.head(self.mid(torch.tanh(self.enc(x))))


def frozen_after_a_step(make: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model whose encoder was frozen after one step, by a loop that clears gradients with zeros."""
    torch.manual_seed(0)
    model = Net()
    optimizer = make(model.parameters())
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    model.enc.requires_grad_(False)
    optimizer.zero_grad(set_to_none=False)
    return model, optimizer


OPTIMIZERS = {
    "weight decay": (lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01), ["weight decay 0.01"]),
    "momentum": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), ["the optimizer's momentum_buffer"]),
    "adam": (
        lambda p: torch.optim.Adam(p, lr=0.1),
        ["the optimizer's running average exp_avg", "the optimizer's running average exp_avg_sq"],
    ),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.02),
        ["weight decay 0.02", "the optimizer's running average exp_avg", "the optimizer's running average exp_avg_sq"],
    ),
}


class TestFrozenMoved:
    """FZ301 and its cause."""

    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_a_stale_gradient(self, name: str) -> None:
        """A gradient of zeros is enough; what carries it on is named, and the model is as it was afterwards."""
        make, carried = OPTIMIZERS[name]
        model, optimizer = frozen_after_a_step(make)
        before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        (finding,) = found(verified(model, SPEC, optimizer=optimizer), "FZ301")
        assert finding.tensors == ("enc.weight", "enc.bias")
        assert finding.evidence["cause"] == "stale gradient"
        assert finding.evidence["carried_by"] == carried
        assert all(words in finding.message for words in carried)
        assert finding.evidence["max_abs_change"] > 0
        torch.testing.assert_close((model.state_dict(), optimizer.state_dict()), before, rtol=0, atol=0)

    def test_a_stale_gradient_that_moves_nothing(self) -> None:
        """Plain SGD makes a step of zero: not moved, only a gradient left behind."""
        model, optimizer = frozen_after_a_step(lambda p: torch.optim.SGD(p, lr=0.1))
        result = verified(model, SPEC, optimizer=optimizer)
        assert not found(result, "FZ301")
        assert found(result, "FZ203")

    def test_frozen_in_time_nothing_moves(self) -> None:
        """Frozen before the first backward, a tensor in an optimizer with every kind of decay stays where it is."""
        model = Net()
        model.enc.requires_grad_(False)
        for make, _ in OPTIMIZERS.values():
            result = verified(model, SPEC, optimizer=make(model.parameters()))
            assert not found(result, "FZ301")
            assert found(result, "FZ401")

    def test_an_optimizer_that_steps_without_gradient(self) -> None:
        """A third-party optimizer that decays every tensor it holds is told from a stale gradient."""

        class Decaying(torch.optim.Optimizer):
            def __init__(self, params, lr):
                super().__init__(params, {"lr": lr, "weight_decay": 0.1})

            @torch.no_grad()
            def step(self, closure=None):
                for group in self.param_groups:
                    for p in group["params"]:
                        p.mul_(1 - group["lr"] * group["weight_decay"])
                        if p.grad is not None:
                            p.sub_(p.grad, alpha=group["lr"])

        model = Net()
        model.enc.requires_grad_(False)
        (finding,) = found(verified(model, SPEC, optimizer=Decaying(model.parameters(), 0.1)), "FZ301")
        assert "although their .grad is None" in finding.message or "in place during the step" in finding.message
        assert finding.evidence["optimizers"].startswith("Decaying")
        assert finding.evidence["max_abs_change"] == pytest.approx(0.01 * model.enc.weight.abs().max().item(), rel=0.2)

    @pytest.mark.parametrize("alias", ["detach", "data", "view", "numpy", "state_dict"])
    def test_a_write_in_forward(self, alias: str) -> None:
        """A write through every alias is named with its operation and its line."""

        class Writing(Net):
            def forward(self, x):
                aliases = {
                    "detach": lambda: self.enc.weight.detach(),
                    "data": lambda: self.enc.weight.data,
                    "view": lambda: self.enc.weight.data.view(-1)[:5],
                    "numpy": lambda: torch.from_numpy(self.enc.weight.detach().numpy()),
                    "state_dict": lambda: self.state_dict()["enc.weight"],
                }
                aliases[alias]().mul_(0.5)  # the write
                return super().forward(x)

        model = Writing()
        model.enc.requires_grad_(False)
        (finding,) = found(verified(model, SPEC), "FZ301")
        assert finding.evidence["cause"] == "write"
        assert finding.location is not None
        assert finding.location.text.endswith("# the write")
        assert "mul_()" in finding.message

    def test_a_write_in_a_hook_of_the_optimizer(self) -> None:
        """What a hook writes during the step is a write with a line, not the optimizer's doing."""
        model = Net()
        model.enc.requires_grad_(False)
        optimizer = sgd(model)

        def pull(*_):
            model.enc.weight.data.add_(1)  # the write

        optimizer.register_step_post_hook(pull)
        (finding,) = found(verified(model, SPEC, optimizer=optimizer), "FZ301")
        assert finding.location is not None
        assert finding.location.text.endswith("# the write")


class TestBuffersMoved:
    """FZ501 and FZ502: the module, the buffer, how far, and the line to change."""

    def body(self, norm: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Sequential(nn.Linear(3, 4), norm), nn.Linear(4, 2))

    def test_batch_norm_in_train_mode(self) -> None:
        """How far is what a step really moved, and the fix names the outermost frozen layer."""
        model = self.body(nn.BatchNorm1d(4))
        model[0].requires_grad_(False)
        result = verified(model, "trainable = ['1']")
        (finding,) = found(result, "FZ501")
        assert set(finding.tensors) == {"0.1.running_mean", "0.1.running_var", "0.1.num_batches_tracked"}
        assert "BatchNorm1d `0.1`" in finding.message
        assert "model[0].eval()" in finding.fix
        torch.manual_seed(0)
        twin = copy.deepcopy(model).train()
        twin(torch.randn(5, 3))
        change = (twin[0][1].running_mean - model[0][1].running_mean).abs().max().item()
        assert facts(result)["0.1.running_mean"].max_abs_change == pytest.approx(change)

    def test_put_in_eval_and_undone(self) -> None:
        """Who called eval() once is told that model.train() undid it."""
        model = self.body(nn.BatchNorm1d(4))
        model[0].requires_grad_(False)
        model[0].eval()
        (finding,) = found(verified(model, "trainable = ['1']"), "FZ502")
        assert "model.train()" in finding.message
        assert "model[0].eval()" in finding.fix

    def test_spectral_norm_vectors(self) -> None:
        """The vectors of a spectral norm are buffers as well."""
        layer = parametrizations.spectral_norm(nn.Linear(3, 4))
        model = nn.Sequential(layer.requires_grad_(False), nn.Linear(4, 2))
        (finding,) = found(verified(model, "trainable = ['1']"), "FZ501")
        assert all(name.startswith("0.parametrizations") for name in finding.tensors)

    def test_a_write_to_a_buffer_has_its_line(self) -> None:
        """A buffer in eval mode that the forward writes to is named with the line."""

        class Counting(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc = nn.Linear(3, 4)
                self.register_buffer("seen", torch.zeros(()))

            def forward(self, x):
                self.seen += len(x)  # the write
                return self.fc(x)

        model = nn.Sequential(Counting().requires_grad_(False), nn.Linear(4, 2))
        (finding,) = found(verified(model, "trainable = ['1']\neval = ['0']"), "FZ501")
        assert finding.location is not None
        assert finding.location.text.endswith("# the write")


class TestTrainableDidNotMove:
    """Which of: in no optimizer, lr 0, gradient zero, below the resolution, step skipped."""

    def codes(self, result: freezecheck.Result) -> set[str]:
        return {finding.code for finding in result.findings}

    def test_in_no_optimizer(self) -> None:
        """FZ402 alone."""
        model = Net()
        optimizer = torch.optim.SGD([*model.mid.parameters(), *model.head.parameters()], lr=0.1)
        assert self.codes(verified(model, optimizer=optimizer)) == {"FZ402"}

    def test_lr_0(self) -> None:
        """FZ405 alone."""
        model = Net()
        groups = [{"params": model.enc.parameters(), "lr": 0.0}, {"params": model.mid.parameters()}]
        optimizer = torch.optim.SGD([*groups, {"params": model.head.parameters()}], lr=0.1)
        assert self.codes(verified(model, optimizer=optimizer)) == {"FZ405"}

    def test_gradient_zero(self) -> None:
        """FZ202 alone."""

        class Off(Net):
            def forward(self, x):
                return self.head(self.mid(self.enc(x) * 0))

        assert self.codes(verified(Off())) == {"FZ202"}

    def test_below_the_resolution(self) -> None:
        """FZ303, with the update and the distance to the next number, both of bfloat16 and right."""
        model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2)).bfloat16()
        optimizer = torch.optim.SGD(
            [{"params": model[0].weight, "lr": 1e-4}, {"params": [model[0].bias, *model[1].parameters()]}], lr=1.0
        )
        (finding,) = found(verified(model, optimizer=optimizer, inputs=torch.randn(8, 4).bfloat16()), "FZ303")
        assert finding.tensors == ("0.weight",)
        assert finding.evidence["resolution"] == 2**-7
        assert 0 < finding.evidence["update"] < 2**-8
        assert "bfloat16" in finding.message

    def test_a_step_that_is_skipped(self) -> None:
        """FZ302 when nothing else explains it: the optimizer makes no step."""

        class Lazy(torch.optim.SGD):
            def step(self, closure=None):
                return None

        model = Net()
        (finding,) = found(verified(model, optimizer=Lazy(model.parameters(), lr=0.1)), "FZ302")
        assert len(finding.tensors) == 6
        assert "step()" in finding.fix

    def test_old_values_written_back(self) -> None:
        """FZ302 names the line that undoes the step."""
        model = Net()
        optimizer = sgd(model)
        kept = model.enc.weight.detach().clone()

        def undo(*_):
            model.enc.weight.data.copy_(kept)  # the write

        optimizer.register_step_post_hook(undo)
        (finding,) = found(verified(model, optimizer=optimizer), "FZ302")
        assert finding.tensors == ("enc.weight",)
        assert finding.location is not None
        assert finding.location.text.endswith("# the write")


class TestRules105And205:
    """Leaves that are no parameters, and backward passes in vain."""

    def test_layers_in_a_plain_list_and_dict_and_raw_tensors(self) -> None:
        """FZ105 names each hidden tensor, its container, and the line that registers it."""

        class Hiding(Net):
            def __init__(self) -> None:
                super().__init__()
                self.blocks = [nn.Linear(4, 4)]
                self.named = {"scale": torch.ones(4, requires_grad=True)}
                self.shift = torch.zeros(2, requires_grad=True)

            def forward(self, x):
                x = torch.tanh(self.mid(self.enc(x)))
                return self.head(self.blocks[0](x) * self.named["scale"]) + self.shift

        findings = {f.evidence["container"]: f for f in found(verified(Hiding()), "FZ105")}
        fixes = {container.split(",")[0].rpartition(".")[2]: f.fix for container, f in findings.items()}
        assert fixes == {
            "blocks": "self.blocks = nn.ModuleList(self.blocks)",
            "named": "self.named = nn.ParameterDict(self.named)",
            "shift": "self.shift = nn.Parameter(self.shift)",
        }
        assert {name for f in findings.values() for name in f.tensors} == {
            "blocks.0.weight", "blocks.0.bias", "named.scale", "shift",
        }  # fmt: skip

    def test_inputs_and_losses_of_ones_own_are_no_hidden_parameters(self) -> None:
        """Inputs that require grad, and a weight that the loss trains by the same optimizer, are right."""
        model = Net()
        weight = nn.Parameter(torch.ones(()))
        optimizer = torch.optim.SGD([*model.parameters(), weight], lr=0.1)
        make = lambda: torch.randn(5, 3, requires_grad=True)  # noqa: E731  # as short as what a user writes
        result = verified(
            model, optimizer=optimizer, inputs=make, loss=lambda m, x: (m(x) * weight).square().sum() + weight
        )
        assert loud(result) == []

    def test_a_backward_in_vain(self) -> None:
        """FZ205 is a note: the input requires grad, so backward runs through a frozen encoder."""
        model = Net()
        model.enc.requires_grad_(False)
        result = verified(model, SPEC, inputs=lambda: torch.randn(5, 3, requires_grad=True))
        assert loud(result) == []
        (note,) = found(result, "FZ205")
        assert set(note.tensors) == {"enc.weight", "enc.bias"}

    def test_a_backward_that_something_below_needs_is_not_in_vain(self) -> None:
        """A frozen middle between a trained encoder and the loss is what backward must pass."""
        model = Net()
        model.mid.requires_grad_(False)
        assert not found(verified(model, "trainable = ['enc', 'head']\nfrozen = ['mid']"), "FZ205")


def test_a_flag_flipped_by_the_model_is_seen_as_a_gradient() -> None:
    """A forward that thaws what the set-up froze: the frozen tensor gets a gradient and moves by nothing else."""

    class Thawing(Net):
        def forward(self, x):
            self.enc.requires_grad_(True)
            return super().forward(x)

    model = Thawing()
    model.enc.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    subject = Subject(model, "Thawing", optimizers=[optimizer], make_inputs=lambda: torch.ones(5, 3))
    report = verify_subject(subject, freezecheck.Spec.parse(SPEC))
    assert any(set(f.tensors) == {"enc.weight", "enc.bias"} and f.severity == "error" for f in report.findings)
    assert not model.enc.weight.requires_grad


@pytest.mark.parametrize("step", [0.0, 1.0], ids=["the same values", "other values"])
def test_a_frozen_tensor_whose_data_the_forward_replaces_is_judged_by_what_it_holds(step: float) -> None:
    """Its old memory stays as it was either way; only other values are a drift."""

    class Replacing(Net):
        def forward(self, x):
            self.enc.bias.data = self.enc.bias.data + step  # here
            return super().forward(x)

    model = Replacing()
    model.enc.requires_grad_(False)
    bias, before = model.enc.bias, model.enc.bias.detach().clone()
    result = verified(model, SPEC)
    assert [f.tensors for f in found(result, "FZ301")] == ([("enc.bias",)] if step else [])
    assert all("# here" in finding.location.text for finding in result.findings)
    assert model.enc.bias is bias
    assert torch.equal(bias, before)


@pytest.mark.parametrize("size", [4, 2**14], ids=["small", "large"])
def test_a_plain_attribute_comes_back(size: int) -> None:
    """A queue or a cache that is no buffer, written in place by the forward, is as it was."""

    class Queue(Base):
        def __init__(self) -> None:
            super().__init__()
            self.queue = torch.zeros(size)

        def forward(self, x):
            self.queue.add_(1.0)
            return self.head(self.mid(self.enc(x)))

    model = Queue()
    assert verified(model).ok
    assert model.queue.eq(0.0).all()


def test_a_teacher_that_begins_as_a_copy_is_seen_to_follow() -> None:
    """The first step averages it with its equal: it was written and holds what it held, so another step is made."""

    class Distilled(Base):
        def __init__(self) -> None:
            super().__init__()
            self.teacher = copy.deepcopy(self.head).requires_grad_(False)

        def forward(self, x):
            with torch.no_grad():
                for slow, fast in zip(self.teacher.parameters(), self.head.parameters(), strict=True):
                    slow.copy_(0.5 * slow + 0.5 * fast)
            return self.head(self.mid(self.enc(x)))

    (finding,) = found(verified(Distilled(), 'frozen = ["teacher"]'), "FZ301")
    assert finding.tensors == ("teacher.weight", "teacher.bias")
    assert found(verified(Distilled()), "FZ301") == []  # its flag alone does not say that it should not follow


def test_what_runs_under_inference_mode_is_told_as_what_it_is() -> None:
    """Torch's error says nothing of a shape."""

    class Frozen(Base):
        def forward(self, x):
            with torch.inference_mode():
                x = self.enc(x)
            return self.head(self.mid(x))

    with pytest.raises(ProbeError) as caught:
        verified(Frozen())
    assert caught.value.hint.startswith("what runs under torch.inference_mode() gives tensors that nothing can be")
