"""`freezecheck init`."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
import types

import pytest

import freezecheck
from freezecheck.errors import TargetError
from tests.cli.runner import run


class TestInit:
    """`freezecheck init` writes a spec and never over one."""

    @pytest.fixture
    def drafts(self, fakes, monkeypatch):
        describe = types.ModuleType("freezecheck.probe.describe")
        describe.describe = lambda model: freezecheck.records.Description()
        monkeypatch.setitem(sys.modules, describe.__name__, describe)
        return fakes

    def test_it_writes_freezecheck_toml(self, drafts, tmp_path):
        """The default name, and a word on what to do next."""
        result = run("init", "train.py")
        assert (result.exit_code, result.stdout) == (0, "")
        assert 'target = "train.py"' in (tmp_path / "freezecheck.toml").read_text()
        assert "run `freezecheck verify`" in result.stderr

    def test_it_refuses_to_overwrite_unless_forced(self, drafts, tmp_path):
        """What a person wrote is kept; the model is not even loaded."""
        (tmp_path / "freezecheck.toml").write_text("mine")
        result = run("init", "train.py")
        assert (result.exit_code, drafts.loaded) == (2, [])
        assert (tmp_path / "freezecheck.toml").read_text() == "mine"
        assert "--force" in result.stderr
        assert run("init", "train.py", "--force").exit_code == 0
        assert (tmp_path / "freezecheck.toml").read_text() != "mine"

    def test_dash_is_stdout(self, drafts, tmp_path):
        """--output - prints the draft alone and writes nothing."""
        result = run("init", "train.py:net", "--output", "-")
        assert 'target = "train.py:net"' in result.stdout
        assert "prints this" not in result.stdout
        assert not (tmp_path / "freezecheck.toml").exists()

    def test_the_target_is_seen_from_where_the_spec_lies(self, drafts, tmp_path):
        """A spec in a folder of its own finds the model; names that are no file stay as they are."""
        (tmp_path / "specs").mkdir()
        run("init", "train.py:net", "--output", "specs/a.toml")
        run("init", "torchvision:resnet18", "--output", "specs/b.toml")
        assert 'target = "../train.py:net"' in (tmp_path / "specs" / "a.toml").read_text()
        assert 'target = "torchvision:resnet18"' in (tmp_path / "specs" / "b.toml").read_text()

    def test_a_failure_leaves_nothing(self, drafts, tmp_path, monkeypatch):
        """A model that cannot be loaded leaves no half-written spec."""

        def fail(*_, **__):
            raise TargetError("no such model")

        monkeypatch.setattr(sys.modules["freezecheck.loading"], "load", fail)
        assert run("init", "train.py").exit_code == 2
        assert [path.name for path in tmp_path.iterdir()] == ["train.py"]

    @pytest.mark.parametrize("table", ['trainable = ["fc"]', "trainable = 3"])
    def test_it_refuses_to_hide_the_table_of_a_pyproject(self, drafts, tmp_path, table):
        """A freezecheck.toml would be taken in its place without a word; where it would not, nothing is refused."""
        (tmp_path / "pyproject.toml").write_text(f"[tool.freezecheck]\n{table}\n")
        result = run("init", "train.py")
        assert (result.exit_code, drafts.loaded) == (2, [])
        assert "pyproject.toml has a spec, [tool.freezecheck]" in result.stderr
        assert not (tmp_path / "freezecheck.toml").exists()
        for words in (("--output", "-"), ("--output", "other.toml"), ("--force",)):
            assert run("init", "train.py", *words).exit_code == 0

    def test_without_arguments_none_are_told(self, drafts, tmp_path):
        """The command to run next is as short as it can be."""
        assert run("init", "train.py").stderr.endswith("run `freezecheck verify`\n")
        assert "--arg" not in (tmp_path / "freezecheck.toml").read_text()

    def test_the_command_to_run_next_has_the_arguments_that_built_the_model(self, drafts, tmp_path):
        """Pasted into a shell it builds the same model; the file says it as well."""
        given = ["width=16", "mode=a b", "name='5'", "sizes=(1, 2)", "bias=None", "text=it's"]
        result = run("init", "train.py", "--output", "a b.toml", *(word for arg in given for word in ("--arg", arg)))
        command = re.search("run `freezecheck (verify .*)`\n", result.stderr)[1]
        words = shlex.split(command)
        assert words[:3] == ["verify", "--spec", "a b.toml"]
        (tmp_path / "a b.toml").write_text('target = "train.py"')
        run(*words)
        assert drafts.loaded[1]["arguments"] == drafts.loaded[0]["arguments"]
        assert len(drafts.loaded[0]["arguments"]) == len(given)

    def test_the_file_tells_the_arguments(self, drafts, tmp_path):
        """Beside the target, for whoever runs the next check from it; a line break in one does not end the comment."""
        run("init", "train.py", "--arg", "width=16", "--arg", "text='a\\nb'")
        text = (tmp_path / "freezecheck.toml").read_text()
        assert "#   --arg width=16 --arg " in text
        assert tomllib.loads(text)["target"] == "train.py"

    @pytest.mark.parametrize("text", ["[tool.ruff]\n", "[tool", ""])
    def test_a_pyproject_without_the_table_hides_nothing(self, drafts, tmp_path, text):
        """Neither one of other tools nor one that cannot be read."""
        (tmp_path / "pyproject.toml").write_text(text)
        assert run("init", "train.py").exit_code == 0
