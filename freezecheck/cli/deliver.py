"""Make the checks, render what they give, write it, and say with which code to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import click

from ..errors import FreezecheckError
from ..guard import printing_to_stderr
from .exits import COULD_NOT_CHECK, show_error
from .output import Output
from .progress import progress

if TYPE_CHECKING:
    from ..records import Report
    from ..render._renderer import Style
    from .options import Options


def deliver(checks: Sequence[Callable[[], Report]], options: Options, *, spinning: bool = True) -> int:
    """Run each check and write the reports as one document in each format; return the highest exit code.

    `spinning` draws on a terminal what is under way; not where the user's own program draws there.

    A check that could not be made is said on stderr, and in the report where its format has a form for that; the
    others are still made. A file that nothing is written to is named on stderr. Raises UsageError, before any check,
    when an output cannot be written.
    """
    from ..discover import renderer

    code = 0
    with ExitStack() as stack:
        documents = [
            _Document(renderer(one.format), options.style(one), stack.enter_context(Output(one.path)))
            for one in options.outputs()
        ]
        for check in checks:
            try:
                with printing_to_stderr(), progress(options) if spinning else nullcontext():
                    report = check()
            except FreezecheckError as error:
                show_error(error, verbose=options.verbose)
                code = COULD_NOT_CHECK
                for document in documents:
                    document.add_error(error)
            else:
                for document in documents:
                    document.add(report)
                code = max(code, report.exit_code)
        for document in documents:
            document.write()
    return code


class _Document:
    """What one format makes of all checks."""

    def __init__(self, renderer: Any, style: Style, output: Output) -> None:
        self._renderer, self._style, self._output = renderer, style, output
        self._texts: list[str] = []

    def add(self, report: Report) -> None:
        self._texts.append(self._renderer.render(report, self._style))

    def add_error(self, error: FreezecheckError) -> None:
        if self._renderer.error is not None:
            self._texts.append(self._renderer.error(error))

    def write(self) -> None:
        if self._texts:
            self._output.write(self._renderer.join(self._texts))
        elif file := self._output.file:
            what = f"{self._renderer.name} has no form for a check that could not be made"
            click.echo(f"freezecheck: {file} was not written: {what}", err=True)
