"""FZ103 to FZ105: what torch never sees, stray flags and tensors that are no parameters."""

from __future__ import annotations

import pytest

from freezecheck.records import Leaf, Plan, Selector, StrayFlag, Unmatched
from tests.rules.tables import frozen, hit, hits, leaking, line, table

AT = line(40, "p.require_grad = False", "train.py")
BACKBONE = [f"backbone.{layer}.{kind}" for layer in ("conv1", "bn1") for kind in ("weight", "bias")]


def stray(owner, attribute="require_grad", value="False", on="parameter", tensors=None, location=None):
    return StrayFlag(owner, on, attribute, value, (owner,) if tensors is None else tensors, location)


class TestMisspelledRequiresGrad:
    """A parameter or module carries `require_grad` or the like."""

    def test_what_changed_nothing_for_the_worse_is_silent(self):
        """A stray flag whose tensors have the meant flag, and a flag of FZ104, are not this rule's."""
        harmless = stray("backbone.weight", tensors=())
        module = stray("backbone", "requires_grad", on="module", tensors=("backbone.weight",))
        assert hits("FZ103", table(frozen("backbone.weight"), strays=(harmless, module))) == []

    def test_equal_assignments_are_one_finding_with_the_users_line(self):
        """A loop over all parameters is one mistake, at one line, mended as the user would write it."""
        strays = tuple(stray(name, location=AT) for name in BACKBONE)
        found = hit("FZ103", table(*map(leaking, BACKBONE), strays=strays))
        assert found.tensors == tuple(BACKBONE)
        assert found.message == (
            "`p.require_grad = False` at train.py:40 did nothing: torch knows `requires_grad`, and no `require_grad`. "
            "4 parameters of `backbone` (backbone.conv1.weight … backbone.bn1.bias) still require grad."
        )
        assert found.fix == "p.requires_grad = False"
        assert found.location == AT
        assert found.evidence["places"] == [{"file": "train.py", "line": 40, "text": "p.require_grad = False"}]

    def test_without_its_line_it_is_told_by_its_owner(self):
        """An assignment whose line was not found is spelled out."""
        found = hit("FZ103", table(leaking("fc.weight"), strays=(stray("fc.weight", "required_grad"),)))
        assert found.message == (
            "`model.fc.weight.required_grad = False` did nothing: torch knows `requires_grad`, and no `required_grad`. "
            "`fc.weight` still requires grad."
        )
        assert found.fix == "model.fc.weight.requires_grad = False"

    def test_a_hidden_method_is_told_as_such(self):
        """`requires_grad_ = False` puts a bool in front of the method."""
        found = hit("FZ103", table(leaking("fc.weight"), strays=(stray("fc.weight", "requires_grad_"),)))
        assert found.message.startswith(
            "`model.fc.weight.requires_grad_ = False` did nothing: `requires_grad_` is a method, and assigning to it "
            "only hides it."
        )

    def test_an_unfreezing_that_did_nothing_is_told_too(self):
        """With the value True the parameters stay frozen."""
        found = hit("FZ103", table(frozen("fc.weight"), strays=(stray("fc.weight", value="True"),)))
        assert found.message.endswith("`fc.weight` still does not require grad.")
        assert found.fix == "model.fc.weight.requires_grad = True"
        unknown = hits("FZ103", table(strays=(stray("a", value="1"), stray("b", value="True"), stray("c"))))
        assert [" not " in found.message.rpartition(". ")[2] for found in unknown] == [True, True, False]

    @pytest.mark.parametrize(
        ("text", "fixed"),
        [
            ("model.fc.require_grad = False  # freeze", "model.fc.requires_grad_(False)  # freeze"),
            ("setattr(model.fc, 'require_grad', False)", "model.fc.requires_grad_(False)"),
        ],
    )
    def test_a_misspelling_on_a_module_is_mended_by_the_method(self, text, fixed):
        """The right name would do nothing on a module either."""
        on_module = stray("fc", on="module", tensors=("fc.weight",), location=line(7, text))
        assert hit("FZ103", table(leaking("fc.weight"), strays=(on_module,))).fix == fixed

    def test_other_values_and_attributes_are_findings_of_their_own(self):
        """Only equal assignments are grouped."""
        strays = (stray("a"), stray("b", value="True"), stray("c", "requires_grads"), stray("d"))
        assert [found.tensors for found in hits("FZ103", table(strays=strays))] == [("a", "d"), ("b",), ("c",)]


class TestRequiresGradSetOnModule:
    """`module.requires_grad = ...` was assigned: it has no effect."""

    def test_a_modules_own_option_that_agrees_is_silent(self):
        """A class may keep a `requires_grad` and set the flags from it."""
        assert hits("FZ104", table(strays=(stray("net", "requires_grad", on="module", tensors=()),))) == []

    def test_a_misspelling_is_silent(self):
        """That is FZ103."""
        assert hits("FZ104", table(strays=(stray("net", on="module", tensors=("net.weight",)),))) == []

    def test_the_message_names_the_method(self):
        """What a module has instead, and the user's line with it."""
        at = line(39, "model.backbone.requires_grad = False", "train.py")
        on_module = stray("backbone", "requires_grad", "False", "module", tuple(BACKBONE), at)
        found = hit("FZ104", table(*map(leaking, BACKBONE), strays=(on_module,)))
        assert found.message == (
            "`model.backbone.requires_grad = False` at train.py:39 did nothing: a module has no `requires_grad`; the "
            "method `requires_grad_()` sets it on each of its parameters. 4 parameters of `backbone` "
            "(backbone.conv1.weight … backbone.bn1.bias) still require grad."
        )
        assert found.fix == "model.backbone.requires_grad_(False)"
        assert found.location == at

    def test_equal_assignments_to_several_modules_are_one(self):
        """A loop over blocks is one finding, without its line told by what it was set on."""
        strays = tuple(stray(f"blocks.{i}", "requires_grad", on="module", tensors=(f"blocks.{i}.w",)) for i in (0, 1))
        found = hit("FZ104", table(*(leaking(f"blocks.{i}.w") for i in (0, 1)), strays=strays))
        assert found.message.startswith("`module.requires_grad = False` did nothing")
        assert found.tensors == ("blocks.0.w", "blocks.1.w")


class TestUnregisteredParameter:
    """The gradient reaches a leaf that is no parameter of the model."""

    BLOCKS = tuple(Leaf(f"blocks.{i}.fc.{kind}", "Net.blocks, a list") for i in (0, 1) for kind in ("weight", "bias"))

    def test_a_loss_with_weights_of_its_own_is_silent(self):
        """A leaf outside the model that is in an optimizer is trained on purpose."""
        assert hits("FZ105", table(leaves=(Leaf("", shape=(1,), in_optimizer=True),))) == []

    def test_a_list_is_to_become_a_module_list(self):
        """All leaves of one container are one finding, with the line that registers them."""
        found = hit("FZ105", table(leaves=self.BLOCKS))
        assert found.message == (
            "The gradient reaches 4 tensors of `blocks` (blocks.0.fc.weight … blocks.1.fc.bias), but they are no "
            "parameters of the model: they lie in `Net.blocks`, and torch does not look into a list. "
            "model.parameters(), .to() and state_dict() pass them over, and no optimizer holds them."
        )
        assert found.fix == "self.blocks = nn.ModuleList(self.blocks)"
        assert found.tensors == tuple(leaf.name for leaf in self.BLOCKS)

    def test_the_selectors_that_meant_them_are_told(self):
        """The spec's own word for the layers is quoted: it shows that they were meant to train."""
        plan = Plan({}, unmatched=(Unmatched(Selector("blocks", "trainable")), Unmatched(Selector("neck", "frozen"))))
        found = hit("FZ105", table(leaves=self.BLOCKS, plan=plan))
        assert found.message.endswith(" The spec's `blocks` means them.")
        assert found.evidence == {"container": "Net.blocks, a list", "selectors": ["blocks"]}

    @pytest.mark.parametrize(
        ("name", "container", "fix"),
        [
            ("encoder.stages.0.weight", "Encoder.stages, a tuple", "self.stages = nn.ModuleList(self.stages)"),
            ("heads.a.weight", "Net.heads, a dict", "self.heads = nn.ModuleDict(self.heads)"),
            ("heads.a.weight", "Net.heads, an OrderedDict", "self.heads = nn.ModuleDict(self.heads)"),
            ("scales.0", "Net.scales, a list", "self.scales = nn.ParameterList(self.scales)"),
            ("scales.a", "Net.scales, a dict", "self.scales = nn.ParameterDict(self.scales)"),
            ("scale", "Net.scale, a raw tensor", "self.scale = nn.Parameter(self.scale)"),
            ("SCALE", "SCALE, a variable", "self.SCALE = nn.Parameter(SCALE) in the module that uses it"),
            (
                "temper.fc.weight",
                "temper, a variable",
                "assign what `temper` holds to attributes of the module that uses it",
            ),
            (
                "lazy.net.weight",
                "Net.lazy, a Holder",
                "assign what `lazy` holds to attributes of the module, or self.register_parameter(name, tensor)",
            ),
        ],
    )
    def test_the_mend_fits_the_container(self, name, container, fix):
        """Lists, dicts, single tensors and strange holders are each registered their own way."""
        assert hit("FZ105", table(leaves=(Leaf(name, container),))).fix == fix

    def test_a_tensor_in_a_variable_is_named_by_it(self):
        """No module holds it, so there is no attribute to name."""
        found = hit("FZ105", table(leaves=(Leaf("SCALE", "SCALE, a variable", (1,)),)))
        assert found.message == (
            "The gradient reaches `SCALE`, but it is no parameter of the model: it lies in the variable `SCALE`, "
            "outside of every module. model.parameters(), .to() and state_dict() pass it over, and no optimizer holds "
            "it."
        )

    def test_a_parameter_of_another_model_is_not_to_be_registered(self):
        """The loss runs a copy: the copy is named by where it lies, or by its class."""
        leaves = tuple(Leaf(f"runner.best.{kind}", "runner.best, another Net") for kind in ("weight", "bias"))
        found = hit("FZ105", table(leaves=leaves))
        assert found.message == (
            "The gradient reaches `runner.best.weight` and `runner.best.bias` of another model, `runner.best` (Net): "
            "the loss runs it. No optimizer holds them, so nothing trains them."
        )
        assert found.fix == (
            "if runner.best was not meant, run the model itself there; else freeze it "
            "(runner.best.requires_grad_(False)), or give it to an optimizer"
        )
        nowhere = hit("FZ105", table(leaves=(Leaf("Net.weight", "Net, another Net"),)))
        assert "of another model, a Net: the loss runs it." in nowhere.message

    def test_a_raw_tensor_in_an_optimizer_is_still_told(self):
        """It trains, but it is not saved and does not move with the model."""
        found = hit("FZ105", table(leaves=(Leaf("scale", "Net.scale, a raw tensor", (1,), in_optimizer=True),)))
        assert found.message == (
            "The gradient reaches `scale`, but it is no parameter of the model: `Net.scale` is a raw tensor, which "
            "torch does not register. model.parameters(), .to() and state_dict() pass it over."
        )

    @pytest.mark.parametrize(
        ("shapes", "said"),
        [
            (
                [(4, 2)],
                "a tensor of shape [4, 2] that is no parameter of the model and in no optimizer: nothing trains it",
            ),
            (
                [(4, 2), (2,)],
                "2 tensors of shapes [4, 2], [2] that are no parameters of the model and in no optimizer: nothing "
                "trains them",
            ),
        ],
    )
    def test_leaves_found_nowhere_are_told_by_shape(self, shapes, said):
        """Without a name the shape has to do."""
        found = hit("FZ105", table(leaves=tuple(Leaf("", shape=shape) for shape in shapes)))
        assert found.message == f"The gradient reaches {said}."
        assert found.tensors == ()
