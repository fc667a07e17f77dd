"""How the command line ends: the exit codes, and what is said on stderr when a check could not be made."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import click

from ..errors import FreezecheckError, UsageError
from ..render._paint import LEAST_WIDTH, columns_of, wrapped
from .output import to_stdout

COULD_NOT_CHECK = 2
BUG = 3


class ExitCodes(click.Group):
    """A group that ends the process with the contract's exit codes, whatever was raised."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run the command line and exit; click's own way of ending, `standalone_mode`, is never used."""
        words = list(sys.argv[1:] if args is None else args)
        sys.exit(self._code(words, **{"prog_name": "freezecheck", **extra, "standalone_mode": False}))

    def _code(self, words: list[str], **extra: Any) -> int:
        try:
            code = super().main(words, **extra)
        except click.ClickException as error:
            error.show()
            _in_the_format(UsageError(error.format_message()), words)
            return COULD_NOT_CHECK
        except FreezecheckError as error:
            show_error(error, verbose=_has(words, "v", "--verbose"))
            _in_the_format(error, words)
            return COULD_NOT_CHECK
        except (click.Abort, KeyboardInterrupt):
            click.echo("freezecheck: interrupted, nothing was decided", err=True)
            return COULD_NOT_CHECK
        except Exception as error:
            if sys.stdout is None or getattr(error, "errno", None) in (errno.ENOSPC, errno.EBADF, errno.EIO):
                click.echo("freezecheck: could not check: the report cannot be written to stdout", err=True)
                return COULD_NOT_CHECK
            _show_bug(error)
            return BUG
        return code if isinstance(code, int) else 0


def show_error(error: FreezecheckError, *, verbose: bool) -> None:
    """Say on stderr what is wrong, where, and what to do; with `verbose` the whole traceback before it."""
    if verbose and error.__cause__ is not None:
        click.echo("".join(traceback.format_exception(error.__cause__)).rstrip(), err=True)
    click.echo("\n".join(_error_lines(error, _columns())), err=True)


def _columns() -> int | None:
    """The width of whoever reads stderr; None for a file or a pipe, where a line is left whole."""
    known = "COLUMNS" in os.environ or (sys.stderr is not None and sys.stderr.isatty())
    return shutil.get_terminal_size().columns if known else None


def _error_lines(error: FreezecheckError, columns: int | None) -> Iterable[str]:
    """The message and the hint wrapped to so many columns, the user's own lines as they are."""
    message = error.message.splitlines()
    if len(message) > 1:
        yield "freezecheck: could not check"
        yield from (_folded(f"  {line}", columns) for line in message)
    else:
        yield _folded(f"freezecheck: could not check: {error.message}", columns)
    place = error.location
    if error.frames:
        yield "your code, outermost call first:"
        yield from error.frames
    elif place and str(place) not in error.message:
        yield f"  {place}" + (f" in {place.function}" if place.function else "")
        if place.text:
            yield f"    {place.text}"
    if error.hint:
        yield _folded(f"hint: {error.hint}", columns)


def _folded(line: str, columns: int | None) -> str:
    """Wrap one line, what follows two columns further in than it begins."""
    if columns is None or columns_of(line) <= columns:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    return wrapped(line.lstrip(), max(columns, LEAST_WIDTH), indent, f"{indent}  ")


def _in_the_format(error: FreezecheckError, words: Sequence[str]) -> None:
    """Also put the error on stdout where the format asked for has a form for it; options may not be parsed yet."""
    from ..discover import renderers

    asked = [renderers().get(name) for name in _formats_in(words)]
    for renderer in [one for one in asked if one is not None and one.error is not None][:1]:
        to_stdout(renderer.error(error))


def _formats_in(words: Sequence[str]) -> Iterator[str]:
    """The formats that name no file of their own."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        name = following if word == "--format" else word.removeprefix("--format=")
        if name != word and "=" not in name:
            yield name


def _has(words: Sequence[str], letter: str, long: str) -> bool:
    return any(word == long or (word[:1] == "-" and word[1:2] != "-" and letter in word[1:]) for word in words)


def _show_bug(error: Exception) -> None:
    click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    click.echo(
        f"freezecheck: this is a bug in freezecheck, not in your code ({type(error).__name__}). Nothing was decided.\n"
        "Please report it with the traceback above and the command you ran.",
        err=True,
    )
