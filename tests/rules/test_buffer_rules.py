"""FZ501 to FZ503: buffers and dropout of frozen layers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from freezecheck.records import Hidden, Plan, Selector, Unmatched, Write
from tests.rules.tables import buffer, frozen, hit, hits, layer, line, row, table, trained

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
KEEP_EVAL = (
    "model.backbone.eval() after every model.train() (or in an override of train()); in the spec `eval = "
    '["backbone"]` if the loop does that already, or `buffers_may_move = ["backbone"]` if they may move'
)
ROOT = layer("", "Net", "mixed")
BACKBONE = layer("backbone", "ResNet")
LAYERS = (ROOT, BACKBONE, layer("backbone.bn1", "BatchNorm2d"), layer("backbone.bn2", "BatchNorm2d"))
UNDONE = (ROOT, *(replace(one, layer=replace(one.layer, training=False)) for one in LAYERS[1:]))


def statistics(norm="backbone.bn1", **known):
    """The buffers of one BatchNorm, moved unless said otherwise; its counter moves by 3."""
    given = {"moved": True, "max_abs_change": 0.21, **known}
    counter = {**given, "max_abs_change": 3.0, "differentiable": False, "dtype": "int64"}
    return [buffer(f"{norm}.{s}", **(counter if s == "num_batches_tracked" else given)) for s in STATISTICS]


class TestFrozenBufferMoved:
    """A buffer of a frozen part changed."""

    @pytest.mark.parametrize(
        "known",
        [
            {"moved": False},
            {"may_move": True},
        ],
    )
    def test_buffers_that_stayed_or_may_move_are_silent(self, known):
        """Not the mode but the bytes decide, and the spec may let them move."""
        assert hits("FZ501", table(*statistics(**known), layers=LAYERS)) == []

    def test_trainable_and_unchecked_buffers_are_silent(self):
        """A BatchNorm that is fine-tuned moves its statistics."""
        free = [
            row(f"bn.{s}", said, "buffer", moved=True) for s, said in zip("ab", ("trainable", "unchecked"), strict=True)
        ]
        assert hits("FZ501", table(*free, trained("bn.weight"), layers=LAYERS)) == []

    def test_one_that_was_in_eval_is_another_rules(self):
        """That `model.train()` undid it is FZ502."""
        assert hits("FZ501", table(*statistics(), layers=UNDONE)) == []

    def test_the_outermost_frozen_layer_is_one_finding(self):
        """Layers, types, how far, and the line that holds them all."""
        found = hit("FZ501", table(*statistics(), *statistics("backbone.bn2"), layers=LAYERS))
        assert found.message == (
            "6 buffers of `backbone` (backbone.bn1.running_mean … backbone.bn2.num_batches_tracked) are expected "
            "frozen, but changed by up to 0.21 in 3 steps: 2 BatchNorm2d layers (`backbone.bn1` and `backbone.bn2`) "
            "run in train mode. requires_grad does not hold buffers."
        )
        assert found.fix == KEEP_EVAL
        assert found.evidence == {"layers": ["backbone"], "types": ["BatchNorm2d"]}

    def test_layers_of_two_frozen_parts_are_one_finding(self):
        """It is one mistake, and one line to change."""
        layers = (*LAYERS, layer("neck", "Neck"), layer("neck.bn", "BatchNorm1d"))
        case = table(*statistics(), *statistics("neck.bn"), layers=layers)
        found = hit("FZ501", case)
        assert found.evidence["layers"] == ["backbone", "neck"]
        assert found.fix.startswith("model.backbone.eval(); model.neck.eval() after every model.train()")
        assert '`eval = ["backbone", "neck"]`' in found.fix

    def test_a_buffer_that_the_forward_moves_needs_eval_and_a_forward_that_asks(self):
        """A running average of one's own is held by eval mode only where the forward looks at the mode."""
        found = hit("FZ501", table(buffer("backbone.average", moved=True, max_abs_change=0.1), layers=LAYERS))
        assert found.fix == (
            "model.backbone.eval() after every model.train() (or in an override of train()), with the update under `if "
            'self.training` in the forward; or `buffers_may_move = ["backbone.average"]` in the spec if it is meant to '
            "move"
        )

    def test_the_line_that_writes_to_a_buffer_of_ones_own_is_told(self):
        """Beside the mode, and not of statistics: what writes to those is torch's."""
        wrote = Write("mul_()", line(8, "self.center.mul_(0.9)"))
        center = buffer("backbone.center", moved=True, max_abs_change=0.1, writes=(wrote,))
        found = hit("FZ501", table(*statistics(), center, layers=LAYERS))
        assert found.message.endswith(
            "hold buffers. `mul_()` at model.py:8 (`self.center.mul_(0.9)`) writes to `backbone.center`."
        )
        assert found.location == wrote.location
        own = replace(wrote, operation="batch_norm()")
        assert hit("FZ501", table(*statistics(writes=(own,)), layers=LAYERS)).location is None

    HIDDEN = Hidden("t.0", "Sequential", "Net.t, a list", ("t.0.1.running_mean",))

    @pytest.mark.parametrize(
        ("hidden", "plan"),
        [
            (replace(HIDDEN, moved=()), Plan({})),
            (HIDDEN, Plan({}, unmatched=(Unmatched(Selector("t", "unchecked")),))),
            (HIDDEN, Plan({}, unmatched=(Unmatched(Selector("t.0", "buffers_may_move")),))),
        ],
    )
    def test_a_hidden_layer_that_stands_still_or_may_move_is_silent(self, hidden, plan):
        """A teacher kept in a list, in eval mode, or named by the spec as one that may move."""
        assert hits("FZ501", table(hidden=(hidden,), plan=plan)) == []

    def test_statistics_in_a_list_are_found_as_well(self):
        """Torch does not know the layer, and neither does model.eval()."""
        found = hit("FZ501", table(hidden=(self.HIDDEN,)))
        assert found.tensors == ("t.0.1.running_mean",)
        assert found.message == (
            "`t.0.1.running_mean` changed in 3 steps: no parameter beside it trains, but its layers run in train mode. "
            "They lie in `Net.t`, and torch does not look into a list, so model.eval() does not reach them either."
        )
        assert found.fix == (
            "call .eval() on what `t` holds; if it is to be part of the model, self.t = nn.ModuleList(self.t)"
        )

    def test_a_layer_without_parameters_stands_for_itself(self):
        """BatchNorm without affine has nothing that could be frozen, and still drifts."""
        layers = (ROOT, layer("bn", "BatchNorm1d", "none"))
        found = hit("FZ501", table(*statistics("bn"), layers=layers))
        assert found.message == (
            "`bn.running_mean`, `bn.running_var` and `bn.num_batches_tracked` are expected frozen, but changed by up "
            "to 0.21 in 3 steps: BatchNorm1d `bn` runs in train mode. requires_grad does not hold buffers."
        )

    def test_buffers_of_layers_that_nobody_described_are_told_all_the_same(self):
        """Without the layers there is less to say, and the buffers have moved."""
        for layers in ((), (ROOT,), LAYERS[1:]):
            assert len(hits("FZ501", table(*statistics(), layers=layers))) == 1

    def test_a_spectral_norm_is_told_as_what_it_is(self):
        """A Linear does the same in both modes; what moves is the norm's power iteration, old and new."""
        old, new = layer("critic", "Linear"), layer("gen.parametrizations.weight.0", "_SpectralNorm")
        old = replace(old, layer=replace(old.layer, tensors=("critic.weight_orig", "critic.weight_u")))
        moved = [buffer(f"{owner}_u", moved=True, max_abs_change=0.5) for owner in ("critic.weight", f"{new.name}.")]
        found = hit("FZ501", table(*moved, layers=(ROOT, old, new)))
        assert (
            "changed by up to 0.5 in 3 steps: the spectral norms of `critic` and `gen` run in train mode, in which a "
            "power iteration moves u and v."
        ) in found.message
        plain = replace(old, layer=replace(old.layer, tensors=("critic.weight", "critic.weight_u")))
        assert "Linear `critic` runs in train mode." in hit("FZ501", table(moved[0], layers=(ROOT, plain))).message

    def test_many_layers_are_counted_in_the_fix(self):
        """Fifty norms in a line to paste are no line to paste."""
        norms = [layer(f"blocks.{i}.bn", "BatchNorm2d") for i in range(50)]
        case = table(*(one for norm in norms for one in statistics(norm.name)), layers=(ROOT, *norms))
        assert hit("FZ501", case).fix == (
            "call .eval() on these 50 layers after every model.train() (or in an override of train()); in the spec "
            "`eval` if the loop does that already, or `buffers_may_move` if they may move"
        )

    def test_a_counter_alone_tells_its_own_step(self):
        """Where nothing else moved, the counter's change is told."""
        assert "changed by up to 3 in 3 steps" in hit("FZ501", table(statistics()[2], layers=LAYERS)).message

    def test_a_whole_frozen_model_is_named_as_the_model(self):
        """Everything is frozen and the root is the outermost layer."""
        layers = tuple(replace(one, expected="frozen") for one in LAYERS)
        found = hit("FZ501", table(*statistics(), frozen("head.weight"), layers=layers))
        assert found.fix.startswith("model.eval() after every model.train()")
        assert '`eval = ["*"]`' in found.fix

    def test_without_values_the_mode_and_kind_decide(self):
        """On the meta device nothing moves; a BatchNorm in train mode would move its statistics, one in eval not."""
        drifting = replace(LAYERS[2], movable_buffers=tuple(f"backbone.bn1.{s}" for s in STATISTICS))
        unseen = statistics(moved=None, max_abs_change=None)
        found = hit("FZ501", table(*unseen, layers=(ROOT, BACKBONE, drifting)))
        assert (
            "`backbone.bn1.num_batches_tracked` are expected frozen, but will change in training: BatchNorm2d "
            "`backbone.bn1` runs in train mode."
        ) in found.message
        still = replace(drifting, training=False, movable_buffers=())
        assert hits("FZ501", table(*unseen, layers=(ROOT, BACKBONE, still))) == []

    def test_a_buffer_that_moves_in_eval_mode_is_not_mended_by_eval(self):
        """Something writes to it whatever the mode: that line is told."""
        counted = Write("add_()", line(8, "self.calls.add_(1)"))
        layers = (ROOT, replace(BACKBONE, training=False))
        found = hit("FZ501", table(buffer("backbone.calls", moved=True, writes=(counted,)), layers=layers))
        assert found.message == (
            "`backbone.calls` is expected frozen and in eval mode, but changed in 3 steps: `add_()` at model.py:8 "
            "(`self.calls.add_(1)`) writes to it."
        )
        may_move = ', or `buffers_may_move = ["backbone"]` if it is meant to move'
        assert found.fix == f"take the write out or put it under `if self.training:`{may_move}"
        assert found.location == counted.location
        in_a_step = buffer("backbone.calls", moved=True, writes=(replace(counted, phase="step"),))
        assert hit("FZ501", table(in_a_step, layers=layers)).fix == f"take the write out{may_move}"

    def test_a_buffer_of_the_users_that_is_replaced_in_eval_mode_is_told_by_its_class(self):
        """`self.mean = …` writes to nothing: the class is the nearest place that is known."""
        own = replace(BACKBONE.layer, type="Bank", defined_at=line(3, "class Bank(nn.Module):"))
        layers = (ROOT, replace(BACKBONE, layer=own, training=False))
        found = hit("FZ501", table(buffer("backbone.mean", moved=True), layers=layers))
        assert found.message.endswith("No write in place was seen: a line of `Bank` puts a new tensor there.")
        assert found.fix.startswith("take that line out or put it under `if self.training:`, or `buffers_may_move")
        assert found.location == own.defined_at

    def test_nothing_is_guessed_of_a_layer_of_torchs_own(self):
        """What moved its statistics in eval mode was not seen: a compiled kernel may have."""
        layers = (ROOT, replace(BACKBONE, training=False))
        found = hit("FZ501", table(buffer("backbone.mean", moved=True), layers=layers))
        assert found.message == "`backbone.mean` is expected frozen and in eval mode, but changed in 3 steps."
        assert found.fix.startswith("take the write out, or `buffers_may_move")
        assert found.location is None


class TestTrainUndoesEval:
    """As FZ501, and the module had been put in eval mode before `model.train()`."""

    def test_what_stayed_in_eval_or_was_never_in_it_is_silent(self):
        """An override of train() holds; a layer that was in train mode all along is FZ501."""
        held = tuple(replace(one, training=False) for one in UNDONE)
        assert hits("FZ502", table(*statistics(moved=False), layers=held)) == []
        assert hits("FZ502", table(*statistics(), layers=LAYERS)) == []

    def test_a_model_that_was_in_eval_as_a_whole_is_silent(self):
        """A freshly loaded model in eval mode says nothing of what the loop means: that is FZ501."""
        whole = tuple(replace(one, layer=replace(one.layer, training=False)) for one in LAYERS)
        assert hits("FZ502", table(*statistics(), layers=whole)) == []
        assert len(hits("FZ501", table(*statistics(), layers=whole))) == 1

    def test_the_message_tells_the_story(self):
        """In eval, put back, moved; the lines that hold."""
        found = hit("FZ502", table(*statistics(), *statistics("backbone.bn2"), layers=UNDONE))
        assert found.message == (
            "model.train() undid the eval mode of 2 BatchNorm2d layers (`backbone.bn1` and `backbone.bn2`): 6 buffers "
            "of `backbone` (backbone.bn1.running_mean … backbone.bn2.num_batches_tracked), expected frozen, changed by "
            "up to 0.21 in 3 steps."
        )
        assert found.fix == KEEP_EVAL

    def test_every_drifting_buffer_gets_one_of_both_rules(self):
        """A part undone and a part never in eval are told once each."""
        case = table(*statistics(), *statistics("backbone.bn2"), layers=(*UNDONE[:3], LAYERS[3]))
        told = [name for code in ("FZ501", "FZ502") for found in hits(code, case) for name in found.tensors]
        assert sorted(told) == sorted(fact.name for fact in case.facts)


class TestDropoutActiveInFrozenLayer:
    """Dropout is active inside a frozen layer."""

    DROP = layer("backbone.drop", "Dropout", "none", dropout=0.1)

    @pytest.mark.parametrize(
        "layers",
        [
            (ROOT, BACKBONE, replace(DROP, training=False)),
            (ROOT, BACKBONE, layer("backbone.drop", "Dropout", "none", dropout=0.0)),
            (ROOT, BACKBONE, layer("backbone.drop", "Identity", "none")),
            (ROOT, layer("drop", "Dropout", "none", dropout=0.5)),
            (ROOT, BACKBONE, layer("head", "Sequential", "trainable"), layer("head.0", "Dropout", "none", dropout=0.5)),
        ],
    )
    def test_dropout_that_is_off_or_elsewhere_is_silent(self, layers):
        """In eval mode, with probability 0, none at all, in the mixed root, or in the trainable head."""
        assert hits("FZ503", table(layers=layers)) == []

    def test_the_note_names_the_layer_and_its_rate(self):
        """One dropout layer of a frozen backbone."""
        found = hit("FZ503", table(layers=(ROOT, BACKBONE, self.DROP)))
        assert found.message == (
            "Dropout `backbone.drop` of the frozen `backbone` is active in training (p = 0.1): it makes what is "
            "frozen give other outputs for the same input at every step."
        )
        assert found.fix == (
            'model.backbone.eval() after every model.train(); in the spec `eval = ["backbone"]` if the loop does that '
            'already, or `ignore = ["FZ503"]` if it is meant'
        )
        assert found.tensors == ()

    def test_all_of_one_frozen_layer_are_one_note(self):
        """Twelve blocks with dropout are one note with the span of their rates."""
        inner = layer("backbone.block", "Block")
        deep = layer("backbone.block.drop", "Dropout", "none", dropout=0.5)
        found = hit("FZ503", table(layers=(ROOT, BACKBONE, self.DROP, inner, deep)))
        assert found.message.startswith(
            "2 dropout layers (`backbone.drop` and `backbone.block.drop`) of the frozen `backbone` are active in "
            "training (p = 0.1 to 0.5)"
        )

    def test_dropout_around_adapters_is_silent(self):
        """LoRA trains with the dropout of the layers that it adapts."""
        tuner = layer("base_model", "LoraModel", "mixed")
        tuner = replace(tuner, layer=replace(tuner.layer, bases=("LoraModel", "BaseTuner", "Module")))
        inner = (layer("base_model.model.out", "Output"), layer("base_model.model.out.drop", "Dropout", dropout=0.1))
        assert hits("FZ503", table(layers=(ROOT, tuner, *inner))) == []
        assert len(hits("FZ503", table(layers=(ROOT, *inner)))) == 1

    def test_dozens_of_frozen_layers_are_one_note(self):
        """Frozen pieces between layers that train are counted, not written out."""
        pieces = [layer(f"blocks.{i}.drop", "Dropout", dropout=0.1) for i in range(24)]
        found = hit("FZ503", table(layers=(ROOT, layer("blocks", "ModuleList", "mixed"), *pieces)))
        assert found.message.startswith(
            "24 dropout layers (`blocks.0.drop`, `blocks.1.drop`, `blocks.2.drop` and 21 more) of the frozen 24 layers"
        )
        assert found.fix == (
            "call .eval() on these 24 layers after every model.train(); in the spec `eval` if the loop does that "
            'already, or `ignore = ["FZ503"]` if it is meant'
        )

    def test_a_frozen_layer_with_a_dropout_of_its_own_is_told(self):
        """An LSTM drops between its layers; one that trains may."""
        rnn = layer("rnn", "LSTM", dropout=0.5)
        assert hits("FZ503", table(layers=(ROOT, replace(rnn, expected="trainable")))) == []
        found = hit("FZ503", table(layers=(ROOT, rnn)))
        assert found.message.startswith("The dropout of LSTM `rnn` of the frozen `rnn` is active in training (p = 0.5)")
