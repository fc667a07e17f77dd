"""The exit codes, and what is said on stderr."""

from __future__ import annotations

import pytest

from freezecheck.errors import ProbeError, TargetError
from freezecheck.records import Location
from tests.cli.runner import run
from tests.render.golden import failed
from tests.render.samples import DROPOUT, verified


class TestExitCodes:
    """0 nothing found, 1 findings, 2 could not check, 3 a bug in freezecheck."""

    def test_nothing_found_is_0(self, fakes):
        """A clean check ends with 0."""
        assert run("verify", "train.py").exit_code == 0

    def test_help_and_version_are_0(self):
        """Asking is no failure."""
        assert [run("--help").exit_code, run("--version").exit_code, run("verify", "-h").exit_code] == [0, 0, 0]

    def test_findings_are_1(self, fakes):
        """A finding at or above --fail-on ends with 1."""
        fakes.answers = [failed()]
        assert run("verify", "train.py").exit_code == 1

    @pytest.mark.parametrize(
        "words",
        [
            ("--nope",),
            ("--steps", "0"),
            ("--seed", "x"),
            ("--fail-on", "fatal"),
            ("--format", "yaml"),
            ("--arg", "novalue"),
            ("--input-shape", "2,x"),
            ("--input-shape", "2,0"),
            ("--select", "FZ9999"),
            ("--depth", "0"),
            ("--output", "no/such/folder/x.txt"),
            ("--spec", "missing.toml"),
        ],
        ids=" ".join,
    )
    def test_bad_usage_is_2_and_nothing_runs(self, fakes, words):
        """A wrong option is found before the model is loaded, and stdout stays empty."""
        result = run("verify", "train.py", *words)
        assert (result.exit_code, result.stdout, fakes.loaded) == (2, "", [])
        assert result.stderr

    def test_the_users_error_is_2_with_place_frames_and_hint(self, fakes):
        """What is wrong, where, and what to do, on stderr; stdout has no report."""
        place = Location("train.py", 3, "build_model", "return Net(depth)")
        fakes.answers = [
            TargetError("building the model raised ValueError: bad depth", hint="give --arg depth=2", location=place)
        ]
        result = run("verify", "train.py")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.splitlines()[1:] == [
            "freezecheck: could not check: building the model raised ValueError: bad depth",
            "  train.py:3 in build_model",
            "    return Net(depth)",
            "hint: give --arg depth=2",
        ]

    def test_the_users_frames_replace_the_place(self, fakes):
        """The traceback cut to the user's frames already ends at the place."""
        fakes.answers = [
            ProbeError("it raised", location=Location("a.py", 9), frames=["  a.py:1\n    f()", "  a.py:9"])
        ]
        error = run("verify", "train.py").stderr
        assert "your code, outermost call first:\n  a.py:1\n    f()\n  a.py:9\n" in error
        assert error.count("a.py:9") == 1

    def test_verbose_shows_the_whole_traceback(self, fakes):
        """-v puts the traceback of the cause before the message, and without -v it stays away."""

        def broken() -> ProbeError:
            try:
                raise KeyError("deep inside")
            except KeyError as cause:
                error = ProbeError("the forward raised KeyError")
                error.__cause__ = cause
                return error

        fakes.answers = [broken(), broken()]
        assert "Traceback (most recent call last)" not in run("verify", "train.py").stderr
        assert 'raise KeyError("deep inside")' in run("verify", "train.py", "-v").stderr

    def test_a_bug_of_freezecheck_is_3(self, fakes):
        """Something unforeseen is not laid at the user's door, and is no finding."""
        fakes.answers = [ZeroDivisionError("division by zero")]
        result = run("verify", "train.py")
        assert (result.exit_code, result.stdout) == (3, "")
        assert "this is a bug in freezecheck, not in your code (ZeroDivisionError)" in result.stderr
        assert "Traceback" in result.stderr

    def test_an_interrupt_is_2(self, fakes):
        """Ctrl-C decides nothing, so it is neither ok nor a finding."""
        fakes.answers = [KeyboardInterrupt()]
        assert run("verify", "train.py").exit_code == 2

    @pytest.mark.parametrize("command", ["verify", "report"])
    def test_no_model_and_no_spec_is_2_and_says_how(self, fakes, command):
        """Called in an empty folder, it says what to type."""
        result = run(command)
        assert (result.exit_code, fakes.loaded) == (2, [])
        assert "no model was named" in result.stderr
        assert f"`freezecheck {command} model.py`" in result.stderr

    def test_a_spec_without_target_is_2_and_says_how(self, fakes, tmp_path):
        """The spec is named, and the line that it lacks."""
        (tmp_path / "s.toml").write_text('trainable = ["fc"]\n')
        result = run("verify", "--spec", "s.toml")
        assert result.exit_code == 2
        assert "s.toml names no target" in result.stderr


def test_notes_alone_do_not_fail(fakes):
    """A note is shown and the exit code stays 0."""
    fakes.answers = [verified([DROPOUT])]
    result = run("verify", "train.py")
    assert result.exit_code == 0
    assert "note FZ503" in result.stdout
