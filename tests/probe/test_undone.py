"""Steps that the next forward undoes, against writes that make a value of the one they find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from tests.probe.traps import Of, frozen
from tests.probe.verified import found, loud, verified


def _clipped(self, x):
    self.fc.weight.data.clamp_(-0.01, 0.01)
    return self.fc(x)


def _normed(self, x):
    with torch.no_grad():
        self.fc.weight.copy_(F.normalize(self.fc.weight, dim=1))
    return self.fc(x)


def _one_row_kept_at_zero(self, x):
    self.fc.weight.data[0].zero_()
    return self.fc(x)


def _started_from_the_data(self, x):
    if not self.started:
        self.fc.weight.data.fill_(float(x.std()))
        self.started.fill_(True)
    return self.fc(x)


def _rounded(self, x):
    self.fc.weight.data = (self.fc.weight.data * 1e4).round() / 1e4
    return self.fc(x)


def _on_a_coarse_grid(self, x):
    with torch.no_grad():
        self.fc.weight.copy_((self.fc.weight * 4).round() / 4)
    return self.fc(x)


def _one_hot(self, x):
    with torch.no_grad():
        self.fc.weight.copy_(F.one_hot(self.fc.weight.argmax(1), 3))
    return self.fc(x)


def _temperature_at_its_bound(self, x):
    self.temperature.data.clamp_(max=1.0)
    return self.fc(x) / self.temperature


@pytest.mark.parametrize(
    "way",
    [
        _clipped,
        _normed,
        _one_row_kept_at_zero,
        _started_from_the_data,
        _rounded,
        _on_a_coarse_grid,
        _one_hot,
        _temperature_at_its_bound,
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_write_that_makes_something_of_what_it_finds_is_silent(way: Callable[..., Any], sign: int) -> None:
    """A clip (also at its bound, whichever way the step goes), a norm, a row, a first initialisation, a rounding."""
    model = Of(way, fc=nn.Linear(3, 2), temperature=nn.Parameter(torch.ones(())))
    model.register_buffer("started", torch.tensor(False))
    spec = "trainable = ['fc']\nunchecked = ['temperature', 'started']"
    spec = spec.replace("trainable = ['fc']", "trainable = ['*']") if way is _temperature_at_its_bound else spec
    result = verified(model, spec, loss=lambda model, x: sign * model(x).square().sum())
    assert loud(result) == []


def test_layers_that_write_to_their_weight_are_silent() -> None:
    """An embedding with max_norm, and the parametrizations that keep a norm."""

    def way(self, ids):
        return self.spectral(self.normed(self.embed(ids)))

    layers = {
        "embed": nn.Embedding(6, 4, max_norm=0.1),
        "normed": parametrizations.weight_norm(nn.Linear(4, 4)),
        "spectral": torch.nn.utils.spectral_norm(nn.Linear(4, 2)),
    }
    assert loud(verified(Of(way, **layers), inputs=torch.arange(6))) == []


def test_a_weight_that_every_forward_restores_is_found() -> None:
    """The step moves it; the line that puts the old values back is named, and the model left as it was."""
    fc = nn.Linear(3, 2)
    old = fc.weight.detach().clone()

    def way(self, x):
        self.fc.weight.data.copy_(old)
        return self.fc(x)

    (finding,) = found(verified(Of(way, fc=fc)), "FZ302")
    assert finding.tensors == ("fc.weight",)
    assert finding.location is not None
    assert finding.location.text == "self.fc.weight.data.copy_(old)"
    torch.testing.assert_close(fc.weight.detach(), old, rtol=0, atol=0)


@pytest.mark.parametrize("embedding", [frozen, lambda layer: layer])
def test_a_weight_tied_by_copying_is_found(embedding: Callable[[nn.Module], nn.Module]) -> None:
    """Whatever the optimizer does to the copy is lost, also where the original trains and the copy moves with it."""

    def way(self, ids):
        self.head.weight.data.copy_(self.embed.weight.data)
        return self.head(self.embed(ids))

    model = Of(way, embed=embedding(nn.Embedding(6, 4)), head=nn.Linear(4, 6, bias=False))
    (finding,) = found(verified(model, inputs=torch.randint(0, 6, (2, 3))), "FZ302")
    assert finding.tensors == ("head.weight",)
    assert "undoes it" in finding.message
