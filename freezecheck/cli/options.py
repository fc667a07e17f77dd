"""The options that commands share, and the one record that carries them."""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import UsageError
from .outputs import FormatOption, Wanted, placed, read
from .rule import codes, matching, unknown

if TYPE_CHECKING:
    from ..render._renderer import Style

_F = TypeVar("_F", bound=Callable[..., Any])
_NOT_A_TERMINAL = 100
"""Columns for a file or a pipe, where nobody says how wide it is."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; a command that lacks an option keeps the default."""

    format: tuple[Wanted, ...] = ()
    output: str | None = None
    quiet: bool = False
    verbose: bool = False
    color: bool | None = None
    depth: int | None = None
    all: bool = False
    arg: dict[str, Any] = field(default_factory=dict)
    input_shape: tuple[int, ...] | None = None
    device: str | None = None
    meta: bool = False
    steps: int | None = None
    phase: str | None = None
    seed: int = 0
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: str = "warning"

    def outputs(self) -> list[Wanted]:
        """Each format that was asked for, with its place. Raises UsageError where two would share one."""
        return placed(self.format, self.output)

    def load_on(self) -> str | None:
        """The device to build on and train on. Raises UsageError where --meta and --device contradict each other."""
        if self.meta and self.device not in (None, "meta"):
            raise UsageError(
                f"--meta and --device {self.device} contradict each other",
                hint="--meta builds the model on the meta device; leave one of the two out.",
            )
        return "meta" if self.meta else self.device

    def style(self, wanted: Wanted) -> Style:
        """How to render for the place that this one goes to."""
        from ..render._renderer import Style

        terminal = wanted.to_stdout and sys.stdout.isatty()
        known = terminal or "COLUMNS" in os.environ
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return Style(
            width=shutil.get_terminal_size().columns if known else _NOT_A_TERMINAL,
            color=terminal and not plain if self.color is None else self.color,
            depth=self.depth,
            all=self.all,
            verbose=self.verbose,
            quiet=self.quiet,
            wrap_verdict=known,
        )


def _arguments(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key.strip().isidentifier():
            raise click.BadParameter(f"{value!r} is not KEY=VALUE, such as num_classes=10.")
        given[key.strip()] = _literal(text)
    return given


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def said_arguments(given: Mapping[str, Any]) -> list[str]:
    """Return what a shell takes as these arguments: `--arg width=16`, `--arg 'mode=a b'`."""
    return [f"--arg {shlex.quote(f'{key}={_written(value)}')}" for key, value in given.items()]


def _written(value: Any) -> str:
    """A value as --arg reads it: a string that is no literal as it is, if it stands on one line."""
    plain = isinstance(value, str) and value.isprintable() and _literal(value) == value
    return str(value) if plain else repr(value)


def _shape(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    sizes = [part.strip() for part in value.strip("()[] ").rstrip(",").split(",")]
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise click.BadParameter(f"{value!r} is not a shape; write its sizes with commas, such as 2,3,224,224.")
    return tuple(map(int, sizes))


def _codes(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    given = [code.strip() for value in values for code in value.split(",") if code.strip()]
    for code in given:
        if not matching(code):
            raise click.BadParameter(unknown(code))
    codes = [(word.upper(), *(one.code for one in matching(word) if one.name == word.lower())) for word in given]
    return tuple(named[-1] for named in codes)  # a rule's name stands for its code


OUTPUT = (
    click.option("--format", metavar="NAME[=FILE]", multiple=True, callback=read, cls=FormatOption),
    click.option("--output", metavar="FILE", type=click.Path(), help="Write the report to FILE instead of stdout."),
    click.option("-q", "--quiet", is_flag=True, help="Only what decides: one line each."),
    click.option("-v", "--verbose", is_flag=True, help="Everything: the layer table, notes, evidence, tracebacks."),
    click.option("--color/--no-color", default=None, help="Colours. [default: on a terminal, unless NO_COLOR is set]"),
)
TABLE = (
    click.option(
        "--depth", metavar="N", type=click.IntRange(1), help="Depth of the layer table. [default: one screen]"
    ),
    click.option("--all", is_flag=True, help="Open rows of equal layers, show layers without tensors, cut no name."),
)
MODEL = (
    click.option(
        "--arg",
        metavar="KEY=VALUE",
        multiple=True,
        callback=_arguments,
        help="An argument for the model's constructor; VALUE is a Python literal, else a string.",
    ),
)
META = (
    click.option(
        "--meta", is_flag=True, help="Build the model on the meta device: no weights in memory, whatever its size."
    ),
)
PROBE = (
    click.option("--input-shape", metavar="2,3,224,224", callback=_shape, help="Shape of the example input."),
    click.option(
        "--device", metavar="NAME", help="Where to train the step, such as cpu or cuda:0. [default: where it is]"
    ),
    click.option("--steps", metavar="N", type=click.IntRange(1), help="Training steps at most. [default: the spec's]"),
    click.option("--seed", metavar="N", type=click.IntRange(0), default=0, help="Seed of the probe. [default: 0]"),
)
JUDGE = (
    click.option(
        "--select",
        metavar="CODES",
        multiple=True,
        callback=_codes,
        shell_complete=codes,
        help="Only these rules: FZ4,FZ501.",
    ),
    click.option(
        "--ignore", metavar="CODES", multiple=True, callback=_codes, shell_complete=codes, help="Not these rules."
    ),
    click.option(
        "--fail-on",
        type=click.Choice(["error", "warning", "note"]),
        default="warning",
        help="The mildest finding that makes the exit code 1. [default: warning]",
    ),
)


def options(*groups: tuple[Callable[[_F], _F], ...]) -> Callable[[_F], _F]:
    """Give a command these groups of options, in this order."""

    def add(function: _F) -> _F:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return add
