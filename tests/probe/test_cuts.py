"""Cuts in code that is not the user's own, and code that the tracer must see through without an alarm."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import freezecheck
from freezecheck.check import verify_subject
from freezecheck.loading import load
from tests.probe.verified import Base, facts, found, loud, sgd, verified

Net = type[nn.Module]


def net(way: Any, **layers: nn.Module) -> nn.Module:
    """A `Base` whose forward is a function of it and its input."""

    class Made(Base):
        def forward(self, x):
            return way(self, x)

    model = Made()
    for name, layer in layers.items():
        setattr(model, name, layer)
    return model


def cut_lines(finding: freezecheck.Finding) -> list[str]:
    return [cut["location"]["text"].partition("# ")[2] for cut in finding.evidence["cuts"]]


class Double(torch.autograd.Function):
    """Multiplies by two."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


class Nested(torch.autograd.Function):
    """Uses another function in its forward and in its backward."""

    @staticmethod
    def forward(ctx, x):
        with torch.enable_grad():
            inner = x.detach().requires_grad_()
            ctx.graph = inner, Double.apply(inner)
        return ctx.graph[1].detach()

    @staticmethod
    def backward(ctx, gradient):
        inner, outer = ctx.graph
        return torch.autograd.grad(outer, inner, gradient)[0]


class StraightThrough(torch.autograd.Function):
    """Rounds, and lets the gradient through."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Logged(torch.Tensor):
    """A tensor subclass that passes every call on."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return super().__torch_function__(func, types, args, kwargs or {})


def in_place_on_a_view(self, x):
    x = self.enc(x).clone()
    x[:, :2].mul_(2)
    x.view(-1)[::2].add_(1)
    F.relu_(x)
    return self.head(self.mid(torch.cat([x[:, :2], x[:, 2:]], 1)))


def control_flow_only(self, x):
    x = self.enc(x)
    if x.mean().item() > 0 or float(x.max()) > 3:
        x = x * 2
    for _ in range(int(x.argmax()) % 2):
        x = x + 1
    return self.head(self.mid(x / max(1, len(x.tolist()))))


def functional_transforms(self, x):
    x = torch.func.vmap(lambda row: self.enc(row))(x)
    slope = torch.func.grad(lambda y: self.mid(y).square().sum())(x)
    return self.head(slope)


def jacobian(self, x):
    per_row = torch.func.vmap(torch.func.jacrev(lambda row: self.mid(row).tanh()))(self.enc(x))
    return self.head(per_row.sum(1))


def functional_call(self, x):
    weights = {name: p * 2 for name, p in self.mid.named_parameters()}
    return self.head(torch.func.functional_call(self.mid, weights, (self.enc(x),)))


def nested_outputs(self, x):
    self.kept = self.enc(x)
    self.cache = {"detached": self.kept.detach(), "list": [self.kept]}
    return {"a": [self.head(self.kept)], "b": (self.mid(self.cache["list"][0]), None, "text", 3)}


def complex_output(self, x):
    return torch.fft.fft(self.head(self.mid(self.enc(x))))


def autocast(self, x):
    with torch.autocast("cpu", torch.bfloat16):
        return self.head(self.mid(self.enc(x)))


RIGHT = {
    "a straight-through estimator": lambda self, x: self.head(self.mid(StraightThrough.apply(self.enc(x)))),
    "a function within a function": lambda self, x: self.head(self.mid(Nested.apply(self.enc(x)))),
    "in-place operations on views": in_place_on_a_view,
    "item() for control flow only": control_flow_only,
    "vmap and grad of torch.func": functional_transforms,
    "vmap over jacrev": jacobian,
    "functional_call": functional_call,
    "dicts, lists and stored activations": nested_outputs,
    "a complex output": complex_output,
    "a tensor subclass": lambda self, x: self.head(self.mid(self.enc(x.as_subclass(Logged)))),
    "autocast": autocast,
    "a checkpoint": lambda self, x: self.head(
        torch.utils.checkpoint.checkpoint(self.mid, self.enc(x), use_reentrant=False)
    ),
    "a checkpoint over frozen inputs": lambda self, x: self.head(
        torch.utils.checkpoint.checkpoint(lambda y: self.mid(self.enc(y)), x, use_reentrant=False)
    ),
    "a sample that passes the gradient on": lambda self, x: self.head(
        torch.distributions.Normal(self.mid(self.enc(x)), 1.0).rsample()
    ),
    "a constant broadcast beside what trains": lambda self, x: self.head(
        sum(torch.broadcast_tensors(self.mid(self.enc(x)), torch.ones(1, 4)))
    ),
    "noise that is drawn, not learnt": lambda self, x: self.head(
        self.mid(self.enc(x)) * torch.bernoulli(torch.full((len(x), 4), 0.9)) + torch.normal(0.0, 1.0, (len(x), 4))
    ),
    "no_grad undone by enable_grad": lambda self, x: torch.no_grad()(torch.enable_grad()(
        lambda: self.head(self.mid(self.enc(x)))
    ))(),
}  # fmt: skip


def _compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def _traced(model: nn.Module) -> Any:
    return torch.jit.trace(model, (torch.randn(2, 3),))


class TestSilent:
    """What the tracer must see through."""

    @pytest.mark.parametrize("name", RIGHT)
    def test_a_forward_that_is_right(self, name: str) -> None:
        """Every parameter gets its gradient, and nothing is found."""
        result = verified(net(RIGHT[name]))
        assert loud(result) == []
        assert all(row.moved for row in facts(result).values())

    @pytest.mark.parametrize("wrap", [nn.DataParallel, _compiled, _traced])
    def test_a_wrapped_model(self, wrap: Any) -> None:
        """A data-parallel, a compiled and a traced model are as right as what they wrap."""
        inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        assert not verified(wrap(inner)).findings

    def test_parameters_of_a_subclass(self) -> None:
        """Parameters that are tensors of a subclass are followed like any other."""
        model = net(lambda self, x: self.head(self.mid(self.enc(x))))
        model.enc.weight = nn.Parameter(model.enc.weight.detach().as_subclass(Logged))
        assert not verified(model).findings


class TestInsideWhatIsCompiled:
    """A cut does not hide in a compiled model or beside transforms."""

    def test_in_a_compiled_model(self) -> None:
        """The line in the user's forward is named although torch.compile wraps it."""
        model = torch.compile(net(lambda self, x: self.head(self.mid(self.enc(x)).detach())), backend="eager")
        (finding,) = found(verified(model), "FZ201")
        assert {name.partition(".")[0] for name in finding.tensors} == {"enc", "mid"}
        assert "detach()" in finding.message

    def test_in_a_function_mapped_by_vmap(self) -> None:
        """A detach() inside of vmap is named."""

        def way(self, x):
            def row(y):
                return self.enc(y).detach()  # the cut

            return self.head(self.mid(torch.func.vmap(row)(x)))

        (finding,) = found(verified(net(way)), "FZ201")
        assert cut_lines(finding) == ["the cut"]

    def test_in_a_scripted_function_no_line_is_made_up(self) -> None:
        """Inside TorchScript nothing is seen: the layer is said to have lost its gradient, with no wrong line."""

        @torch.jit.script
        def hidden(x):
            return x.detach() * 2

        (finding,) = found(verified(net(lambda self, x: self.head(self.mid(hidden(self.enc(x)))))), "FZ201")
        assert set(finding.tensors) == {"enc.weight", "enc.bias"}


LIBRARY = """
import torch

def normalised(x):
    with torch.no_grad():
        x = x / x.norm()
    return x
"""
USER = """
import torch
from torch import nn
import fakelib

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = fakelib.normalised(self.enc(x))  # the call
        return self.head(x)

def example_inputs():
    return torch.randn(2, 3)
"""


def test_a_cut_in_a_library_names_both_lines(tmp_path, monkeypatch) -> None:
    """The user's call is where the finding points; the library's own line is in the message."""
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "fakelib.py").write_text(LIBRARY, encoding="utf-8")
    (tmp_path / "model.py").write_text(USER, encoding="utf-8")
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("fakelib", None)
    report = verify_subject(load("model.py"))
    (finding,) = [f for f in report.findings if f.code == "FZ201"]
    assert finding.location is not None
    assert finding.location.text.endswith("# the call")
    assert finding.location.function == "Net.forward"
    assert f"{finding.location}" == "model.py:13"
    assert "fakelib.py:6" in finding.message


def test_a_hook_that_raises_is_the_users_error() -> None:
    """A hook that raises ends the check with its own line, and the hook still stands on the model."""
    model = net(lambda self, x: self.head(self.mid(self.enc(x))))

    def hook(module, args, output):
        raise ValueError("no such feature")  # the raise

    handle = model.mid.register_forward_hook(hook)
    with pytest.raises(freezecheck.FreezecheckError, match="no such feature") as caught:
        verified(model)
    assert caught.value.location is not None
    assert caught.value.location.text.endswith("# the raise")
    handle.remove()
    assert not verified(model).findings


def test_three_cuts_are_named_in_the_order_of_the_flow() -> None:
    """Whoever mends the first is told of the next two."""

    def way(self, x):
        x = self.enc(x).detach()  # first
        x = torch.tensor(self.mid(x).tolist())  # second
        x = x.round().long().float()  # third
        return self.head(x)

    findings = found(verified(net(way)), "FZ201")
    of = {name: finding for finding in findings for name in finding.tensors}
    assert list(dict.fromkeys(cut_lines(of["enc.weight"])))[:2] == ["first", "second"]
    assert cut_lines(of["mid.weight"])[0] == "second"


def test_one_line_that_cuts_twice_is_blamed_only_on_the_way() -> None:
    """A helper's detach() is the encoder's cut; where it logs the middle's output it is nobody's."""

    def detached(x):
        return x.detach()  # the cut

    def way(self, x):
        x = detached(self.enc(x))
        self.logged = detached(self.mid(x))
        return self.head(x)

    of = {name: finding for finding in found(verified(net(way)), "FZ201") for name in finding.tensors}
    assert cut_lines(of["enc.weight"]) == ["the cut"]
    assert cut_lines(of["mid.weight"]) == []


def test_a_loss_without_a_graph_names_its_cut() -> None:
    """A loss that was re-wrapped is FZ206, with the line that lost the graph."""

    def loss(model, x):
        value = model(x).square().mean().item()  # the cut
        return torch.tensor(value, requires_grad=True)

    model = net(lambda self, x: self.head(self.mid(self.enc(x))))
    (finding,) = found(verified(model, loss=loss, optimizer=sgd(model)), "FZ206")
    assert finding.location is not None
    assert finding.location.text.endswith("# the cut")
