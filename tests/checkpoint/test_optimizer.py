"""Whether a saved optimizer fits the parameters that it will be loaded onto."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from freezecheck.checkpoint._optimizer import Saved, misfits, saved_optimizers

EVERY = [("a.weight", (4, 4)), ("a.bias", (4,)), ("b.weight", (4, 4)), ("b.bias", (4,)), ("fc.weight", (2, 4))]
A, B, FC = EVERY[:2], EVERY[2:4], EVERY[4:]


def saved(parameters, groups=None):
    """An optimizer's state over these parameters."""
    return Saved("optimizer", groups or (len(parameters),), tuple(shape for _, shape in parameters))


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD], ids=["AdamW", "SGD with momentum"])
def test_a_real_optimizers_state_is_found(make):
    """What torch saves gives its groups and the shapes of its momentum, wherever it stands."""
    model = nn.Linear(3, 2)
    optimizer = make(model.parameters(), lr=0.1, **({"momentum": 0.9} if make is torch.optim.SGD else {}))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tree = {"epoch": 1, "optimizer_states": [optimizer.state_dict()]}
    shape_of = lambda value: tuple(value.shape) if isinstance(value, torch.Tensor) else None  # noqa: E731 - a test's own
    assert list(saved_optimizers(tree, shape_of)) == [Saved("optimizer_states.0", (2,), ((2, 3), (2,)))]


@pytest.mark.parametrize(
    ("state", "trainable", "moved"),
    [
        (saved(A), A, None),
        (saved(A), A, A),
        (saved(EVERY), A, A),
        (saved(A), None, A),
        (Saved("optimizer", (2,), (None, None)), A, None),
        (saved([*B, *A][::-1], groups=(2, 2)), [*A, *B], None),
    ],
    ids=["trainable", "and moved", "all", "no spec", "no state yet", "groups in another order"],
)
def test_what_fits_is_silent(state, trainable, moved):
    """An optimizer over what trains, over all parameters, or in groups of its own has nothing to be said of it."""
    assert misfits(state, EVERY, trainable, moved, ordered=True) == []


def test_another_number_is_refused_by_torch_and_said():
    """Stage one's head against stage two's layers."""
    (told,) = misfits(saved(FC), EVERY, [*B, *FC], None, ordered=True)
    assert told == (
        "the optimizer state `optimizer` holds 1 parameters, and the spec trains 3 of 5: load_state_dict will "
        "refuse it for an optimizer over either"
    )


def test_as_many_of_other_shapes_are_loaded_without_a_word_and_said():
    """The counts agree, so torch loads it; the first position that does not fit is named."""
    (told,) = misfits(saved(A), EVERY, [B[0], FC[0]], None, ordered=True)
    assert "its state at position 1 has the shape 4, and the parameter there is fc.weight, 2×4" in told
    assert "load_state_dict compares only the counts" in told


def test_the_same_shapes_of_another_layer_are_told_by_what_moved():
    """The silent one: all shapes fit, but the optimizer moved another layer than the spec trains."""
    (told,) = misfits(saved(A), EVERY, B, A, ordered=True)
    assert told == (
        "the optimizer state `optimizer` moved a.weight and will be loaded onto b.weight (and 1 more like it): the "
        "shapes are the same, so load_state_dict will do it without a word"
    )


def test_shapes_are_counted_where_the_order_is_unknown():
    """In several groups positions mean nothing, but a shape that is there too often does."""
    (told,) = misfits(saved([A[0], B[0]], groups=(1, 1)), EVERY, [A[0], FC[0]], None, ordered=True)
    assert "more of its states have the shape 4×4 than parameters" in told


def test_names_settle_it():
    """An optimizer built with named_parameters is compared by name."""
    state = Saved("optimizer", (2,), ((4, 4), (9,)), ("a.weight", "a.bias"))
    told = misfits(state, EVERY, B, None, ordered=True)
    assert told == [
        "the optimizer state `optimizer` holds state of another shape than the parameter's for a.bias",
        "the optimizer state `optimizer` holds nothing for b.weight, b.bias, which the spec trains",
    ]


def test_factored_moments_say_nothing_of_the_shape():
    """Adafactor keeps a row and a column instead of a table; neither is the parameter's shape."""
    state = {0: {"exp_avg_sq_row": (4,), "exp_avg_sq_col": (4,), "step": None}}
    tree = {"state": state, "param_groups": [{"params": [0]}]}
    (found,) = saved_optimizers(tree, lambda value: value if isinstance(value, tuple) else None)
    assert found.shapes == (None,)
