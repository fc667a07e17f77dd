"""FZ201 to FZ206: gradients that are missing, zero, stale, broken or wasted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from freezecheck.records import Cut, Gradient, Leaf, Loss, Membership
from tests.rules.tables import SGD, frozen, hit, hits, leaking, line, row, table, trained

NO_GRAD = Cut(
    "no_grad",
    "linear() runs under torch.no_grad()",
    line(12, "f = self.neck(f)"),
    entered=line(11, "with torch.no_grad():"),
)
DETACH = Cut("detach()", "detach() hands on the values without the graph", line(9, "x = self.stem(x).detach()"))
ROUND = Cut("round()", "the derivative of round() is zero everywhere", line(7, "x = x.round()"))
WRAP = Cut("tensor()", "", line(30, "loss = torch.tensor(loss.item(), requires_grad=True)"))
TOLD_NO_GRAD = (
    "`no_grad` at model.py:12 (`f = self.neck(f)`): linear() runs under torch.no_grad(), in the block that begins at "
    "model.py:11 (`with torch.no_grad():`)"
)


def lost(name, *cuts, **known):
    return trained(name, gradient=Gradient.NONE, moved=False, cuts=cuts, **known)


class TestNoGradient:
    """Expected trainable, `.grad` is None after all steps."""

    @pytest.mark.parametrize(
        "fact",
        [
            trained("a"),
            trained("a", gradient=Gradient.ZERO),
            trained("a", gradient=None),
            lost("a", requires_grad=False),
            lost("a", differentiable=False),
            leaking("a", gradient=Gradient.NONE),
            row("a", "unchecked", gradient=Gradient.NONE),
        ],
    )
    def test_what_got_one_or_need_not_is_silent(self, fact):
        """Any gradient in any step will do; frozen, unchecked and integer tensors need none."""
        assert hits("FZ201", table(fact)) == []

    def test_the_cut_is_quoted_with_its_line(self):
        """Where it is cut, by what, and where the block begins."""
        found = hit("FZ201", table(lost("neck.weight", NO_GRAD), lost("neck.bias", NO_GRAD), trained("head.weight")))
        assert found.message == (
            "`neck.weight` and `neck.bias` are expected trainable, but got no gradient in 3 steps. On the way to the "
            f"loss it is cut by {TOLD_NO_GRAD}."
        )
        assert found.fix == "move `f = self.neck(f)` out of the `no_grad` block at model.py:11"
        assert found.location == NO_GRAD.location

    def test_a_decorator_is_taken_off(self):
        """Gradients that a decorator switches off have no block to move a line out of."""
        cut = Cut("no_grad", "", line(12, "f = self.neck(f)"), entered=line(10, "@torch.no_grad()"))
        found = hit("FZ201", table(lost("a", cut)))
        assert "in the function decorated at model.py:10 (`@torch.no_grad()`)" in found.message
        assert found.fix == "take `@torch.no_grad()` off at model.py:10, or `f = self.neck(f)` out of its function"

    def test_several_cuts_are_told_in_the_order_of_the_flow(self):
        """Mending only the first would leave the second."""
        found = hit("FZ201", table(lost("stem.weight", DETACH, NO_GRAD)))
        assert found.message == (
            "`stem.weight` is expected trainable, but got no gradient in 3 steps. On the way to the loss it is cut by "
            "`detach()` at model.py:9 (`x = self.stem(x).detach()`): detach() hands on the values without the graph; "
            f"then by {TOLD_NO_GRAD}."
        )
        assert found.location == DETACH.location
        assert [cut["operation"] for cut in found.evidence["cuts"]] == ["detach()", "no_grad"]

    def test_tensors_are_grouped_by_their_cuts(self):
        """The same place is one finding, another place another."""
        case = table(lost("a", DETACH), lost("b", DETACH), lost("c", NO_GRAD), lost("d", used=False))
        assert [found.tensors for found in hits("FZ201", case)] == [("a", "b"), ("c",), ("d",)]

    @pytest.mark.parametrize(
        ("used", "why", "fix"),
        [
            (
                False,
                "the forward never used it. Either it forgets it, or it serves another kind of batch than it was given",
                "use it in forward; if other batches do, give one that does (more steps, other inputs, or a loss of "
                'your own); if it is right that nothing does, `unchecked = ["neck"]`',
            ),
            (
                True,
                "the forward used it, but nothing made of it reached the loss",
                'let what it makes enter the loss, or `unchecked = ["neck"]`',
            ),
            (
                None,
                "the loss did not reach it",
                "look for no_grad, detach(), .data or a branch not taken between this layer and the loss",
            ),
        ],
    )
    def test_without_a_cut_it_says_how_far_it_came(self, used, why, fix):
        """Never used, used in vain, or not known."""
        found = hit("FZ201", table(lost("neck.weight", used=used), trained("head.weight")))
        assert found.message == f"`neck.weight` is expected trainable, but got no gradient in 3 steps: {why}."
        assert found.fix == fix
        assert found.location is None

    @pytest.mark.parametrize(
        ("operation", "text", "fix"),
        [
            ("detach()", "h = self.a(x.detach())", "h = self.a(x)"),
            ("detach()", "x = x.detach()  # for speed", "take `x = x.detach()` out"),
            ("detach_()", "h.detach_()", "take `h.detach_()` out"),
            (".data", "h = self.a(x).data", "h = self.a(x)"),
            (
                "checkpoint(use_reentrant=True)",
                "x = checkpoint(blk, x, use_reentrant=True)",
                "x = checkpoint(blk, x, use_reentrant=False)",
            ),
            ("checkpoint(use_reentrant=True)", "x = checkpoint(", "checkpoint(..., use_reentrant=False)"),
            (
                "numpy()",
                "y = x.numpy()",
                "stay in torch at model.py:5 (`y = x.numpy()`): what leaves it by `numpy()` loses its graph",
            ),
            (
                "tensor()",
                "y = f(torch.tensor(a), torch.tensor(b[0], device=d))",
                "drop `torch.tensor()` at model.py:5 (`y = f(torch.tensor(a), torch.tensor(b[0], device=d))`) "
                "and use `a` and `b[0]` themselves",
            ),
            (
                "tensor()",
                "y = torch.tensor([a, b])",
                "`torch.stack([...])` in place of `torch.tensor([...])` at model.py:5 (`y = torch.tensor([a, b])`): it "
                "keeps the graph",
            ),
            (
                "new_tensor()",
                "y = x.new_tensor(a)",
                "use the tensor itself at model.py:5 (`y = x.new_tensor(a)`): `new_tensor()` copies its values without "
                "the graph",
            ),
            ("detach()", "x = y.detach()  # for the log", "x = y"),
            (
                "argmax()",
                "y = x.argmax(1)",
                "replace `argmax()` at model.py:5 (`y = x.argmax(1)`) by an operation that has a derivative",
            ),
            (
                "inference_mode",
                "",
                "move `the call` at model.py:5 out of `inference_mode`, be it a block or a decorator",
            ),
        ],
    )
    def test_the_mend_is_the_users_line_where_it_can_be(self, operation, text, fix):
        """What can be written down as a line is."""
        assert hit("FZ201", table(lost("a", Cut(operation, "", line(5, text))))).fix == fix

    def test_a_detach_before_numpy_is_not_the_line_to_change(self):
        """Without the detach() numpy() would only raise: the way back from Python is what has no graph."""
        numpy = Cut("numpy()", "", line(9, DETACH.location.text))
        found = hit("FZ201", table(lost("a", DETACH, numpy)))
        assert found.fix == (
            "stay in torch at model.py:9 (`x = self.stem(x).detach()`): what leaves it by `numpy()` loses its graph"
        )
        found = hit("FZ201", table(lost("a", DETACH, replace(numpy, location=line(11, "y = x.numpy()")))))
        assert found.fix == (
            "x = self.stem(x); and stay in torch at model.py:11 (`y = x.numpy()`): what leaves it by `numpy()` loses "
            "its graph"
        )

    @pytest.mark.parametrize(
        ("begins", "fix"),
        [
            (
                "with torch.set_grad_enabled(self.finetune and any(self.on)):",
                "let `self.finetune and any(self.on)` be true at model.py:11 (`with "
                "torch.set_grad_enabled(self.finetune and any(self.on)):`) while this is to train, or move "
                "`f = self.neck(f)` out of its reach",
            ),
            (
                "with torch.set_grad_enabled(False):",
                "move `f = self.neck(f)` out of the `set_grad_enabled` block at model.py:11",
            ),
            (
                "with torch.set_grad_enabled(",
                "move `f = self.neck(f)` out of the `set_grad_enabled` block at model.py:11",
            ),
        ],
    )
    def test_what_set_grad_enabled_was_asked_is_named(self, begins, fix):
        """A switch is thrown by its argument, where that is more than False."""
        cut = replace(NO_GRAD, operation="set_grad_enabled", entered=line(11, begins))
        assert hit("FZ201", table(lost("a", cut))).fix == fix

    def test_a_library_that_cut_is_named(self):
        """The user's line calls into a library, and the cut is there."""
        cut = Cut("no_grad", "", line(5, "y = f(x)"), library=line(88, file="timm/layers.py"))
        assert (
            "`no_grad` at model.py:5 (`y = f(x)`), inside timm/layers.py:88."
            in hit("FZ201", table(lost("a", cut))).message
        )


class TestZeroGradient:
    """Expected trainable, gradient exactly zero in all steps."""

    def test_one_step_says_nothing_of_a_layer_behind_a_zero_one(self):
        """LoRA's A has a zero gradient at step 1 and wakes at step 2."""
        assert hits("FZ202", table(trained("lora_A", gradient=Gradient.ZERO), steps=1)) == []

    @pytest.mark.parametrize("fact", [trained("a"), leaking("a", gradient=Gradient.ZERO), lost("a")])
    def test_what_woke_or_need_not_wake_is_silent(self, fact):
        """Nonzero once is enough; None is FZ201; frozen ones may sleep."""
        assert hits("FZ202", table(fact)) == []

    @pytest.mark.parametrize("key", ["bias", "in_proj_bias"])
    def test_a_bias_that_what_follows_takes_away_is_silent(self, key):
        """Its layer's weight has a gradient, and its own is zero by nature."""
        bias = trained(f"key.{key}", shape=(8,), gradient=Gradient.ZERO)
        assert hits("FZ202", table(bias, trained("key.weight", shape=(8, 8)))) == []

    @pytest.mark.parametrize(
        ("name", "shape"), [("a.relative_position_bias_table", (5, 2)), ("a.bias", (5, 2)), ("a.debiased", (8,))]
    )
    def test_not_everything_called_bias_is_one(self, name, shape):
        """A table of biases and a name that only contains the word have no excuse."""
        case = table(trained(name, shape=shape, gradient=Gradient.ZERO), trained("a.weight", shape=(8, 8)))
        assert hit("FZ202", case).tensors == (name,)

    def test_the_message_names_what_may_be_the_cause(self):
        """Without a known cause, the two usual ones."""
        found = hit("FZ202", table(trained("down", gradient=Gradient.ZERO), trained("up", gradient=Gradient.ZERO)))
        assert found.message == (
            "`down` and `up` are expected trainable, but their gradients were exactly zero in all 3 steps: what "
            "follows multiplies by zero, or is flat there."
        )
        assert found.fix == (
            "start one of two zero-initialised factors at random, or look for a scale that is 0, a dead ReLU, a clamp "
            "or a mask after it; if the mask is rarely drawn, give larger inputs"
        )

    def test_an_operation_without_slope_is_named(self):
        """Also after one step: rounding never gets a slope."""
        found = hit("FZ202", table(trained("a", gradient=Gradient.ZERO, cuts=(ROUND,)), steps=1))
        assert found.message == (
            "`a` is expected trainable, but its gradient was exactly zero in the only step: it becomes zero at "
            "`round()` at model.py:7 (`x = x.round()`): the derivative of round() is zero everywhere."
        )
        assert found.fix == "replace `round()` at model.py:7 (`x = x.round()`) by an operation that has a derivative"
        assert found.location == ROUND.location

    def test_a_hook_is_suspected(self):
        """A hook on the gradient may have made it zero."""
        found = hit("FZ202", table(trained("a", gradient=Gradient.ZERO, gradient_hook=True)))
        assert found.message.endswith("in all 3 steps, and a hook stands on it that may have made it so.")


class TestStaleGradient:
    """A frozen tensor still carries `.grad`."""

    def test_a_cleared_gradient_and_a_trained_tensor_are_silent(self):
        """A trainable tensor may carry what it likes, and one that requires grad is another rule's."""
        stale = {"had_gradient": True}
        assert hits("FZ203", table(frozen("a"), trained("b", **stale), leaking("c", **stale))) == []

    @pytest.mark.parametrize(
        ("members", "why"),
        [
            (
                (Membership(0, 0, 0.1, 0.01, 0.9),),
                "It sits in SGD (lr 0.1, momentum 0.9, weight decay 0.01), which moves it at every step as long as "
                ".grad is not None, be it of zeros: zero_grad(set_to_none=False) does not help.",
            ),
            (
                (Membership(0, 0, 0.1, momentum=0.9),),
                "It sits in SGD (lr 0.1, momentum 0.9), which moves it at every step as long as .grad is not None, be "
                "it of zeros: zero_grad(set_to_none=False) does not help.",
            ),
            ((SGD,), "It sits in SGD (lr 0.1): a step() before the next zero_grad() moves it."),
            ((), "It sits in no optimizer, so nothing moves it, but gradient clipping counts it and it keeps memory."),
        ],
    )
    def test_the_message_says_when_it_would_move(self, members, why):
        """Momentum and decay move even a zero gradient, a plain step moves the next time, nothing moves the rest."""
        stale = frozen("backbone.weight", had_gradient=True, memberships=members)
        found = hit("FZ203", table(stale, trained("head.weight")))
        assert found.message == f"`backbone.weight` is frozen, but its .grad still holds a tensor. {why}"
        assert found.fix == "model.backbone.zero_grad(set_to_none=True), right after freezing"

    def test_a_lone_tensor_is_cleared_through_the_model(self):
        """A parameter has no zero_grad of its own."""
        stale = frozen("block.weight", had_gradient=True)
        fix = hit("FZ203", table(stale, trained("block.bias"))).fix
        assert fix == "model.zero_grad(set_to_none=True), right after freezing"


class TestNonFiniteGradient:
    """NaN or infinity."""

    def test_finite_and_unchecked_gradients_are_silent(self):
        """What nothing is expected of may break."""
        broken = {"gradient": Gradient.NONFINITE}
        assert hits("FZ204", table(trained("a"), leaking("b"), row("c", "unchecked", **broken))) == []

    def test_trainable_and_leaking_tensors_are_told_together(self):
        """One finding, whatever was expected."""
        facts = (trained("a", gradient=Gradient.NONFINITE), leaking("b", gradient=Gradient.NONFINITE))
        found = hit("FZ204", table(*facts))
        assert found.message == "The gradients of `a` and `b` became NaN or infinite in 3 steps."
        assert found.fix == (
            "torch.autograd.set_detect_anomaly(True) names the operation; look for a division, log or sqrt at 0"
        )

    def test_float16_has_a_cause_of_its_own(self):
        """Half precision overflows where nothing else would."""
        found = hit("FZ204", table(trained("a", gradient=Gradient.NONFINITE, dtype="float16")))
        assert found.message == (
            "The gradient of `a` became NaN or infinite in 3 steps. float16 overflows beyond 65,504."
        )
        assert found.fix == (
            "scale the loss (torch.amp.GradScaler), or use bfloat16, which overflows as late as float32"
        )


class TestWastedBackward:
    """Backward goes through a frozen part that has nothing trainable below it."""

    def test_a_frozen_part_that_passes_a_gradient_on_is_silent(self):
        """A frozen head above a trainable body is what freezing is for."""
        assert hits("FZ205", table(frozen("head.weight"), trained("body.weight"))) == []
        below = (Leaf("adapters.0.weight", "Net.adapters, a list", (2, 2), in_optimizer=True),)
        assert hits("FZ205", table(frozen("b.weight", wasted=True), trained("head.weight"), leaves=below)) == []

    def test_the_message_says_what_is_kept(self):
        """What costs memory, and where to look."""
        found = hit("FZ205", table(frozen("backbone.weight", wasted=True), trained("head.weight")))
        assert found.message == (
            "Backward goes through `backbone.weight`, which is frozen and has nothing trainable below it: something "
            "before it requires grad, so activations are kept."
        )
        assert found.fix == "take requires_grad off the inputs of model.backbone, or call it under torch.no_grad()"


class TestLossWithoutGraph:
    """The loss has no graph to any trainable tensor."""

    def lossy(self, **known):
        return table(lost("head.weight"), lost("head.scale", requires_grad=False), loss=Loss(reaches=False, **known))

    def test_a_loss_that_reaches_and_a_model_with_nothing_to_train_are_silent(self):
        """Nor without a probe, of which no loss is known."""
        assert hits("FZ206", table(trained("a"), loss=Loss())) == []
        assert hits("FZ206", table(trained("a"))) == []
        assert hits("FZ206", table(frozen("a"), loss=Loss(reaches=False))) == []

    def test_a_loss_that_uses_nothing_that_trains_is_told_once(self):
        """What trains was left out of the forward: that is the cause, and FZ201 says it. A wrapped loss is its own."""
        unused = table(lost("head.weight", used=False), loss=Loss(reaches=False, requires_grad=False))
        assert hits("FZ206", unused) == []
        assert len(hits("FZ201", unused)) == 1
        assert len(hits("FZ206", replace(unused, loss=Loss(reaches=False, is_leaf=True)))) == 1

    def test_a_wrapped_loss_has_its_own_words(self):
        """Backward succeeds, which is why nobody notices; the wrapping is the line to change."""
        found = hit("FZ206", self.lossy(is_leaf=True, cuts=(DETACH, WRAP)))
        assert found.message == (
            "The loss is a fresh tensor with requires_grad=True, not the result of the model: backward() succeeds and "
            "reaches nothing. It is cut by `detach()` at model.py:9 (`x = self.stem(x).detach()`): detach() hands on "
            "the values without the graph; then by `tensor()` at model.py:30 (`loss = torch.tensor(loss.item(), "
            "requires_grad=True)`). `head.weight` is expected trainable and gets no gradient."
        )
        assert found.fix == (
            "use the tensor itself at model.py:30 (`loss = torch.tensor(loss.item(), requires_grad=True)`): `tensor()` "
            "copies its values without the graph; the loss then requires grad by itself: give it no "
            "`requires_grad=True` and no new `torch.tensor()`"
        )
        assert found.location == WRAP.location
        assert found.tensors == ("head.weight",)
        assert found.covers == ("head.weight", "head.scale")

    def test_a_flag_set_on_a_detached_loss_goes_with_the_detach(self):
        """To take away the flag alone would only make backward() raise."""
        assert hit("FZ206", self.lossy(is_leaf=True, cuts=(DETACH,))).fix == (
            "x = self.stem(x); the loss then requires grad by itself: give it no `requires_grad=True` and no new "
            "`torch.tensor()`"
        )

    def test_a_loss_that_requires_no_grad_names_its_first_cut(self):
        """backward() would raise; the cut says why."""
        found = hit("FZ206", self.lossy(requires_grad=False, cuts=(DETACH,)))
        assert found.message == (
            "The loss does not require grad, so backward() has nothing to go through. It is cut by `detach()` at "
            "model.py:9 (`x = self.stem(x).detach()`): detach() hands on the values without the graph. `head.weight` "
            "is expected trainable and gets no gradient."
        )
        assert found.fix == "x = self.stem(x)"
        assert found.location == DETACH.location

    def test_a_loss_of_something_else_is_told_without_a_cut(self):
        """The graph exists and ends elsewhere."""
        found = hit("FZ206", self.lossy())
        assert found.message == (
            "The loss's graph reaches no parameter of the model. `head.weight` is expected trainable and gets no "
            "gradient."
        )
        assert found.fix == "make the loss of what the model returns, by operations of torch, outside no_grad"
