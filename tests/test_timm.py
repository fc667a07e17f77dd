"""Models of timm at their own default sizes: a head-only spec is clean, with no input shape from anybody."""

from __future__ import annotations

import pytest
import torch

import freezecheck
from freezecheck.loading import load
from tests.probe.verified import loud, sgd

timm = pytest.importorskip("timm")

# One of each kind, each with the size it was trained for.
SIZES = {
    "resnet10t": (176, 176),
    "vit_tiny_patch16_224": (224, 224),
    "mobilenetv3_small_050": (224, 224),
    "tf_efficientnet_b0": (224, 224),
    "test_convnext": (160, 160),
    "mixer_s32_224": (224, 224),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_head_only_spec_is_clean_at_the_models_own_size(name: str) -> None:
    """`timm:NAME` finds its own size, and nothing worse than a note is found when its head alone trains."""
    torch.manual_seed(0)
    model = load(f"timm:{name}").model
    model.requires_grad_(False)
    model.get_classifier().requires_grad_(True)
    head = next(path for path, module in model.named_modules() if module is model.get_classifier())
    spec = freezecheck.Spec.parse(f"trainable = ['{head}']\neval = ['*', '!{head}']")
    result = freezecheck.verify(model, spec, optimizer=sgd(model))
    assert loud(result) == []
    said = result.report.case.conditions.inputs
    assert f"{list(SIZES[name])}"[1:-1] in said
    assert {row.name for row in result.report.case.facts if row.moved} == {f"{head}.weight", f"{head}.bias"}
