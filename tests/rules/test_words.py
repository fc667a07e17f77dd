"""How messages name things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezecheck.records import Expected, Membership
from freezecheck.rules._words import (
    ancestors,
    code,
    cover,
    exact_parts,
    largest,
    listing,
    memberships,
    set_flag,
    span,
    spec_line,
    tensors,
)
from tests.rules.tables import buffer, frozen, table, trained

BACKBONE = [f"backbone.{layer}.{kind}" for layer in ("conv1", "bn1") for kind in ("weight", "bias")]
NAMES = st.lists(
    st.lists(st.sampled_from(["a", "b", "0", "weight"]), min_size=1, max_size=4).map(".".join), max_size=8
).map(lambda drawn: list(dict.fromkeys(drawn)))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["fc.bias"], "`fc.bias`"),
        (["fc.weight", "fc.bias"], "`fc.weight` and `fc.bias`"),
        (["a.weight", "b.weight", "c.weight"], "`a.weight`, `b.weight` and `c.weight`"),
        (BACKBONE, "4 parameters of `backbone` (backbone.conv1.weight … backbone.bn1.bias)"),
        (
            ["neck.weight", "neck.bias", "head.weight", "head.bias"],
            "4 parameters of `neck` and `head` (neck.weight … head.bias)",
        ),
        (["a.w", "b.w", "c.w", "d.w"], "4 parameters (a.w … d.w)"),
        (["scale", "a.w", "b.w", "c.w"], "4 parameters (scale … c.w)"),
        ([f"layer.{i}.w" for i in range(1200)], "1,200 parameters of `layer` (layer.0.w … layer.1199.w)"),
    ],
)
def test_tensors_are_named_as_people_read_them(names, said):
    """A few in full, many by their common layer and the first and last name."""
    assert str(tensors(names)) == said
    assert tensors(names).one is (len(names) == 1)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "model"),
        ("fc", "model.fc"),
        ("blocks.0.fc1.weight", "model.blocks[0].fc1.weight"),
        ("heads.my-task", 'model.heads["my-task"]'),
    ],
)
def test_a_path_becomes_python(path, said):
    """What is offered as a line of code can be pasted."""
    assert code(path) == said


def test_values_are_told_once_when_they_agree():
    """A span of one value is that value."""
    assert [span([0.1]), span([0.1, 0.1]), span([0.001, 0.1, 0.01])] == ["0.1", "0.1", "0.001 to 0.1"]
    assert [largest([]), largest([None, 0.5, float("inf")])] == [None, 0.5]
    assert listing("abcde") == "`a`, `b`, `c` and 2 more"
    assert spec_line("eval", ["backbone", ""]) == 'eval = ["backbone", "*"]'


def test_optimizers_are_told_with_what_moves_a_tensor():
    """Momentum and weight decay are named where there are any; several optimizers one after the other."""
    rows = [
        frozen("a", memberships=(Membership(0, 0, 0.1, 0.01, 0.9),)),
        frozen("b", memberships=(Membership(1, 1, 0.001), Membership(0, 2, 0.2))),
    ]
    case = table(*rows, optimizers=("SGD", "Adam"))
    assert (
        memberships(case, rows) == "SGD (lr 0.1 to 0.2, momentum 0 to 0.9, weight decay 0 to 0.01) and Adam (lr 0.001)"
    )
    assert memberships(table(*rows, optimizers=()), rows[:1]).startswith("the optimizer (lr 0.1")


class TestParts:
    """Fixes name the outermost layer that is right to name."""

    ROWS = (
        frozen("backbone.conv.weight"),
        frozen("backbone.bn.weight"),
        buffer("head.mean"),
        trained("head.weight"),
        trained("head.bias"),
    )

    def test_a_layer_of_one_expectation_is_named_as_a_whole(self):
        """Freezing one tensor of a layer that is to be frozen is written for the layer; buffers do not count."""
        case = table(*self.ROWS)
        assert set_flag(case, ["backbone.bn.weight"], False) == "model.backbone.requires_grad_(False)"
        assert set_flag(case, ["head.bias"], True) == "model.head.requires_grad_(True)"

    def test_a_layer_that_is_to_do_both_is_not_named(self):
        """Where a sibling is to train, the tensor is named alone."""
        rows = (frozen("block.weight"), trained("block.bias"))
        assert set_flag(table(*rows), ["block.weight"], False) == "model.block.weight.requires_grad_(False)"

    def test_what_a_cause_took_out_of_the_table_is_not_forgotten(self):
        """Rows that another finding covers are gone; the plan still says that the layer is not all frozen."""
        case = table(frozen("block.weight"), trained("block.bias"))
        assert exact_parts(case.without(["block.bias"]), ["block.weight"]) == ("block.weight",)
        assert set_flag(case.without(["block.bias"]), ["block.weight"], False) == (
            "model.block.weight.requires_grad_(False)"
        )

    def test_many_parts_are_left_to_apply(self):
        """Ten lines of code are no fix; the spec already says it all."""
        rows = [frozen(f"{n}.w") for n in "abcde"] + [trained(f"{n}.v") for n in "abcde"]
        fix = set_flag(table(*rows), [f"{n}.w" for n in "abcde"], False)
        assert fix == "freezecheck.apply(model, spec)  # sets every flag as the spec says"

    @given(NAMES, NAMES)
    def test_a_cover_holds_all_names_and_no_other(self, names, others):
        """Every name lies in a part, and no part that is a layer holds one of the others."""
        others = [other for other in others if other not in names]
        parts = cover(names, others)
        below = {name: {*ancestors(name), name} for name in [*names, *others]}
        assert all(below[name] & {*parts} for name in names)
        assert not any(set(ancestors(other)) & ({*parts} - {*names}) for other in others)

    def test_the_whole_model_is_a_part(self):
        """When nothing else is expected of anything, the model itself is named."""
        case = table(frozen("a.w"), frozen("b.w"))
        assert set_flag(case, ["a.w"], False) == "model.requires_grad_(False)"
        assert case.plan.expected["a.w"] is Expected.FROZEN
