"""`freezecheck init`: write a first freeze spec."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from typing import Any

import click

from ..errors import UsageError
from ..places import shown
from .imports import heavy_imports
from .options import MODEL, options, said_arguments
from .output import Output

_DEFAULT = "freezecheck.toml"
_PYTHON_FILE = re.compile(r"(?P<file>.+\.py)(?P<name>:.*)?", re.DOTALL)


@click.command(short_help="Write a freeze spec from the present flags.")
@click.argument("target")
@click.option(
    "--output", metavar="FILE", default=_DEFAULT, help=f"Where to write it; - is stdout. [default: {_DEFAULT}]"
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("-q", "--quiet", is_flag=True, help="Do not say what was written.")
@click.option("-v", "--verbose", is_flag=True, help="Show whole tracebacks.")
@options(MODEL)
def init(target: str, output: str, force: bool, quiet: bool, verbose: bool, arg: dict[str, Any]) -> None:  # noqa: ARG001 - -v is read where errors are shown
    """Write a commented freeze spec from the model's present requires_grad flags.

    TARGET is model.py, model.py:NAME, package.module:NAME, torchvision:NAME or timm:NAME.
    """
    to_file = output != "-"
    if to_file and os.path.exists(output) and not force:
        raise UsageError(f"{output} exists already", hint="--force replaces it; --output - prints the draft instead.")
    if to_file and not force:
        _refuse_to_hide(output)
    with Output(output) as place:
        place.write(_drafted(target, arg, os.path.dirname(os.path.abspath(output)) if to_file else os.getcwd()))
    if to_file and not quiet:
        click.echo(f"freezecheck: wrote {output}; read it, then run `{_next(output, arg)}`", err=True)


def _next(output: str, arguments: dict[str, Any]) -> str:
    """The command that checks by the spec that was written, to be pasted into a shell."""
    named = [] if os.path.abspath(output) == os.path.abspath(_DEFAULT) else [f"--spec {shlex.quote(output)}"]
    return " ".join(["freezecheck verify", *named, *said_arguments(arguments)])


def _refuse_to_hide(output: str) -> None:
    """Raise UsageError where the file would be taken in place of the table that a pyproject.toml beside it has."""
    folder, name = os.path.split(os.path.abspath(output))
    project = os.path.join(folder, "pyproject.toml")
    if name == _DEFAULT and _has_spec(project):
        raise UsageError(
            f"{shown(project)} has a spec, [tool.freezecheck], which {output} beside it would hide: of the two, "
            f"{_DEFAULT} is taken",
            hint="--output - prints the draft, for that table; --force writes the file all the same.",
        )


def _has_spec(project: str) -> bool:
    """Whether a pyproject.toml has our table, be it right or wrong; another file's mistakes are not ours to tell."""
    try:
        with open(project, "rb") as file:
            return "freezecheck" in tomllib.load(file).get("tool", {})
    except (OSError, ValueError):
        return False


def _drafted(target: str, arguments: dict[str, Any], folder: str) -> str:
    from ..guard import printing_to_stderr
    from ..spec.draft import draft

    with heavy_imports():
        from ..loading import load
        from ..probe.describe import describe

    with printing_to_stderr():
        subject = load(target, spec=None, arguments=arguments, input_shape=None, device=None)
        return draft(describe(subject.model), _seen_from(folder, target), said_arguments(arguments))


def _seen_from(folder: str, target: str) -> str:
    """Return a target that names a file so that it is found from the folder that the spec lies in."""
    named = _PYTHON_FILE.fullmatch(target)
    if named is None or os.path.isabs(named["file"]):
        return target
    path = os.path.relpath(os.path.abspath(named["file"]), folder)
    return path.replace(os.sep, "/") + (named["name"] or "")
