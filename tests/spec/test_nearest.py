"""What is offered for a selector that selects nothing."""

from __future__ import annotations

import pytest
from handmade import model
from hypothesis import given
from hypothesis import strategies as st
from strategies import lists, models

from freezecheck.errors import SpecError
from freezecheck.records import Unmatched
from freezecheck.spec import Spec
from freezecheck.spec.match import match

NET = model(
    "backbone.blocks.0.conv.weight",
    "backbone.blocks.0.bn1.weight",
    "~backbone.blocks.0.bn1.running_mean",
    "backbone.blocks.1.conv.weight",
    "Head.fc.weight",
    items={"backbone.blocks": 2},
    types={"backbone.blocks.0.bn1": "BatchNorm2d", "backbone.relu": "ReLU"},
)


def unmatched(text: str, key: str = "trainable") -> Unmatched:
    """What is said of one selector."""
    spec = Spec.of(**{key: ["*", text] if text.startswith("!") else [text]})  # type: ignore[misc]  # a key by name
    (found,) = match(spec, NET).unmatched
    return found


@pytest.mark.parametrize(
    ("text", "key", "first"),
    [
        ("backbon", "frozen", "backbone"),
        ("!backbon", "frozen", "!backbone"),
        ("backbone.block", "frozen", "backbone.blocks"),
        ("backbone.blocks.0.cnv.weight", "frozen", "backbone.blocks.0.conv.weight"),
        ("backbon.*", "frozen", "backbone.*"),
        ("backbone.block[0]", "frozen", "backbone.blocks[0]"),
        ("blocks.0", "frozen", "backbone.blocks.0"),
        ("model.Head.fc", "frozen", "Head.fc"),
        ("*.bm1", "frozen", "*.bn1"),
        ("backbone.blocks.0.*.bn1", "frozen", "backbone.blocks.0.bn1"),
        ("type:BatchNorm", "frozen", "type:BatchNorm*"),
        ("type:BatchNorm1d", "frozen", "type:BatchNorm2d"),
        ("backbone.rel", "eval", "backbone.relu"),
    ],
)
def test_nearest(text: str, key: str, first: str) -> None:
    """The best offer can be written in the selector's place as it stands."""
    assert unmatched(text, key).nearest[0] == first


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("head", "frozen", "Selectors are case-sensitive, and the model has `Head`."),
        ("type:batchnorm2d", "frozen", "Selectors are case-sensitive, and the model has `BatchNorm2d`."),
        ("re:BACK", "frozen", "Selectors are case-sensitive, and the model has `backbone`."),
        ("module.backbone", "frozen", "The prefix of a wrapper is stripped from every name: write `backbone`."),
        ("backbone.relu", "frozen", "`backbone.relu` is a ReLU and has no parameters and no buffers."),
        ("backbone.blocks.2", "frozen", "`backbone.blocks` has 2 items, [0] to [1]."),
        ("Head.fc.weight", "eval", "`Head.fc.weight` is a tensor; `eval` takes modules."),
        ("Head", "buffers_may_move", "It selects 1 parameter and no buffer."),
        ("zzz", "frozen", ""),
    ],
)
def test_hint(text: str, key: str, hint: str) -> None:
    """The reason is said where it is more than a misspelling."""
    assert unmatched(text, key).hint == hint


@given(st.data())
def test_offers_select_something(data: st.DataObject) -> None:
    """Every offer for a tensor list, selects something (or is a module without tensors)."""
    net = data.draw(models())
    bare = {layer.name for layer in net.layers}
    try:
        found = match(Spec.of(frozen=data.draw(lists(net))), net).unmatched
    except SpecError:
        return
    for offer in (offer.removeprefix("!") for one in found for offer in one.nearest):
        assert offer in bare or not match(Spec.of(frozen=[offer]), net).unmatched
