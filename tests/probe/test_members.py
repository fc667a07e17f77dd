"""Whose step it is: torch's own need not be watched, any other is."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
import torch
from torch import nn

import freezecheck
from freezecheck.errors import ProbeError
from freezecheck.probe.members import steps_as_torch_does
from freezecheck.probe.pages import Pages
from tests.probe.verified import Base, facts, found, sgd, verified


class Own(torch.optim.SGD):
    """A user's optimizer, with a step that writes to more than it holds."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__([p for p in model.parameters() if p.requires_grad], lr=0.1)
        self.model = [model]

    def step(self, closure: Any = None) -> Any:
        self.model[0].enc.weight.data.mul_(0.5)  # the write
        return super().step(closure)


def hooked(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = sgd(model)
    optimizer.register_step_post_hook(lambda *_: model.enc.weight.data.mul_(0.5))  # the write
    return optimizer


def patched(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = sgd(model)
    step = optimizer.step

    def more(*args: Any) -> Any:
        model.enc.weight.data.mul_(0.5)  # the write
        return step(*args)

    optimizer.step = more
    return optimizer


@pytest.mark.parametrize(
    "make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad]
)
def test_torchs_own(make: Callable[..., torch.optim.Optimizer]) -> None:
    """All of them; LBFGS runs the user's loss in its step."""
    assert steps_as_torch_does(make(nn.Linear(2, 2).parameters(), lr=0.1))
    assert not steps_as_torch_does(torch.optim.LBFGS(nn.Linear(2, 2).parameters()))


def test_a_group_that_was_given_nothing_is_seen() -> None:
    """An iterator that was gone through before leaves its group empty, and torch says nothing."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    used_up = filter(lambda p: p.requires_grad, model[0].parameters())
    assert len(list(used_up)) == 2
    optimizer = torch.optim.SGD([{"params": model[1].parameters()}, {"params": used_up}], lr=0.1)
    (finding,) = found(freezecheck.verify(model, optimizer=optimizer, inputs=torch.randn(3, 4)), "FZ402")
    assert "Group 1 of SGD is empty" in finding.message


class Net(Base):
    """Large enough that what is frozen has a fingerprint until somebody writes to it."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Linear(3, 2**11)
        self.mid = nn.Linear(2**11, 4)
        self.enc.requires_grad_(False)

    def forward(self, x):
        return self.head(self.mid(self.enc(x)))


def for_all(model: nn.Module) -> torch.optim.Optimizer:
    """Instrumented as a whole class, by one who keeps the names of what is wrapped."""
    own = Class.step

    @wraps(own)
    def more(self: Any, closure: Any = None) -> Any:
        model.enc.weight.data.mul_(0.5)  # the write
        return own(self, closure)

    Class.step = more
    return Class([p for p in model.parameters() if p.requires_grad], lr=0.1)


class Class(torch.optim.SGD):
    """Passes for torch's own."""


Class.__module__ = "torch.optim.sgd"


def through_numpy(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = sgd(model)

    def write(*_: Any) -> None:
        model.enc.weight.detach().numpy()[:] *= 0.5  # the write

    optimizer.register_step_pre_hook(write)
    return optimizer


@pytest.mark.parametrize(
    ("make", "place"),
    [(Own, None), (for_all, None), *((make, "# the write") for make in (hooked, patched, through_numpy))],
)
def test_a_step_that_does_more_is_watched(
    make: Callable[[nn.Module], torch.optim.Optimizer], place: str | None
) -> None:
    """What it writes beside its own parameters is told and put back, and named with its line outside of a step."""
    model = Net()
    optimizer, before = make(model), model.enc.weight.detach().clone()
    assert not steps_as_torch_does(optimizer)
    (finding,) = found(verified(model, "trainable = ['mid', 'head']", optimizer=optimizer), "FZ301")
    assert finding.tensors == ("enc.weight",)
    assert (finding.location is None) == (place is None)
    assert place is None or finding.location.text.endswith(place)
    assert torch.equal(model.enc.weight, before)


def test_a_frozen_weight_in_the_memory_of_one_that_trains() -> None:
    """A step that is not watched moves it all the same: by how much is told, and both are put back."""
    model = Net()
    model.enc.weight = nn.Parameter(torch.rand(2**11, 3))
    model.other = nn.Parameter(model.enc.weight.data, requires_grad=False)
    optimizer, before = sgd(model), model.other.detach().clone()
    assert steps_as_torch_does(optimizer)
    result = verified(model, "trainable = ['mid', 'head', 'enc.weight']", optimizer=optimizer)
    (finding,) = found(result, "FZ301")
    assert finding.tensors == ("other",)
    assert facts(result)["other"].max_abs_change == facts(result)["enc.weight"].max_abs_change > 0
    assert torch.equal(model.other, before)


def test_a_step_that_raises_is_not_taken_again_unseen() -> None:
    """What a second forward would write, which torch's own step has no need of, is not written."""

    class Writes(Net):
        ran = 0

        def forward(self, x):
            Writes.ran += 1
            if Writes.ran == 2:
                self.enc.weight.data.mul_(0.5)
            return super().forward(x)

    model = Writes()
    before = model.enc.weight.detach().clone()
    head = [*model.mid.parameters(), *model.head.parameters()]
    with pytest.raises(ProbeError, match="optimizer's step"):
        verified(model, optimizer=torch.optim.Adam(head, capturable=True))
    assert torch.equal(model.enc.weight, before)


def test_what_is_frozen_in_the_optimizer_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing writes to what has no gradient: a backbone that was handed over as a whole is not held twice."""
    sizes: list[int] = []
    rooms = Pages.rooms
    monkeypatch.setattr(Pages, "rooms", lambda pages, wanted: sizes.extend(wanted) or rooms(pages, wanted))
    model = Net()
    verified(model, "trainable = ['mid', 'head']", optimizer=torch.optim.Adam(model.parameters()))
    assert model.enc.weight.nbytes > model.mid.weight.nbytes // 2
    assert sum(sizes) == model.mid.weight.nbytes


def test_an_optimizer_that_writes_when_it_is_made_anew() -> None:
    """To explain why nothing moved, the user's optimizer is made and stepped once more: that leaves no trace either."""

    class Resets(torch.optim.SGD):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, lr)
            model.count.fill_(0.0)

        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            pass

    model = Net()
    model.register_buffer("count", torch.zeros(4))
    optimizer = Resets(p for p in model.parameters() if p.requires_grad)
    model.count.fill_(5.0)
    verified(model, optimizer=optimizer)
    assert model.count.eq(5.0).all()


def test_a_step_hook_that_only_reads_is_not_accused() -> None:
    """What moves is moved by the gradient of zeros that was left on it."""
    model = Base()
    model.forward = lambda x: model.head(model.mid(model.enc(x)))
    optimizer = sgd(model, weight_decay=0.1)
    optimizer.register_step_post_hook(lambda *_: [p.detach().numpy().mean() for p in model.parameters()] and None)
    model(torch.ones(1, 3)).sum().backward()
    model.enc.requires_grad_(False)
    optimizer.zero_grad(set_to_none=False)
    (finding,) = found(verified(model, "trainable = ['mid', 'head']", optimizer=optimizer), "FZ301")
    assert finding.evidence["cause"] == "stale gradient"
    assert "numpy" not in finding.message


def test_a_class_of_no_module_is_not_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made on the fly, with a name that only looks like one of torch's."""
    monkeypatch.setattr(Class, "__module__", "torch.optim.of_nobody")
    assert not steps_as_torch_does(Class(nn.Linear(2, 2).parameters(), lr=0.1))


class EverySecond(torch.optim.SGD):
    """Gathers the gradients of two calls, as an accumulating optimizer does."""

    called = 0

    def step(self, closure: Any = None) -> Any:
        self.called += 1
        return super().step(closure) if self.called % 2 == 0 else None


def test_what_only_a_second_step_moves_is_seen_to_move() -> None:
    """That nothing moved was found after the first: it is looked at anew after the second."""
    model = Net()
    result = verified(
        model, "trainable = ['mid', 'head']", optimizer=EverySecond([*model.mid.parameters(), *model.head.parameters()])
    )
    assert result.ok
    assert result.report.case.conditions.steps == 2
