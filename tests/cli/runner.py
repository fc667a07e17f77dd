"""Run the command line in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from freezecheck.cli import main


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))
