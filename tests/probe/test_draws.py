"""Cuts in torch's own code or at a decorator: drawing from a distribution, and functions without gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.probe.test_cuts import cut_lines, net
from tests.probe.verified import Base, found, verified


def test_of_several_results_a_dead_one_is_no_cut() -> None:
    """A distribution broadcasts its mean with a constant; only its sample() is the cut, and rsample() the mend."""

    def way(self, x):
        drawn = torch.distributions.Normal(self.mid(self.enc(x)), 1.0).sample()  # the cut
        return self.head(drawn)

    (finding,) = found(verified(net(way)), "FZ201")
    assert [cut["operation"] for cut in finding.evidence["cuts"]] == ["no_grad"]
    assert cut_lines(finding) == ["the cut"]
    assert "rsample()" in finding.fix


@pytest.mark.parametrize("draw", [torch.bernoulli, torch.poisson, torch.normal])
def test_drawing_from_a_distribution_is_flat(draw: Any) -> None:
    """The result of a draw requires grad, and its gradient is zero."""

    def way(self, x):
        rates = self.mid(self.enc(x)).sigmoid()
        given = (rates, 1.0) if draw is torch.normal else (rates,)
        return self.head(draw(*given))  # the draw

    (finding,) = found(verified(net(way)), "FZ202")
    assert cut_lines(finding) == ["the draw"]


class Decorated(Base):
    """Encodes in a method that a decorator keeps from recording."""

    @torch.no_grad()
    def encode(self, x):
        x = self.enc(x)
        return torch.tanh(x)

    @torch.inference_mode()
    def encode_for_inference(self, x):
        return torch.tanh(self.enc(x))


def test_a_decorator_is_named_where_it_stands() -> None:
    """No line in the caller begins a block: the decorator itself is what to take off."""

    def way(self, x):
        return self.head(self.mid(self.encode(x)))

    model = Decorated()
    model.forward = way.__get__(model)
    (finding,) = found(verified(model), "FZ201")
    assert "in the function decorated at" in finding.message
    assert "block that begins" not in finding.message
    assert finding.fix.startswith("take `@torch.no_grad()` off at ")


def test_inference_mode_names_no_block_that_was_not_seen() -> None:
    """Where it begins is not known: the mend names the line alone, not a block at that line."""

    def way(self, x):
        return self.head(self.mid(self.encode_for_inference(x).clone()))

    model = Decorated()
    model.forward = way.__get__(model)
    (finding,) = found(verified(model), "FZ201")
    assert finding.fix == (
        "move `return torch.tanh(self.enc(x))` out of `inference_mode`, be it a block or a decorator"
    )
