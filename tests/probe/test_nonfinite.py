"""Where the first NaN or infinity came from: FZ204 names the operation and the line, and the mend is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import freezecheck
from tests.probe.verified import found

torch.set_num_threads(1)

Between = Callable[[torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """A body, something between, and a head."""

    def __init__(self, between: Between) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, 2]."""
        return self.head(self.between(self.body(x)))


def check(model: nn.Module, inputs: Any = None, **options: Any) -> freezecheck.Result:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    given = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)) if inputs is None else inputs
    return freezecheck.verify(model, optimizer=optimizer, inputs=given, **options)


def told(model: nn.Module, inputs: Any = None, **options: Any) -> freezecheck.Finding:
    (finding,) = found(check(model, inputs, **options), "FZ204")
    return finding


MASK = torch.zeros(8, 8, dtype=torch.bool)
MASK[2] = True


def attention(h: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    scores = (h[:, :, None] * h[:, None, :]).masked_fill(mask, float("-inf"))  # masked here
    weights = scores.softmax(-1)  # the softmax
    return (weights @ h[:, :, None])[..., 0]


def hand_made_mask(h: torch.Tensor) -> torch.Tensor:
    mask = torch.full((8, 8), float("-inf"))  # masked here
    weights = (h[:, :, None] * h[:, None, :] + mask).softmax(-1)  # the softmax
    return (weights @ h[:, :, None])[..., 0]


IN_FORWARD: list[tuple[str, Between]] = [
    ("log()", lambda h: h.relu().log()),
    ("div()", lambda h: h.relu() / h.relu()),
    ("div()", lambda h: 1 / h.relu()),
    ("exp()", lambda h: (h * 1000).exp()),
    ("rsqrt()", lambda h: h.relu().rsqrt()),
    ("std()", lambda h: h - h[:, :1].std(dim=1, keepdim=True)),
]
IN_BACKWARD: list[tuple[str, Between]] = [
    ("sqrt()", lambda h: (h * 0.0).sqrt()),
    ("acos()", lambda h: (h * 0.0 + 1.0).acos()),
    ("pow()", lambda h: (h * 0.0) ** 0.5),
    ("sqrt()", lambda h: torch.where(h > 0, h.sqrt(), torch.zeros_like(h))),  # the branch not taken
]


@pytest.mark.parametrize(("operation", "between"), IN_FORWARD)
def test_the_forwards_first_is_named(operation: str, between: Between) -> None:
    """By the operation that makes it of finite numbers, and the line that calls it."""
    finding = told(Net(between))
    assert f"The first comes from `{operation}` in the forward at " in finding.message
    assert finding.location is not None
    assert finding.location.line == between.__code__.co_firstlineno
    assert finding.evidence["origin"]["phase"] == "forward"


@pytest.mark.parametrize(("operation", "between"), IN_BACKWARD)
def test_a_finite_forward_with_a_derivative_that_is_not(operation: str, between: Between) -> None:
    """The loss is a number: the operation is named whose backward got a finite gradient."""
    finding = told(Net(between))
    assert f"The first comes from the backward of `{operation}` at " in finding.message
    assert finding.location is not None
    assert finding.location.line == between.__code__.co_firstlineno


@pytest.mark.parametrize(
    "between",
    [
        lambda h: h.relu().clamp(min=1e-6).log(),
        lambda h: h.relu() / (h.relu() + 1e-8),
        lambda h: (h * 0.0).clamp(min=1e-8).sqrt(),
        lambda h: (h * 0.0).clamp(min=1e-8) ** 0.5,
        lambda h: h - h[:, :1].std(dim=1, keepdim=True, correction=0),
        lambda h: (h * 1000).clamp(-0.9999, 0.9999).acos(),
        lambda h: (h * 1000).log_softmax(1),
    ],
)
def test_the_mends_mend(between: Between) -> None:
    """Each line that a mend shows, in place of the one that it is for."""
    assert found(check(Net(between)), "FZ204") == []


class TestMasks:
    def test_a_row_that_is_masked_as_a_whole(self) -> None:
        """The softmax makes the NaN; the infinities were put there on purpose, and their line is told too."""
        finding = told(Net(lambda h: attention(h, MASK)))
        assert "The first comes from `softmax()` in the forward at " in finding.message
        assert "# the softmax`), which was given infinities that `masked_fill()` put there at " in finding.message
        assert finding.fix == "a row of nothing but -inf has no softmax: leave one entry of every row unmasked"

    def test_a_mask_that_is_added(self) -> None:
        """The infinities are the mask's, whatever was added to them."""
        assert "that `full()` put there at " in told(Net(hand_made_mask)).message

    def test_a_mask_that_leaves_something_is_right(self) -> None:
        """As every causal mask does."""
        causal = torch.ones(8, 8, dtype=torch.bool).triu(1)
        assert found(check(Net(lambda h: attention(h, causal))), "FZ204") == []


class TestWhatWasThere:
    def test_a_weight(self) -> None:
        """Loaded from a run that had diverged."""
        model = Net(torch.relu)
        model.body.weight.data[0, 0] = float("nan")
        finding = told(model)
        assert "`body.weight` holds NaN before anything is computed; the forward reads it at " in finding.message
        assert finding.fix == "load or initialise body.weight anew, and look at what wrote NaN into it"

    def test_a_batch(self) -> None:
        """A hole in the data."""
        finding = told(Net(torch.tanh), torch.full((3, 4), float("nan")))
        assert "The inputs hold NaN before anything is computed; the forward reads them at " in finding.message
        assert "`torch.isfinite(batch).all()`" in finding.fix


def test_float16_overflows_at_a_line() -> None:
    """Half precision has a cause of its own, and the place is told all the same."""
    finding = told(Net(lambda h: h * 60000 * 60000).half(), torch.randn(3, 4).half())
    assert "The first comes from `mul()` in the forward at " in finding.message
    assert finding.message.endswith("float16 overflows beyond 65,504.")
    assert finding.fix.startswith("scale the loss")


def test_a_gradient_without_an_operation_of_its_own() -> None:
    """A user's hook divides by zero: nothing that was traced did, and no place is made up."""
    model = Net(torch.tanh)
    model.body.weight.register_hook(lambda gradient: gradient / 0)
    finding = told(model)
    assert finding.message == "The gradient of `body.weight` became NaN or infinite in one step."
    assert (finding.location, finding.evidence["origin"]) == (None, None)


class Root(torch.autograd.Function):
    """A root of the user's own, whose backward divides by it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x.sqrt())
        return x.sqrt()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        (root,) = ctx.saved_tensors
        return gradient / (2 * root)


def test_a_custom_function_is_named_itself() -> None:
    """Not the operation that follows it."""
    between: Between = lambda h: Root.apply(h * 0.0) + 1  # noqa: E731
    finding = told(Net(between))
    assert "the backward of `Root.apply()` at " in finding.message
    assert finding.location is not None
    assert finding.location.line == between.__code__.co_firstlineno


def test_what_is_compiled_is_named_by_its_node() -> None:
    """A scripted function's operations are out of sight; their nodes on the graph are not."""

    def root(h: torch.Tensor) -> torch.Tensor:
        return (h * 0.0).sqrt()

    scripted = torch.jit.trace(root, torch.ones(3, 8))
    assert "the backward of SqrtBackward0: " in told(Net(lambda h: scripted(h) + 1)).message


def test_a_metric_beside_the_loss_is_not_blamed() -> None:
    """It divides nothing by nothing; the loss is finite, and the derivative of the root is not."""
    seen = []

    def between(h: torch.Tensor) -> torch.Tensor:
        seen.append((h * 0).sum() / (h * 0).sum())  # the metric
        return (h * 0.0).sqrt()

    assert "the backward of `sqrt()`" in told(Net(between)).message


class TestTheFurtherLook:
    """It draws what the step drew, and leaves what the step left."""

    def test_what_was_drawn_is_drawn_again(self) -> None:
        """A dropout that zeroes what is divided by: another draw would divide by other numbers."""
        torch.manual_seed(0)
        drawn: list[torch.Tensor] = []

        def between(h: torch.Tensor) -> torch.Tensor:
            kept = F.dropout(h.detach() * 0 + 1, 0.5)
            drawn.append(kept)
            return h / kept

        finding = told(Net(between))
        assert "`div()`" in finding.message
        assert torch.equal(drawn[0], drawn[1])

    def test_the_steps_gradients_are_the_ones_that_step(self) -> None:
        """The optimizer finds the gradients of the step itself, not those of the look."""
        held: list[Any] = []
        stepped: list[Any] = []

        class Kept(torch.optim.SGD):
            def step(self, closure: Any = None) -> Any:
                stepped.extend(p.grad for group in self.param_groups for p in group["params"])
                return super().step(closure)

        model = Net(lambda h: h.relu().log())
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(lambda p: held.append(p.grad))
        optimizer = Kept(model.parameters(), lr=0.01)
        freezecheck.verify(model, optimizer=optimizer, inputs=torch.ones(3, 4), loss=lambda m, x: m(x).sum())
        first = held[: len(held) // 2]
        assert len(held) == 2 * len(stepped)
        assert {id(gradient) for gradient in stepped} == {id(gradient) for gradient in first}

    def test_one_that_fails_costs_the_place_and_no_more(self) -> None:
        """The forward runs once and refuses to run again."""
        calls: list[int] = []

        def between(h: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            if len(calls) == 2:
                raise RuntimeError("once only")
            return h.relu().log()

        finding = told(Net(between), steps=1)
        assert finding.location is None
        assert len(calls) == 2

    def test_no_trace_is_left(self) -> None:
        """The random state, the weights, the hooks and the gradients are those from before."""
        model = Net(lambda h: F.dropout(h.relu().log(), 0.1))
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        state = torch.get_rng_state()
        told(model)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert all(p.grad is None and not p._backward_hooks for p in model.parameters())

    def test_a_right_step_is_looked_at_once(self) -> None:
        """No further forward where every gradient is finite."""
        calls: list[int] = []

        def between(h: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            return h.tanh()

        assert found(check(Net(between)), "FZ204") == []
        assert len(calls) == 1
