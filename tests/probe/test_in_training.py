"""What only shows while the model trains: flags that the code itself turns, hooks in the backward, odd optimizers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import freezecheck

torch.set_num_threads(1)


class Net(nn.Module):
    """A body and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.body(x))


def verified(model: nn.Module, spec: freezecheck.Spec | None = None, optimizer=None, **options):
    """Verify with an SGD over everything, where no optimizer is given."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    options.setdefault("inputs", torch.randn(5, 3))
    return freezecheck.verify(model, spec, optimizer=optimizer, **options)


def loud(result) -> list[str]:
    """The codes of errors and warnings."""
    return [f.code for f in result.findings if f.severity.value != "note"]


BOTH = freezecheck.Spec.of(trainable=["body", "head"])
HEAD = freezecheck.Spec.of(trainable=["head"])


class TestFlagsTurnedByTheModel:
    """A flag is judged as it is when the optimizer steps, not as it was found."""

    def test_train_that_freezes_what_is_frozen_is_right(self) -> None:
        """A `train()` that sets the flags the spec asks for is a way to freeze."""

        class Own(Net):
            def train(self, mode=True):
                super().train(mode)
                self.body.requires_grad_(False)
                return self

        model = Own()
        optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
        assert loud(verified(model, HEAD, optimizer)) == []
        assert model.body.weight.requires_grad

    def test_train_that_freezes_what_should_train(self) -> None:
        """The flag, the tensors and the line."""

        class Own(Net):
            def train(self, mode=True):
                super().train(mode)
                self.body.requires_grad_(False)  # turned
                return self

        (finding,) = verified(Own(), BOTH).findings
        assert finding.code == "FZ106"
        assert set(finding.tensors) == {"body.weight", "body.bias"}
        assert finding.location is not None
        assert finding.location.text.endswith("# turned")

    @pytest.mark.parametrize("spec", [BOTH, None])
    def test_a_forward_that_freezes_what_should_train(self, spec) -> None:
        """Also without a spec, where the flags as they were found are the intent."""

        class Own(Net):
            def forward(self, x):
                for parameter in self.body.parameters():
                    parameter.requires_grad = False
                return super().forward(x)

        assert "FZ106" in loud(verified(Own(), spec))

    def test_train_that_unfreezes(self) -> None:
        """What `train()` sets free is trained, and put back."""

        class Own(Net):
            def train(self, mode=True):
                super().train(mode)
                self.body.requires_grad_(True)
                return self

        model = Own()
        model.body.requires_grad_(False)
        before = copy.deepcopy(model.state_dict())
        assert "FZ106" in loud(verified(model, HEAD))
        assert not model.body.weight.requires_grad
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class TestInsideTheBackward:
    """Hooks of the user's run there, out of sight of torch's own mode."""

    def test_an_optimizer_in_the_backward_is_right(self) -> None:
        """Stepping and clearing each gradient as it arrives trains no less."""
        model = Net()
        optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

        def step(parameter):
            optimizers[parameter].step()
            optimizers[parameter].zero_grad()

        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(step)
        result = freezecheck.verify(model, BOTH, optimizer=list(optimizers.values()), inputs=torch.randn(5, 3))
        assert loud(result) == []

    def test_a_hook_that_writes_to_a_frozen_weight(self) -> None:
        """It is named, and the weight, too large to be copied at once, is put back."""
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3000), nn.Linear(3000, 2))
        model[1].requires_grad_(False)

        def hook(module, grad_input, grad_output):
            with torch.no_grad():
                module.weight.add_(0.1)  # the write

        model[1].register_full_backward_hook(hook)
        before = model[1].weight.clone()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        (finding,) = [f for f in verified(model, None, optimizer).findings if f.code == "FZ301"]
        assert finding.location is not None
        assert finding.location.text.endswith("# the write")
        assert torch.equal(model[1].weight, before)

    def test_a_write_that_torch_cannot_see_is_confessed(self) -> None:
        """What was written through memory handed out long ago cannot be put back, and that is said."""
        model = Net()
        model.wide = nn.Linear(40, 60).requires_grad_(False)
        memory = model.wide.weight.detach().numpy()

        def loss(model, inputs):
            memory[0] += np.float32(1.0)
            return model(inputs).sum()

        result = verified(model, freezecheck.Spec.of(trainable=["body", "head"]), loss=loss)
        assert "FZ301" in loud(result)
        assert any(s.what == "putting back wide.weight" for s in result.report.skipped)


class TestOddOptimizers:
    """What is no mistake of the user's."""

    def test_one_that_finds_its_own_learning_rate(self) -> None:
        """`lr=None` (Adafactor) is no learning rate of 0."""

        class Own(torch.optim.Optimizer):
            def __init__(self, params):
                super().__init__(params, {"lr": None})

            @torch.no_grad()
            def step(self, closure=None):
                for group in self.param_groups:
                    for p in group["params"]:
                        if p.grad is not None:
                            p.sub_(0.01 * p.grad)

        model = Net()
        assert loud(verified(model, BOTH, Own(model.parameters()))) == []
        assert "FZ101" in loud(verified(model, HEAD, Own(model.parameters())))

    def test_one_that_asks_for_a_closure_only_when_it_runs(self) -> None:
        """SAM's `step(closure=None)` asserts that there is one."""

        class Asks(torch.optim.SGD):
            def step(self, closure=None):
                assert closure is not None, "requires a closure"
                with torch.enable_grad():
                    closure()
                return super().step()

        model = Net()
        assert loud(verified(model, BOTH, Asks(model.parameters(), lr=0.1))) == []

    def test_another_models_optimizer(self) -> None:
        """A GAN's other half has an optimizer of its own; stale only where something here is homeless."""
        model, other = Net(), Net()
        optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, other)]
        assert loud(verified(model, BOTH, optimizers)) == []
        assert "FZ403" in loud(verified(model, BOTH, optimizers[1]))


class TestLeavesOfTheForward:
    """A leaf that the forward makes on purpose is no forgotten parameter; a layer built anew each time is."""

    @pytest.mark.parametrize("way", ["requires_grad_", "keyword"])
    def test_a_leaf_to_differentiate_by(self, way: str) -> None:
        """Positions of a force field, a perturbation kept for the next step."""

        class Own(Net):
            def forward(self, x):
                if way == "keyword":
                    self.delta = torch.zeros(x.shape, requires_grad=True)
                else:
                    self.delta = torch.zeros(x.shape).requires_grad_()
                return super().forward(x + self.delta)

        assert loud(verified(Own(), BOTH)) == []

    def test_a_layer_built_in_every_forward(self) -> None:
        """Nothing trains it: it is another one each time."""

        class Own(Net):
            def forward(self, x):
                return super().forward(nn.Linear(3, 3)(x))

        assert "FZ105" in loud(verified(Own(), BOTH))


def test_a_batch_norm_with_momentum_zero_is_still() -> None:
    """Its counter counts, and its statistics stay."""
    model = Net()
    model.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.0))
    model.body.requires_grad_(False)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    assert loud(verified(model, HEAD, optimizer)) == []
