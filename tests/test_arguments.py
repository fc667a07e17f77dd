"""The Python functions say what is wrong with what they are given, before anything is done, and in Python's words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import freezecheck

torch.set_num_threads(1)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 2))


def wrong(kind: type[Exception], said: str, function: Any, *arguments: Any, **options: Any) -> None:
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert str(caught.value).startswith(said)


class TestWhatIsRight:
    """Nothing is refused that the signatures promise."""

    def test_a_spec_and_none(self):
        """Both are taken by every function."""
        spec = freezecheck.Spec.of(trainable=["2"])
        freezecheck.apply(net(), spec)
        for given in (spec, None):
            assert freezecheck.report(net(), given)
            assert freezecheck.watch(net(), None, given)

    def test_collections_of_codes(self):
        """A tuple or a set is as good as a list; so is a rule that there is none of in this model."""
        for codes in (["FZ5"], ("FZ501", "FZ2"), {"FZ1"}, []):
            assert freezecheck.verify(net(), select=codes, ignore=codes and ["FZ503"]).report.ran

    @pytest.mark.parametrize("word", ["error", "warning", "note"])
    def test_every_severity(self, word):
        """As on the command line."""
        assert freezecheck.verify(net(), fail_on=word).report.fail_on == word


class TestWhatIsWrong:
    """The argument, what it must be, and what it was."""

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ("a.toml", "not a str: freezecheck.Spec.load('a.toml') reads the file"),
            (Path("a.toml"), "not a PosixPath: freezecheck.Spec.load('a.toml') reads the file"),
            ({"trainable": ["2"]}, "not a dict: freezecheck.Spec.of(**keys) makes one of a dict's keys"),
            (["2"], "not a list: freezecheck.Spec.load(path) reads a file, freezecheck.Spec.of(trainable=[...])"),
        ],
    )
    def test_a_spec_that_is_none(self, spec, said):
        """Each function says how to make one of it."""
        said = said.replace("PosixPath", type(Path()).__name__)
        for function in (freezecheck.verify, freezecheck.report, freezecheck.apply):
            wrong(TypeError, f"spec must be a freezecheck.Spec, {said}", function, net(), spec)
        wrong(TypeError, f"spec must be a freezecheck.Spec, {said}", freezecheck.watch, net(), None, spec)

    def test_nothing_to_apply(self):
        """There is no spec to be inferred for `apply`."""
        wrong(TypeError, "spec must be a freezecheck.Spec, not None", freezecheck.apply, net(), None)

    @pytest.mark.parametrize("word", ["warn", "ERROR", None, 1])
    def test_a_severity_that_is_none(self, word):
        """The three words are said."""
        said = f'fail_on is "error", "warning" or "note", not {word!r}'
        wrong(ValueError, said, freezecheck.verify, net(), fail_on=word)
        wrong(ValueError, said, freezecheck.watch, net(), fail_on=word)

    @pytest.mark.parametrize("argument", ["select", "ignore"])
    def test_codes_that_are_one_string(self, argument):
        """Its letters are no codes."""
        said = f"{argument} must be a list of rule codes, such as ['FZ4'], not 'FZ4'"
        wrong(TypeError, said, freezecheck.verify, net(), **{argument: "FZ4"})
        wrong(TypeError, f"{argument} must be a list of rule codes", freezecheck.verify, net(), **{argument: [4]})

    def test_steps(self):
        """A whole number, and at least one."""
        wrong(TypeError, "steps must be a whole number, not '3'", freezecheck.verify, net(), steps="3")
        wrong(ValueError, "steps must be at least 1, not 0", freezecheck.verify, net(), steps=0)
        wrong(ValueError, "steps must be at least 1, not 0", freezecheck.watch, net(), steps=0)

    @pytest.mark.parametrize("function", [freezecheck.verify, freezecheck.report, freezecheck.watch])
    def test_a_model_that_is_none(self, function):
        """The class is not the model."""
        wrong(TypeError, "model must be an instance, such as Linear(...)", function, nn.Linear)
        wrong(TypeError, "model must be a torch.nn.Module, not a dict", function, {})

    def test_an_optimizer_and_a_loss_that_are_none(self):
        """Their names, and the class of an optimizer, are not they."""
        said = "optimizer must be a torch.optim.Optimizer or several, not "
        for function in (freezecheck.verify, freezecheck.watch):
            wrong(TypeError, f"{said}a str", function, net(), optimizer="sgd")
            wrong(TypeError, f"{said}the class SGD", function, net(), optimizer=torch.optim.SGD)
        wrong(TypeError, "loss must be a function of (model, inputs)", freezecheck.verify, net(), loss="mse")

    def test_a_format_that_is_none(self):
        """Those that there are."""
        wrong(ValueError, "format is one of csv, github, html", freezecheck.report(net()).render, "xml")


OPTION = re.compile(r"(?<![-\w])--?[a-z][a-z-]*")


def test_no_message_names_an_option_of_the_command_line():
    """Whoever called Python has none: reports, what was left out, and errors speak of arguments."""
    model = net()
    model[0].requires_grad_(False)
    said = [
        str(freezecheck.verify(model, select=["FZ5"], ignore=["FZ501"])),
        str(freezecheck.verify(model)),
        str(freezecheck.report(nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(4))))),
    ]
    for options in ({"inputs": torch.randn(2, 4)}, {"inputs": (torch.randn(2, 3), torch.zeros(2))}, {"phase": "x"}):
        with pytest.raises(freezecheck.FreezecheckError) as caught:
            freezecheck.verify(model, **options)
        said.append(f"{caught.value.message}\n{caught.value.hint}")
    with pytest.raises(freezecheck.FreezecheckError) as caught:
        freezecheck.verify(nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 4)))
    said.append(caught.value.hint)
    assert [OPTION.findall(text) for text in said] == [[]] * len(said)
