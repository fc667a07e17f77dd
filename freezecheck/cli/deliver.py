"""Make the checks, render what they give, write it, and say with which code to end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Timer
from typing import TYPE_CHECKING

from ..errors import FreezecheckError
from ..guard import printing_to_stderr
from .exits import COULD_NOT_CHECK, show_error
from .output import Output

if TYPE_CHECKING:
    from ..records import Report
    from .options import Options

_PATIENCE = 1.0
"""Seconds after which a person at a terminal is told that something is under way."""


def deliver(checks: Sequence[Callable[[], Report]], options: Options) -> int:
    """Run each check and write the reports as one document; return the highest exit code.

    A check that could not be made is said on stderr, and in the report where its format has a form for that; the
    others are still made. Raises UsageError, before any check, when the output cannot be written.
    """
    from ..discover import renderers

    renderer = renderers()[options.format]
    style = options.style()
    texts: list[str] = []
    code = 0
    with Output(options.output) as output:
        for check in checks:
            try:
                with printing_to_stderr(), _progress(options):
                    report = check()
            except FreezecheckError as error:
                show_error(error, verbose=options.verbose)
                code = COULD_NOT_CHECK
                if renderer.error is not None:
                    texts.append(renderer.error(error))
            else:
                texts.append(renderer.render(report, style))
                code = max(code, report.exit_code)
        if texts:
            output.write(renderer.join(texts))
    return code


@contextmanager
def _progress(options: Options) -> Iterator[None]:
    """Say on a terminal, when it takes longer, that the check is running; wipe that away when it is done."""
    if options.quiet or not sys.stderr.isatty():
        yield
        return
    said: list[str] = []

    def say() -> None:
        said.append("freezecheck: checking …")
        print(said[0], end="", file=sys.stderr, flush=True)

    timer = Timer(_PATIENCE, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if said:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
