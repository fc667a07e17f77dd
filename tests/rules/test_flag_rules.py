"""FZ101, FZ102 and FZ106 to FZ108: the flags, and what becomes of a parameter whose flag is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezecheck.records import Cut, Expected, Gradient, Location, Membership, Need
from freezecheck.rules._frozen import fate
from tests.rules.tables import SGD, buffer, frozen, hit, hits, layer, leaking, line, row, table, trained

STILL = Membership(0, 1, lr=0.0)
NO_GRAD = Cut("no_grad", "linear() runs under torch.no_grad()", line(12, "f = self.backbone(x)"), None, line(11))
ROUND = Cut("round()", "the derivative of round() is zero everywhere", line(9, "x = x.round()"))
NO_OPTIMIZER = {Need.OPTIMIZER: "no optimizer was given"}
HELD = {
    "no_grad around it": {"gradient": Gradient.NONE, "cuts": (NO_GRAD,)},
    "never used": {"gradient": Gradient.NONE, "used": False},
    "learning rate 0": {"memberships": (STILL,)},
    "a hook that leaves zeros": {"gradient": Gradient.ZERO, "gradient_hook": True, "memberships": (SGD,)},
}


class TestFrozenRequiresGrad:
    """Expected frozen, but requires grad, gets a gradient and an optimizer would move it."""

    @pytest.mark.parametrize("why", HELD)
    def test_a_parameter_that_something_holds_is_silent(self, why):
        """It does not train: FZ107 notes what holds it."""
        assert hits("FZ101", table(leaking("a", **HELD[why]))) == []

    @pytest.mark.parametrize(
        "fact",
        [
            frozen("a"),
            frozen("a", memberships=(SGD,)),
            trained("a"),
            row("a", "unchecked", gradient=Gradient.NONZERO, memberships=(SGD,)),
            leaking("a"),
            buffer("a", moved=True),
        ],
    )
    def test_what_is_right_or_another_rules_is_silent(self, fact):
        """Frozen by its flag, trainable, unchecked, in no optimizer (FZ108), or a buffer."""
        assert hits("FZ101", table(fact)) == []

    def test_the_message_says_who_moved_it_and_how_far(self):
        """Flag, gradient, optimizer and distance, and one line that freezes the layer."""
        facts = [
            leaking(f"backbone.conv1.{kind}", memberships=(SGD,), moved=True, max_abs_change=0.25)
            for kind in ("weight", "bias")
        ]
        found = hit("FZ101", table(*facts, trained("head.weight")))
        assert found.message == (
            "`backbone.conv1.weight` and `backbone.conv1.bias` are expected frozen, but require grad, get a gradient, "
            "and SGD (lr 0.1) moved them by up to 0.25 in 3 steps."
        )
        assert found.fix == "model.backbone.requires_grad_(False)"
        assert found.tensors == ("backbone.conv1.weight", "backbone.conv1.bias")
        assert found.evidence == {"gradient_max": 0.5, "max_abs_change": 0.25, "optimizers": "SGD (lr 0.1)"}

    def test_without_values_it_would_move(self):
        """On the meta device nothing moves, and the finding does not claim that it did."""
        found = hit("FZ101", table(leaking("fc.weight", memberships=(SGD,), moved=None), steps=1))
        assert found.message == (
            "`fc.weight` is expected frozen, but requires grad, gets a gradient, and SGD (lr 0.1) would move it."
        )

    def test_without_an_optimizer_of_the_users_the_default_counts(self):
        """An optimizer over all that requires grad would move it, whichever the user takes."""
        case = table(leaking("fc.weight"), missing=NO_OPTIMIZER, optimizers=())
        assert hit("FZ101", case).message == (
            "`fc.weight` is expected frozen, but requires grad, gets a gradient, and an optimizer over all that "
            "requires grad would move it."
        )

    def test_who_only_called_eval_is_told_that_it_freezes_nothing(self):
        """A teacher in eval mode; one whose model as a whole is, or whose BatchNorm alone, is not told so."""
        facts = [leaking(f"teacher.{part}.weight", memberships=(SGD,), moved=True) for part in ("fc", "bn")]
        root, around = layer("", "Net", "mixed"), layer("teacher", "Net")
        fc, bn = (layer(f"teacher.{part}", "Module", training=False) for part in ("fc", "bn"))
        said = " `teacher` was put in eval mode, but eval() freezes no parameter."
        told = [
            hit("FZ101", table(*facts, layers=layers)).message.endswith(said)
            for layers in (
                (root, around, fc, bn),
                (root, around, replace(fc, training=True), bn),
                (layer("", "Net", "mixed", training=False, found=False), around, fc, bn),
                (),
            )
        ]
        assert told == [True, False, False, False]

    def test_a_zero_gradient_does_not_hold_it(self):
        """Zeros by chance are no freezing: weight decay, or the next batch, moves it."""
        unwatched = {Need.TRAINING: ""}
        assert hits("FZ101", table(leaking("a", gradient=Gradient.ZERO, memberships=(SGD,)), missing=unwatched))

    def test_a_loop_that_zeroes_it_before_every_step_holds_it(self):
        """Where the real training was watched and it stood still, its zeros are the loop's own."""
        zeroed = table(leaking("a", gradient=Gradient.ZERO, memberships=(SGD,), moved=False))
        assert not hits("FZ101", zeroed)
        assert hits("FZ107", zeroed)

    def test_a_hook_that_did_not_stop_the_decay_does_not_hold_it(self):
        """A silenced gradient and a moved tensor: the optimizer moved it all the same."""
        silenced = leaking("a", gradient=Gradient.ZERO, gradient_hook=True, memberships=(SGD,), moved=True)
        assert hits("FZ101", table(silenced))


class TestTrainableRequiresNoGrad:
    """Expected trainable, `requires_grad` is False."""

    @pytest.mark.parametrize(
        "fact",
        [
            trained("a"),
            frozen("a"),
            row("a", "unchecked", requires_grad=False),
            row("a", "trainable", requires_grad=False, differentiable=False, dtype="int8"),
            row("a", "trainable", "buffer", requires_grad=False),
        ],
    )
    def test_what_cannot_or_need_not_require_grad_is_silent(self, fact):
        """Right, frozen, unchecked, quantised, or a buffer."""
        assert hits("FZ102", table(fact)) == []

    def test_the_message_says_what_follows(self):
        """No gradient, no optimizer moves it, and the line that unfreezes the layer."""
        held = [trained(f"neck.{kind}", requires_grad=False) for kind in ("weight", "bias")]
        found = hit("FZ102", table(frozen("backbone.weight"), *held))
        assert found.message == (
            "`neck.weight` and `neck.bias` are expected trainable, but requires_grad is False: they get no gradient "
            "and no optimizer moves them."
        )
        assert found.fix == "model.neck.requires_grad_(True)"

    def test_the_lines_that_set_the_flags_are_told_where_all_are_known(self):
        """A few of them; the finding stands at the first."""
        lines = [Location("model.py", n, None, f"p{n}.requires_grad = False") for n in range(1, 6)]
        held = [trained(f"neck.{n}", requires_grad=False, flag_line=line) for n, line in enumerate(lines)]
        two = hit("FZ102", table(frozen("backbone.weight"), *held[:2]))
        assert "is False since model.py:1 (`p1.requires_grad = False`), model.py:2 (`p2.requires" in two.message
        assert two.location == lines[0]
        every = hit("FZ102", table(frozen("backbone.weight"), *held)).message
        assert "model.py:3 (`p3.requires_grad = False`) and 2 more lines: they get" in every
        part = hit("FZ102", table(frozen("backbone.weight"), *held, trained("neck.b", requires_grad=False)))
        assert "requires_grad is False: they" in part.message

    def test_that_it_is_in_no_optimizer_either_is_said(self):
        """Setting the flag alone would not train it."""
        held = trained("neck.scale", requires_grad=False, memberships=())
        found = hit("FZ102", table(frozen("backbone.weight"), held))
        assert found.message == (
            "`neck.scale` is expected trainable, but requires_grad is False: it gets no gradient and no optimizer "
            "moves it. It is in no optimizer either."
        )
        assert found.fix == "model.neck.requires_grad_(True), before the optimizer is made"
        assert "either" not in hit("FZ102", table(held, missing=NO_OPTIMIZER)).message


class TestFrozenByPeft:
    """FZ102 in a model that PEFT wraps, which saves only its adapters and `modules_to_save`."""

    CLASSIFIER = tuple(
        row(f"base_model.model.classifier.{kind}", "trainable", requires_grad=False) for kind in ("weight", "bias")
    )
    ENCODER = frozen("base_model.model.encoder.weight")

    @staticmethod
    def wrapped(*facts, **more):
        """Rows of a LoRA model; `more` are further layers by path, with their bases."""
        bases = {"": "PeftModel", "base_model": "BaseTuner", "base_model.model": "Module", **more}
        layers = [layer(path, "LoraModel" if path else "PeftModel", "mixed") for path in bases]
        known = [replace(one, layer=replace(one.layer, bases=(bases[one.name],))) for one in layers]
        return table(*facts, layers=tuple(known))

    def test_the_original_of_a_trained_copy_is_silent(self):
        """Under modules_to_save PEFT trains a copy, and keeps the layer that it stands in for."""
        path = "base_model.model.classifier"
        case = self.wrapped(
            row(f"{path}.original_module.weight", "trainable", requires_grad=False),
            trained(f"{path}.modules_to_save.default.weight"),
            **{path: "AuxiliaryTrainingWrapper"},
        )
        assert hits("FZ102", case) == []

    def test_a_new_head_belongs_to_modules_to_save(self):
        """Its flag would make it train, and be lost when the adapter is saved."""
        assert hit("FZ102", self.wrapped(*self.CLASSIFIER, self.ENCODER)).fix == (
            'modules_to_save=["classifier"] in LoraConfig: set by its flag alone, each would train, but '
            "save_pretrained would leave it out"
        )

    def test_an_adapter_that_was_loaded_for_inference_needs_its_flag(self):
        """What PEFT made itself it also saves; the two are told apart."""
        query = "base_model.model.encoder.query"
        factor = row(f"{query}.lora_A.default.weight", "trainable", requires_grad=False)
        more = {query: "Module", f"{query}.base_layer": "Module"}
        head, adapter = hits("FZ102", self.wrapped(*self.CLASSIFIER, self.ENCODER, factor, **more))
        assert head.fix.startswith("modules_to_save")
        assert adapter.fix == f"model.{query}.requires_grad_(True), before the optimizer is made"

    def test_what_modules_to_save_cannot_name_is_told(self):
        """A tensor that the wrapped model itself owns, and a model that is none of PEFT's."""
        token = row("base_model.model.token", "trainable", requires_grad=False)
        assert hit("FZ102", self.wrapped(token, self.ENCODER)).fix == (
            "model.base_model.model.token.requires_grad_(True), and save what trained yourself: PEFT's "
            "save_pretrained leaves it out"
        )
        assert hit("FZ102", table(*self.CLASSIFIER, self.ENCODER)).fix.startswith("model.base_model.model.classifier.r")


class TestRequiresGradFlipped:
    """A flag changed between set-up and the optimizer step."""

    def test_flags_that_stayed_and_unchecked_ones_are_silent(self):
        """Nothing is expected of an unchecked tensor, so its flag may change."""
        unchecked = row("teacher.weight", "unchecked", flipped=line(4))
        assert hits("FZ106", table(frozen("a"), trained("b"), unchecked)) == []

    def test_the_message_names_the_line(self):
        """Where it happened, and what is expected."""
        at = line(31, "model.requires_grad_(True)", "train.py")
        found = hit("FZ106", table(leaking("backbone.weight", flipped=at)))
        assert found.message == (
            "The requires_grad of `backbone.weight` was set to True between set-up and the optimizer step at "
            "train.py:31 (`model.requires_grad_(True)`). It is expected frozen."
        )
        assert found.fix == "take that line out, keep `model` out of it, or set the flags back to False after it"
        assert found.location == at


class TestFrozenByOtherMeans:
    """Expected frozen and `requires_grad` is True, but held by something else, which it names."""

    @pytest.mark.parametrize(
        "fact",
        [
            frozen("a"),
            trained("a"),
            leaking("a", memberships=(SGD,)),
            leaking("a"),
            leaking("a", gradient=Gradient.NONE, memberships=(SGD,), moved=True),
            leaking("a", gradient=None),
        ],
    )
    def test_what_is_right_or_not_held_is_silent(self, fact):
        """Frozen by its flag, trainable, trained (FZ101), in no optimizer (FZ108), moved (FZ301), or never probed."""
        assert hits("FZ107", table(fact)) == []

    @pytest.mark.parametrize(
        ("known", "why"),
        [
            (
                HELD["no_grad around it"],
                "the gradient is cut by `no_grad` at model.py:12 (`f = self.backbone(x)`): linear() runs under "
                "torch.no_grad(), in the block that begins at model.py:11",
            ),
            (HELD["never used"], "the forward never used it in 3 steps"),
            ({"gradient": Gradient.NONE}, "no gradient reached it in 3 steps"),
            (HELD["learning rate 0"], "the learning rate was 0 in all 3 steps in SGD (lr 0)"),
            (HELD["a hook that leaves zeros"], "a hook left only zeros of its gradient in all 3 steps"),
            (
                {"gradient": Gradient.ZERO, "cuts": (ROUND,), "memberships": (SGD,)},
                "the gradient is made zero by `round()` at model.py:9 (`x = x.round()`): the derivative of round() is "
                "zero everywhere",
            ),
        ],
    )
    def test_the_message_names_what_holds_it(self, known, why):
        """Whatever holds it is told, with its line where it has one."""
        found = hit("FZ107", table(leaking("backbone.weight", **known), trained("head.weight")))
        assert found.message == (
            f"`backbone.weight` is expected frozen, but still requires grad. What holds it is that {why}."
        )
        assert found.fix == "model.backbone.requires_grad_(False)"
        assert found.location == (known["cuts"][0].location if "cuts" in known else None)

    def test_parameters_held_by_the_same_thing_are_one_note(self):
        """Sixty tensors under one no_grad are one note, and those under another are another."""
        facts = [leaking(f"a.{i}", **HELD["no_grad around it"]) for i in range(60)]
        notes = hits("FZ107", table(*facts, leaking("b", **HELD["never used"])))
        assert [len(note.tensors) for note in notes] == [60, 1]


class TestGradientWithoutOptimizer:
    """Expected frozen, held only by being in no optimizer."""

    def test_what_gets_no_gradient_is_silent(self):
        """Without a gradient nothing is computed or clipped."""
        assert hits("FZ108", table(frozen("a"), leaking("b", gradient=Gradient.NONE), trained("c"))) == []

    def test_the_message_says_what_it_costs(self):
        """Gradients kept, never cleared, and counted by clipping."""
        found = hit("FZ108", table(leaking("backbone.weight"), leaking("backbone.bias", gradient_max=2.0)))
        assert found.message == (
            "`backbone.weight` and `backbone.bias` are expected frozen, and are held only by being in no optimizer: "
            "backward computes and keeps their gradients (up to 2 in 3 steps), optimizer.zero_grad() does not clear "
            "them, and gradient clipping over model.parameters() counts them."
        )
        assert found.fix == "model.requires_grad_(False)"


@given(
    st.sampled_from([None, *Gradient]),
    st.sampled_from([None, True, False]),
    st.sampled_from([(), (SGD,), (STILL,), (STILL, SGD)]),
    st.sampled_from([(), (NO_GRAD,)]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_a_parameter_that_should_be_frozen_gets_one_of_three_answers(
    gradient, moved, members, cuts, hook, requires_grad, given_optimizer
):
    """FZ101, FZ107 and FZ108 never meet on one tensor, and none is missed that requires grad and stayed."""
    known = {"gradient": gradient, "moved": moved, "memberships": members, "cuts": cuts, "gradient_hook": hook}
    fact = leaking("a", requires_grad=requires_grad, **known)
    case = table(fact, missing={} if given_optimizer else NO_OPTIMIZER)
    fired = [code for code in ("FZ101", "FZ107", "FZ108") if hits(code, case)]
    answers = {"moves": ["FZ101"], "held": ["FZ107"], "no optimizer": ["FZ108"], None: []}
    assert fired == answers[fate(case, fact)]
    if requires_grad and gradient is not None and not moved:
        assert len(fired) == 1
    assert fact.expected is Expected.FROZEN
