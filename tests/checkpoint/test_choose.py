"""Which state dict is meant in what a training saved around it."""

from __future__ import annotations

import pytest

from freezecheck.checkpoint._choose import choose
from freezecheck.errors import UsageError

A, B = {"w": 1.0, "b": 2.0}, {"w": 3.0}


def chosen(tree, key=None):
    """Choose where floats stand for tensors."""
    return choose(tree, key, lambda leaf: isinstance(leaf, float), "run.ckpt")


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        (A, ""),
        ({"state_dict": A, "epoch": 3}, "state_dict"),
        ({"model": A, "optimizer": {"state": {0: {"exp_avg": 1.0}}, "param_groups": []}}, "model"),
        ({"model_state_dict": A, "ema": B, "best": {"score": 1.0}}, "model_state_dict"),
        ({"epoch": 2.0, "model": A}, "model"),
        ({"checkpoint": {"state_dict": A}}, "checkpoint.state_dict"),
        ({"model": {"state_dict": A, "ema": B}}, "model.state_dict"),
        ({**A, "_extra_state": {"x": 1.0}}, ""),
    ],
)
def test_the_one_that_is_meant_is_found(tree, key):
    """Common wrappings need no key; an optimizer and what stands beside the model are passed over."""
    found = chosen(tree)
    assert found.key == key
    assert set(A) <= set(found.tensors)


def test_a_state_dict_in_parts_is_joined():
    """Parts below a key that says what it is become one state dict with dotted names."""
    assert set(chosen({"model": {"encoder": A, "decoder": B}}).tensors) == {"encoder.w", "encoder.b", "decoder.w"}


def test_what_was_passed_over_is_told():
    """Other state dicts are named, so that nobody wonders which was taken."""
    assert chosen({"model": A, "ema": B}).others == ("ema",)


@pytest.mark.parametrize(
    ("key", "names"),
    [("ema", {"w"}), ("nets.g", {"w", "b"}), ("nets", {"g.w", "g.b", "d.w"}), ("with.dot", {"w"}), (".", None)],
)
def test_a_key_names_any_level(key, names):
    """Keys are paths; a key that holds a dot itself is found too, and `.` is the top."""
    found = chosen({"ema": B, "nets": {"g": A, "d": B}, "with.dot": B}, key)
    assert names is None or set(found.tensors) == names


TWO = {"s.w": 1.0, "t.w": 2.0}


@pytest.mark.parametrize(
    ("tree", "key", "prefix"),
    [
        (TWO, "s.", "s."),
        ({"model": TWO, "ema": TWO}, "s.", "s."),
        ({"model": {"module.s.w": 1.0, "module.t.w": 2.0}}, "s.", "s."),
        ({"model": A, "ema": TWO}, "ema.s.", "s."),
        ({"s": TWO, "t": TWO}, "s.", ""),
        ({"s": TWO, "t": TWO}, "s.t.", "t."),
        ({"model": {"model.w": 1.0, "other.w": 2.0}}, "model.", "model."),
    ],
)
def test_a_key_that_ends_in_a_dot_is_the_beginning_of_names(tree, key, prefix):
    """It may be led to by keys; the state dict is otherwise the one that is taken without a key."""
    assert chosen(tree, key).prefix == prefix


def test_a_beginning_that_no_name_has_leaves_the_choice_as_it_is():
    """It may be meant for the other file: the same state dict is taken as without it, or the one its keys lead to."""
    assert chosen({"model": A, "ema": B}, "s.").tensors == A
    assert chosen({"model": A, "ema": B}, "ema.s.").tensors == B
    with pytest.raises(UsageError, match="holds several state dicts"):
        chosen({"G": A, "D": B}, "s.")


@pytest.mark.parametrize("tree", [{"G": A, "D": B}, {"state_dict": A, "model": B}, {"x": 1.0, "G": A}])
def test_several_without_a_hint_are_listed(tree):
    """Where nothing tells which is meant, the keys are listed and `--key` is named."""
    with pytest.raises(UsageError, match="holds several state dicts: `") as caught:
        chosen(tree)
    assert "--key" in caught.value.hint


@pytest.mark.parametrize("key", ["emma", "ema.w", "optimizer"])
def test_a_key_that_leads_nowhere_lists_those_that_do(key):
    """A misspelled key, one that leads to a tensor and one that leads to an optimizer are refused."""
    tree = {"ema": A, "model": B, "optimizer": {"state": {}, "param_groups": []}}
    with pytest.raises(
        UsageError, match=f"no state dict under the key `{key}`; the keys that hold some are `ema`, `model`"
    ):
        chosen(tree, key)


@pytest.mark.parametrize(("tree", "told"), [(1.0, "one tensor"), ([1.0], "a list"), ({"epoch": 3}, "no tensors")])
def test_what_is_no_state_dict_is_said(tree, told):
    """A bare tensor, a list and a dict without tensors are no checkpoints."""
    with pytest.raises(UsageError, match=told):
        chosen(tree)
