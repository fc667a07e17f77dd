"""What only looks wrong must not be called a mistake: every set-up that `traps` collects is verified."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import nn

from tests.probe import traps_in_models, traps_in_training
from tests.probe.traps import TRAPS, Of
from tests.probe.verified import found, loud, verified

MODULES = (traps_in_models, traps_in_training)


@pytest.mark.parametrize("name", TRAPS)
def test_what_is_right_raises_no_alarm(name: str) -> None:
    """Nothing is found that is worse than a note, and what trains was seen to move."""
    torch.manual_seed(0)
    random.seed(0)
    model, inputs, *options = TRAPS[name]()
    result = verified(model, inputs=inputs, **(options[0] if options else {}))
    assert loud(result) == []


def test_the_steps_say_how_many_they_were() -> None:
    """A model that is awake takes one step, LoRA takes two, and what never wakes takes all that were allowed."""
    model, inputs = TRAPS["lora"]()
    assert verified(nn.Linear(3, 2)).report.case.conditions.steps == 1
    assert verified(model, inputs=inputs).report.case.conditions.steps == 2


def test_what_never_wakes_takes_every_step_and_is_found() -> None:
    """Two factors that both start at zero are no trap: all steps are taken, and FZ202 says so."""

    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(3, 4)
            self.a = nn.Parameter(torch.zeros(2, 3))
            self.b = nn.Parameter(torch.zeros(4, 2))

        def forward(self, x):
            return self.base(x) + x @ self.a.T @ self.b.T

    result = verified(Dead(), steps=4)
    assert result.report.case.conditions.steps == 4
    assert found(result, "FZ202")[0].tensors == ("a", "b")


def test_experts_that_nothing_chose_are_named_as_unjudged() -> None:
    """What was not seen to train is in `skipped`, by its layers."""
    torch.manual_seed(0)
    model, inputs, *_ = TRAPS["experts_that_no_row_chose"]()
    skipped = [item for item in verified(model, inputs=inputs).report.skipped if not item.codes]
    assert len(skipped) == 1
    assert "experts." in skipped[0].what
    assert "chose" in skipped[0].why


def test_a_layer_left_out_of_a_stack_is_no_expert() -> None:
    """A forward that forgets the last of its layers is found although it also looks at its data."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(4)])

        def forward(self, x):
            if x.isnan().any():
                raise ValueError("NaN")
            for layer in self.layers[:-1]:
                x = layer(x)
            return x

    assert found(verified(Net()), "FZ201")[0].tensors == ("layers.3.weight", "layers.3.bias")


def test_a_layer_that_dice_never_call_is_found() -> None:
    """Dropout elsewhere does not excuse a layer that nothing uses."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.forgotten = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return nn.functional.dropout(self.fc(x), training=self.training)

    assert found(verified(Net()), "FZ201")[0].tensors == ("forgotten.weight", "forgotten.bias")


def _four_heads(way: Any) -> nn.Module:
    body, router = nn.Linear(3, 4), nn.Linear(3, 4)
    heads = nn.ModuleList([nn.Linear(4, 1) for _ in range(4)])
    return Of(way, body=body, router=router, heads=heads)


def _after_an_assertion(self, x):
    features = self.body(x) * self.router(x).sigmoid()
    assert not torch.isnan(features).any()
    return torch.cat([self.heads[i](features) for i in range(3)], 1)


def _after_a_logged_argmax(self, x):
    gates = self.router(x)
    self.logged = gates.argmax(-1).tolist()
    features = self.body(x) * gates
    return torch.cat([head(features) for head in self.heads[:3]], 1)


def _after_rows_were_picked(self, x):
    gates = self.router(x)
    kept = x[gates[:, 0] > gates[:, 1]]
    features = self.body(torch.cat([kept, x])) * gates.mean(0)
    return torch.cat([head(features) for head in self.heads[:3]], 1)


@pytest.mark.parametrize("way", [_after_an_assertion, _after_a_logged_argmax, _after_rows_were_picked])
def test_a_forgotten_parallel_head_is_no_expert(way: Any) -> None:
    """Heads that all run on the same rows were not chosen, whatever else the forward asked of its data."""
    finding = found(verified(_four_heads(way)), "FZ201")[0]
    assert finding.tensors[-2:] == ("heads.3.weight", "heads.3.bias")


def test_a_forgotten_attribute_beside_its_like_is_found() -> None:
    """`conv1` and `conv2` are no experts because their names end in numbers."""

    def way(self, x):
        assert not x.isnan().any()
        return self.conv1(x)

    result = verified(Of(way, conv1=nn.Linear(3, 2), conv2=nn.Linear(3, 2)))
    assert found(result, "FZ201")[0].tensors == ("conv2.weight", "conv2.bias")
