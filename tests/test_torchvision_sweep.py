"""Every classification model of torchvision, right as it is and right with a frozen backbone, without an alarm."""

from __future__ import annotations

import tomllib

import pytest
import torch
import torchvision

import freezecheck
from freezecheck.probe.describe import describe
from freezecheck.spec.draft import draft
from tests.readme import freezecheck_command

# One of each kind: plain, depthwise with squeeze-and-excite, convolutional head, shuffled, several outputs, attention.
QUICK = ("resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "googlenet", "swin_t")
ALL = torchvision.models.list_models(module=torchvision.models)
# Models whose weights or auxiliary heads ask for one size; the rest take what is quick.
SIZES = {"inception_v3": 299, "maxvit_t": 224}
MODELS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow, id=name) for name in sorted(ALL, key=str.lower)
]
OWN_OPTIONS = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}


def build(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """Return a model with random weights and a batch for it."""
    torch.manual_seed(0)
    size = 224 if name.startswith("vit_") else SIZES.get(name, 64)
    model = torchvision.models.get_model(name, weights=None, **OWN_OPTIONS.get(name, {}))
    return model, torch.randn(2, 3, size, size)


def head_of(model: torch.nn.Module) -> str:
    """Return the path of the last layer that has parameters, which in every one of these models is the head."""
    return [name for name, _ in model.named_parameters()][-1].rpartition(".")[0]


def loud(result: freezecheck.Result) -> list[str]:
    return [f"{f.code} {f.message}" for f in result.findings if f.severity != "note"]


@pytest.mark.parametrize("name", MODELS)
def test_a_right_model_raises_no_alarm(name):
    """`report`, `verify` by the spec that `init` writes, and `verify` of a trained head find nothing to say."""
    model, batch = build(name)
    shown = freezecheck.report(model)
    assert loud(shown) == []
    total = sum(parameter.numel() for parameter in model.parameters())
    assert f"trainable params: {total:,} || all params: {total:,}" in str(shown)

    written = freezecheck.Spec.parse(draft(describe(model), f"torchvision:{name}"))
    assert loud(freezecheck.verify(model, written, inputs=batch)) == []

    head = head_of(model)
    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter_name.startswith(f"{head}."))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    spec = freezecheck.Spec.parse(f"trainable = ['{head}']\neval = ['*', '!{head}']\n")
    result = freezecheck.verify(model, spec, optimizer=optimizer, inputs=batch)
    assert loud(result) == []
    moved = {facts.name for facts in result.report.case.facts if facts.moved}
    trained = {parameter_name for parameter_name, p in model.named_parameters() if p.requires_grad}
    # With random weights in eval mode an EfficientNet lets next to nothing through, and its head's weight cannot move.
    assert moved == trained or (name.startswith("efficientnet") and moved == {f"{head}.bias"})

    frozen_as_it_is = freezecheck.Spec.parse(draft(describe(model.eval()), f"torchvision:{name}"))
    model.train()
    assert loud(freezecheck.report(model, frozen_as_it_is)) == []


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1"])
def test_the_commands_agree_on_a_named_model(name, tmp_path):
    """`report`, `init` and `verify` of the written spec run one after another on the command line, at its own size."""
    assert freezecheck_command("report", f"torchvision:{name}", folder=tmp_path).code == 0
    written = freezecheck_command("init", f"torchvision:{name}", "--output", "freezecheck.toml", folder=tmp_path)
    assert written.code == 0, written.err
    spec = tomllib.loads((tmp_path / "freezecheck.toml").read_text(encoding="utf-8"))
    assert spec["target"] == f"torchvision:{name}"
    ran = freezecheck_command("verify", folder=tmp_path)
    assert ran.code == 0, ran.out + ran.err


def test_the_sweep_can_fail():
    """An alarm is raised when the head is frozen as well."""
    model, batch = build("squeezenet1_1")
    model.requires_grad_(False)
    spec = freezecheck.Spec.parse(f"trainable = ['{head_of(model)}']\neval = ['*']\n")
    assert loud(freezecheck.verify(model, spec, inputs=batch)) != []
