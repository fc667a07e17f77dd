"""The READMEs say what the program says, and their commands are those that CI runs."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.readme import CONSOLE, READMES, ROOT, comparable, difference, filled, rule_table

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_what_a_readme_shows_is_what_the_program_says(path, monkeypatch):
    """Every output, file and table in a README is the present one (else: `python -m tests.readme --write`)."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert difference(path) == ""


def test_every_example_has_a_readme_that_shows_a_run():
    """No example is left without its README, and none of these is without a command and its output."""
    folders = [path for path in (ROOT / "examples").iterdir() if path.is_dir() and path.name != "__pycache__"]
    for folder in folders:
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert any("$ freezecheck" in block for block in CONSOLE.findall(text)), folder.name
        assert len(text.splitlines()) < 150


def test_a_changed_output_would_be_noticed():
    """The comparison can fail: a README that shows another output, or another rule, is not the present one."""
    stale = "```console\n$ freezecheck --version\nfreezecheck 0.0.0-never\n```\n"
    assert comparable(filled(stale, ROOT)) != comparable(stale)
    table = "<!-- rules -->\n| FZ999 |\n<!-- /rules -->\n"
    assert filled(table, ROOT) == f"<!-- rules -->\n{rule_table()}<!-- /rules -->\n"


def test_the_readme_names_every_command():
    """Each command that `freezecheck --help` lists is shown in the README."""
    shown = filled("```console\n$ freezecheck --help\n```\n", ROOT)
    commands = re.findall(r"^  ([a-z]+)  ", shown.partition("Commands:")[2], re.M)
    assert commands
    assert [name for name in commands if f"freezecheck {name}" not in README] == []


@pytest.mark.parametrize("name", ["try", "test"])
def test_ci_finds_the_commands_of_the_readme(name):
    """The two blocks that CI runs word for word are there, one each, and are valid shell."""
    blocks = re.findall(rf"^<!-- block: {name} -->\n```sh\n(.*?)^```$", README, re.M | re.S)
    assert len(blocks) == 1
    subprocess.run(["bash", "-n"], input=blocks[0], text=True, check=True, timeout=60)
    assert f"readme_block {name}" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_readme_has_its_parts_in_order():
    """A reader finds the same order as ever: run, install, hook, pytest, rules, exit codes."""
    heads = re.findall(r"^## (.*)$", README, re.M)
    wanted = ["Install", "pre-commit", "pytest", "Rules", "Exit codes"]
    assert [head for head in heads if head in wanted] == wanted
