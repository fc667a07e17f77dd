"""What stands beside a model, or what the spec names instead."""

from __future__ import annotations

import pytest
import torch
from targets import NET, error_of, load, work_in_an_empty_folder, write
from torch import nn

from freezecheck import loading
from freezecheck.errors import ProbeError, SpecError
from freezecheck.spec import Spec

torch.set_num_threads(1)

_folder = pytest.fixture(autouse=True)(work_in_an_empty_folder)


class TestOptimizer:
    def test_none_beside_the_model(self):
        """Then it is unknown, not guessed."""
        write("a.py", NET + "model = Net()")
        subject = load("a.py")
        assert subject.optimizers is None
        assert subject.make_inputs is None
        assert subject.compute_loss is None

    def test_a_list_of_them(self):
        """GANs have two."""
        write(
            "a.py",
            NET + "def build_optimizer(m):\n"
            "    return [torch.optim.SGD(m.block.parameters()), torch.optim.Adam(m.head.parameters())]",
        )
        assert load("a.py").optimizer_said == "SGD, Adam from a.py:build_optimizer"

    def test_the_specs_key_replaces_it(self):
        """A table makes a torch optimizer over what requires grad."""
        write(
            "a.py",
            NET + "model = Net()\nmodel.block.requires_grad_(False)\noptimizer = torch.optim.SGD(model.parameters())",
        )
        subject = load("a.py", spec=Spec.of(optimizer={"name": "AdamW", "lr": 0.5}))
        (group,) = subject.optimizers[0].param_groups
        assert [id(p) for p in group["params"]] == [id(p) for p in subject.model.head.parameters()]
        assert (type(subject.optimizers[0]).__name__, group["lr"]) == ("AdamW", 0.5)

    def test_nothing_requires_grad(self):
        """An optimizer over nothing is a finding later, not an error here."""
        write("a.py", NET + "model = Net().requires_grad_(False)")
        subject = load("a.py", spec=Spec.of(optimizer={"name": "SGD", "lr": 0.5}))
        assert subject.optimizers[0].param_groups[0]["params"] == []

    @pytest.mark.parametrize("device", ["cpu", "meta"])
    def test_it_holds_the_moved_parameters(self, device):
        """Also a module-level optimizer, made before the move; tied parameters stay tied and keep their attributes."""
        write(
            "a.py",
            NET + "model = Net()\n"
            "model.tied = nn.Linear(4, 4)\n"
            "model.tied.weight = model.block.fc.weight\n"
            "model.tied.weight.require_grad = False\n"
            "optimizer = torch.optim.SGD(model.parameters())",
        )
        subject = load("a.py", device=device)
        held = {id(p) for p in subject.optimizers[0].param_groups[0]["params"]}
        assert held == {id(p) for p in subject.model.parameters()}
        assert subject.model.tied.weight is subject.model.block.fc.weight
        assert subject.model.tied.weight.require_grad is False
        assert subject.model.tied.weight.device.type == device

    def test_built_on_the_meta_device(self):
        """A constructor that reads its own numbers is run again without it."""
        write("a.py", NET + "def build_model():\n    torch.ones(1).item()\n    return Net()")
        assert load("a.py", device="meta").model.head.weight.is_meta

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("pass", "a.py:build_optimizer returned None instead of an optimizer"),
            (
                "return torch.optim.SGD(m.parameters()), 1",
                "a.py:build_optimizer returned a tuple (SGD, int) instead of an optimizer",
            ),
            ("return []", "a.py:build_optimizer returned a list instead of an optimizer"),
            ("raise ValueError('lr')", "making the optimizer, a.py:build_optimizer(model), raised ValueError: lr"),
        ],
    )
    def test_build_optimizer_that_makes_none(self, source, message):
        """What it returned instead."""
        write("a.py", NET + f"def build_optimizer(m): {source}")
        assert error_of("a.py").message == message

    @pytest.mark.parametrize(
        ("table", "message", "hint"),
        [
            ({"name": "AdamV"}, "`optimizer` names 'AdamV', which is no class of torch.optim", "Adam, AdamW or"),
            ({"name": "AdmW"}, "`optimizer` names 'AdmW', which is no class of torch.optim", "AdamW"),
            ({"name": "SGD", "learning_rate": 1}, "`optimizer`: SGD takes no `learning_rate`", "it takes lr"),
            ({"name": "SGD", "lr": -1}, "`optimizer`: SGD raised ValueError: Invalid learning rate: -1", ""),
        ],
    )
    def test_a_table_that_is_wrong(self, table, message, hint):
        """It is the spec's mistake."""
        write("a.py", NET)
        error = error_of("a.py", SpecError, spec=Spec.of(optimizer=table))
        assert error.message == message
        assert hint in error.hint


class TestInputsAndLoss:
    def test_beside_the_model(self):
        """Called anew for each step."""
        write(
            "a.py",
            NET + "def example_inputs(): return torch.randn(2, 4)\n"
            "def compute_loss(model, inputs): return model(inputs).sum()",
        )
        subject = load("a.py")
        assert subject.inputs_said == "from a.py:example_inputs"
        assert not torch.equal(subject.make_inputs(), subject.make_inputs())
        assert subject.compute_loss(subject.model, subject.make_inputs()).ndim == 0

    def test_the_specs_tables(self):
        """Several are given by position; bounds are kept."""
        write("a.py", NET)
        spec = Spec.of(inputs=[{"shape": [2, 4]}, {"shape": [2, 3], "dtype": "int64", "low": 5, "high": 7}])
        floats, ids = load("a.py", spec=spec).make_inputs()
        assert floats.dtype == torch.float32
        assert set(ids.flatten().tolist()) <= {5, 6}

    def test_the_command_lines_shape_beats_all(self):
        """A model of ids gets ids."""
        write("a.py", NET + "model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 2))\ndef example_inputs(): 1 / 0")
        subject = load("a.py", input_shape=(2, 5))
        assert subject.make_inputs().dtype == torch.int64
        assert subject.inputs_said == "int64[2, 5] from --input-shape"

    def test_what_raises_says_whose_line(self):
        """At the time of the probe, not of loading."""
        write("a.py", NET + "def example_inputs(): return None\ndef compute_loss(model, inputs):\n    return undefined")
        subject = load("a.py")
        with pytest.raises(ProbeError, match=r"a\.py:example_inputs returned None instead of inputs"):
            subject.make_inputs()
        with pytest.raises(ProbeError, match="raised NameError") as caught:
            subject.compute_loss(subject.model, None)
        assert str(caught.value.location) == "a.py:23"

    @pytest.mark.parametrize(
        ("reference", "message", "hint"),
        [
            ("a.py", "`loss` is 'a.py', which names no function", 'loss = "a.py:NAME"'),
            (
                "a.py:compute_los",
                "`loss` is 'a.py:compute_los', but a.py defines no `compute_los`",
                "did you mean compute_loss?",
            ),
            (
                "a.py:LR",
                "`loss` is 'a.py:LR', which is a float, not a function",
                "name a function: it is called when it is needed",
            ),
        ],
    )
    def test_a_reference_that_names_no_function(self, reference, message, hint):
        """It is the spec's mistake."""
        write("a.py", NET + "LR = 0.1\ndef compute_loss(model, inputs): pass")
        error = error_of("a.py", SpecError, spec=Spec.of(loss=reference))
        assert (error.message, error.hint) == (message, hint)


def test_a_specs_target_is_relative_to_it():
    """Loaded from another folder, under the name that the user would type there."""
    write("conf/a.py", NET + "model = Net()")
    write("conf/freeze.toml", 'target = "a.py:model"\n')
    spec = Spec.load("conf/freeze.toml")
    assert loading.target_of(spec) == "conf/a.py:model"
    assert isinstance(load(loading.target_of(spec), spec=spec).model, nn.Module)
    assert isinstance(load("a.py:model", spec=spec).model, nn.Module)


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("a.py", "def build_model():"),
        ("a.py:build_model", "def build_model():"),
        ("a.py:other", "other = Net()"),
        ("a.py:Net", "class Net(nn.Module):"),
        ("a:other", "other = Net()"),
    ],
)
def test_where_the_model_is_made(target, line):
    """The line of the factory, of the instance, or of the class that the target names."""
    source = NET + "def build_model():\n    return Net()\nother = Net()\n"
    write("a.py", source)
    place = load(target).made_at
    assert place is not None
    assert (place.file, source.splitlines()[place.line - 1]) == ("a.py", line)
