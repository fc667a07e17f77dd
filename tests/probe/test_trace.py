"""What the tracer says of a gradient's way, beyond the matrix of single cuts."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import freezecheck
from tests.probe.verified import Base, found, verified

torch.set_num_threads(1)


class TestSilent:
    """What only looks like a cut."""

    def test_a_metric_under_no_grad(self) -> None:
        """A number computed beside the way to the loss cuts nothing."""

        class Net(Base):
            def forward(self, x):
                x = self.mid(self.enc(x))
                with torch.no_grad():
                    self.norm = x.norm().item()
                    self.accuracy = (x.argmax(1) == 0).float().mean()
                return self.head(x)

        assert not verified(Net()).findings

    def test_a_teacher(self) -> None:
        """A teacher's branch under no_grad is no cut for the student."""

        class Net(Base):
            def __init__(self) -> None:
                super().__init__()
                self.teacher = nn.Linear(3, 2).requires_grad_(False)

            def forward(self, x):
                with torch.no_grad():
                    target = self.teacher(x)
                return F.mse_loss(self.head(self.mid(self.enc(x))), target)

        assert not verified(Net()).findings

    def test_a_mask_beside_a_live_path(self) -> None:
        """Comparing and rounding values that also reach the loss directly is right."""

        class Net(Base):
            def forward(self, x):
                x = self.enc(x)
                mask = (x > 0).float()
                straight = x + (torch.round(x) - x).detach()
                return self.head(self.mid(straight * mask))

        assert not verified(Net()).findings

    @pytest.mark.parametrize("reentrant", [True, False])
    def test_checkpointing_with_live_inputs(self, reentrant: bool) -> None:
        """Both kinds of checkpointing pass gradients when their input requires grad."""

        class Net(Base):
            def forward(self, x):
                x = self.enc(x)
                return self.head(checkpoint(self.mid, x, use_reentrant=reentrant))

        assert not verified(Net()).findings

    def test_a_custom_function_that_works_in_numpy(self) -> None:
        """What a custom function does inside its own forward is its own affair."""

        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return torch.from_numpy(x.detach().numpy() * 2)

            @staticmethod
            def backward(ctx, gradient):
                return gradient * 2

        class Net(Base):
            def forward(self, x):
                return self.head(self.mid(Double.apply(self.enc(x))))

        assert not verified(Net()).findings

    def test_a_function_applied_through_an_old_reference(self) -> None:
        """`apply` taken from its class at import time is seen no less."""

        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, gradient):
                return gradient * 2

        double = Double.apply

        class Net(Base):
            def forward(self, x):
                return self.head(self.mid(double(self.enc(x))))

        assert not verified(Net()).findings

    def test_a_module_used_in_some_steps_only(self) -> None:
        """A branch that another batch takes is asleep, not cut."""

        class Net(Base):
            def __init__(self) -> None:
                super().__init__()
                self.turn = 0

            def forward(self, x):
                self.turn += 1
                x = self.enc(x)
                return self.head(x if self.turn % 2 else self.mid(x))

        result = verified(Net())
        assert not result.findings
        assert result.report.case.conditions.steps == 2

    def test_layers_dropped_by_chance(self) -> None:
        """Stochastic depth that drops a layer in every step is seen through."""

        class StochasticDepth(nn.Module):
            def forward(self, x):
                return x * 0 if self.training else x

        class Net(Base):
            def __init__(self) -> None:
                super().__init__()
                self.drop = StochasticDepth()

            def forward(self, x):
                x = self.enc(x)
                return self.head(x + self.drop(self.mid(x)))

        assert not verified(Net()).findings


class TestSeveralCuts:
    """All cuts on the way are named, in the order of the flow."""

    def test_two_cuts_with_something_trainable_between(self) -> None:
        """The encoder's gradient is lost twice, the middle's once."""

        class Net(Base):
            def forward(self, x):
                x = self.enc(x).detach()  # first
                with torch.no_grad():
                    x = self.mid(x)  # second
                return self.head(x)

        findings = found(verified(Net()), "FZ201")
        of = {name: f for f in findings for name in f.tensors}
        assert [c["location"]["text"] for c in of["enc.weight"].evidence["cuts"]] == [
            "x = self.enc(x).detach()  # first",
            "x = self.mid(x)  # second",
        ]
        assert [c["location"]["text"] for c in of["mid.weight"].evidence["cuts"]] == ["x = self.mid(x)  # second"]

    def test_a_second_cut_with_nothing_between(self) -> None:
        """Mending the first alone would not be enough, so the second is named as well."""

        class Net(Base):
            def forward(self, x):
                x = self.mid(self.enc(x)).detach()  # first
                x = x.data  # second
                return self.head(x)

        (finding,) = found(verified(Net()), "FZ201")
        assert [c["operation"] for c in finding.evidence["cuts"]] == ["detach()", ".data"]

    def test_a_no_grad_block_is_one_cut(self) -> None:
        """Three lines under one no_grad are one mistake, named at the first."""

        class Net(Base):
            def forward(self, x):
                with torch.no_grad():
                    x = self.enc(x)  # first
                    x = F.relu(x)
                    x = x * 2
                return self.head(self.mid(x))

        (finding,) = found(verified(Net()), "FZ201")
        assert [c["location"]["text"] for c in finding.evidence["cuts"]] == ["x = self.enc(x)  # first"]


def test_a_metric_is_not_blamed_for_a_real_cut() -> None:
    """Only the cut on the way to the loss is named, not the metric beside it."""

    class Net(Base):
        def forward(self, x):
            x = self.enc(x)
            with torch.no_grad():
                self.norm = x.norm()
            x = x.detach()  # the cut
            return self.head(self.mid(x))

    (finding,) = found(verified(Net()), "FZ201")
    assert [c["location"]["text"] for c in finding.evidence["cuts"]] == ["x = x.detach()  # the cut"]


def test_never_used_is_said() -> None:
    """A layer that the forward never calls is said to be unused, not cut."""

    class Net(Base):
        def forward(self, x):
            return self.head(self.enc(x))

    (finding,) = found(verified(Net()), "FZ201")
    assert set(finding.tensors) == {"mid.weight", "mid.bias"}
    assert "never used" in finding.message


def test_a_scripted_module_is_no_hole() -> None:
    """Operations inside TorchScript are invisible, yet what passes through them is followed."""

    class Net(Base):
        def __init__(self) -> None:
            super().__init__()
            self.mid = torch.jit.script(nn.Linear(4, 4))

        def forward(self, x):
            x = self.mid(self.enc(x))
            return self.head(x.detach())  # the cut

    (finding,) = found(verified(Net()), "FZ201")
    assert {name.split(".")[0] for name in finding.tensors} == {"enc", "mid"}
    assert finding.location is not None
    assert finding.location.text.endswith("# the cut")


def test_the_tracer_leaves_nothing_behind() -> None:
    """`Function.apply` and `nn.Parameter` are what they were, also after the user's code raised."""

    class Net(Base):
        def forward(self, x):
            raise ValueError("no")

    before = (vars(torch.autograd.Function)["apply"], vars(nn.Parameter)["__new__"])
    model = Net()
    with pytest.raises(freezecheck.FreezecheckError):
        verified(model)
    assert (vars(torch.autograd.Function)["apply"], vars(nn.Parameter)["__new__"]) == before
    copy.deepcopy(model)


# Each writes to `w`, a frozen weight [4, 3], in its own way. The last is not the write's line but where memory was
# handed out: what numpy does with it no one sees.
WRITES = {
    "data": lambda w: w.data.mul_(0.5),
    "detach": lambda w: w.detach().add_(1),
    "view": lambda w: w.data.view(-1)[3:5].zero_(),
    "set_data": lambda w: setattr(w, "data", w.data * 2),
    "foreach": lambda w: torch._foreach_mul_([w.data], 2.0),
    "setitem": lambda w: w.data.__setitem__(0, 7.0),
    "out": lambda w: torch.mul(w.data, 2.0, out=w.data),
    "numpy and back": lambda w: torch.from_numpy(w.detach().numpy()).mul_(2),
    "numpy": lambda w: w.detach().numpy().__setitem__((0, 0), 9.0),
}


class TestWrites:
    """A write in place to a frozen weight is seen at its line, through every alias."""

    @pytest.mark.parametrize("write", WRITES)
    def test_every_way_to_write(self, write: str) -> None:
        """The finding points at the line, and the weight is put back bit for bit."""

        class Net(Base):
            def forward(self, x):
                WRITES[write](self.enc.weight)
                return self.head(self.mid(self.enc(x)))

        model = Net()
        model.enc.requires_grad_(False)
        before = copy.deepcopy(model.state_dict())
        (finding,) = found(verified(model), "FZ301")
        assert finding.tensors == ("enc.weight",)
        assert finding.location is not None
        assert finding.location.text.startswith(f'"{write}": lambda w: ')
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    def test_an_embedding_that_renormalises_its_rows(self) -> None:
        """`max_norm` writes to the frozen table in the forward, and the line that looks up is named."""

        class Net(Base):
            def __init__(self) -> None:
                super().__init__()
                self.emb = nn.Embedding(7, 3, max_norm=0.01).requires_grad_(False)

            def forward(self, x):
                x = x + self.emb(torch.tensor([1, 2, 3, 4, 5]))  # the write
                return self.head(self.mid(self.enc(x)))

        (finding,) = found(verified(Net()), "FZ301")
        assert finding.tensors == ("emb.weight",)
        assert finding.location is not None
        assert finding.location.text.endswith("# the write")
