"""What every output format is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import FreezecheckError
from ..records import Report

EVERY_COMMAND = frozenset({"report", "verify", "run", "diff", "lint"})
"""The commands that end in a report."""


@dataclass(frozen=True, slots=True)
class Style:
    """How the user wants to read it; formats for machines look at none of this."""

    width: int = 80
    """Columns of the terminal: prose is wrapped to it, long names in tables are shortened to fit."""
    color: bool = False
    depth: int | None = None
    """Depth of the layer table; None picks the deepest that fits a screen."""
    all: bool = False
    """Open what is collapsed, show layers without tensors, shorten no name."""
    verbose: bool = False
    quiet: bool = False
    in_python: bool = False
    """Read by a caller of the Python functions, who has no command line."""
    wrap_verdict: bool = False
    """Wrap the verdict too, for a screen; elsewhere it stays one line, the last, for `tail -1` and grep."""

    def ask(self, option: str) -> str:
        """How the reader asks for more of `verbose` or `all`: `-v`, `--all`, in Python `.render(all=True)`."""
        if self.in_python:
            return f".render({option}=True)"
        return "-v" if option == "verbose" else f"--{option}"


def _one_after_another(texts: Sequence[str]) -> str:
    return "\n".join(texts)


@dataclass(frozen=True, slots=True)
class Renderer:
    """One output format. Each lives in a module of its own under `freezecheck.render`, as `RENDERER`."""

    name: str
    """What `--format` takes."""
    render: Callable[[Report, Style], str]
    """Return the whole output for one report, with its last newline."""
    commands: frozenset[str]
    """The commands it serves."""
    error: Callable[[FreezecheckError], str] | None = None
    """Return the output for a check that could not be made; None: the format has none, and stderr alone says it."""
    join: Callable[[Sequence[str]], str] = _one_after_another
    """Make one document of several outputs: `verify` gives one report for each spec."""
