"""`freezecheck rule`, and what asking must not import."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.runner import run


class TestRule:
    """`freezecheck rule` explains."""

    def test_all_are_listed(self):
        """Every rule has a line with code, severity and name."""
        lines = run("rule").stdout.splitlines()
        assert "FZ101  error    frozen-requires-grad" in lines
        assert "FZ107  note     frozen-by-other-means" in lines

    @pytest.mark.parametrize("word", ["FZ101", "fz101", "frozen-requires-grad"])
    def test_one_is_explained_under_code_and_name(self, word):
        """The rule's own page, whatever the case of the letters."""
        page = run("rule", word).stdout
        assert page.startswith("FZ101 frozen-requires-grad (error)")
        assert "What it does" in page

    def test_the_beginning_of_a_code_lists_its_family(self):
        """`fz0` lists the rules about the spec and no others."""
        found = [line for line in run("rule", "fz0").stdout.splitlines() if line.startswith("FZ")]
        assert found
        assert all(line.startswith("FZ0") for line in found)

    def test_an_unknown_code_is_2_with_the_nearest(self):
        """A slip of the finger is answered with what was meant."""
        result = run("rule", "FZ1O1")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "`FZ1O1` is no rule's code or the beginning of one; did you mean `FZ101`?" in result.stderr

    def test_the_schemas_are_printed(self):
        """The report's schema by default, the spec's when asked for."""
        assert "oneOf" in json.loads(run("rule", "--json-schema").stdout)
        assert json.loads(run("rule", "--json-schema", "report").stdout)["$defs"]
        assert "trainable" in json.loads(run("rule", "--json-schema", "spec").stdout)["properties"]


def modules_after(*words: str, first: str = "") -> set[str]:
    """Return what a fresh interpreter has imported after the command."""
    code = f"import sys\n{first}\nsys.argv = ['freezecheck', *{words!r}]\nfrom freezecheck.__main__ import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\nprint('MODULES', *sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.rpartition("MODULES")[2].split())


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("verify", "--help"), ("rule",), ("rule", "FZ101")])
def test_asking_imports_nothing_heavy(words):
    """Help, version and rules answer without torch and without pydantic."""
    assert modules_after(*words) & {"torch", "numpy", "pydantic", "tabulate"} == set()


def test_the_check_above_can_fail():
    """What is imported is seen: pydantic, imported on purpose, is found."""
    assert "pydantic" in modules_after("--help", first="import pydantic")
