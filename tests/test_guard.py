"""What the user's code prints and raises."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from freezecheck.errors import ProbeError, SpecError, TargetError
from freezecheck.guard import users_code


def _fail(exception):
    with users_code("building the model", TargetError, hint="read it"):
        raise exception


class TestSilent:
    def test_code_that_does_nothing_wrong_passes(self):
        """No error comes of good code, and its stdout is its own again afterwards."""
        before = sys.stdout
        with users_code("building the model", TargetError):
            made = 1 + 1
        assert made == 2
        assert sys.stdout is before

    @pytest.mark.parametrize("error", [SpecError("wrong spec"), ProbeError("no shape")])
    def test_errors_of_freezechecks_own_pass_unchanged(self, error):
        """What was said already is not said again in other words."""
        with pytest.raises(type(error)) as caught:
            _fail(error)
        assert caught.value is error

    def test_a_generator_may_be_closed_inside(self):
        """GeneratorExit is Python's own and no mistake of the user's."""

        def steps():
            with users_code("training", ProbeError):
                yield 1

        running = steps()
        next(running)
        running.close()


class TestRaised:
    @pytest.mark.parametrize(
        ("exception", "message"),
        [
            (ValueError("bad depth"), "building the model raised ValueError: bad depth"),
            (ValueError(), "building the model raised ValueError"),
            (SystemExit(3), "building the model called sys.exit(3)"),
            (SystemExit(), "building the model called sys.exit()"),
            (KeyboardInterrupt(), "building the model was interrupted"),
            (MemoryError(), "building the model ran out of memory"),
            (KeyError("fc"), "building the model raised KeyError: 'fc'"),
        ],
    )
    def test_whatever_it_raises_becomes_one_error(self, exception, message):
        """Also what is no Exception ends as exit code 2 with the user's own line."""
        with pytest.raises(TargetError) as caught:
            _fail(exception)
        assert caught.value.message == message
        assert caught.value.hint == "read it"
        assert caught.value.__cause__ is exception
        assert caught.value.location.function == "_fail"
        assert caught.value.location.text == "raise exception"

    def test_a_message_that_cannot_be_read_is_left_out(self):
        """An exception's own `__str__` is the user's code too."""

        class RudeError(Exception):
            def __str__(self):
                raise RuntimeError

        with pytest.raises(TargetError, match=r"^building the model raised RudeError$"):
            _fail(RudeError())

    def test_endless_recursion_stays_short(self):
        """A thousand frames become one with its count."""

        def build():
            return build()

        with pytest.raises(TargetError, match="without end") as caught, users_code("building the model", TargetError):
            build()
        assert len(caught.value.frames) == 2


def test_nothing_of_the_users_reaches_stdout():
    """Prints, child processes, the file descriptor itself and C's stdio all go to stderr; the report does not."""
    code = """
import ctypes, os, sys
from freezecheck.errors import TargetError
from freezecheck.guard import users_code
print("report 1")
with users_code("building the model", TargetError):
    print("noise"); os.system("echo noise"); os.write(1, b"noise\\n"); sys.__stdout__.write("noise\\n")
    ctypes.CDLL(None).puts(b"noise")
print("report 2")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["report 1", "report 2", ""]
    assert done.stderr.count("noise") == 5


def test_stdout_is_restored_when_it_raises(capsys):
    """The report of the error itself still reaches stdout."""
    with pytest.raises(TargetError):
        _fail(ValueError())
    print("report")
    assert capsys.readouterr().out == "report\n"


def test_what_runs_at_the_end_of_the_process_does_not_print_into_the_report(tmp_path):
    """A function that the user's model registers with `atexit` prints after the report was written."""
    (tmp_path / "model.py").write_text(
        "import atexit, os\nfrom torch import nn\nmodel = nn.Linear(2, 2)\n"
        "atexit.register(lambda: (print('late'), os.system('echo later')))\n"
    )
    command = [sys.executable, "-m", "freezecheck", "report", "--format", "json", "model.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout)["command"] == "report"
    assert "late" in done.stderr
    assert "later" in done.stderr
