"""`eval` selects modules and `buffers_may_move` buffers."""

from __future__ import annotations

import pytest
from handmade import model
from hypothesis import given
from hypothesis import strategies as st
from strategies import lists, models

from freezecheck.errors import SpecError
from freezecheck.records import Description
from freezecheck.spec import Spec
from freezecheck.spec.match import match

NET = model(
    "body.0.weight",
    "~body.0.running_mean",
    "body.1.weight",
    "~body.1.running_mean=tail.running_mean",
    "head.weight",
    items={"body": 2},
    types={"": "Net", "body.0": "BatchNorm2d", "body.1": "BatchNorm2d", "drop": "Dropout"},
)


def in_eval(*texts: str) -> tuple[str, ...]:
    """The modules that `eval` with these selectors names."""
    return match(Spec.of(eval=list(texts)), NET).eval_layers


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (("drop",), ("drop",)),
        (("body",), ("body",)),
        (("body", "body.0"), ("body",)),
        (("body[0:1]",), ("body.0",)),
        (("b*",), ("body",)),
        (("type:BatchNorm*",), ("body.0", "body.1")),
        (("type:Dropout",), ("drop",)),
        (("re:^h",), ("head",)),
        (("*",), ("",)),
        (("*", "!head"), ("body", "tail", "drop")),
        (("body", "!body[0]"), ("body.1",)),
    ],
)
def test_eval_selects_modules(texts: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """The fewest modules whose subtrees are what the selectors name, those without tensors included."""
    assert in_eval(*texts) == wanted


@given(st.data())
def test_eval_never_reaches_what_is_taken_away(data: st.DataObject) -> None:
    """Each module below the ones given was selected and not taken away, and no whole selected subtree is left out."""
    net = data.draw(models())
    plus, minus = data.draw(lists(net)), data.draw(lists(net))
    taken = [text for text in minus if not text.startswith("!")]
    added = [text for text in plus if not text.startswith("!")]
    try:
        wanted = below(match(Spec.of(eval=added), net).eval_layers, net)
        refused = below(match(Spec.of(eval=taken), net).eval_layers, net)
        plan = match(Spec.of(eval=[*added, *(f"!{text}" for text in taken)] if added else []), net)
    except SpecError:
        return
    left = wanted - refused
    whole = {path for path in left if below((path,), net) <= left}
    assert below(plan.eval_layers, net) == {path for start in whole for path in below((start,), net)}
    assert not any(
        one != other and other in below((one,), net) for one in plan.eval_layers for other in plan.eval_layers
    )


def below(paths: tuple[str, ...], net: Description) -> set[str]:
    """These modules and all under them, letter by letter."""
    names = [layer.name for layer in net.layers]
    return {name for name in names for path in paths if not path or name == path or name.startswith(f"{path}.")}


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["body"], {"body.0.running_mean", "body.1.running_mean"}),
        (["tail"], {"body.1.running_mean"}),
        (["*", "!body[1]", "!tail"], {"body.0.running_mean"}),
        (["type:BatchNorm2d"], {"body.0.running_mean", "body.1.running_mean"}),
    ],
)
def test_buffers_may_move(texts: list[str], wanted: set[str]) -> None:
    """Buffers only, by canonical name, under whichever name they were selected."""
    assert match(Spec.of(buffers_may_move=texts), NET).buffers_may_move == wanted
