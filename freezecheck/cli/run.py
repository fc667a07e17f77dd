"""`freezecheck run`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..guard import printing_to_stderr
from .deliver import deliver
from .imports import heavy_imports
from .options import JUDGE, OUTPUT, TABLE, Options, options

if TYPE_CHECKING:
    from ..records import Report
    from ..watching.script import Script


@click.command(
    short_help="Run a training script unchanged and watch its first steps.",
    context_settings={"allow_interspersed_args": False},  # what follows SCRIPT is the script's own
)
@click.option("--spec", metavar="FILE", help="The freeze spec. [default: freezecheck.toml, else pyproject.toml]")
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Optimizer steps to watch. [default: 3]")
@click.option("--continue", "every", type=click.IntRange(min=2), metavar="K", help="Go on; watch every K-th step.")
@click.option("--model", metavar="NAME", help="Wait for the model in this variable or of this class.")
@click.option("--phase", metavar="NAME", help="The phase that the first steps are in. [default: the spec's first]")
@click.option("-m", "as_module", is_flag=True, help="SCRIPT is a module's name, as with python -m.")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@options(JUDGE, TABLE, OUTPUT)
def run(
    script: str,
    arguments: tuple[str, ...],
    spec: str | None,
    steps: int | None,
    every: int | None,
    model: str | None,
    phase: str | None,
    as_module: bool,
    **given: Any,
) -> int:
    """Run SCRIPT as `python SCRIPT ARGUMENTS` would, and check what its first optimizer steps train.

    The script is not changed: its own model, optimizer and data are watched, and what it prints goes to stderr. After
    the steps it is stopped, or goes on with --continue. Of a spec with phases, the first steps of each are watched; it
    goes on until the last phase was, or it ends. Under torchrun it is `torchrun ... -m freezecheck run SCRIPT`; rank 0
    reports for all.

    A script that ends with an error while it is watched is not ok: its traceback comes through, the report tells the
    error, and its exit status is that of this command and the report's exit code (elsewhere, code that raises is 2).
    """
    from ..records import Severity

    with heavy_imports():
        from ..discover import rules
        from ..watching.script import Script

        rules()  # read now, and not in the midst of a watched step

    chosen = Options(**given)
    plan = Script(
        script,
        arguments,
        as_module=as_module,
        every=every,
        model=model,
        phase=phase,
        select=chosen.select,
        ignore=chosen.ignore,
        fail_on=Severity(chosen.fail_on),
    )
    check = partial(_run, plan, spec, steps)
    code = deliver([check], chosen, spinning=False) if os.environ.get("RANK", "0") == "0" else _silently(check)
    return plan.status or code


def _silently(check: Callable[[], Report]) -> int:
    """Take part in a distributed run whose rank 0 reports for all."""
    with printing_to_stderr():
        return check().exit_code


def _run(plan: Script, file: str | None, steps: int | None) -> Report:
    from ..spec import Spec
    from ..watching.script import run as run_script

    spec = Spec.discover(os.curdir) if file is None else Spec.load(file)
    if steps or (spec is not None and spec.steps):
        plan.steps = steps or (spec.steps if spec else None) or plan.steps
    return run_script(plan, spec)
