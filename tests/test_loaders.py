"""Targets: what each form of them loads."""

from __future__ import annotations

import sys

import pytest
import torch
from targets import NET, error_of, load, work_in_an_empty_folder, write

from freezecheck.spec import Spec

torch.set_num_threads(1)

_folder = pytest.fixture(autouse=True)(work_in_an_empty_folder)


class TestFindsTheModel:
    """`build_model()`, else the instance `model`, else the only instance, else the only class."""

    def test_build_model_comes_first(self):
        """A factory wins over an instance called model."""
        write("a.py", NET + "model = Block()\nunused = Net()\ndef build_model(): return Net()")
        assert type(load("a.py").model).__name__ == "Net"

    def test_then_the_instance_called_model(self):
        """Other instances beside it do not matter."""
        write("a.py", NET + "model = Net()\nteacher = Net()")
        subject = load("a.py")
        assert subject.model is sys.modules["a"].model
        assert subject.target == "a.py"

    def test_then_the_only_instance_with_parameters(self):
        """A loss module has none, and a second name for the same object is no second model."""
        write("a.py", NET + "net = Net()\nsame = net\ncriterion = nn.CrossEntropyLoss()\npart = net.block")
        assert load("a.py").model is sys.modules["a"].net

    def test_then_the_only_class_that_is_no_part_of_another(self):
        """Block occurs inside of Net; an imported class is not the file's own; a loss has no weights."""
        write(
            "a.py",
            NET + "from torch.nn import Linear\n"
            "class MyLoss(nn.Module): pass\n"
            "class Needs(nn.Module):\n"
            "  def __init__(self, n): super().__init__()",
        )
        assert type(load("a.py").model).__name__ == "Net"

    @pytest.mark.parametrize("name", ["Net", "make", "Makers.small", "net", "partial"])
    def test_a_name_may_be_a_class_a_factory_or_an_instance(self, name):
        """Dotted names are followed; a partial is a factory."""
        more = (
            "import functools\n"
            "net = Net()\n"
            "def make(): return Net()\n"
            "class Makers:\n"
            "    small = staticmethod(make)\n"
            "partial = functools.partial(Net, width=3)"
        )
        write("a.py", NET + more)
        assert type(load(f"a.py:{name}").model).__name__ == "Net"

    def test_arguments_reach_the_constructor(self):
        """`--arg width=7`, for a class that is named and for one that is found."""
        write("a.py", NET)
        assert load("a.py:Net", arguments={"width": 7}).model.head.in_features == 7
        assert load("a.py", arguments={"width": 5}).model.head.in_features == 5

    def test_a_name_in_a_package(self):
        """The working directory is on the path; what stands beside the model counts there too."""
        write("pkg/__init__.py")
        write("pkg/net.py", NET + "def build_optimizer(model): return torch.optim.Adam(model.parameters())")
        subject = load("pkg.net:Net")
        assert subject.optimizer_said == "Adam from pkg.net:build_optimizer"


class TestImports:
    def test_a_sibling_is_found_and_shares_one_module(self):
        """The file's folder is first on the path, and its own name is the one that others import it by."""
        write("sub/helper.py", "import model\nWIDTH = 3")
        write(
            "sub/model.py",
            NET
            + "def build_model():\n    import helper\n    assert helper.model.Net is Net\n    return Net(helper.WIDTH)",
        )
        subject = load("sub/model.py")
        assert subject.model.head.in_features == 3
        assert type(subject.model).__module__ == "model"

    def test_relative_imports_in_a_package(self):
        """A file with an __init__.py beside it is imported by its dotted name."""
        write("proj/__init__.py")
        write("proj/nets/__init__.py")
        write("proj/nets/parts.py", "WIDTH = 6")
        write("proj/nets/model.py", NET + "from .parts import WIDTH\nmodel = Net(WIDTH)")
        subject = load("proj/nets/model.py")
        assert type(subject.model).__module__ == "proj.nets.model"
        assert [file.rpartition("/proj/")[2] for file in subject.files] == [
            "nets/model.py",
            "__init__.py",
            "nets/__init__.py",
            "nets/parts.py",
        ]

    @pytest.mark.parametrize("stem", ["types", "code", "json", "random"])
    def test_a_file_named_like_a_standard_module_clobbers_nothing(self, stem):
        """The name that Python itself needs stays Python's."""
        before = sys.modules.get(stem)
        write(f"{stem}.py", NET + "model = Net()")
        assert type(load(f"{stem}.py").model).__name__ == "Net"
        assert sys.modules.get(stem) is before

    def test_two_files_of_one_name(self):
        """Each has its own module."""
        write("a/train.py", NET + "model = Net(3)")
        write("b/train.py", NET + "model = Net(5)")
        assert [load(f"{folder}/train.py").model.head.in_features for folder in "ab"] == [3, 5]

    def test_a_file_runs_once(self):
        """A target and the spec's `file.py:function` share one module object."""
        write(
            "train.py",
            NET + "model = Net()\n"
            "print('run')\n"
            "def opt(m):\n"
            "    assert m is model\n"
            "    return torch.optim.SGD(m.parameters())",
        )
        spec = Spec.of(optimizer="train.py:opt")
        assert load("train.py", spec=spec).optimizers[0].param_groups[0]["params"]
        assert load("train.py").model is load("train.py:model").model

    def test_freezechecks_own_arguments_are_hidden(self, monkeypatch):
        """A script that parses the command line at import sees none."""
        monkeypatch.setattr(sys, "argv", ["freezecheck", "verify", "--format", "json"])
        write("a.py", NET + "import argparse\nargparse.ArgumentParser().parse_args()\nmodel = Net()")
        load("a.py")
        assert sys.argv[1] == "verify"

    def test_prints_go_to_stderr(self, capsys):
        """stdout belongs to the report."""
        write("a.py", NET + "print('noise')\nmodel = Net()")
        load("a.py")
        assert capsys.readouterr().out == ""


class TestLibraries:
    def test_torchvision(self):
        """The number of classes reaches the builder; no weights are loaded."""
        subject = load("torchvision:resnet18", arguments={"num_classes": 3})
        assert subject.model.fc.out_features == 3
        assert subject.extras == {"torchvision": "resnet18"}

    def test_a_model_that_torchvision_lacks(self):
        """The nearest names are offered."""
        error = error_of("torchvision:resnet81")
        assert error.message == "torchvision has no model 'resnet81'"
        assert "resnet18" in error.hint

    def test_timm(self):
        """Likewise."""
        assert load("timm:resnet18", arguments={"num_classes": 3}).model.fc.out_features == 3
        assert "did you mean" in error_of("timm:resnet81").hint

    @pytest.mark.parametrize("library", ["torchvision", "timm"])
    def test_a_library_that_is_not_installed(self, library, monkeypatch):
        """How to install it."""
        monkeypatch.setitem(sys.modules, library, None)
        assert error_of(f"{library}:resnet18").hint == f"pip install {library}"
