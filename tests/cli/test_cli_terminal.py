"""What a terminal gets: progress while it waits, and completion of what is typed."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from freezecheck.cli import progress as module
from freezecheck.cli.options import Options
from freezecheck.cli.progress import progress, say
from freezecheck.discover import renderers, rules
from freezecheck.errors import ProbeError
from tests.cli.runner import run
from tests.render.golden import failed


class Terminal(io.StringIO):
    """Stands in for stderr."""

    def __init__(self, tty: bool = True, encoding: str = "utf-8") -> None:
        super().__init__()
        self.tty, self.known = tty, encoding
        self.drawn = __import__("threading").Event()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in the class above
        return self.known

    def isatty(self) -> bool:
        return self.tty

    def write(self, text: str) -> int:
        text.encode(self.known)
        if "step 2" in text:
            self.drawn.set()
        return super().write(text)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.0)
    monkeypatch.setattr(module, "_TURN", 0.001)


class TestProgress:
    """A line on stderr for whoever waits at a terminal."""

    @pytest.mark.parametrize(("tty", "quiet"), [(False, False), (True, True)])
    def test_a_pipe_and_quiet_get_none(self, impatient, monkeypatch, tty, quiet):
        """Not a byte, and no thread is started."""
        stderr = Terminal(tty)
        monkeypatch.setattr(sys, "stderr", stderr)
        with progress(Options(quiet=quiet)):
            say("training step 2 of at most 3")
        assert stderr.getvalue() == ""

    def test_what_is_done_quickly_is_not_told(self, monkeypatch):
        """Within the first second nothing is drawn, so that nothing flickers."""
        stderr = Terminal()
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr(module, "_PATIENCE", 3600.0)
        with progress(Options()):
            say("training step 2 of at most 3")
        assert stderr.getvalue() == ""

    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_it_says_what_is_under_way_and_wipes_it_away(self, impatient, monkeypatch, encoding):
        """Each drawing replaces the last, and the line is empty at the end, also when the check raised."""
        stderr = Terminal(encoding=encoding)
        monkeypatch.setattr(sys, "stderr", stderr)

        def check():
            say("training step 2 of at most 3")
            assert stderr.drawn.wait(60)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), progress(Options()):
            check()
        assert "training step 2 of at most 3" in stderr.getvalue()
        assert stderr.getvalue().endswith("\r\x1b[K")

    def test_without_a_block_saying_is_nothing(self, monkeypatch):
        """Python callers have no terminal to spoil."""
        stderr = Terminal()
        monkeypatch.setattr(sys, "stderr", stderr)
        say("training step 2 of at most 3")
        assert stderr.getvalue() == ""


def completed(words: str, incomplete: str = "") -> list[str]:
    """What a shell is told to offer after these words."""
    environment = {
        **os.environ,
        "_FREEZECHECK_COMPLETE": "bash_complete",
        "COMP_WORDS": f"freezecheck {words} {incomplete}".strip(),
        "COMP_CWORD": str(len(words.split()) + 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "freezecheck"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


class TestCompletion:
    """Click's completion, as the README says to switch it on."""

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_the_script_is_printed(self, shell):
        """`_FREEZECHECK_COMPLETE=bash_source freezecheck` prints what the shell has to read."""
        environment = {**os.environ, "_FREEZECHECK_COMPLETE": f"{shell}_source"}
        done = subprocess.run(
            [sys.executable, "-m", "freezecheck"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0
        assert f"_FREEZECHECK_COMPLETE={shell}_complete" in done.stdout

    def test_formats_are_those_found(self):
        """A new format is offered without another word, and only by the commands it serves."""
        for command in ("report", "verify"):
            served = [name for name, one in renderers().items() if command in one.commands]
            assert completed(f"{command} --format") == served
        assert "csv" not in completed("verify --format")
        assert completed("verify --format", "ju") == ["junit"]

    def test_rules_are_those_found(self):
        """Codes for `rule`, for --select and for --ignore."""
        codes = [rule.code for rule in rules() if rule.code.startswith("FZ5")]
        for words in ("rule", "verify --select", "verify --ignore"):
            assert completed(words, "FZ5") == codes

    def test_commands_are_offered(self):
        """The group's own names."""
        assert {"report", "verify", "init", "rule"} <= set(completed(""))


class TestWidth:
    """How wide the reader's terminal is."""

    def test_a_pipe_gets_a_width_of_its_own_and_the_verdict_in_one_line(self, fakes):
        """Nobody says how wide it is, and `tail -1` is to find the verdict."""
        lines = run("verify", "train.py").stdout.splitlines()
        assert lines[-1].startswith("freezecheck: ok")
        assert max(map(len, lines[:-1])) > 80

    def test_columns_are_heeded(self, fakes, monkeypatch):
        """As the shell and other programs have it, for a pipe too."""
        monkeypatch.setenv("COLUMNS", "60")
        fakes.answers = [failed()]
        stdout = run("verify", "train.py").stdout
        assert "freezecheck: 1 error" in stdout
        assert max(map(len, stdout.splitlines())) <= 60

    def test_an_error_is_wrapped_and_the_users_lines_are_not(self, fakes, monkeypatch):
        """Its message and hint; a traceback's lines are the user's own."""
        line = f"    x = {'very_long_name + ' * 6}1"
        error = ProbeError("word " * 30, hint="hint " * 30, frames=["  train.py:3 in f", line])
        fakes.answers = [error, error]
        assert len(run("verify", "train.py").stderr.splitlines()[1]) > 100
        monkeypatch.setenv("COLUMNS", "60")
        lines = run("verify", "train.py").stderr.splitlines()
        assert line in lines
        assert all(len(one) <= 60 for one in lines if one != line)
        assert sum("hint" in one for one in lines) > 1
