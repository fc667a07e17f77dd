"""The command as a process: no words at all, and a stdout that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.test_cases import CASES

VERIFY = ["verify", "train.py", "--spec", "freeze.toml"]


def started(*words: str, stdout: int) -> subprocess.CompletedProcess[str]:
    """Run freezecheck in a folder with a mistake in its script."""
    return subprocess.run(
        [sys.executable, "-m", "freezecheck", *words],
        cwd=CASES / "a_frozen_in_opt",
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_a_command_it_shows_the_help():
    """Bare `freezecheck` tells which commands there are, and ends with 2: nothing was checked."""
    done = started(stdout=subprocess.PIPE)
    assert done.returncode == 2
    said = f"{done.stdout}{done.stderr}"
    assert "Usage: freezecheck" in said
    assert all(command in said for command in ("verify", "report", "run", "diff", "init", "rule"))
    assert "Traceback" not in said


@pytest.mark.parametrize("words", [VERIFY, ["run", "--spec", "freeze.toml", "train.py"]], ids=["verify", "run"])
def test_a_reader_that_went_away_is_no_error(words):
    """A pipe that nobody reads, as `| head` leaves behind: the exit code stays what was found, without a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = started(*words, stdout=writing)
    finally:
        os.close(writing)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("words", [VERIFY, ["run", "--spec", "freeze.toml", "train.py"]], ids=["verify", "run"])
def test_a_full_disk_is_could_not_check(words):
    """A report that could not be written is no verdict: exit code 2 and one line, not the traceback of a bug."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = started(*words, stdout=full)
    finally:
        os.close(full)
    assert done.returncode == 2, done.stderr
    assert "the report cannot be written to stdout" in done.stderr
    assert "Traceback" not in done.stderr
