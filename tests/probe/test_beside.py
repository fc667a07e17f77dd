"""What lies beside the model's own tensors: leaves in variables and holders, layers in a list."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.probe.traps import Of, frozen
from tests.probe.verified import found, loud, sgd, verified

PROMPT = torch.zeros(4, requires_grad=True)
POINTS = torch.linspace(0, 1, 15).reshape(5, 3).requires_grad_()


@dataclasses.dataclass
class State:
    weight: torch.Tensor


def joined(way: Any, **held: Any) -> nn.Module:
    model = Of(way, body=frozen(nn.Linear(3, 4)), head=nn.Linear(4, 2))
    for name, value in held.items():
        setattr(model, name, value)
    return model


def prompted(self, x):
    return self.head(self.body(x) + PROMPT)


def stated(self, x):
    return self.head(self.body(x) + self.state.weight)


def equation(self, _):
    out = self.head(torch.tanh(self.body(POINTS)))
    (slope,) = torch.autograd.grad(out.sum(), POINTS, create_graph=True)
    return out, slope


class TestLeaves:
    """FZ105 for tensors that no attribute of a module holds itself."""

    def test_points_to_differentiate_by_are_silent(self) -> None:
        """An equation's points require grad for its derivatives; nothing is to train them."""
        assert loud(verified(joined(equation))) == []

    def test_a_variable_that_an_optimizer_holds_is_silent(self) -> None:
        """It is trained on purpose, as a learned weight of the loss is."""
        model = joined(prompted)
        optimizer = torch.optim.SGD([*model.head.parameters(), PROMPT], lr=0.1)
        assert loud(verified(model, optimizer=optimizer)) == []

    @pytest.mark.parametrize("state", [SimpleNamespace, State])
    def test_a_tensor_in_a_plain_object_is_found(self, state: Any) -> None:
        """A namespace or a dataclass is an attribute, and torch does not look into it."""
        model = joined(stated, state=state(weight=torch.zeros(4, requires_grad=True)))
        (finding,) = found(verified(model), "FZ105")
        assert finding.tensors == ("state.weight",)
        assert "no optimizer holds it" in finding.message

    def test_a_tensor_in_a_variable_is_found(self) -> None:
        """A global of the script, or a variable around the function."""
        local = torch.zeros(4, requires_grad=True)

        def way(self, x):
            return self.head(self.body(x) + local)

        for model, name in ((joined(prompted), "PROMPT"), (joined(way), "local")):
            (finding,) = found(verified(model), "FZ105")
            assert finding.tensors == (name,)


class Run:
    """What a training keeps beside its model."""

    def __init__(self) -> None:
        self.best = nn.Sequential(nn.Linear(4, 2))


RUN = Run()
ADAPTER = nn.Linear(4, 4)


class TestOtherModels:
    """FZ105 for the parameters of another model that the loss runs."""

    @staticmethod
    def judged(other: nn.Module, **known: Any) -> Any:
        model = joined(lambda self, x: self.head(self.body(x)))

        def loss(model: Any, x: Any) -> torch.Tensor:
            return (model(x) - other(model.body(x))).square().mean()

        return verified(model, loss=loss, **known)

    def test_a_layer_in_a_variable_of_a_part_is_no_other_model(self) -> None:
        """Two forwards of one file use global layers: each lies in its variable, the second as the first."""
        inner = Of(lambda self, x: ADAPTER(self.fc(x)), fc=nn.Linear(3, 4))
        model = Of(lambda self, x: self.head(self.inner(x)), inner=inner, head=nn.Linear(4, 2))
        (finding,) = found(verified(model), "FZ105")
        assert "another model" not in finding.message
        assert "ADAPTER" in finding.message

    def test_another_model_that_is_frozen_is_silent(self) -> None:
        """A teacher of the loss that requires no grad."""
        assert loud(self.judged(frozen(nn.Linear(4, 2)))) == []

    def test_another_model_is_named_by_where_it_lies(self) -> None:
        """An attribute of a global, to look up; one that lies in no variable, by its class."""
        (finding,) = found(self.judged(RUN.best), "FZ105")
        assert finding.tensors == ("RUN.best.0.bias", "RUN.best.0.weight")
        assert "another model, `RUN.best` (Sequential)" in finding.message
        (finding,) = found(self.judged(nn.Linear(4, 2)), "FZ105")
        assert finding.tensors == ("Linear.bias", "Linear.weight")


def hiding(model: nn.Module) -> nn.Module:
    def way(self, x):
        return self.head(self.teacher[0](x))

    net = Of(way, head=nn.Linear(4, 2))
    net.teacher = [model]  # type: ignore[assignment]  # not a module, which is the point
    return net


class Layers(list):  # type: ignore[type-arg]  # as people write it
    """A list of somebody's own."""


@dataclasses.dataclass
class Parts:
    """A record with a layer in it."""

    teacher: nn.Module


def teacher() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


class TestHiddenLayers:
    """FZ501 and FZ001 for a layer in a plain list."""

    def test_a_teacher_in_eval_mode_is_silent(self) -> None:
        """It is kept out of the model's parameters on purpose, and stands still."""
        assert loud(verified(hiding(frozen(teacher()).eval()))) == []

    def test_registered_layers_in_a_list_are_silent(self) -> None:
        """A list for the sake of the forward holds what torch knows already."""
        model = Of(lambda self, x: self.b(self.a(x)), a=nn.Linear(3, 4), b=nn.BatchNorm1d(4))
        model.order = [model.a, model.b]  # type: ignore[assignment]  # as above
        assert loud(verified(model)) == []

    def test_a_selector_that_lets_it_move_is_silent(self) -> None:
        """It names nothing that torch knows, and is understood all the same."""
        spec = "trainable = ['head']\nunchecked = ['teacher']"
        model = hiding(frozen(teacher()))
        assert loud(verified(model, spec, optimizer=sgd(model))) == []

    def test_statistics_that_follow_the_batches_are_found(self) -> None:
        """Frozen by its flags, and in train mode."""
        model = hiding(frozen(teacher()))
        (finding,) = found(verified(model), "FZ501")
        assert finding.tensors[0] == "teacher.0.1.running_mean"
        (finding,) = found(verified(model, "trainable = ['head']\nfrozen = ['teacher']"), "FZ001")
        assert finding.fix == "self.teacher = nn.ModuleList(self.teacher)"

    @pytest.mark.parametrize(
        ("held", "taken"),
        [
            (lambda one: Layers([one]), lambda box: box[0]),
            (lambda one: SimpleNamespace(teacher=one), lambda box: box.teacher),
            (Parts, lambda box: box.teacher),
        ],
        ids=["list", "namespace", "dataclass"],
    )
    def test_in_whatever_it_lies_it_is_found_and_put_back(self, held: Any, taken: Any) -> None:
        """What can be looked into is restored as well."""
        net = Of(lambda self, x: self.head(taken(self.parts)(x)), head=nn.Linear(4, 2))
        hidden = frozen(teacher())
        net.parts = held(hidden)
        assert found(verified(net), "FZ501")
        assert hidden[1].num_batches_tracked == 0
        assert not hidden[1].running_mean.any()

    def test_what_trains_in_it_is_the_better_finding(self) -> None:
        """Its own parameters require grad: FZ105 alone tells it."""
        result = verified(hiding(teacher()))
        assert found(result, "FZ105")
        assert not found(result, "FZ501")
