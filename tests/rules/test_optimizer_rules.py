"""FZ401 to FZ405: who sits in which optimizer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from freezecheck.records import Foreign, Gradient, Membership
from tests.rules.tables import SGD, buffer, frozen, hit, hits, leaking, row, table, trained

MOMENTUM = Membership(0, 0, 0.1, momentum=0.9)
ANEW = "optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], ...)"
HEAD = (trained("head.weight", shape=(2, 8), memberships=()), trained("head.bias", shape=(2,), memberships=()))


class TestFrozenParameterInOptimizer:
    """A frozen tensor sits in an optimizer."""

    @pytest.mark.parametrize(
        "fact",
        [frozen("a"), trained("a"), row("a", "unchecked", memberships=(SGD,)), leaking("a", memberships=(SGD,))],
    )
    def test_what_is_not_there_or_may_be_is_silent(self, fact):
        """In no optimizer, trainable, unchecked, or trained by it (FZ101)."""
        assert hits("FZ401", table(fact)) == []

    def test_sixty_tensors_are_one_finding(self):
        """Counted, with the first and last name, and the line that makes the optimizer without them."""
        facts = [frozen(f"backbone.{i}.weight", memberships=(MOMENTUM,)) for i in range(60)]
        found = hit("FZ401", table(*facts, trained("head.weight")))
        assert found.message == (
            "60 parameters of `backbone` (backbone.0.weight … backbone.59.weight) are expected frozen, but sit in SGD "
            "(lr 0.1, momentum 0.9). They stay as they are only while their .grad is None."
        )
        assert found.fix == f"{ANEW}, after the flags are set"
        assert found.evidence == {"optimizers": [0], "groups": [0]}

    def test_one_that_requires_grad_and_gets_none_is_told_too(self):
        """Held by a no_grad, and in the optimizer all the same."""
        found = hit("FZ401", table(leaking("a", gradient=Gradient.NONE, memberships=(SGD,))))
        assert found.message == (
            "`a` is expected frozen, but sits in SGD (lr 0.1). It stays as it is only while its .grad is None."
        )

    def test_optimizers_are_told_apart(self):
        """Each optimizer is made anew by its own line."""
        case = table(
            frozen("a", memberships=(SGD,)),
            frozen("b", memberships=(Membership(1, 1),)),
            optimizers=("SGD", "Adam"),
        )
        assert ["Adam" in found.fix for found in hits("FZ401", case)] == [False, True]


class TestTrainableParameterNotInOptimizer:
    """Expected trainable, in no optimizer."""

    @pytest.mark.parametrize(
        "fact",
        [
            trained("a"),
            frozen("a"),
            trained("a", memberships=(), requires_grad=False),
            trained("a", memberships=(), differentiable=False),
            buffer("a"),
        ],
    )
    def test_what_is_there_or_need_not_be_is_silent(self, fact):
        """Members, frozen ones, those of FZ102, integers and buffers."""
        assert hits("FZ402", table(fact)) == []

    def test_the_message_says_that_the_gradient_is_there(self):
        """All is right but the optimizer; the line adds the layer."""
        found = hit("FZ402", table(frozen("backbone.weight"), *HEAD, trained("neck.weight")))
        assert found.message == (
            "`head.weight` and `head.bias` are expected trainable and require grad, but are not in the optimizer "
            "(SGD). They get a gradient, and nothing steps them."
        )
        assert found.fix == 'optimizer.add_param_group({"params": model.head.parameters()})'

    def test_a_layer_of_which_the_optimizer_has_a_part_is_not_added_whole(self):
        """torch refuses a parameter twice."""
        found = hit("FZ402", table(HEAD[0], trained("head.bias"), trained("neck.w", memberships=())))
        assert found.fix == 'optimizer.add_param_group({"params": [model.head.weight, *model.neck.parameters()]})'

    def test_an_optimizer_over_something_else_is_made_anew(self):
        """To add what is missing would hide that it was made over another model, or over what is frozen."""
        found = hit("FZ402", table(*HEAD, optimizers=("Adam",)))
        assert "but are not in the optimizer (Adam), which holds only tensors of something else." in found.message
        assert found.fix == "make the optimizer over what should train: `torch.optim.Adam(model.parameters(), ...)`"
        found = hit("FZ402", table(*HEAD, frozen("body.weight", memberships=(SGD,))))
        assert "but are not in the optimizer (SGD), which holds nothing that should train." in found.message
        assert found.fix == "make the optimizer over what should train: `torch.optim.SGD(model.head.parameters(), ...)`"

    def test_two_optimizers_over_the_same_are_one_too_many(self):
        """A GAN's optimizer of the generator that was made over the discriminator."""
        both = (Membership(0, 0), Membership(1, 1))
        mixed_up = table(trained("D.weight", memberships=both), *HEAD, optimizers=("Adam", "Adam"))
        found = hit("FZ402", mixed_up)
        assert "but are not in any optimizer (`Adam` and `Adam`), which all hold the same tensors." in found.message
        assert found.fix == "make one of them over what should train: `torch.optim.Adam(model.head.parameters(), ...)`"
        apart = table(
            trained("D.weight", memberships=both[:1]),
            trained("E.weight", memberships=both[1:]),
            *HEAD,
            optimizers=("Adam", "Adam"),
        )
        assert hit("FZ402", apart).fix == (
            '`add_param_group({"params": model.head.parameters()})` of the optimizer that is to step them, or one over '
            "them alone"
        )

    def test_several_optimizers_are_named(self):
        """It is in none of them; without a gradient nothing is said of one."""
        case = table(trained("a", memberships=(), gradient=Gradient.NONE), trained("b"), optimizers=("SGD", "Adam"))
        assert hit("FZ402", case).message == (
            "`a` is expected trainable and requires grad, but is not in any optimizer (`SGD` and `Adam`)."
        )

    def test_by_the_flags_alone_it_may_be_frozen_so(self):
        """A part that is left out of the optimizer on purpose has yet to say so."""
        case = table(*HEAD, trained("neck.w"))
        flags = replace(case, plan=replace(case.plan, from_spec=False))
        assert hit("FZ402", flags).fix == (
            'optimizer.add_param_group({"params": model.head.parameters()}); or, if that is how you freeze them, say '
            "so: model.head.requires_grad_(False)"
        )

    def test_an_empty_group_is_named_with_what_may_have_emptied_it(self):
        """A filter() has its parameters once: whoever counts them first leaves none for the optimizer."""
        found = hit("FZ402", table(*HEAD, trained("neck.w"), empty_groups=((0, 1),)))
        assert found.message.endswith(
            "Group 1 of SGD is empty, as from a filter() or a generator that was used up before."
        )
        assert found.fix == (
            "if group 1 of SGD should hold them, make what it is given a list: `list(filter(...))`; else "
            'optimizer.add_param_group({"params": model.head.parameters()})'
        )
        several = table(*HEAD, trained("neck.w"), optimizers=("SGD", "Adam"), empty_groups=((0, 0), (0, 1), (1, 2)))
        assert "Groups 0 and 1 of SGD and group 2 of Adam are empty" in hit("FZ402", several).message

    def test_many_parts_ask_for_a_new_optimizer(self):
        """Four layers and more are not added one by one."""
        parts = [trained(f"{name}.w", memberships=()) for name in "abcd"] + [trained("e.w")]
        assert hit("FZ402", table(*parts)).fix == f"{ANEW}, after the last change of the flags"


class TestStaleParameterInOptimizer:
    """An optimizer holds tensors that are not in the model."""

    def test_a_loss_with_weights_of_its_own_is_silent(self):
        """What the loss reaches is trained on purpose."""
        assert hits("FZ403", table(trained("a"), foreign=(Foreign(0, 0, (3,), gradient=True),))) == []

    def test_a_replaced_head_is_paired_by_shape(self):
        """Old and new have one shape; what is explained is covered."""
        foreign = (Foreign(0, 0, (2, 8)), Foreign(0, 0, (2,)))
        found = hit("FZ403", table(trained("neck.weight"), *HEAD, foreign=foreign))
        assert found.message == (
            "SGD holds 2 tensors of shapes [2, 8], [2] that are not in the model. `head.weight` and `head.bias` are "
            "expected trainable and in no optimizer: it seems a layer was replaced after the optimizer was made, and "
            "the optimizer still steps the old one."
        )
        assert found.fix == f"{ANEW}, after `head` is in place"
        assert found.tensors == ("head.weight", "head.bias")

    def test_a_parameter_of_the_model_itself_is_no_layer(self):
        """A token that was made anew: no layer was replaced."""
        token = trained("token", shape=(1, 7), memberships=())
        found = hit("FZ403", table(trained("out.weight"), token, foreign=(Foreign(0, 0, (1, 7)),)))
        assert "it seems a parameter was replaced after" in found.message
        assert found.fix == f"{ANEW}, after `token` is in place"

    def test_a_head_of_another_width_is_paired_too(self):
        """A thousand classes became two."""
        foreign = (Foreign(0, 0, (1000, 8)), Foreign(0, 0, (1000,)))
        found = hit("FZ403", table(trained("neck.weight"), *HEAD, foreign=foreign))
        assert found.tensors == ("head.weight", "head.bias")

    def test_beside_another_optimizer_only_one_is_made_anew(self):
        """Over what was replaced: what requires grad besides is the other one's."""
        foreign = (Foreign(1, 0, (9, 8)), Foreign(1, 0, (9,)))
        found = hit("FZ403", table(trained("g.weight"), *HEAD, foreign=foreign, optimizers=("Adam", "Adam")))
        made = "make optimizer 2 of 2 anew: `torch.optim.Adam(model.head.parameters(), ...)`"
        assert found.fix == f"{made}, after `head` is in place"

    def test_an_equal_shape_is_taken_before_an_equal_number_of_dimensions(self):
        """The tensor that fits exactly is the one that was replaced."""
        homeless = (trained("a.weight", shape=(4, 4), memberships=()), *HEAD)
        found = hit("FZ403", table(trained("n.w"), *homeless, foreign=(Foreign(0, 0, (2, 8)),)))
        assert found.tensors == ("head.weight",)

    def test_what_fits_nothing_is_told_alone(self):
        """A layer that was removed."""
        found = hit("FZ403", table(trained("neck.weight"), foreign=(Foreign(0, 0, (3, 3, 3)),)))
        assert found.message == (
            "SGD holds a tensor of shape [3, 3, 3] that is not in the model. The loss reaches none of it: a layer was "
            "replaced or removed, or it is another model's."
        )
        assert found.tensors == ()

    def test_an_optimizer_of_another_model_covers_all_that_is_in_none(self):
        """A copied model: not one tensor of the optimizer is the model's."""
        foreign = tuple(Foreign(0, 0, (4, 4)) for _ in range(14))
        found = hit("FZ403", table(*HEAD, foreign=foreign))
        assert found.message == (
            "SGD holds 14 tensors of shapes [4, 4], [4, 4], [4, 4] … that are not in the model. It holds none that is: "
            "its step() trains nothing of this model. `head.weight` and `head.bias` are expected trainable and in no "
            "optimizer. After SGD was made, a layer was replaced, or the whole model copied, rebuilt or moved into "
            "new parameters."
        )
        assert found.fix == f"{ANEW}, after every line that makes or replaces the model's parameters"
        assert found.tensors == ("head.weight", "head.bias")

    def test_an_optimizer_of_a_head_alone_that_was_replaced_is_told_so(self):
        """Other shapes, tensor for tensor: no copy has them. Equal shapes may be a copy, and so may the whole model."""
        wider, equal = ((Foreign(0, 0, (n, 8)), Foreign(0, 0, (n,))) for n in (1000, 2))
        backbone = frozen("backbone.weight", shape=(8, 8))
        found = hit("FZ403", table(backbone, *HEAD, foreign=wider))
        assert "it seems a layer was replaced after the optimizer was made" in found.message
        assert found.fix == f"{ANEW}, after `head` is in place"
        for case in (table(backbone, *HEAD, foreign=equal), table(*HEAD, foreign=wider)):
            assert "or the whole model copied" in hit("FZ403", case).message


class TestParameterInSeveralGroups:
    """A parameter sits in several groups, across groups or optimizers."""

    TWO = (Membership(0, 0, 0.1), Membership(1, 2, 0.001))

    def test_one_place_and_unchecked_tensors_are_silent(self):
        """Optimizers that take turns over unchecked tensors are the user's own matter."""
        assert hits("FZ404", table(trained("a"), row("b", "unchecked", memberships=self.TWO))) == []

    def test_the_message_names_each_place(self):
        """Group, optimizer and learning rate of each."""
        found = hit("FZ404", table(trained("a", memberships=self.TWO), optimizers=("SGD", "Adam")))
        assert found.message == (
            "`a` sits in group 0 (SGD, lr 0.1) and group 2 (Adam, lr 0.001): one gradient moves it twice."
        )
        assert found.fix == "give each parameter to one group of one optimizer"

    def test_three_places_are_counted(self):
        """Not only pairs."""
        found = hit("FZ404", table(trained("a", memberships=(*self.TWO, SGD)), optimizers=("SGD", "Adam")))
        assert found.message.endswith("one gradient moves it 3 times.")


class TestZeroLearningRate:
    """Expected trainable, its group has lr 0 in all steps."""

    ZERO = Membership(0, 0, 0.0)

    @pytest.mark.parametrize(
        "fact",
        [
            trained("a"),
            trained("a", memberships=()),
            trained("a", memberships=(ZERO, Membership(0, 1, 0.1))),
            trained("a", memberships=(Membership(0, 0, 1e-6),)),
            frozen("a", memberships=(ZERO,)),
            leaking("a", memberships=(ZERO,)),
        ],
    )
    def test_a_rate_that_rises_and_a_freezing_by_rate_are_silent(self, fact):
        """The largest rate of all steps and groups counts: a warm-up that left 0 is right."""
        assert hits("FZ405", table(fact)) == []

    def test_the_message_names_the_group(self):
        """Which group of which optimizer, and both ways to mean it."""
        neck = [trained(f"neck.{kind}", memberships=(self.ZERO,)) for kind in ("weight", "bias")]
        found = hit("FZ405", table(*neck, trained("head.weight")))
        assert found.message == (
            "`neck.weight` and `neck.bias` are expected trainable, but sit in group 0 of SGD, with a learning rate of "
            "0 in all 3 steps."
        )
        assert found.fix == (
            'give group 0 of SGD an lr above 0; if this is how you freeze, say so in the spec: `frozen = ["neck"]`'
        )

    def test_groups_of_one_optimizer_are_one_finding(self):
        """A decay over layers that is rounded to 0 is one mistake, in however many groups; two optimizers are two."""
        facts = [trained(f"layers.{i}.w", memberships=(Membership(0, i, 0.0),)) for i in range(5)]
        found = hit("FZ405", table(*facts, trained("head.weight")))
        assert "sit in groups 0, 1, 2 and 2 more of SGD, with a learning rate of 0" in found.message
        assert found.evidence == {"groups": [0, 1, 2, 3, 4]}
        whole = hit("FZ405", table(trained("a.w", memberships=(self.ZERO,)), trained("b.w", memberships=(self.ZERO,))))
        assert whole.fix == "give group 0 of SGD an lr above 0"  # nobody freezes all of it so
        apart = (trained("a", memberships=(self.ZERO,)), trained("b", memberships=(Membership(1, 1, 0.0),)))
        assert len(hits("FZ405", table(*apart, optimizers=("SGD", "Adam")))) == 2
