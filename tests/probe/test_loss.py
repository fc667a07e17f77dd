"""The loss of a model that brings none, and what is said of losses that are none."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from freezecheck.errors import ProbeError
from freezecheck.probe.loss import default_loss, require_scalar

torch.set_num_threads(1)
Pair = namedtuple("Pair", "first second")


@dataclass
class Output:
    logits: torch.Tensor
    name: str = "x"


class Returning(nn.Module):
    """Returns what a function makes of its input."""

    def __init__(self, way: Any) -> None:
        super().__init__()
        self.way = way

    def forward(self, x):
        return self.way(x)


def gradient(way: Any, seed: int = 0, rows: int = 4) -> torch.Tensor:
    """The gradient that reaches the input."""
    x = torch.linspace(-1, 1, rows * 3).view(rows, 3).requires_grad_()
    default_loss(Returning(way), x, seed).backward()
    return x.grad


class TestTheModelsOwnLoss:
    """A loss that the model returns is used as it is."""

    @pytest.mark.parametrize(
        "way",
        [
            lambda x: {"loss": x.sum(), "logits": x.detach()},
            lambda x: type("Output", (), {"loss": x.sum().view(1)})(),
            lambda x: {"loss_a": x[:, 0].sum(), "loss_b": x[:, 1:].sum()},
            lambda x: x.sum(),
        ],
        ids=["dict", "attribute", "dict of losses", "scalar"],
    )
    def test_it_is_used_as_it_is(self, way: Any) -> None:
        """The gradient of a sum is one everywhere."""
        assert torch.equal(gradient(way), torch.ones(4, 3))

    def test_a_loss_of_none_is_none(self) -> None:
        """As Transformers models return without labels: the logits are projected."""
        assert gradient(lambda x: {"loss": None, "logits": x}).abs().min() > 0


class TestProjection:
    """Otherwise every floating output is multiplied by seeded noise."""

    @pytest.mark.parametrize(
        "way",
        [
            lambda x: x,
            lambda x: (x, None, "text", 3),
            lambda x: [[{"deep": x}]],
            lambda x: Pair(x, x.long()),
            lambda x: Output(x),
            lambda x: torch.complex(x, x),
            lambda x: x.to(torch.bfloat16),
            lambda x: torch.cat([x, x.new_zeros(0, 3)]),
        ],
        ids=["tensor", "tuple", "nested", "namedtuple", "dataclass", "complex", "bfloat16", "with an empty part"],
    )
    def test_every_output_counts(self, way: Any) -> None:
        """Each element of the output sends a gradient back."""
        assert gradient(way).abs().min() > 0

    @pytest.mark.parametrize(
        "way",
        [lambda x: x.softmax(-1), lambda x: nn.functional.layer_norm(x, (3,)), lambda x: x / x.norm()],
        ids=["softmax", "layer norm", "normalised"],
    )
    def test_outputs_that_sum_to_a_constant_still_give_a_gradient(self, way: Any) -> None:
        """Below a softmax or a LayerNorm a plain sum would give zero."""
        assert gradient(way).abs().max() > 1e-3

    def test_the_seed_decides(self) -> None:
        """The same seed gives the same loss, another another one."""
        assert torch.equal(gradient(lambda x: x), gradient(lambda x: x))
        assert not torch.equal(gradient(lambda x: x), gradient(lambda x: x, seed=1))

    def test_the_size_of_a_batch_does_not_blow_it_up(self) -> None:
        """The loss keeps its size when the output grows a hundredfold."""
        small, large = (gradient(lambda x: x, rows=rows).norm() for rows in (10, 1000))
        assert 0.5 < large / small < 2

    def test_on_the_meta_device(self) -> None:
        """Where there are no values there is still a graph."""
        x = torch.randn(2, 3, device="meta", requires_grad=True)
        loss = default_loss(Returning(lambda x: (x * 2, x)), x, 0)
        loss.backward()
        assert x.grad is not None
        assert x.grad.is_meta


class TestErrors:
    """What cannot be a loss is said with what came instead."""

    @pytest.mark.parametrize(("way", "words"), [(lambda x: x.long(), "a Tensor"), (lambda x: None, "None")])
    def test_nothing_floating(self, way: Any, words: str) -> None:
        """Without a floating output the user is told to write compute_loss."""
        with pytest.raises(ProbeError, match=words) as caught:
            default_loss(Returning(way), torch.ones(2, 3), 0)
        assert "compute_loss" in caught.value.hint

    @pytest.mark.parametrize(("loss", "words"), [(3.5, "a float"), (None, "None"), (torch.ones(2), r"\(2,\)")])
    def test_a_loss_that_is_no_scalar(self, loss: Any, words: str) -> None:
        """A float, None or a vector is named for what it is."""
        with pytest.raises(ProbeError, match=words):
            require_scalar(loss)
