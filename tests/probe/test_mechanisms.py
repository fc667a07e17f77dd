"""What holds a frozen layer when it is not its flag: each way by name, its line, and its price."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import freezecheck
from freezecheck.check import verify_subject
from freezecheck.subject import Subject
from tests.probe.traps import Of
from tests.probe.verified import Base, found, loud, sgd, verified

SPEC = "trainable = ['mid', 'head']\nfrozen = ['enc']"
Way = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def plain(self, x):
    return self.head(self.mid(self.enc(x)))


def under_no_grad(self, x):
    with torch.no_grad():
        x = self.enc(x)  # held here
    return self.head(self.mid(x))


def under_inference_mode(self, x):
    with torch.inference_mode():
        x = self.enc(x)  # held here
    return self.head(self.mid(x.clone()))


def detached(self, x):
    x = self.enc(x).detach()  # held here
    return self.head(self.mid(x))


def through_data(self, x):
    return self.head(self.mid(self.enc(x).data))  # held here


def unused(self, x):
    return self.head(self.mid(torch.cat([x, x[:, :1]], 1)))


def net(way: Way) -> nn.Module:
    class Net(Base):
        def forward(self, x):
            return way(self, x)

    return Net()


def layers(result: freezecheck.Result) -> dict[str, Any]:
    return {layer.name: layer for layer in result.report.case.layers}


class TestByOtherMeans:
    """FZ107: expected frozen, requires grad, and something else holds it."""

    @pytest.mark.parametrize(
        ("way", "held_by"),
        [
            (under_no_grad, "no_grad"),
            (under_inference_mode, "inference_mode"),
            (detached, "detach"),
            (through_data, ".data"),
        ],
    )
    def test_a_cut_that_holds_is_named_with_its_line(self, way: Way, held_by: str) -> None:
        """The note points at the line that holds the encoder, and the layer says what holds it."""
        model = net(way)
        optimizer = torch.optim.SGD([*model.mid.parameters(), *model.head.parameters()], lr=0.1)
        result = verified(model, SPEC, optimizer=optimizer)
        assert loud(result) == []
        (note,) = found(result, "FZ107")
        assert note.tensors == ("enc.weight", "enc.bias")
        assert note.location is not None
        assert note.location.text.endswith("# held here")
        assert note.location.function == way.__name__
        assert held_by in note.evidence["held_by"]
        layer = layers(result)["enc"]
        assert (layer.held_by, layer.actual) == (held_by, "frozen")

    def test_a_learning_rate_of_zero(self) -> None:
        """The group with lr 0 is named; there is no line to point to."""
        model = net(plain)
        groups = [{"params": model.enc.parameters(), "lr": 0.0}, {"params": [*model.mid.parameters()]}]
        optimizer = torch.optim.SGD([*groups, {"params": model.head.parameters()}], lr=0.1)
        result = verified(model, SPEC, optimizer=optimizer)
        assert loud(result) == []
        (note,) = found(result, "FZ107")
        assert "learning rate was 0" in note.message
        assert layers(result)["enc"].held_by == "lr 0"

    @pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
    def test_a_hook_that_zeroes_the_gradient(self, register: str) -> None:
        """The hook is named with the line on which it is defined."""
        model = net(plain)

        def zero(gradient):  # the hook
            return gradient * 0

        def clear(parameter):  # the hook
            parameter.grad.zero_()

        for parameter in model.enc.parameters():
            getattr(parameter, register)(zero if register == "register_hook" else clear)
        result = verified(model, SPEC)
        (note,) = found(result, "FZ107")
        assert "a hook" in note.message
        assert note.location is not None
        assert note.location.text.endswith("# the hook")
        assert layers(result)["enc"].held_by == "gradient hook"

    def test_what_the_forward_never_uses(self) -> None:
        """A frozen part that nothing calls is said to be unused."""
        result = verified(net(unused), SPEC)
        (note,) = found(result, "FZ107")
        assert "never used" in note.message
        assert layers(result)["enc"].held_by == "not used"


def test_no_optimizer_is_a_warning() -> None:
    """FZ108: held only by being in no optimizer, its gradients are computed and kept."""
    model = net(plain)
    optimizer = torch.optim.SGD([*model.mid.parameters(), *model.head.parameters()], lr=0.1)
    result = verified(model, SPEC, optimizer=optimizer)
    (warning,) = found(result, "FZ108")
    assert warning.tensors == ("enc.weight", "enc.bias")
    assert warning.evidence["gradient_max"] > 0
    assert layers(result)["enc"].held_by == "no optimizer"


def test_the_flag_is_not_called_other_means() -> None:
    """Frozen by its flag, also where no_grad stands around it: nothing to say, and `requires_grad` holds it."""
    for way in (plain, under_no_grad):
        model = net(way)
        model.enc.requires_grad_(False)
        result = verified(model, SPEC)
        assert not result.findings
        assert layers(result)["enc"].held_by == "requires_grad"


# Bytes that a batch of five rows keeps for backward, in float32: a Linear keeps its input for its weight's gradient,
# a tanh its output; what is kept already is not kept twice. The loss's own noise lies outside of every layer.
INPUT, HIDDEN = 5 * 3 * 4, 5 * 4 * 4


class Stack(nn.Module):
    """Two linear layers with a tanh between them, a head behind."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.way = way
        self.enc = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh())
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.way(self, x)


def saved(model: nn.Module) -> dict[str, int | None]:
    subject = Subject(model, "Stack", optimizers=[sgd(model)], make_inputs=lambda: torch.ones(5, 3))
    report = verify_subject(subject, freezecheck.Spec.parse("trainable = ['head']"), memory=True)
    return {layer.name: layer.saved_bytes for layer in report.case.layers}


class TestMemory:
    """Bytes of activations kept for backward, layer by layer, against a count by hand."""

    def test_a_layer_that_trains_keeps_its_activations(self) -> None:
        """Input, two hidden activations of the encoder's inside, and the head's input."""
        bytes_of = saved(Stack(lambda self, x: self.head(self.enc(x))))
        assert bytes_of["enc.0"] == INPUT
        assert bytes_of["enc.1"] == HIDDEN
        assert bytes_of["enc.2"] == 0
        assert bytes_of["enc.3"] == HIDDEN
        assert bytes_of["enc"] == INPUT + 2 * HIDDEN
        assert bytes_of["head"] == 0

    def test_the_three_ways_of_the_article(self) -> None:
        """`no_grad` and the flag keep nothing of the encoder; `detach` computes a graph and throws it away."""

        def without_grad(self, x):
            with torch.no_grad():
                x = self.enc(x)
            return self.head(x)

        by_no_grad = saved(Stack(without_grad))
        by_detach = saved(Stack(lambda self, x: self.head(self.enc(x).detach())))
        model = Stack(lambda self, x: self.head(self.enc(x)))
        model.enc.requires_grad_(False)
        by_flag = saved(model)
        assert (by_no_grad["enc"], by_flag["enc"], by_detach["enc"]) == (0, 0, INPUT + 2 * HIDDEN)
        assert (by_no_grad["head"], by_flag["head"]) == (HIDDEN, HIDDEN)

    def test_nothing_is_measured_unless_it_was_asked_for(self) -> None:
        """Without `memory` the column is empty, not zero."""
        assert {layer.saved_bytes for layer in verified(net(plain)).report.case.layers} == {None}

    @pytest.mark.parametrize("features", [3, 3 * 2**11], ids=["small", "large"])
    def test_what_only_its_forward_writes_is_seen(self, features: int) -> None:
        """It runs after all was compared: a buffer is put back all the same."""

        class Late(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.head, self.ran = nn.Linear(3, 2), [0]
                self.register_buffer("seen", torch.zeros(features))

            def forward(self, x):
                self.ran[0] += 1
                if self.ran[0] == 2:
                    self.seen.numpy()[:] = 7.0
                return self.head(x)

        model = Late()
        saved(model)
        assert model.seen.eq(0.0).all()
        assert model.ran == [0]


def test_a_forward_that_puts_a_part_in_eval_itself_has_no_active_dropout() -> None:
    """The mode that counts is the one in which it ran; the same part left in train mode is noted."""

    def held(self, x):
        self.body.eval()
        return self.head(self.body(x))

    def left(self, x):
        return self.head(self.body(x))

    for way, notes in ((held, 0), (left, 1)):
        body = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)).requires_grad_(False)
        result = verified(Of(way, body=body, head=nn.Linear(4, 2)))
        assert len(found(result, "FZ503")) == notes


def test_float32_that_cannot_move_is_told_and_a_factor_that_wakes_is_not() -> None:
    """A tiny gradient from the first step on never moves a weight of 1; LoRA's A only waits for B."""

    def lora(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T

    def scaled(self, x):
        return self.base(x) * self.a.mean(1)

    def model(way):
        a, b = nn.Parameter(torch.ones(2 if way is lora else 4, 3)), nn.Parameter(torch.zeros(4, 2))
        return Of(way, base=nn.Linear(3, 4).requires_grad_(False), a=a, b=b if way is lora else nn.Identity())

    small = {"loss": lambda model, x: model(x).square().mean() * 1e-4}
    for way, told in ((lora, []), (scaled, [("a",)])):
        net = model(way)
        result = verified(net, optimizer=sgd(net, lr=1e-4), **small)
        assert [finding.tensors for finding in found(result, "FZ303")] == told
        assert len(loud(result)) == len(told)


def test_a_misspelled_selector_is_told_alone() -> None:
    """What it should have named trains as it was meant to: nobody is told to freeze it."""
    model = nn.Sequential()
    model.add_module("body", nn.Linear(3, 4).requires_grad_(False))
    model.add_module("head", nn.Linear(4, 2))
    (finding,) = verified(model, "trainable = ['haed']").findings
    assert finding.code == "FZ001"
    assert "FZ101" in finding.evidence["effects"]


@pytest.mark.parametrize(
    ("norm", "offer"),
    [
        (torch.nn.utils.parametrizations.weight_norm, "0.parametrizations.weight"),
        (torch.nn.utils.spectral_norm, "0.weight_*"),
    ],
)
def test_a_selector_of_a_computed_weight_is_told_what_it_is_made_of(norm: Any, offer: str) -> None:
    """Under a parametrization, and under the older hooks, `weight` is no parameter."""
    model = nn.Sequential(norm(nn.Linear(3, 4)), nn.Linear(4, 2))
    finding = found(verified(model, "frozen = ['0.weight']\nrest = 'trainable'"), "FZ001")[0]
    assert finding.fix == f"write `{offer}` for `0.weight` under `frozen`"
