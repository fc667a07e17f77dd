"""Targets that cannot be loaded: what is wrong, where, and what to do."""

from __future__ import annotations

import pytest
import torch
from targets import NET, error_of, load, work_in_an_empty_folder, write

from freezecheck.spec import Spec

torch.set_num_threads(1)

_folder = pytest.fixture(autouse=True)(work_in_an_empty_folder)


class TestCannotLoad:
    """What is wrong, where, and what to do."""

    def test_no_such_file(self):
        """The nearest file is offered."""
        write("model.py", NET)
        error = error_of("modle.py")
        assert error.message == "there is no file modle.py"
        assert error.hint == "did you mean model.py?"

    @pytest.mark.parametrize(
        ("name", "message", "hint"),
        [
            ("weights.pt", "weights.pt is no Python file", "a checkpoint holds weights"),
            ("train.ipynb", "train.ipynb is no Python file", "nbconvert"),
            ("freeze.toml", "freeze.toml is no Python file", "--spec freeze.toml"),
            ("empty.py", "empty.py is empty", "saved"),
        ],
    )
    def test_a_file_of_another_kind(self, name, message, hint):
        """Each says what it is for."""
        write(name, "" if name == "empty.py" else "x")
        error = error_of(name)
        assert error.message == message
        assert hint in error.hint

    def test_a_folder(self):
        """Its files are listed."""
        write("nets/one.py", NET)
        error = error_of("nets")
        assert error.message == "nets is a folder, not a Python file"
        assert error.hint == "name one of its files: nets/one.py"

    @pytest.mark.parametrize("target", ["resnet18", "a:b:c", "model.py:", "model.py:1x", ":x", ""])
    def test_what_is_no_target(self, target):
        """No form of target fits, and the forms are said."""
        write("model.py", NET)
        assert error_of(target).hint

    def test_a_syntax_error(self):
        """The line, and a caret under the place."""
        write("a.py", "x = 1\ndef f(:\n    pass\n")
        error = error_of("a.py")
        assert error.message == "importing a.py failed, there is a syntax error: invalid syntax"
        assert str(error.location) == "a.py:2"
        assert error.frames[-1] == "  a.py:2\n    def f(:\n          ^"

    def test_an_error_in_an_imported_file_is_placed_there(self):
        """Frames run from the target to the line that failed, and no others."""
        write("helper.py", "def read():\n    raise FileNotFoundError('data.csv')")
        write("a.py", "import helper\nhelper.read()")
        error = error_of("a.py")
        assert error.message == "importing a.py raised FileNotFoundError: data.csv"
        assert error.frames == (
            "  a.py:2\n    helper.read()",
            "  helper.py:2 in read\n    raise FileNotFoundError('data.csv')",
        )

    @pytest.mark.parametrize(
        ("file", "hint"),
        [
            ("requirements.txt", "requirements.txt asks for nosuchlib, it is not installed: pip install nosuchlib"),
            ("lib/nosuchlib/__init__.py", "pip install nosuchlib; freezecheck runs in"),
            ("nosuchlib/net.py", "nosuchlib lies in"),
        ],
    )
    def test_a_missing_module(self, file, hint):
        """It is named, with where it could come from."""
        write(file, "nosuchlib>=1" if file.endswith("txt") else "")
        write("sub/a.py", "import nosuchlib.net")
        error = error_of("sub/a.py")
        assert "No module named 'nosuchlib" in error.message
        assert error.hint.startswith(hint)

    @pytest.mark.parametrize(
        ("target", "hint"),
        [
            ("no.such.module:x", "no module `no` is found in the working directory or among what is installed in"),
            ("trian:Net", "did you mean train?"),
            ("pack.modle:Net", "`pack` has no module `modle`; did you mean model?"),
            ("train.net:Net", "`train` has no module `net`"),
        ],
    )
    def test_a_module_that_the_target_names_and_nobody_has(self, target, hint):
        """It may be a slip of the pen: nothing is told to be installed."""
        write("train.py", NET)
        write("pack/__init__.py", "")
        write("pack/model.py", NET)
        error = error_of(target)
        assert "No module named" in error.message
        assert hint in error.hint
        assert "pip install" not in error.hint

    @pytest.mark.parametrize(
        ("file", "hint"),
        [
            ("requirements.txt", "requirements.txt asks for nosuchlib, it is not installed: pip install nosuchlib"),
            ("../nosuchlib/net.py", "nosuchlib lies in"),
        ],
    )
    def test_a_module_that_is_known_here_is_no_slip(self, file, hint, monkeypatch):
        """A requirement that is not installed, and a package that lies in the folder above."""
        write("sub/.keep", "")
        write(f"sub/{file}", "nosuchlib>=1" if file.endswith("txt") else "")
        monkeypatch.chdir("sub")
        assert error_of("nosuchlib.net:Net").hint.startswith(hint)

    def test_what_a_named_module_imports_is_still_to_be_installed(self):
        """The target is there; what it imports is not."""
        write("a.py", "import nosuchlib")
        assert error_of("a:model").hint.startswith("pip install nosuchlib")

    def test_a_function_of_the_spec_in_a_module_that_is_not_there(self):
        """It is looked for in the spec's folder."""
        write("a.py", NET + "model = Net()")
        write("conf/losses.py", "")
        error = error_of("a.py", spec=Spec.of(loss="lossse:compute", folder="conf"))
        assert error.hint.startswith("no module `lossse` is found in conf or among")
        assert error.hint.endswith("did you mean losses?")

    def test_sys_exit_at_import(self):
        """It does not end freezecheck."""
        write("a.py", "import sys\nsys.exit(3)")
        assert error_of("a.py").message == "importing a.py called sys.exit(3)"

    def test_no_model(self):
        """A factory by another name is offered."""
        write("a.py", "def make_net():\n    pass")
        error = error_of("a.py")
        assert error.message == "a.py defines no model: no build_model(), no nn.Module instance or class"
        assert "a.py:make_net" in error.hint

    def test_several_instances(self):
        """All are listed with their lines."""
        write("a.py", NET + "teacher = Net()\nstudent = Net()")
        error = error_of("a.py")
        assert error.message == ("a.py holds 2 modules with parameters:\n  teacher  (a.py:21)\n  student  (a.py:22)")
        assert error.hint == "name the one to check: a.py:student"

    def test_several_classes(self):
        """Neither is part of the other."""
        write("a.py", NET + "class Other(Net): pass")
        assert error_of("a.py").message == (
            "a.py holds 2 classes that could be the model:\n  Net  (a.py:13)\n  Other  (a.py:21)"
        )

    def test_only_a_class_that_needs_arguments(self):
        """Its signature is shown."""
        write("a.py", "from torch import nn\nclass Net(nn.Module):\n    def __init__(self, depth: int, width=4): pass")
        error = error_of("a.py")
        assert "Net (line 2) needs arguments: Net(depth, width=4)" in error.message
        assert "--arg KEY=VALUE" in error.hint

    @pytest.mark.parametrize(
        ("source", "message", "hint"),
        [
            (
                "def build_model(): return Net(), 1",
                "a.py:build_model returned a tuple (Net, int) instead of a model",
                "build_optimizer",
            ),
            ("def build_model(): Net()", "a.py:build_model returned None instead of a model", "`return model` missing"),
            ("def build_model(): return Net", "a.py:build_model returned the class Net instead of a model", "Net(…)"),
            (
                "def build_model(): return Net().state_dict()",
                "a.py:build_model returned an OrderedDict instead",
                "load_state_dict",
            ),
            (
                "def build_model(depth): pass",
                "a.py:build_model needs `depth` to be built: build_model(depth)",
                "--arg depth=VALUE",
            ),
            ("def build_model(): raise OSError('disk')", "building a.py:build_model() raised OSError: disk", ""),
        ],
    )
    def test_a_factory_that_makes_no_model(self, source, message, hint):
        """What it returned instead, and its line."""
        write("a.py", NET + source)
        error = error_of("a.py")
        assert error.message.startswith(message)
        assert hint in error.hint
        assert str(error.location) == "a.py:21"

    def test_an_unknown_name(self):
        """The nearest one is offered."""
        write("a.py", NET)
        error = error_of("a.py:Nett")
        assert (error.message, error.hint) == ("a.py defines no `Nett`", "did you mean Net?")

    def test_an_unknown_argument(self):
        """What the constructor takes is shown."""
        write("a.py", NET)
        error = error_of("a.py:Net", arguments={"widht": 3})
        assert error.message == "a.py:Net takes no argument `widht`: Net(width=4)"
        assert error.hint == "did you mean width?"

    def test_arguments_for_an_instance(self):
        """They would be lost silently."""
        write("a.py", NET + "model = Net()")
        assert "is built already" in error_of("a.py", arguments={"width": 3}).message

    def test_a_name_that_is_something_else(self):
        """A number is no model."""
        write("a.py", "LR = 0.1")
        assert error_of("a.py:LR").message == "a.py:LR is a float, no model"


def test_what_makes_an_optimizer_is_not_offered_as_a_model():
    """The hint names a function that may make a model, and no other."""
    write("a.py", "def build_optimizer(model): ...\ndef make_encoder(depth): ...\n")
    assert "a.py:make_encoder" in error_of("a.py").hint
    write("b.py", "def build_optimizer(model): ...\n")
    assert "b.py:NAME" in error_of("b.py").hint


TRAINS = (
    "model = Net()\nopt = torch.optim.SGD(model.parameters(), lr=0.1)\n"
    "for _ in range({steps}):\n    model(torch.randn(2, 4)).sum().backward()\n    opt.step()\n"
)


class TestScripts:
    """A file that trains while it is imported."""

    def test_it_is_told_when_it_goes_on(self):
        """Once, with the line and both ways out; the model is loaded as the script leaves it."""
        write("gan.py", NET + TRAINS.format(steps=30))
        with pytest.warns(UserWarning, match="importing gan.py trains: SGD makes step after step") as caught:
            load("gan.py:model")
        (warning,) = caught
        source = (NET + TRAINS.format(steps=30)).splitlines()
        assert (warning.filename, source[warning.lineno - 1].strip()) == ("gan.py", "opt.step()")
        assert '`if __name__ == "__main__":`' in str(warning.message)
        assert "freezecheck run gan.py" in str(warning.message)

    @pytest.mark.filterwarnings("error")
    def test_a_few_steps_are_a_set_up(self):
        """A step or two, taken to bring about the state that is to be checked, are nobody's business."""
        write("gan.py", NET + TRAINS.format(steps=3))
        load("gan.py:model")

    @pytest.mark.filterwarnings("error")
    def test_a_guarded_training_is_none(self):
        """Nor is an optimizer with its scheduler, which makes no step of its own; later steps are nobody's business."""
        body = "".join(f"    {line}\n" for line in TRAINS.format(steps=30).splitlines())
        scheduler = "torch.optim.lr_scheduler.StepLR(torch.optim.SGD(net.parameters(), lr=1.0), 1)"
        write("gan.py", NET + f'net = Net()\nscheduler = {scheduler}\nif __name__ == "__main__":\n{body}')
        load("gan.py:net")
        model = torch.nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()
