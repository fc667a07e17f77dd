"""Without a spec, the flags are the intent."""

from __future__ import annotations

import pytest

from freezecheck.records import Description, Expected, Tensor
from freezecheck.spec import Spec
from freezecheck.spec.match import match


def parameter(name: str, requires_grad: bool, *, differentiable: bool = True) -> Tensor:
    return Tensor(name, "parameter", requires_grad=requires_grad, differentiable=differentiable)


def buffer(name: str) -> Tensor:
    return Tensor(name, "buffer", requires_grad=False)


F, T, U = Expected.FROZEN, Expected.TRAINABLE, Expected.UNCHECKED


@pytest.mark.parametrize(
    ("tensors", "wanted"),
    [
        pytest.param((parameter("a.weight", True), parameter("b.weight", False)), (T, F), id="a parameter is its flag"),
        pytest.param((parameter("a.packed", False, differentiable=False),), (U,), id="an integer parameter has no say"),
        pytest.param((parameter("bn.weight", False), buffer("bn.mean")), (F, F), id="a frozen owner"),
        pytest.param((parameter("bn.weight", True), buffer("bn.mean")), (T, U), id="a training owner"),
        pytest.param(
            (parameter("bn.weight", False), parameter("bn.bias", True), buffer("bn.mean")),
            (F, T, U),
            id="a mixed owner",
        ),
        pytest.param(
            (parameter("a.bn.weight", True), parameter("a.conv.weight", False), buffer("a.bn.mean")),
            (T, F, U),
            id="the owner comes before what is above it",
        ),
        pytest.param(
            (parameter("a.conv.weight", False), parameter("b.weight", True), buffer("a.bn.mean")),
            (F, T, F),
            id="affine=False: the frozen subtree around it",
        ),
        pytest.param(
            (parameter("a.conv.weight", True), parameter("b.weight", False), buffer("a.bn.mean")),
            (T, F, U),
            id="affine=False: the training subtree around it",
        ),
        pytest.param(
            (buffer("a.mean"), parameter("a.inner.weight", False), parameter("b.weight", True)),
            (F, F, T),
            id="an owner without parameters of its own: its subtree",
        ),
        pytest.param((buffer("mean"),), (U,), id="a model without parameters"),
    ],
)
def test_intent(tensors: tuple[Tensor, ...], wanted: tuple[Expected, ...]) -> None:
    """Flags decide for parameters; a buffer follows the nearest parameters, its owner's own first."""
    plan = match(None, Description(tensors))
    assert tuple(plan.expected[tensor.name] for tensor in tensors) == wanted


def test_says_that_no_spec_stood_behind_it() -> None:
    """Rules that need a spec can tell."""
    assert match(None, Description(())).from_spec is False


@pytest.mark.parametrize("where", ["python", "toml"])
def test_a_spec_that_expects_nothing_leaves_the_flags_as_the_intent(where: str) -> None:
    """One that says `rest = "unchecked"` itself expects nothing on purpose, in Python as in a file."""
    described = Description((parameter("a.weight", True), parameter("b.weight", False)))
    silent, said = Spec.of(steps=2), Spec.of(rest="unchecked")
    if where == "toml":
        silent, said = Spec.parse("steps = 2"), Spec.parse('rest = "unchecked"')
    assert (match(silent, described).from_spec, dict(match(silent, described).expected)["a.weight"]) == (False, T)
    assert (match(said, described).from_spec, set(match(said, described).expected.values())) == (True, {U})
