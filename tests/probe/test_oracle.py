"""The probe against plain loops: random small networks, frozen and cut at random, trained by hand on a copy."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import freezecheck
from freezecheck.records import Gradient
from tests.probe.verified import facts

WIDTH = 3
CUTS = ("none", "none", "none", "detach", "no_grad", "data", "zero", "round")
JOINS = ("replace", "add", "skip")


@dataclass(frozen=True)
class Step:
    """What a network does at one of its layers."""

    kind: str
    """`linear`, `norm` or `tanh`."""
    trained: bool
    cut: str
    join: str
    """Whether the layer's result replaces what came in, is added to it, or is not used at all."""


@st.composite
def steps(draw: st.DrawFn) -> Step:
    return Step(
        draw(st.sampled_from(("linear", "linear", "norm", "tanh"))),
        draw(st.booleans()),
        draw(st.sampled_from(CUTS)),
        draw(st.sampled_from(JOINS)),
    )


class Graph(nn.Module):
    """A chain of layers in float64, each cut and joined as its step says."""

    def __init__(self, plan: list[Step], tied: bool) -> None:
        super().__init__()
        made = {"linear": lambda: nn.Linear(WIDTH, WIDTH), "norm": lambda: nn.BatchNorm1d(WIDTH), "tanh": nn.Tanh}
        self.plan = plan
        self.layers = nn.ModuleList([made[step.kind]().requires_grad_(step.trained) for step in plan])
        self.head = nn.Linear(WIDTH, 2)
        if tied:
            linears = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
            for other in linears[1:]:
                other.weight = linears[0].weight
        self.double()

    def forward(self, x):
        for step, layer in zip(self.plan, self.layers, strict=True):
            y = _cut(step.cut, layer, x)
            x = {"replace": y, "add": x + y, "skip": x}[step.join]
        return self.head(x)


def _cut(cut: str, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    if cut == "no_grad":
        with torch.no_grad():
            return layer(x)
    y = layer(x)
    return {"detach": y.detach, "data": lambda: y.data, "zero": lambda: y * 0, "round": y.round}.get(cut, lambda: y)()


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    weights = torch.linspace(-1, 1, 2, dtype=torch.float64)
    return (model(x) * weights * torch.arange(1, len(x) + 1).unsqueeze(1)).sum()


def by_hand(model: nn.Module, x: torch.Tensor, count: int) -> tuple[dict[str, Gradient], dict[str, bool]]:
    """Train a copy `count` steps with SGD and return the strongest gradient of each parameter and what moved."""
    model = copy.deepcopy(model).train()
    before = copy.deepcopy(dict(model.state_dict(keep_vars=False)))
    before = {name: value.clone() for name, value in before.items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    order = [Gradient.NONE, Gradient.ZERO, Gradient.NONZERO]
    seen = {name: Gradient.NONE for name, p in model.named_parameters() if p.requires_grad}
    for _ in range(count):
        optimizer.zero_grad()
        loss_of(model, x).backward()
        for name, parameter in model.named_parameters():
            if name in seen and parameter.grad is not None:
                now = Gradient.NONZERO if bool(parameter.grad.ne(0).any()) else Gradient.ZERO
                seen[name] = max(seen[name], now, key=order.index)
        optimizer.step()
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return seen, {name: not torch.equal(tensor.detach(), before[name]) for name, tensor in tensors.items()}


graphs = st.builds(Graph, st.lists(steps(), min_size=1, max_size=4), st.booleans())


@settings(max_examples=60)
@given(model=graphs, seed=st.integers(0, 9))
def test_gradients_and_moves_are_those_of_a_plain_loop(model: Graph, seed: int) -> None:
    """The same gradients (none, zero, not zero) and the same tensors moved, after as many steps as the probe took."""
    torch.manual_seed(seed)
    x = torch.randn(4, WIDTH, dtype=torch.float64)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    before = copy.deepcopy(model.state_dict())
    result = freezecheck.verify(model, optimizer=optimizer, inputs=x, loss=loss_of)
    rows = facts(result)
    gradients, moved = by_hand(model, x, result.report.case.conditions.steps)
    assert {name: row.gradient for name, row in rows.items() if row.gradient is not None} == gradients
    assert {name: row.moved for name, row in rows.items()} == moved
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@settings(max_examples=60)
@given(model=graphs, seed=st.integers(0, 9))
def test_every_lost_gradient_has_its_cut_and_no_other_has(model: Graph, seed: int) -> None:
    """FZ201 names the parameters without a gradient; those that a cut stands before say so, the rest are unused."""
    torch.manual_seed(seed)
    x = torch.randn(4, WIDTH, dtype=torch.float64)
    rows = facts(freezecheck.verify(model, inputs=x, loss=loss_of))
    for position, (step, layer) in enumerate(zip(model.plan, model.layers, strict=True)):
        later = model.plan[position + 1 :]
        reaches = step.join != "skip"
        for name, parameter in layer.named_parameters():
            row = rows.get(f"layers.{position}.{name}")
            if row is None or row.tensor.aliases or not parameter.requires_grad:
                continue
            passes = reaches and _passes(step, later)
            assert (row.gradient is not Gradient.NONE) == passes or step.join == "skip"
            if row.gradient is Gradient.NONE:
                assert bool(row.cuts) == reaches


def _passes(step: Step, later: list[Step]) -> bool:
    """Whether a gradient comes back through the rest of the chain: some way around or through each later layer."""
    dead = ("detach", "no_grad", "data")
    return step.cut not in dead and all(other.join in ("add", "skip") or other.cut not in dead for other in later)


@settings(max_examples=30)
@given(
    trained=st.lists(st.booleans(), min_size=2, max_size=4).filter(any),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_gradients_of_linear_nets_are_finite_differences(trained: list[bool], biased: bool, seed: int) -> None:
    """In a net of linear layers the largest gradient is the slope of the loss, measured without autograd."""
    torch.manual_seed(seed)
    layers = [nn.Linear(WIDTH, WIDTH, bias=biased).requires_grad_(flag) for flag in trained]
    model = nn.Sequential(*layers).double()
    x = torch.randn(4, WIDTH, dtype=torch.float64)

    def loss(net, inputs):
        return net(inputs).sum()

    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-9)
    rows = facts(freezecheck.verify(model, optimizer=optimizer, inputs=x, loss=loss, steps=1))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            slope = _steepest(model, parameter, lambda: loss(model, x).item())
            assert abs(rows[name].gradient_max - slope) <= 1e-5 * max(1.0, slope)


def _steepest(model: nn.Module, parameter: nn.Parameter, value) -> float:
    """The largest absolute slope of a value along one element, by central differences (exact for a linear net)."""
    flat, step, largest = parameter.data.view(-1), 1e-3, 0.0
    for i in range(len(flat)):
        kept = flat[i].item()
        flat[i] = kept + step
        above = value()
        flat[i] = kept - step
        below = value()
        flat[i] = kept
        largest = max(largest, abs(above - below) / (2 * step))
    return largest
