"""Where each word goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from freezecheck.cli import main
from freezecheck.cli.options import Options
from freezecheck.cli.outputs import Wanted
from freezecheck.errors import ProbeError
from freezecheck.records import Location
from tests.cli.runner import run
from tests.render.golden import failed


class TestWhereItGoes:
    """stdout carries the report alone; a file is written whole or not at all."""

    def test_what_the_users_code_prints_goes_to_stderr(self, fakes):
        """A print in train.py is not part of the report."""
        result = run("verify", "train.py")
        assert "the user's code prints this" in result.stderr
        assert result.stdout.startswith("seed 0; cpu; ")

    def test_output_is_written_to_the_file(self, fakes, tmp_path):
        """--output leaves stdout empty, and nothing but the file behind."""
        result = run("verify", "train.py", "--output", "report.txt")
        assert (result.stdout, result.exit_code) == ("", 0)
        assert (tmp_path / "report.txt").read_text().endswith("stayed byte for byte\n")
        assert {path.name for path in tmp_path.iterdir()} == {"report.txt", "train.py"}

    def test_a_failing_check_leaves_the_old_file(self, fakes, tmp_path):
        """A report that was there is not lost to a check that could not be made, nor a draft left lying about."""
        (tmp_path / "report.txt").write_text("old")
        fakes.answers = [ProbeError("no"), ZeroDivisionError()]
        assert [run("verify", "train.py", "--output", "report.txt").exit_code for _ in range(2)] == [2, 3]
        assert (tmp_path / "report.txt").read_text() == "old"
        assert {path.name for path in tmp_path.iterdir()} == {"report.txt", "train.py"}

    def test_a_replaced_file_keeps_its_permissions_and_a_link_its_target(self, fakes, tmp_path):
        """Who could read the report before can read it after, and what a link points at is what is written."""
        real = tmp_path / "real.txt"
        real.write_text("old")
        real.chmod(0o640)
        (tmp_path / "link.txt").symlink_to(real)
        run("verify", "train.py", "--output", "link.txt")
        assert real.stat().st_mode & 0o777 == 0o640
        assert (tmp_path / "link.txt").is_symlink()
        assert "freezecheck: ok" in real.read_text()

    def test_a_device_is_written_to_and_not_replaced(self, fakes):
        """--output /dev/null throws the report away and leaves /dev/null what it is."""
        assert run("verify", "train.py", "--output", os.devnull).exit_code == 0
        assert not Path(os.devnull).is_file()

    def test_json_has_the_error_on_stdout(self, fakes):
        """A program that reads stdout learns of the failure, a person reads stderr."""
        fakes.answers = [ProbeError("it raised", hint="do that", location=Location("a.py", 3, "f"))]
        result = run("verify", "train.py", "--format", "json")
        assert json.loads(result.stdout)["error"] == {
            "kind": "probe",
            "message": "it raised",
            "location": {"file": "a.py", "line": 3, "function": "f"},
            "hint": "do that",
        }
        assert "it raised" in result.stderr

    @pytest.mark.parametrize("words", [("--nope",), ("--steps", "0"), ("--output", "no/such/x"), ("--select", "XY")])
    def test_json_has_usage_errors_on_stdout_too(self, fakes, words):
        """Also when the options themselves are wrong, in either spelling of --format."""
        for spelling in (["--format", "json"], ["--format=json"]):
            assert json.loads(run("verify", "train.py", *spelling, *words).stdout)["error"]["kind"] == "usage"

    def test_quiet_is_one_line_for_each_thing(self, fakes):
        """-q shows what decides and the verdict."""
        fakes.answers = [failed()]
        assert [line.split()[0] for line in run("verify", "train.py", "-q").stdout.splitlines()] == [
            "error",
            "warning",
            "freezecheck:",
        ]

    def test_colour_needs_a_terminal_or_the_option(self, fakes, monkeypatch):
        """A pipe gets none, --color forces it, NO_COLOR keeps a terminal plain and --color beats it."""
        assert "\x1b" not in run("verify", "train.py").stdout
        assert "\x1b" in run("verify", "train.py", "--color").stdout
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        screen, file = Wanted("text"), Wanted("text", "x.txt")
        assert Options().style(screen).color
        assert not Options().style(file).color
        monkeypatch.setenv("NO_COLOR", "1")
        assert not Options().style(screen).color
        assert Options(color=True).style(screen).color

    def test_an_encoding_without_the_signs_is_no_crash(self, fakes):
        """Where stdout knows ASCII only, a dash becomes a question mark."""
        result = CliRunner(charset="ascii").invoke(main, ["verify", "train.py"])
        assert result.exit_code == 0
        assert "freezecheck: ok ? 2 trainable" in result.stdout


def test_a_reader_that_goes_away_is_no_error():
    """`freezecheck rule --json-schema | true` ends with 0 and without a traceback."""
    pipe = f"{sys.executable} -m freezecheck rule --json-schema | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
