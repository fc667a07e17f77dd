"""FZ001 to FZ004: what is wrong with the spec itself."""

from __future__ import annotations

from dataclasses import replace

from freezecheck.records import (
    Contradiction,
    Counts,
    Expected,
    Hidden,
    Leaf,
    Overlap,
    Plan,
    Selector,
    Unmatched,
)
from tests.rules.tables import frozen, hit, hits, layer, line, table, trained

AT = line(3, 'frozen = ["backbon"]', "freeze.toml")
TYPO = Unmatched(Selector("backbon", "frozen", AT), ("backbone", "backbone.bn1"))


def planned(**said):
    return table(plan=Plan({}, **said))


class TestUnmatchedSelector:
    """A selector matches nothing."""

    def test_a_plan_without_unmatched_selectors_is_silent(self):
        """A spec whose selectors all select says nothing."""
        assert hits("FZ001", planned()) == []

    def test_a_selector_that_means_an_unregistered_layer_is_silent(self):
        """The layers exist and torch does not see them: FZ105 tells it, once."""
        leaf = Leaf("blocks.0.fc1.weight", "Net.blocks, a list")
        for text in ("blocks", "blocks.0", "blocks[0]", "blocks.*", "!blocks"):
            plan = Plan({}, unmatched=(Unmatched(Selector(text, "trainable")),))
            assert hits("FZ001", table(plan=plan, leaves=(leaf,))) == [], text

    def test_a_selector_that_is_only_the_beginning_of_a_leafs_name_fires(self):
        """Component boundaries hold for leaves too, and patterns of other kinds are not guessed at."""
        leaf = Leaf("blocks.0.fc1.weight", "Net.blocks, a list")
        for text in ("block", "blocks.1", "re:blocks", "type:Linear"):
            plan = Plan({}, unmatched=(Unmatched(Selector(text, "trainable")),))
            assert len(hits("FZ001", table(plan=plan, leaves=(leaf,)))) == 1, text

    def test_the_message_names_list_selector_and_nearest_names(self):
        """The reader learns which word of which list is wrong, and what was probably meant."""
        found = hit("FZ001", planned(unmatched=(TYPO,)))
        assert found.message == (
            "The selector `backbon` under `frozen` selects nothing of this model, so it has no effect. "
            "The nearest names are `backbone` and `backbone.bn1`."
        )
        assert found.fix == "write `backbone` for `backbon` under `frozen`"
        assert found.location == AT
        assert found.evidence == {
            "selector": "backbon",
            "list": "frozen",
            "nearest": ["backbone", "backbone.bn1"],
        }

    def test_what_the_nearest_name_means_is_not_judged_by_the_misspelled_spec(self):
        """The tensors of which something else is expected without it are covered; those that are as meant are not."""
        meant = ("head.weight", "head.bias")
        typo = Unmatched(Selector("haed", "trainable"), ("head",), meant=meant)
        plan = Plan({"head.weight": Expected.FROZEN, "head.bias": Expected.TRAINABLE}, unmatched=(typo,))
        found = hit("FZ001", table(plan=plan))
        assert found.covers == ("head.weight",)
        assert found.message.endswith("The nearest name is `head`. As it stands, `head` is expected frozen.")

    BLOCKS = (
        layer("", "Net", "mixed"),
        layer("backbone", "Sequential"),
        layer("backbone.down", "Sequential"),
        layer("backbone.empty", "Sequential"),
        layer("empty", "Sequential", "none"),
        layer("head", "Linear", "trainable"),
    )

    def of_class(self, selector, *layers):
        """A spec that names a class of which no layer owns a tensor itself."""
        facts = (trained("backbone.0.weight"), trained("backbone.down.0.weight"), trained("head.weight"))
        known = {fact.name: fact.expected for fact in facts}
        plan = Plan(known, unmatched=(Unmatched(Selector(*selector), hint="They own none."),))
        return table(*facts, plan=plan, layers=layers or self.BLOCKS)

    def test_a_class_without_any_tensor_below_has_no_path_to_offer(self):
        """Nor has a class that the model lacks, a name that is no class's, or a list that takes no tensors."""
        for selector in (("type:Net2", "frozen"), ("Sequential", "frozen"), ("type:Sequential", "eval")):
            found = hit("FZ001", self.of_class(selector))
            assert found.fix.startswith(f"take `{selector[0]}` out of `{selector[1]}`"), selector
            assert found.covers == ()
        bare = self.of_class(("type:Sequential", "frozen"), layer("empty", "Sequential", "none"))
        assert hit("FZ001", bare).fix.startswith("take `type:Sequential` out")

    def test_a_class_whose_layers_hold_layers_is_named_by_path(self):
        """The outermost layers of that class that hold tensors; what they hold is judged once that is written."""
        found = hit("FZ001", self.of_class(("type:Seq*", "frozen")))
        assert found.fix == 'name the layer by its path in place of `type:Seq*`: frozen = ["backbone"]'
        assert found.covers == ("backbone.0.weight", "backbone.down.0.weight")
        taken = hit("FZ001", self.of_class(("!type:Sequential", "frozen")))
        assert taken.fix == 'name the layer by its path in place of `!type:Sequential`: frozen = ["!backbone"]'
        assert taken.covers == ()

    def test_the_root_stands_for_all_of_its_class_only_where_it_is_alone(self):
        """A Sequential of Sequentials: its parts are meant, and the whole model is written as `*`."""
        inner, root = layer("backbone", "Sequential"), layer("", "Sequential")
        assert hit("FZ001", self.of_class(("type:Sequential", "frozen"), root, inner)).fix.endswith('["backbone"]')
        assert hit("FZ001", self.of_class(("type:Sequential", "frozen"), root)).fix.endswith('frozen = ["*"]')

    def test_many_layers_of_a_class_are_counted(self):
        """No line of fifty names."""
        facts = [trained(f"b{n}.0.weight") for n in range(9)]
        plan = Plan({f.name: f.expected for f in facts}, unmatched=(Unmatched(Selector("type:Block", "frozen")),))
        case = table(*facts, plan=plan, layers=tuple(layer(f"b{n}", "Block") for n in range(9)))
        assert hit("FZ001", case).fix == (
            "name the 9 layers by their paths in place of `type:Block`: `b0`, `b1`, `b2` and 6 more under `frozen`"
        )

    def test_a_layer_that_torch_does_not_know_is_told_as_such(self):
        """It is in a list: registering it mends the spec. To say that it may do as it does needs no registering."""
        hidden = Hidden("teacher.0", "Sequential", "Net.teacher, a list")
        for key in ("unchecked", "buffers_may_move", "eval"):
            plan = Plan({}, unmatched=(Unmatched(Selector("teacher", key)),))
            assert hits("FZ001", table(plan=plan, hidden=(hidden,))) == []
        plan = Plan({}, unmatched=(Unmatched(Selector("teacher", "frozen")),))
        found = hit("FZ001", table(plan=plan, hidden=(hidden,)))
        assert found.message == (
            "The selector `teacher` under `frozen` selects nothing: the Sequential that it means lies in "
            "`Net.teacher`, and torch does not look into a list. model.train(), .eval(), .to() and state_dict() pass "
            "it over as well."
        )
        assert found.fix == "self.teacher = nn.ModuleList(self.teacher)"

    def test_without_a_nearest_name_the_layers_are_to_be_listed(self):
        """A name like nothing in the model is told without a guess, but with its hint."""
        strange = replace(TYPO, nearest=(), hint="It is the name of a class; write `type:backbon`.")
        found = hit("FZ001", planned(unmatched=(strange,)))
        assert found.message == (
            "The selector `backbon` under `frozen` selects nothing of this model, so it has no effect. "
            "It is the name of a class; write `type:backbon`."
        )
        assert found.fix == "take `backbon` out of `frozen`; `freezecheck report` lists the model's layers"


class TestContradictoryTiedTensor:
    """One tensor has two names, expected frozen under one and trainable under the other."""

    def test_tied_tensors_under_one_expectation_are_silent(self):
        """Tying is no mistake."""
        assert hits("FZ002", planned()) == []

    def test_the_message_names_both_names(self):
        """Both names are told, and both ways out."""
        tied = Contradiction("embed.weight", "embed.weight", "head.weight", AT)
        found = hit("FZ002", planned(contradictions=(tied,)))
        assert found.tensors == ("embed.weight", "head.weight")
        assert found.message == (
            "`embed.weight` and `head.weight` are one tied tensor. The spec expects it frozen under the first name and "
            "trainable under the second; it cannot be both, and training it moves it under both names."
        )
        assert found.fix == (
            "name both under one list of the spec, or untie them: "
            "model.head.weight = nn.Parameter(model.head.weight.detach().clone())"
        )
        assert found.location == AT


class TestUnexpectedParameterCount:
    """`[expect]` differs."""

    ROOT = layer("", "Net", "mixed", trainable=8_398_858, frozen=2_782_784)

    def counted(self, **said):
        return table(plan=Plan({}, counts=Counts(location=AT, **said)), layers=(self.ROOT,))

    def test_right_or_absent_counts_are_silent(self):
        """A lock that holds, half a lock, and none at all."""
        assert hits("FZ003", self.counted(trainable_parameters=8_398_858, frozen_parameters=2_782_784)) == []
        assert hits("FZ003", self.counted(frozen_parameters=2_782_784)) == []
        assert hits("FZ003", self.counted()) == []
        assert hits("FZ003", table(layers=(self.ROOT,))) == []

    def test_counts_of_a_model_whose_sizes_are_not_known_are_silent(self):
        """A lazy layer's parameters count as nothing until the first forward: the count is no count yet."""
        plan, root = Plan({}, counts=Counts(frozen_parameters=9, location=AT)), (layer("", "Net", frozen=6),)
        sized = frozen("a", shape=(6,), numel=6)
        assert hits("FZ003", table(sized, frozen("b", shape=(), numel=0), plan=plan, layers=root)) == []
        for known in (frozen("b", shape=(0, 3), numel=0), frozen("b")):
            assert len(hits("FZ003", table(sized, known, plan=plan, layers=root))) == 1

    def test_both_counts_are_told_in_one_finding(self):
        """The reader sees what is, what was said, and by how much they differ."""
        found = hit("FZ003", self.counted(trainable_parameters=8_398_850, frozen_parameters=2_782_800))
        assert found.message == (
            "`trainable_parameters` is 8,398,858 where the spec says 8,398,850 (+8) and `frozen_parameters` is "
            "2,782,784 where the spec says 2,782,800 (-16). Something was frozen, unfrozen, added or taken away since "
            "the count was locked."
        )
        assert found.fix == (
            "`freezecheck report` shows which layer it is; if the new count is right, write trainable_parameters = "
            "8_398_858 and frozen_parameters = 2_782_784 under [expect]"
        )
        assert found.location == AT

    def test_one_wrong_count_leaves_the_other_out(self):
        """A count that holds is not mentioned."""
        found = hit("FZ003", self.counted(trainable_parameters=1, frozen_parameters=2_782_784))
        assert "frozen_parameters" not in found.message
        assert found.evidence == {"trainable_parameters": {"expected": 1, "actual": 8_398_858}}


class TestOverlappingSelectors:
    """Two lists name the same tensor (a bare `*` aside)."""

    STRONG, WEAK = Selector("backbone.bn1", "trainable", AT), Selector("backbone", "frozen")

    def test_a_bare_star_is_silent(self):
        """`*` is how one says "all the rest"."""
        star = Selector("*", "frozen")
        assert hits("FZ004", planned(overlaps=(Overlap(self.STRONG, star, ("backbone.bn1.weight",)),))) == []

    def test_the_message_says_who_wins(self):
        """Both selectors, the tensors, and the list that wins."""
        overlap = Overlap(self.STRONG, self.WEAK, ("backbone.bn1.weight", "backbone.bn1.bias"))
        found = hit("FZ004", table(frozen("backbone.bn1.weight"), plan=Plan({}, overlaps=(overlap,))))
        assert found.message == (
            "`backbone.bn1` under `trainable` and `backbone` under `frozen` both select `backbone.bn1.weight` and "
            "`backbone.bn1.bias`; `trainable` wins."
        )
        assert found.fix == 'frozen = [..., "backbone", "!backbone.bn1"] says the same without the overlap'
        assert found.tensors == ("backbone.bn1.weight", "backbone.bn1.bias")
        assert found.location == AT
