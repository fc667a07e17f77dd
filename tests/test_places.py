"""Whose code a line is, and what is shown of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from freezecheck.places import class_location, frames_of, kind, library_location, raised_at, shown, user_location


class TestKind:
    def test_torch_and_the_standard_library_are_not_the_users(self):
        """Installed files are told apart by where they lie."""
        assert kind(nn.Linear.forward.__code__.co_filename) == "torch"
        assert kind(json.loads.__code__.co_filename) == "python"
        assert kind(pytest.skip.__call__.__code__.co_filename) == "library"
        assert kind(shown.__code__.co_filename) == "freezecheck"

    @pytest.mark.parametrize("name", ["<string>", "<frozen importlib._bootstrap>", "<eval_with_key>.7"])
    def test_code_without_a_file_is_pythons(self, name):
        """Generated code has no line to point at."""
        assert kind(name) == "python"

    @pytest.mark.parametrize(
        "path",
        ["/home/me/torch/train.py", "/home/me/torch/nn/modules/linear.py", "/srv/lib/python3.11/x.py", "train.py"],
    )
    def test_a_project_is_the_users_wherever_it_lies(self, path):
        """A folder's name makes nothing torch's or Python's."""
        assert kind(path) == "user"

    def test_does_not_import_torch(self):
        """Finding torch's folder does not load it."""
        code = "import sys, freezecheck.places as p; p.kind('/x/y.py'); sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shown_is_relative_only_below_the_working_directory(tmp_path, monkeypatch):
    """A file elsewhere keeps its absolute path; `../x` would not survive a copy into an editor."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert shown(str(tmp_path / "here" / "sub" / "model.py")) == os.path.join("sub", "model.py")
    assert shown(str(tmp_path / "elsewhere.py")) == str(tmp_path / "elsewhere.py")
    assert shown(str(tmp_path / "here2" / "model.py")) == str(tmp_path / "here2" / "model.py")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(
            x,
        )


def test_user_location_is_the_innermost_line_of_the_users():
    """From inside of torch the walk ends at the forward that called it, also when the call spans lines."""
    seen = []
    net = Net()
    net.fc.register_forward_hook(lambda *_: seen.append(user_location(sys._getframe(1))))
    net(torch.zeros(1, 2))
    (place,) = seen
    assert place.function == "Net.forward"
    assert place.text == "return self.fc("
    assert os.path.basename(place.file) == "test_places.py"


def test_library_location_needs_a_library_inside_of_the_users_line():
    """The test runner calls the user's code and is not called by it."""
    assert library_location(sys._getframe()) is None


def _deep(n):
    return _deep(n - 1) if n else 1 / 0


def _one(n):
    return _two(n - 1) if n else 1 / 0


def _two(n):
    return _one(n - 1)


class TestFrames:
    def test_only_the_users_frames_are_kept(self):
        """Torch's own frames are cut out."""
        with pytest.raises(RuntimeError) as caught:
            Net()(torch.zeros(1, 3))
        lines = frames_of(caught.value)
        assert len(lines) == 2
        assert lines[1].startswith("  ")
        assert lines[1].endswith("in Net.forward\n    return self.fc(")

    def test_a_repeated_frame_is_said_once(self):
        """A recursion of fifty calls takes a line and its count."""
        with pytest.raises(ZeroDivisionError) as caught:
            _deep(50)
        assert len(frames_of(caught.value)) == 2
        assert "(51 times)" in frames_of(caught.value)[1]

    def test_the_middle_of_a_deep_traceback_is_left_out(self):
        """Two functions that call each other do not fill the screen."""
        with pytest.raises(ZeroDivisionError) as caught:
            _one(100)
        lines = frames_of(caught.value)
        assert len(lines) == 13
        assert lines[6] == "  … 90 frames left out …"

    def test_a_syntax_error_shows_the_line_and_a_caret(self, tmp_path):
        """The offending line is nobody's frame."""
        file = str(tmp_path / "model.py")
        with pytest.raises(SyntaxError) as caught:
            compile("x = 1\n    y = (2\n", file, "exec")
        assert (
            frames_of(caught.value)[-1].splitlines()[1:] == ["    y = (2", "    ^^^^"]
            or "^" in frames_of(caught.value)[-1]
        )
        assert raised_at(caught.value).file == file
        assert raised_at(caught.value).line == 2


def test_a_class_of_the_users_has_its_line_and_no_other_has():
    """Torch's own, and one that was made without a file, are not in the user's code."""
    place = class_location(Net)
    assert place is not None
    assert (place.file, place.text) == (shown(__file__), "class Net(nn.Module):")
    assert class_location(nn.Linear) is None
    assert class_location(type("Made", (nn.Module,), {"__module__": "nowhere"})) is None
