"""`init`'s draft: readable selectors that say of every tensor just what its flags say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezecheck.records import Description, Expected, Layer, Plan, Tensor
from freezecheck.spec import Spec
from freezecheck.spec.draft import draft
from freezecheck.spec.match import match


class Build:
    """A description put down by hand."""

    def __init__(self, root: str = "Net", training: bool = True) -> None:
        self.layers = {"": Layer("", root, (root, "Module"), training)}
        self.tensors: list[Tensor] = []
        self.owned: dict[str, list[str]] = {}
        self.aliases: dict[str, list[str]] = {}

    def layer(
        self, path: str, kind: str = "Linear", *bases: str, training: bool = True, items: Sequence[str] = ()
    ) -> str:
        self.layers[path] = Layer(path, kind, (kind, *bases, "Module"), training, items=tuple(items) or None)
        return path

    def parameter(self, name: str, grad: bool, differentiable: bool = True) -> None:
        self.tensors.append(Tensor(name, "parameter", (3,), numel=3, requires_grad=grad, differentiable=differentiable))
        self.owned.setdefault(name.rpartition(".")[0], []).append(name)

    def buffer(self, name: str, moves: bool = False) -> None:
        self.tensors.append(Tensor(name, "buffer", (3,), numel=3, requires_grad=False))
        owner = name.rpartition(".")[0]
        self.owned.setdefault(owner, []).append(name)
        self.layers[owner] = replace(self.layers[owner], statistics=(name,) if moves else ())

    def tie(self, alias: str, name: str) -> None:
        self.aliases.setdefault(name, []).append(alias)
        self.owned.setdefault(alias.rpartition(".")[0], []).append(alias)

    def linear(self, path: str, grad: bool) -> None:
        self.layer(path)
        self.parameter(f"{path}.weight", grad)
        self.parameter(f"{path}.bias", grad)

    def norm(self, path: str, grad: bool, training: bool = True) -> None:
        self.layer(path, "BatchNorm2d", "_BatchNorm", "_NormBase", training=training)
        self.parameter(f"{path}.weight", grad)
        self.buffer(f"{path}.running_mean", moves=True)

    def stack(self, path: str, flags: Sequence[bool], child: str = "") -> None:
        """An indexable container of blocks, each trainable or frozen, or holding one child that is."""
        self.layer(path, "ModuleList", items=[str(n) for n in range(len(flags))])
        for n, grad in enumerate(flags):
            if child:
                self.layer(f"{path}.{n}", "Block")
                self.linear(f"{path}.{n}.base", False)
                self.linear(f"{path}.{n}.{child}", grad)
            else:
                self.linear(f"{path}.{n}", grad)

    def done(self) -> Description:
        layers = tuple(replace(one, tensors=tuple(self.owned.get(path, ()))) for path, one in self.layers.items())
        tensors = tuple(replace(one, aliases=tuple(self.aliases.get(one.name, ()))) for one in self.tensors)
        return Description(tensors, layers)


def planned(description: Description) -> tuple[Spec, Plan]:
    """Draft a spec, read it as a user's, and match it to the model; the plan has to be what the flags say."""
    spec = Spec.parse(draft(description, "module.name:Net"))
    plan = match(spec, description)
    assert (plan.unmatched, plan.contradictions, plan.overlaps) == ((), (), ())
    for tensor in description.tensors:
        if tensor.kind == "parameter" and tensor.differentiable:
            assert plan.expected[tensor.name] is (Expected.TRAINABLE if tensor.requires_grad else Expected.FROZEN)
    return spec, plan


def lists(build: Build) -> dict[str, list[str]]:
    """Return the lists that the draft gives, without the empty ones."""
    spec, _ = planned(build.done())
    every = {
        key: [one.text for one in getattr(spec, key)] for key in ("trainable", "frozen", "eval", "buffers_may_move")
    }
    return {key: texts for key, texts in every.items() if texts}


class TestSelectors:
    """The fewest selectors that a person would write."""

    @pytest.mark.parametrize(("grad", "key"), [(True, "trainable"), (False, "frozen")])
    def test_a_model_of_one_mind_is_a_star(self, grad, key):
        """All trainable, or all frozen, is one star."""
        build = Build()
        build.linear("a", grad)
        build.norm("b", grad, training=grad)
        assert lists(build)[key] == ["*"]

    def test_the_shorter_list_is_given(self):
        """A trained head on a frozen rest names the head; a frozen stem below a trained rest names the stem."""
        for grad, key in ((True, "trainable"), (False, "frozen")):
            build = Build()
            for name in "abc":
                build.linear(name, not grad)
            build.linear("odd", grad)
            assert lists(build) == {key: ["odd"]}

    def test_a_whole_subtree_is_named_once(self):
        """No selector for what a selector above already takes."""
        build = Build()
        build.stack("blocks", [True] * 5)
        build.linear("stem", False)
        build.linear("head", False)
        assert lists(build) == {"trainable": ["blocks"]}

    def test_neighbours_in_a_list_share_a_slice(self):
        """The last blocks of twelve are one slice."""
        build = Build()
        build.stack("encoder", [False] * 8 + [True] * 4)
        build.linear("emb", False)
        assert lists(build) == {"trainable": ["encoder[8:12]"]}

    def test_a_slice_reaches_over_layers_without_tensors(self):
        """ReLUs between the layers of a Sequential do not tear the slice."""
        build = Build()
        build.layer("features", "Sequential", items=[str(n) for n in range(7)])
        for n in range(7):
            if n % 2:
                build.layer(f"features.{n}", "ReLU")
            else:
                build.linear(f"features.{n}", n >= 4)
        assert lists(build) == {"trainable": ["features[4:7]"]}

    def test_many_of_one_name_are_a_glob(self):
        """Adapters in every block are one glob."""
        build = Build()
        build.stack("blocks", [True] * 6, child="lora_A")
        assert lists(build) == {"trainable": ["*.lora_A"]}

    def test_a_name_that_means_different_things_is_no_glob(self):
        """One frozen adapter among them: no glob takes it with the others."""
        build = Build()
        build.stack("blocks", [True] * 5 + [False], child="lora_A")
        assert "*.lora_A" not in [text for texts in lists(build).values() for text in texts]

    def test_many_of_one_class_are_said_by_class(self):
        """Frozen BatchNorms in a trained model are one `type:`."""
        build = Build()
        for n in range(5):
            build.linear(f"fc{n}", True)
            build.layer(f"conv{n}", "Conv2d")
            build.parameter(f"conv{n}.weight", True)
            build.norm(f"bn{n}", False)
        assert lists(build) == {"frozen": ["type:BatchNorm2d"]}

    def test_biases_alone_are_a_glob(self):
        """Training biases only is one selector."""
        build = Build()
        for n in range(5):
            build.layer(f"fc{n}")
            build.parameter(f"fc{n}.weight", False)
            build.parameter(f"fc{n}.bias", True)
        assert lists(build) == {"trainable": ["*.bias"]}

    def test_a_parameter_that_can_have_no_gradient_tears_nothing(self):
        """A quantised weight in a trained layer does not make the layer mixed."""
        build = Build()
        build.layer("q")
        build.parameter("q.weight", False, differentiable=False)
        build.parameter("q.scale", True)
        build.linear("a", False)
        assert lists(build) == {"trainable": ["q"]}

    def test_odd_names_are_matched_letter_by_letter(self):
        """Names with the signs of the selector language are written as expressions."""
        build = Build()
        for name in ("w[0]", "a*", "!b", "c:d", "two words", 'quo"te\\'):
            build.linear(name, True)
        build.linear("w", False)
        for name in ("x1", "x2", "x3", "x4", "x5", "x6", "x7"):
            build.linear(name, False)
        found = lists(build)["trainable"]
        assert len(found) == 6
        assert r"re:^w\[0\](\.|$)" in found


class TestTiedTensors:
    """A tied tensor has to be covered under each of its names."""

    def test_both_names_agree(self):
        """A trained embedding that is also the head: both are in the list."""
        build = Build()
        build.layer("emb", "Embedding")
        build.parameter("emb.weight", True)
        build.layer("lm_head")
        build.tie("lm_head.weight", "emb.weight")
        for n in range(3):
            build.linear(f"fc{n}", False)
        assert lists(build) == {"trainable": ["emb", "lm_head"]}


class TestBuffersAndModes:
    """Buffers follow the parameters beside them; statistics that would drift are not swept under the carpet."""

    def test_trained_statistics_are_expected_to_move(self):
        """In a trained layer the buffers stand in no one's way."""
        build = Build()
        build.norm("bn", True)
        build.linear("fc", False)
        _, plan = planned(build.done())
        assert plan.expected["bn.running_mean"] is Expected.TRAINABLE

    def test_frozen_statistics_in_eval_mode_are_written_down(self):
        """The user put the backbone into eval mode: the draft says so, and where."""
        build = Build()
        build.layer("backbone", "Backbone", training=False)
        build.norm("backbone.bn", False, training=False)
        build.linear("head", True)
        found = lists(build)
        assert found["eval"] == ["backbone"]
        assert "buffers_may_move" not in found

    def test_frozen_statistics_in_train_mode_are_left_for_verify_to_report(self):
        """They drift: the draft gives both ways out as comments and takes neither."""
        build = Build()
        build.layer("backbone", "Backbone")
        build.norm("backbone.bn", False)
        build.linear("head", True)
        assert "eval" not in lists(build)
        text = draft(build.done(), "m.py:f")
        assert '# eval = ["backbone"]' in text
        assert '# buffers_may_move = ["backbone"]' in text

    def test_frozen_layers_without_statistics_say_nothing_of_it(self):
        """A frozen LayerNorm model has no such comment."""
        build = Build()
        build.linear("a", False)
        build.linear("b", True)
        assert "eval" not in draft(build.done(), "m.py:f")

    def test_a_norm_without_parameters_among_mixed_layers_may_move(self):
        """BatchNorm(affine=False) between a frozen and a trained layer is not called frozen."""
        build = Build()
        build.linear("a", False)
        build.layer("bn", "BatchNorm1d", "_BatchNorm", "_NormBase")
        build.buffer("bn.running_mean", moves=True)
        build.linear("b", True)
        _, plan = planned(build.done())
        assert plan.expected["bn.running_mean"] is Expected.TRAINABLE


class TestTheFile:
    """What is written is a spec that a person reads."""

    def test_the_counts_are_locked(self):
        """[expect] has what requires grad and what does not, tied tensors once."""
        build = Build()
        build.linear("a", True)
        build.layer("b")
        build.tie("b.weight", "a.weight")
        build.parameter("c", False)
        spec, _ = planned(build.done())
        assert spec.expect is not None
        assert (spec.expect.trainable_parameters, spec.expect.frozen_parameters) == (6, 3)

    def test_the_target_is_escaped(self):
        """A path with quotes and backslashes comes back as it was."""
        target = 'odd "dir"\\x.module:Net'
        assert Spec.parse(draft(Build().done(), target)).target == target

    def test_a_model_without_tensors_has_a_spec_too(self):
        """Nothing to expect is said in words, and is valid."""
        text = draft(Build().done(), "m:n")
        assert Spec.parse(text).trainable == ()
        assert "# The model has no parameters and no buffers: there is nothing to expect." in text

    def test_a_model_of_buffers_alone_is_not_said_to_have_none(self):
        """Nothing of it can train; that its buffers stay is a line to take in."""
        build = Build()
        build.layer("bn", "BatchNorm1d", "_BatchNorm", "_NormBase")
        build.buffer("bn.running_mean", moves=True)
        text = draft(build.done(), "m:n")
        assert "no buffers" not in text
        assert "# The model has no parameters, only buffers: nothing in it can train." in text
        taken_in = text.replace('# frozen = ["*"]', 'frozen = ["*"]')
        assert match(Spec.parse(taken_in), build.done()).expected["bn.running_mean"] is Expected.FROZEN

    def test_a_model_of_whole_numbers_is_not_said_to_have_no_parameters(self):
        """Quantised weights are parameters that can have no gradient."""
        build = Build()
        build.layer("q")
        build.parameter("q.weight", False, differentiable=False)
        text = draft(build.done(), "m:n")
        assert "# None of the model's parameters can have a gradient: nothing in it can train." in text

    def test_counts_of_lazy_layers_are_not_locked(self):
        """A parameter without a size is not one of no elements, and a lock on 0 would fail at the first forward."""
        build = Build()
        build.linear("a", True)
        assert "[expect]\n" in draft(build.done(), "m:n")
        build.tensors[0] = replace(build.tensors[0], shape=(0, 3), numel=0)
        assert "[expect]\n" in draft(build.done(), "m:n"), "an empty parameter has a size"
        build.tensors[0] = replace(build.tensors[0], shape=())
        text = draft(build.done(), "m:n")
        assert Spec.parse(text).expect is None
        assert "# No counts are locked under [expect]: the size of one parameter (a.weight)" in text
        build.tensors[1] = replace(build.tensors[1], shape=(), numel=0)
        assert "the sizes of 2 parameters (a.weight …)" in draft(build.done(), "m:n")

    def test_arguments_that_built_the_model_are_told_beside_the_target(self):
        """A spec does not hold them; without any nothing is said."""
        build = Build()
        build.linear("a", True)
        assert "--arg" not in draft(build.done(), "m:n")
        lines = draft(build.done(), "m:n", ["--arg width=16", "--arg 'mode=a b'"]).splitlines()
        place = lines.index('target = "m:n"')
        assert lines[place + 1].startswith("# It was built with arguments, which a spec does not hold")
        assert lines[place + 2] == "#   --arg width=16 --arg 'mode=a b'"

    def test_no_line_is_too_long_to_read(self):
        """Long lists stand one selector a line."""
        build = Build()
        for n in range(40):
            build.linear(f"layer_with_a_name_{n}", n % 2 == 0)
        assert max(map(len, draft(build.done(), "m.n:f").splitlines())) <= 120


NAMES = st.sampled_from(["a", "b", "fc", "bn", "0", "1", "10", "w[0]", "x*", "!y", "k:v", "ü", "a b", "a-b"])


@st.composite
def descriptions(draw: st.DrawFn) -> Description:
    """Models three levels deep with any names, any flags, indexable containers and ties."""
    build = Build()

    def grow(path: str, depth: int) -> None:
        names = draw(st.lists(NAMES, max_size=4, unique=True))
        for name in names:
            below = f"{path}.{name}" if path else name
            build.layer(below, draw(st.sampled_from(["Linear", "Block", "Norm"])))
            if depth:
                grow(below, depth - 1)
        items = names if draw(st.booleans()) else ()
        build.layer(path, "ModuleList" if items else "Block", items=items)
        if draw(st.integers(0, 4)) == 0:
            build.buffer(f"{path}.kept" if path else "kept", moves=draw(st.booleans()))
        for name in draw(st.lists(st.sampled_from(["weight", "bias", "p?"]), max_size=2, unique=True)):
            build.parameter(f"{path}.{name}" if path else name, draw(st.booleans()), draw(st.integers(0, 9)) > 0)
        if path and build.tensors and draw(st.integers(0, 5)) == 0:
            build.tie(f"{path}.tied", draw(st.sampled_from([one.name for one in build.tensors])))

    grow("", 2)
    return build.done()


@given(descriptions())
def test_whatever_the_model_the_draft_says_what_its_flags_say(description):
    """Read back and matched, the draft expects of each parameter just its flag, without a finding about itself."""
    if description.tensors:
        planned(description)
