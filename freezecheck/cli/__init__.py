"""The command line: a thin caller that turns options into a check, and what comes back into text and an exit code.

Nothing heavy is imported here: `--help` and `--version` answer at once, and each command imports what it needs.
"""

from __future__ import annotations

import click

from .. import __version__
from .checks import report, verify
from .diff import diff
from .exits import ExitCodes
from .init import init
from .rule import rule
from .run import run


@click.group(cls=ExitCodes, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="freezecheck")
def main() -> None:
    """Know, not hope, which layers of a PyTorch model train.

    Exit codes: 0 nothing found, 1 findings, 2 could not check, 3 a bug in freezecheck.
    """


for _command in (report, verify, run, diff, init, rule):
    main.add_command(_command)
