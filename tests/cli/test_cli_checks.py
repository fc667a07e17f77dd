"""What `report` and `verify` are asked to check."""

from __future__ import annotations

import json

from freezecheck.cli.progress import say
from freezecheck.records import Severity
from tests.cli.runner import run
from tests.render.golden import failed
from tests.render.samples import verified

SPEC = 'target = "train.py"\ntrainable = ["head"]\n'


class TestWhatIsChecked:
    """The options reach the check as they were given."""

    def test_arguments_are_python_literals_else_strings(self, fakes):
        """--arg takes numbers, lists and None as such, and anything else as text."""
        run(
            "verify",
            "train.py",
            *[w for a in ("n=3", "s=[1, 2]", "x=None", "name=resnet", "u=a=b") for w in ("--arg", a)],
        )
        assert fakes.loaded[0]["arguments"] == {"n": 3, "s": [1, 2], "x": None, "name": "resnet", "u": "a=b"}

    def test_everything_is_passed_on(self, fakes):
        """Shape, device, steps, seed, selection and --fail-on."""
        words = (
            "--input-shape 2,3,8,8 --device meta --steps 5 --seed 7 --select fz1,FZ001 --ignore FZ101 --fail-on note"
        )
        run("verify", "train.py", *words.split())
        assert (fakes.loaded[0]["input_shape"], fakes.loaded[0]["device"]) == ((2, 3, 8, 8), "meta")
        assert fakes.checked[0] == {
            "spec": None,
            "steps": 5,
            "seed": 7,
            "select": ("FZ1", "FZ001"),
            "ignore": ("FZ101",),
            "fail_on": Severity.NOTE,
            "phase": None,
            "memory": False,
            "progress": say,
        }

    def test_the_spec_of_the_folder_is_found_and_its_target_taken(self, fakes, tmp_path):
        """`freezecheck verify` alone reads freezecheck.toml."""
        (tmp_path / "freezecheck.toml").write_text(SPEC)
        assert run("verify").exit_code == 0
        assert (fakes.loaded[0]["target"], fakes.checked[0]["spec"].path) == ("train.py", "freezecheck.toml")

    def test_several_specs_are_checked_one_after_another(self, fakes, tmp_path):
        """Each has its report, in order; the exit code is the highest; one that cannot be read stops no other."""
        for name in ("a.toml", "c.toml"):
            (tmp_path / name).write_text(SPEC)
        fakes.answers = [verified(), failed()]
        result = run("verify", "--spec", "a.toml", "--spec", "b.toml", "--spec", "c.toml", "--format", "json")
        assert [(one["ok"], one["exit_code"]) for one in json.loads(result.stdout)] == [
            (True, 0),
            (False, 2),
            (False, 1),
        ]
        assert result.exit_code == 2
        assert "b.toml" in result.stderr

    def test_report_runs_without_a_spec_of_the_folder(self, fakes, tmp_path):
        """`report` compares with a spec only when one is named."""
        (tmp_path / "freezecheck.toml").write_text(SPEC)
        run("report", "train.py")
        run("report", "--spec", "freezecheck.toml")
        assert [one["spec"] and one["spec"].path for one in fakes.checked] == [None, "freezecheck.toml"]
