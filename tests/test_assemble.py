"""The table of facts, joined from records made by hand."""

from __future__ import annotations

import pytest

from freezecheck.assemble import assemble, held_by
from freezecheck.records import (
    Cut,
    Description,
    Expected,
    Facts,
    Gradient,
    Layer,
    Location,
    Membership,
    Need,
    Observation,
    Plan,
    StrayFlag,
    Tensor,
)
from tests.handmade import model

CUT = Cut("no_grad", "runs under torch.no_grad()")
FROZEN, TRAINABLE = Expected.FROZEN, Expected.TRAINABLE
MEMBER = (Membership(0, 0, lr=0.1),)


def row(**known) -> Facts:
    """A parameter that requires grad, got a gradient and moved, but for what is given."""
    requires_grad = known.pop("requires_grad", True)
    said = {"gradient": Gradient.NONZERO, "moved": True, "memberships": MEMBER, "used": True, **known}
    return Facts(Tensor("fc.weight", "parameter", requires_grad=requires_grad), **said)


class TestHeldBy:
    """What keeps a parameter from training, the nearest to its flag first."""

    @pytest.mark.parametrize(
        ("known", "held"),
        [
            ({}, None),
            ({"gradient": None, "moved": None}, None),
            ({"requires_grad": False}, "requires_grad"),
            ({"requires_grad": False, "cuts": (CUT,)}, "requires_grad"),
            ({"gradient": Gradient.NONE, "moved": False, "cuts": (CUT,)}, "no_grad"),
            ({"gradient": Gradient.NONE, "moved": False, "cuts": (Cut("detach()", ""),)}, "detach"),
            ({"moved": False, "memberships": (Membership(0, 0, lr=0.0),)}, "lr 0"),
            ({"moved": False, "memberships": ()}, "no optimizer"),
            ({"moved": False}, "step"),
            ({"gradient": Gradient.NONE, "moved": False}, "no gradient"),
            ({"gradient": Gradient.NONE, "moved": False, "used": False}, "not used"),
            ({"gradient": Gradient.ZERO, "moved": False}, "zero gradient"),
            ({"gradient": Gradient.ZERO, "moved": False, "gradient_hook": True}, "gradient hook"),
        ],
    )
    def test_each_way(self, known, held) -> None:
        """Every mechanism has its word."""
        assert held_by(row(**known)) == held


class TestFacts:
    """One row per tensor."""

    def test_everything_that_was_seen_of_a_tensor_is_in_its_row(self) -> None:
        """Under its canonical name; what was not seen is None, not False."""
        place = Location("model.py", 3)
        seen = Observation(
            gradients={"a.weight": Gradient.ZERO},
            gradient_max={"a.weight": 0.0},
            moved={"a.weight": (False, 0.0)},
            used=frozenset({"a.weight"}),
            cuts={"a.weight": (CUT,)},
            memberships={"a.weight": MEMBER},
            gradient_hooks=frozenset({"a.weight"}),
            hooked_at={"a.weight": place},
            wasted=frozenset({"a.weight"}),
        )
        case = assemble(model("a.weight", "b.weight"), Plan({"a.weight": FROZEN}), seen)
        first, second = case.facts
        assert (first.expected, first.gradient, first.moved, first.used) == (FROZEN, Gradient.ZERO, False, True)
        assert (first.cuts, first.memberships, first.gradient_hook, first.hooked_at) == ((CUT,), MEMBER, True, place)
        assert first.wasted
        assert (second.expected, second.gradient, second.moved) == (Expected.UNCHECKED, None, None)
        assert second.used is False

    def test_without_a_probe_nothing_is_claimed(self) -> None:
        """Gradient, movement and use are unknown, and the rules that need them say so."""
        case = assemble(model("a.weight"), Plan({"a.weight": TRAINABLE}))
        (fact,) = case.facts
        assert (fact.gradient, fact.moved, fact.used) == (None, None, None)
        assert {Need.PROBE, Need.VALUES, Need.OPTIMIZER} <= set(case.missing)
        assert Need.SPEC not in case.missing

    def test_without_a_spec_that_is_what_is_missing(self) -> None:
        """The flags were the intent."""
        case = assemble(model("a.weight"), Plan({"a.weight": TRAINABLE}, from_spec=False), Observation())
        assert "requires_grad flags" in case.missing[Need.SPEC]


class TestLayers:
    """One row per layer, over its whole subtree."""

    def layers(self, *names, expected, **flags):
        described = model(*names)
        tensors = tuple(
            Tensor(t.name, t.kind, numel=2, requires_grad=flags.get(t.name.replace(".", "_"), True), aliases=t.aliases)
            for t in described.tensors
        )
        case = assemble(Description(tensors, described.layers), Plan(expected))
        return case.layer_of

    def test_a_layer_is_mixed_when_its_tensors_differ(self) -> None:
        """Expected and actual are each joined over all parameters below."""
        layers = self.layers(
            "a.fc.weight", "a.fc.bias", "b.weight",
            expected={"a.fc.weight": FROZEN, "a.fc.bias": FROZEN, "b.weight": TRAINABLE}, a_fc_weight=False,
        )  # fmt: skip
        assert (layers["a"].expected, layers["a"].actual) == ("frozen", "mixed")
        assert (layers["b"].expected, layers["b"].actual) == ("trainable", "trainable")
        assert (layers[""].expected, layers[""].actual) == ("mixed", "mixed")
        assert (layers[""].trainable, layers[""].frozen) == (4, 2)
        assert layers["a"].held_by == "requires_grad"

    def test_a_tied_tensor_counts_once_in_every_layer_that_has_it(self) -> None:
        """In both layers, and once above them."""
        layers = self.layers("a.weight=b.weight", expected={"a.weight": TRAINABLE})
        assert (layers["a"].trainable, layers["b"].trainable, layers[""].trainable) == (2, 2, 2)

    def test_buffers_are_no_parameters(self) -> None:
        """A layer with buffers only has no state."""
        layers = self.layers("~a.mean", expected={"a.mean": FROZEN})
        assert (layers["a"].expected, layers["a"].actual, layers["a"].frozen) == ("none", "none", 0)

    @pytest.mark.parametrize(("training", "seen", "movable"), [(True, {}, True), (True, {"bn": False}, False)])
    def test_statistics_move_in_train_mode_only(self, training, seen, movable) -> None:
        """The mode seen while training beats the one that was found."""
        layer = Layer("bn", "BatchNorm1d", training=training, statistics=("bn.mean",))
        described = Description((Tensor("bn.mean", "buffer"),), (Layer("", "Net"), layer))
        case = assemble(described, Plan({}), Observation(modes=seen))
        assert case.layer_of["bn"].movable_buffers == (("bn.mean",) if movable else ())


class TestStrays:
    """Stray flags count only where somebody meant something else than what is so."""

    def strays(self, value: str, expected: Expected, *, from_spec: bool = True, on: str = "module", files=()):
        stray = StrayFlag("a", on, "requires_grad", value, ("a.weight",))
        described = model("a.weight")
        described = Description(described.tensors, described.layers, (stray,))
        return assemble(described, Plan({"a.weight": expected}, from_spec=from_spec), files=files).strays

    def test_the_spec_says_that_all_is_well(self) -> None:
        """A module's own option of that name is none of our business."""
        assert not self.strays("False", TRAINABLE)

    def test_the_spec_meant_the_same(self) -> None:
        """Somebody tried to freeze what the spec wants frozen."""
        assert self.strays("False", FROZEN)
        assert self.strays("False", Expected.UNCHECKED)

    def test_without_a_spec_only_an_attempt_to_freeze_counts_on_a_module(self) -> None:
        """`module.requires_grad = True` misses nothing that the flags could tell."""
        assert self.strays("False", TRAINABLE, from_spec=False)
        assert not self.strays("True", FROZEN, from_spec=False)
        assert self.strays("True", FROZEN, from_spec=False, on="parameter")

    def test_the_assignment_is_found_in_the_source(self, tmp_path) -> None:
        """With its line and function; a file that does not parse is passed over."""
        (tmp_path / "broken.py").write_text("def (", encoding="utf-8")
        source = "class Net:\n    def freeze(self):\n        self.a.requires_grad = False\n"
        (tmp_path / "model.py").write_text(source, encoding="utf-8")
        files = (str(tmp_path / "broken.py"), str(tmp_path / "missing.py"), str(tmp_path / "model.py"))
        (stray,) = self.strays("False", FROZEN, files=files)
        assert stray.location is not None
        assert (stray.location.line, stray.location.function) == (3, "Net.freeze")
        assert stray.location.text == "self.a.requires_grad = False"
