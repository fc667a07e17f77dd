"""FZ301 to FZ303: what moved and should not have, and what should have moved and did not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezecheck.records import Gradient, Membership, Plan, RowsSeen, Update, Write
from tests.rules.tables import SGD, buffer, frozen, hit, hits, leaking, line, row, table, trained

DECAYING = Membership(0, 0, 0.1, 0.01, 0.9)
CLIPPED = Write("mul_()", line(32, "w.mul_(0.99)", "train.py"))
STILL = {"moved": False}
ANEW = "optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], ...), after freezing"


class TestFrozenParameterMoved:
    """Expected frozen, its bytes changed; with the cause."""

    @pytest.mark.parametrize(
        "fact",
        [
            frozen("a"),
            frozen("a", moved=None),
            frozen("a", memberships=(DECAYING,)),
            trained("a"),
            row("teacher", "unchecked", moved=True),
            buffer("mean", moved=True),
        ],
    )
    def test_what_stayed_or_may_move_is_silent(self, fact):
        """Trainable, unchecked (a teacher), a buffer (FZ501), or not one byte changed."""
        assert hits("FZ301", table(fact)) == []

    @pytest.mark.parametrize(
        ("name", "shape", "writes", "spec", "told"),
        [
            ("teacher.0.weight", (4, 4), ("lerp_()",), False, False),
            ("encoder_k.0.weight", (4, 4), (".data =",), False, False),
            ("teacher.0.weight", (4, 4), ("mul_()", "add_()"), False, False),
            ("teacher.0.weight", (4, 4), ("lerp_()",), True, True),  # the spec says that it is frozen
            ("teacher.0.weight", (4, 4), ("mul_()",), False, True),  # it is given nothing of another
            ("teacher.0.weight", (2, 4), ("lerp_()",), False, True),  # another shape
            ("student.1.weight", (4, 4), ("lerp_()",), False, True),  # another layer of the same
            ("teacher.1.weight", (4, 4), ("lerp_()",), False, True),  # two parts of the name differ
        ],
    )
    def test_a_moving_average_follows_its_twin_where_only_flags_speak(self, name, shape, writes, spec, told):
        """A teacher beside its student, in one model."""
        written = tuple(Write(operation, line(9, "a.lerp_(b, 0.1)"), "loop") for operation in writes)
        fact = frozen(name, shape=shape, moved=True, writes=written)
        student = trained("student.0.weight", shape=(4, 4))
        plan = Plan({fact.name: fact.expected, student.name: student.expected}, from_spec=spec)
        assert bool(hits("FZ301", table(fact, student, plan=plan))) == told
        both = trained("student.0.weight", shape=(4, 4), writes=written)  # the line goes over all parameters
        assert hits("FZ301", table(fact, both, plan=plan)) != []

    @pytest.mark.parametrize(
        ("known", "cause", "why", "fix"),
        [
            (
                {"writes": (CLIPPED,), "memberships": (SGD,)},
                "write",
                "`mul_()` at train.py:32 (`w.mul_(0.99)`) writes to it in place during the forward",
                'take `w.mul_(0.99)` out, or let it write to a clone(); if it is meant to move, `unchecked = ["conv"]`',
            ),
            (
                {"had_gradient": True, "memberships": (DECAYING,)},
                "stale gradient",
                "its .grad still holds a tensor from before the freezing, and SGD (lr 0.1, momentum 0.9, weight decay "
                "0.01) moves whatever has a .grad, be it of zeros. It is moved on by weight decay 0.01",
                "model.conv.zero_grad(set_to_none=True), right after freezing",
            ),
            (
                {"gradient": Gradient.NONE, "memberships": (Membership(0, 0, 0.02),)},
                "step without gradient",
                "SGD (lr 0.02) moves it although its .grad is None",
                ANEW,
            ),
            (
                {"gradient": Gradient.NONE, "requires_grad": True, "memberships": (SGD,)},
                "step without gradient",
                "SGD (lr 0.1) moves it although its .grad is None",
                ANEW,
            ),
            (
                {"gradient": Gradient.NONZERO, "requires_grad": True, "memberships": (SGD,)},
                "trained",
                "it still requires grad and SGD (lr 0.1) steps it",
                ANEW,
            ),
            (
                {},
                "unknown",
                "no operation of torch was seen that wrote to it",
                "look for writes through .numpy(), a view or alias made before, a callback, or a custom kernel",
            ),
        ],
    )
    def test_the_message_names_the_cause(self, known, cause, why, fix):
        """How far it moved, and by what."""
        moved = frozen("conv.weight", **{"moved": True, "max_abs_change": 0.00192, **known})
        found = hit("FZ301", table(moved, trained("head.weight")))
        assert found.message == f"`conv.weight` is expected frozen, but moved by up to 0.00192 in 3 steps: {why}."
        assert found.fix == fix
        assert found.evidence["cause"] == cause
        assert (found.evidence["optimizers"] is None) is ("memberships" not in known)
        assert found.location == (CLIPPED.location if cause == "write" else None)

    @pytest.mark.parametrize(
        ("write", "fix"),
        [
            (
                Write("clamp_()", line(7, "p.data.clamp_(-c, c)"), "loop"),
                "skip what is frozen where `p.data.clamp_(-c, c)` runs, as by `if p.requires_grad`",
            ),
            (
                Write("copy_()", line(7, "model.stem.load_state_dict(best)"), "loop"),
                "take `model.stem.load_state_dict(best)` out, or have it load only what trains",
            ),
            (
                Write("embedding()", line(7, "x = self.emb(ids)")),
                "max_norm=None for what is frozen; renormalise its rows once, before freezing, if they are to be "
                "bounded",
            ),
        ],
    )
    def test_a_write_that_may_be_meant_stays(self, write, fix):
        """A clipping that a WGAN needs, a state that is loaded, a lookup that rescales: none is just taken out."""
        found = hit("FZ301", table(frozen("a", moved=True, writes=(write,)), trained("head.weight")))
        assert found.fix == f'{fix}; if it is meant to move, `unchecked = ["a"]`'
        assert ("by its max_norm" in found.message) is (write.operation == "embedding()")
        assert ("in the training loop" in found.message) is (write.phase == "loop")

    def test_rows_that_a_lookup_rescales_are_mended_at_the_embedding(self):
        """The lookup cannot be told to leave some rows alone."""
        rows = RowsSeen(4, ((0, 4),), moved=2, moved_spans=((1, 3),))
        lookup = Write("embedding()", line(7, "x = self.emb(ids)"))
        found = hit("FZ301", table(row("emb.weight", "unchecked", frozen_rows=rows, writes=(lookup,))))
        assert found.fix.startswith("max_norm=None for what is frozen")

    def test_an_optimizer_of_the_users_own_has_no_made_up_module(self):
        """Only what torch has is named as torch's."""
        fact = frozen("a", moved=True, gradient=Gradient.NONE, memberships=(SGD,))
        assert hit("FZ301", table(fact, optimizers=("Lionish",))).fix == (
            "optimizer = Lionish([p for p in model.parameters() if p.requires_grad], ...), after freezing"
        )

    def test_a_write_explains_nothing_about_the_optimizer(self):
        """A tensor that is written to and also sits in an optimizer has two mistakes; a stale gradient is one."""
        written = hit("FZ301", table(frozen("a", moved=True, writes=(CLIPPED,), memberships=(SGD,))))
        stale = hit("FZ301", table(frozen("a", moved=True, had_gradient=True, memberships=(SGD,))))
        assert (written.covers, stale.covers) == ((), None)

    def test_memory_that_was_handed_out_explains_only_what_nothing_else_does(self):
        """A hook that logs by numpy() reads: what an optimizer steps with a gradient is moved by that."""
        logged = Write("numpy()", line(3, "log(w.numpy())"), "step", opened=True)
        alone = hit("FZ301", table(frozen("a", moved=True, writes=(logged,))))
        stepped = hit("FZ301", table(frozen("a", moved=True, writes=(logged,), had_gradient=True, memberships=(SGD,))))
        both = (logged, CLIPPED)
        written = hit("FZ301", table(frozen("a", moved=True, writes=both, had_gradient=True, memberships=(SGD,))))
        assert [found.evidence["cause"] for found in (alone, stepped, written)] == ["write", "stale gradient", "write"]

    def test_tensors_are_grouped_by_their_cause(self):
        """One line that writes to two tensors is one finding."""
        facts = [frozen(name, moved=True, writes=(CLIPPED,)) for name in "ab"]
        found = hits("FZ301", table(*facts, frozen("c", moved=True)))
        assert [one.tensors for one in found] == [("a", "b"), ("c",)]
        assert "`a` and `b` are expected frozen, but moved in 3 steps" in found[0].message
        assert "writes to them in place" in found[0].message


class TestTrainableParameterDidNotMove:
    """Expected trainable, in an optimizer, with a gradient, and no byte changed."""

    @pytest.mark.parametrize(
        "fact",
        [
            trained("a"),
            trained("a", moved=None),
            trained("a", memberships=(), **STILL),
            trained("a", memberships=(Membership(0, 0, 0.0),), **STILL),
            trained("a", gradient=Gradient.ZERO, **STILL),
            trained("a", update=Update(1e-6, 0.0078), **STILL),
            leaking("a"),
        ],
    )
    def test_what_moved_or_has_a_better_explanation_is_silent(self, fact):
        """Not seen, in no optimizer, lr 0, zero gradient, below the dtype's resolution, or frozen."""
        assert hits("FZ302", table(fact)) == []

    @pytest.mark.parametrize(
        "beside",
        [
            trained("conv.weight", shape=(8, 3, 3, 3)),
            frozen("conv.weight", shape=(8, 3, 3, 3)),
        ],
    )
    def test_rounding_noise_is_silent(self, beside):
        """A bias before a BatchNorm, beside its layer's weight, or (BitFit) beside all that trains."""
        noise = trained("conv.bias", shape=(8,), gradient_max=1e-9, **STILL)
        assert hits("FZ302", table(noise, beside, trained("head.weight", shape=(2, 8)))) == []

    @pytest.mark.parametrize("keys", [("weight", "bias"), ("weight",), ("scale", "shift")])
    def test_a_layer_whose_gradients_are_all_small_is_no_noise(self, keys):
        """An optimizer that forgets a group is found, be its gradients a millionth of the others."""
        shapes = {"weight": (4, 3)}
        small = [
            trained(f"body.{key}", shape=shapes.get(key, (4,)), gradient_max=1e-7, update=Update(1e-3, 1e-8), **STILL)
            for key in keys
        ]
        found = hit("FZ302", table(*small, trained("head.weight", shape=(2, 8))))
        assert found.tensors == tuple(f"body.{key}" for key in keys)

    def test_the_message_lists_what_it_had(self):
        """Optimizer, learning rate and gradient, all there, and not one byte changed."""
        found = hit("FZ302", table(trained("a", **STILL), trained("b", update=Update(0.0, 1e-8), **STILL)))
        assert found.message == (
            "`a` and `b` are expected trainable, sit in SGD (lr 0.1) and get a gradient (up to 0.5), but not one byte "
            "changed in 3 steps."
        )
        assert found.fix == (
            "step() was called: look for what makes it do nothing (a gradient scaler, an accumulation count, gradients "
            "cleared before it), or puts the old values back after it"
        )

    def test_a_write_that_puts_the_values_back_is_named(self):
        """Something else writes to it: that line comes first."""
        back = Write("copy_()", line(5, "self.w.data.copy_(self.w0)"))
        found = hit("FZ302", table(trained("a", writes=(back,), **STILL)))
        assert found.message.endswith(
            "not one byte changed in 3 steps. `copy_()` at model.py:5 (`self.w.data.copy_(self.w0)`) writes to it as "
            "well."
        )
        assert found.location == back.location

    def test_a_step_that_the_forward_undoes_is_told_with_its_line(self):
        """It moves, and the next forward writes over it: one finding, which names that line and no other."""
        copied = Write("copy_()", line(7, "self.head.weight.data.copy_(self.embed.weight)"))
        clipped = Write("clamp_()", line(40, "p.data.clamp_(-1, 1)"), "step")
        assert hits("FZ302", table(trained("head.weight", writes=(copied, clipped)))) == []
        found = hit("FZ302", table(trained("head.weight", writes=(copied, clipped), undone=True)))
        assert found.message == (
            "`head.weight` is expected trainable and moves at every step of SGD (lr 0.1), but the next forward undoes "
            "it: `copy_()` at model.py:7 (`self.head.weight.data.copy_(self.embed.weight)`) writes to it, whatever the "
            "step made of it."
        )
        assert found.fix.startswith("take `self.head.weight.data.copy_(self.embed.weight)` out of the forward, or tie")
        assert found.location == copied.location


class TestUpdateBelowResolution:
    """It did not move because the update is smaller than the dtype resolves."""

    @pytest.mark.parametrize("update", [None, Update(0.0, 1.0), Update(0.5, 1.0), Update(1.0, 1.0)])
    def test_an_update_that_would_show_is_silent(self, update):
        """Unknown, none at all, or at least half the way to the next number."""
        assert hits("FZ303", table(trained("a", update=update, **STILL))) == []

    def test_a_norm_before_another_norm_is_silent(self):
        """All of its gradient is rounding noise against that of the model, and so is its update."""
        noise = trained("norm.weight", shape=(8,), gradient_max=1e-9, update=Update(1e-10, 1e-7), **STILL)
        assert hits("FZ303", table(noise, trained("head.weight", shape=(2, 8)))) == []

    def test_a_matrix_with_a_small_gradient_is_told(self):
        """What holds more than one number a channel is never taken away whole."""
        coarse = {"shape": (8, 8), "gradient_max": 1e-9, "update": Update(1e-10, 1e-7)}
        small = trained("body.weight", **coarse, **STILL)
        assert hit("FZ303", table(small, trained("head.weight", shape=(2, 8)))).tensors == ("body.weight",)

    def test_a_gradient_that_vanishes_beside_its_own_bias_is_silent(self):
        """Next to nothing comes in, which is no matter of the dtype; beside a bias with as little it is told."""
        weight = trained("head.weight", shape=(9, 8), gradient_max=1e-14, update=Update(1e-15, 7e-15), **STILL)
        assert hits("FZ303", table(weight, trained("head.bias", shape=(9,), gradient_max=1.0))) == []
        small = trained("head.bias", shape=(9,), gradient_max=1e-13)
        assert hit("FZ303", table(weight, small)).tensors == ("head.weight",)

    @pytest.mark.parametrize(
        ("code", "known"),
        [("FZ302", {"update": Update(0.1, 7e-15)}), ("FZ302", {"update": None}), ("FZ303", {"gradient_hook": True})],
    )
    def test_a_small_gradient_excuses_no_step_that_would_show(self, code, known):
        """Adam steps as far for a small one, and a hook that makes it small is a cause of its own."""
        fact = {"shape": (9, 8), "gradient_max": 1e-14, "update": Update(1e-15, 7e-15), **known}
        weight = trained("head.weight", **fact, **STILL)
        assert hits(code, table(weight, trained("head.bias", shape=(9,), gradient_max=1.0)))

    def test_a_gradient_that_was_zero_at_first_is_still_waking(self):
        """One of LoRA's factors gets next to nothing at first; a learning rate too small for float32 never moves it."""
        fine = {"shape": (8, 8), "gradient_max": 1e-9, "update": Update(1e-10, 1e-7), "woken": True}
        assert hits("FZ303", table(trained("lora_A", **fine, **STILL))) == []
        assert hits("FZ302", table(trained("lora_A", **fine, **STILL))) == []
        assert hit("FZ303", table(trained("lora_A", **{**fine, "woken": False}, **STILL))).tensors == ("lora_A",)
        tiny = {"memberships": (Membership(0, 0, 1e-12),)}
        assert hit("FZ303", table(trained("lora_A", **fine, **{**STILL, **tiny}))).tensors == ("lora_A",)

    def test_a_tensor_that_moved_is_silent(self):
        """Whatever the numbers say, it moved."""
        assert hits("FZ303", table(trained("a", update=Update(1e-9, 1.0)))) == []

    def test_the_message_gives_the_numbers(self):
        """Step, distance, optimizer, and the learning rate that would do."""
        adam = Membership(0, 0, 1e-4)
        still = trained("norm.weight", dtype="bfloat16", update=Update(1e-4, 0.0078125), memberships=(adam,), **STILL)
        found = hit("FZ303", table(still, optimizers=("AdamW",)))
        assert found.message == (
            "`norm.weight` is expected trainable and gets a gradient, but did not move in 3 steps: its step is "
            "0.0001, the next bfloat16 number is 0.00781 away, and less than half of that rounds to nothing. It sits "
            "in AdamW (lr 0.0001)."
        )
        assert found.fix == (
            "model.norm.float() before the optimizer is made, and compute under torch.autocast; or an optimizer that "
            "keeps float32 master weights or rounds stochastically (lr alone would have to be above 0.00391, 39.1 "
            "times what it is)"
        )

    def test_float32_has_no_finer_dtype_to_offer(self):
        """There the learning rate is what is too small; an optimizer without one is not given one."""
        known = {"update": Update(1e-13, 1e-7), **STILL}
        fixes = [
            hit("FZ303", table(trained("a", memberships=(Membership(0, 0, lr),), **known))).fix
            for lr in (1e-12, float("nan"))
        ]
        assert fixes == ["raise lr above 5e-07", "take an optimizer with a larger step"]

    def test_of_several_the_one_that_comes_nearest_is_told(self):
        """It bounds the others; dtypes are told apart."""
        far = trained("a", update=Update(1e-6, 0.1), **STILL)
        near = trained("b", update=Update(1e-6, 0.00001), **STILL)
        half = trained("c", dtype="float16", update=Update(1e-6, 0.1), **STILL)
        found = hits("FZ303", table(far, near, half))
        assert [one.tensors for one in found] == [("a", "b"), ("c",)]
        assert (
            "in `b`, which comes nearest, the step is 1e-06, the next float32 number is 1e-05 away" in found[0].message
        )

    @given(st.floats(0, 1, allow_subnormal=False), st.floats(1e-12, 1))
    def test_a_parameter_that_stayed_gets_one_explanation(self, size, resolution):
        """FZ302 and FZ303 never meet on one tensor, and one of them speaks."""
        case = table(trained("a", update=Update(size, resolution), **STILL))
        assert len(hits("FZ302", case)) + len(hits("FZ303", case)) == 1
