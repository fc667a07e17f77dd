"""`freezecheck.apply`: one spec freezes a model and is then checked."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import freezecheck
from freezecheck.errors import SpecError
from freezecheck.spec import Spec

torch.set_num_threads(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.1))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def spec(text):
    return Spec.parse(text)


def trains(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def in_eval(model):
    return {name for name, module in model.named_modules() if not module.training}


def verified(model, text, **options):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1) if trained else None
    return freezecheck.verify(model, spec(text), optimizer=optimizer, inputs=torch.randn(4, 1, 8, 8), **options)


@pytest.mark.parametrize(
    "text",
    [
        'trainable = ["head"]',
        'frozen = ["stem"]',
        'trainable = ["body", "head"]\nbuffers_may_move = ["stem"]',
        'trainable = ["body.0", "head"]',
        'trainable = ["*"]',
        'trainable = ["head"]\neval = ["stem", "body"]',
    ],
)
def test_what_a_spec_froze_it_finds_right(text):
    """After `apply` the same spec finds nothing: flags and modes are as it says, also after `model.train()`."""
    result = verified(freezecheck.apply(Net(), spec(text)), text)
    assert [f for f in result.findings if f.severity != "note"] == []


def test_without_apply_the_same_check_fires():
    """The test above can fail."""
    assert not verified(Net(), 'trainable = ["head"]').ok


class TestFlags:
    def test_all_are_set_both_ways(self):
        """What is expected trainable requires grad though it did not, what is frozen does not though it did."""
        model = Net()
        model.head.requires_grad_(False)
        assert freezecheck.apply(model, spec('trainable = ["head"]')) is model
        assert trains(model) == {"head.weight", "head.bias"}

    def test_the_unchecked_are_left_alone(self):
        """A list of what nothing is expected of keeps its flags."""
        model = Net()
        model.stem[0].weight.requires_grad_(False)
        freezecheck.apply(model, spec('trainable = ["head"]\nunchecked = ["stem"]\nrest = "frozen"'))
        assert trains(model) == {"head.weight", "head.bias", "stem.0.bias", "stem.1.weight", "stem.1.bias"}

    def test_a_frozen_gradient_is_dropped(self):
        """A gradient left from before would let momentum and weight decay move what is frozen (FZ301)."""
        model = Net()
        model(torch.randn(2, 1, 8, 8)).sum().backward()
        freezecheck.apply(model, spec('trainable = ["head"]'))
        assert model.stem[0].weight.grad is None
        assert model.head.weight.grad is not None

    def test_integers_have_no_flag(self):
        """A quantised weight cannot require grad, and is no mistake."""
        model = nn.Sequential(nn.Linear(2, 2))
        model.register_parameter("codes", nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False))
        freezecheck.apply(model, spec('trainable = ["*"]'))
        assert not model.codes.requires_grad

    def test_the_first_phase_is_applied(self):
        """Another one on request."""
        phases = spec(
            '[[phase]]\nname = "a"\ntrainable = ["head"]\n[[phase]]\nname = "b"\ntrainable = ["body", "head"]'
        )
        model = freezecheck.apply(Net(), phases)
        assert trains(model) == {"head.weight", "head.bias"}
        freezecheck.apply(model, phases.phase("b"))
        assert "body.0.weight" in trains(model)
        assert model.train().body[1].training


class TestModes:
    def test_frozen_statistics_stay_in_eval(self):
        """`model.train()`, at any depth, leaves a frozen BatchNorm in eval and moves everything else."""
        model = freezecheck.apply(Net(), spec('trainable = ["body", "head"]'))
        assert in_eval(model) == {"stem.1"}
        assert in_eval(model.train()) == {"stem.1"}
        assert in_eval(model.eval()) == {name for name, _ in model.named_modules()}
        model.train().stem[1].train()
        assert in_eval(model) == {"stem.1"}

    def test_a_copy_and_a_pickle_stay_too(self):
        """What is deep-copied (an average of the weights) or saved whole keeps its own layer in eval mode."""
        model = freezecheck.apply(Net(), spec('trainable = ["body", "head"]'))
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
            model.stem[1].training = True
            assert in_eval(other.train()) == {"stem.1"}
            assert model.stem[1].training, "the copy does not reach back"

    def test_another_spec_releases_them(self):
        """Applying a second spec forgets the first."""
        model = freezecheck.apply(Net(), spec('trainable = ["head"]'))
        freezecheck.apply(model, spec('trainable = ["*"]'))
        assert in_eval(model.train()) == set()

    def test_spectral_norm_and_dropout(self):
        """A frozen layer under spectral norm keeps its vectors; dropout, which moves nothing, follows the mode."""
        model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)), nn.Dropout(), nn.Linear(3, 2))
        freezecheck.apply(model, spec('trainable = ["2"]'))
        before = {name: b.clone() for name, b in model.named_buffers()}
        model.train()(torch.randn(4, 3)).sum().backward()
        assert all(torch.equal(b, before[name]) for name, b in model.named_buffers())
        assert model[1].training

    def test_it_scripts_traces_and_compiles(self):
        """The object on the layer is in nobody's way."""
        model = freezecheck.apply(Net(), spec('trainable = ["body.0", "head"]')).train()
        x = torch.randn(2, 1, 8, 8)
        expected = model.eval()(x)
        torch.testing.assert_close(torch.jit.trace(model, x)(x), expected)
        torch.testing.assert_close(torch.compile(model, backend="eager")(x), expected)


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('trainable = ["haed"]', "`haed` in `trainable` selects nothing of this model; nearest: `head`"),
            ('trainable = ["body[7]"]', "`body[7]` in `trainable`"),
            ('trainable = ["a"]\nfrozen = ["b"]', "2: `b` in `frozen` selects nothing"),
        ],
    )
    def test_nothing_is_changed_by_a_wrong_spec(self, text, said):
        """A selector that fits nothing is an error with its line, before any flag is set."""
        model = Net()
        with pytest.raises(SpecError) as caught:
            freezecheck.apply(model, spec(text))
        assert said in caught.value.message
        assert len(trains(model)) == len(list(model.parameters()))

    def test_a_tied_tensor_cannot_be_both(self):
        """Two names of one tensor under two expectations."""
        model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
        model["b"].weight = model["a"].weight
        with pytest.raises(SpecError, match="are one tensor, which cannot be both frozen and trainable"):
            freezecheck.apply(model, spec('trainable = ["a"]\nfrozen = ["b"]'))


@given(st.sets(st.sampled_from(["stem", "stem.0", "stem.1", "body", "body.1", "head"]), min_size=1))
def test_applying_twice_is_applying_once(selected):
    """Flags and modes depend on the spec alone, not on what was before."""
    text = f"trainable = {sorted(selected)!r}"
    once = freezecheck.apply(Net(), spec(text)).train()
    other = freezecheck.apply(freezecheck.apply(Net(), spec('frozen = ["*"]')), spec(text)).train()
    assert trains(once) == trains(other)
    assert in_eval(once) == in_eval(other)
    trained = {part for part in ("stem.1", "body.1") if {part, part[:4]} & selected}
    assert in_eval(once) == {"stem.1", "body.1"} - trained
