"""`freezecheck report` and `freezecheck verify`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .deliver import deliver
from .imports import heavy_imports
from .options import JUDGE, META, MODEL, OUTPUT, PROBE, TABLE, Options, options
from .progress import say

if TYPE_CHECKING:
    from ..records import Report
    from ..spec import Spec
    from ..subject import Subject


@click.command(short_help="What trains and what is frozen, layer by layer.")
@click.argument("target", required=False, type=click.Path())
@click.option("--spec", metavar="FILE", type=click.Path(), help="A freeze spec: shows what is expected beside what is.")
@options(TABLE, MODEL, META, OUTPUT)
def report(target: str | None, spec: str | None, **given: Any) -> int:
    """Show layer by layer what trains and what is frozen, without a training step.

    TARGET is model.py, model.py:NAME, package.module:NAME, torchvision:NAME or timm:NAME.
    """
    chosen = Options(**given)
    return deliver([partial(_report, target, spec, chosen)], chosen)


@click.command(short_help="Train a step; check what moved against the spec.")
@click.argument("target", required=False, type=click.Path())
@click.option(
    "--spec",
    metavar="FILE",
    type=click.Path(),
    multiple=True,
    help="The freeze spec; several are checked one after another. [default: freezecheck.toml, else pyproject.toml]",
)
@click.option("--phase", metavar="NAME", help="Judge this phase of the spec; those before it are only passed through.")
@options(MODEL, META, PROBE, JUDGE, TABLE, OUTPUT)
def verify(target: str | None, spec: tuple[str, ...], **given: Any) -> int:
    """Train a real step and check that exactly what the freeze spec says has moved.

    TARGET is model.py, model.py:NAME, package.module:NAME, torchvision:NAME or timm:NAME; left out, it is the spec's.
    Without any spec the requires_grad flags are taken as what is meant.
    """
    chosen = Options(**given)
    checks: list[Callable[[], Report]] = [partial(_verify, target, file, chosen) for file in spec or (None,)]
    return deliver(checks, chosen)


def _report(target: str | None, file: str | None, chosen: Options) -> Report:
    from ..spec import Spec

    spec = None if file is None else Spec.load(file)
    subject = _subject(target, spec, chosen)
    from ..check import report_subject

    say("describing the model")
    return report_subject(subject, spec)


def _verify(target: str | None, file: str | None, chosen: Options) -> Report:
    from ..records import Severity
    from ..spec import Spec

    spec = Spec.discover(os.curdir) if file is None else Spec.load(file)
    subject = _subject(target, spec, chosen)
    from ..check import verify_subject

    return verify_subject(
        subject,
        spec,
        steps=chosen.steps,
        seed=chosen.seed,
        select=chosen.select,
        ignore=chosen.ignore,
        fail_on=Severity(chosen.fail_on),
        phase=chosen.phase,
        memory=chosen.verbose,
        progress=say,
    )


def _subject(target: str | None, spec: Spec | None, chosen: Options) -> Subject:
    if not target and (spec is None or spec.target is None):
        raise _no_target(spec)
    device = chosen.load_on()
    say("importing torch")
    with heavy_imports():
        from ..loading import load, target_of
        from ..probe.switches import seed_everything

    seed_everything(chosen.seed)  # what the model is built of is as repeatable as the check
    named = target or (target_of(spec) if spec else None) or ""
    say(f"building {named}")
    return load(named, spec=spec, arguments=chosen.arg, input_shape=chosen.input_shape, device=device)


def _no_target(spec: Spec | None) -> UsageError:
    if spec is not None:
        return UsageError(
            f"{spec.path} names no target, and none was given",
            hint='Add a line such as `target = "model.py"` to it, or name the model on the command line.',
        )
    asked = click.get_current_context().info_name
    return UsageError(
        "no model was named, and no freeze spec that names one was found here",
        hint=f"Name it, as in `freezecheck {asked} model.py`; `freezecheck init model.py` writes a spec for it.",
    )
