"""`freezecheck diff`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from .deliver import deliver
from .options import JUDGE, OUTPUT, TABLE, Options, options
from .progress import say

if TYPE_CHECKING:
    from ..records import Report

_GB = 1e9


def _two(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str | None, str | None]:
    """One key serves both files."""
    if len(values) > 2:
        raise click.BadParameter("give it once for both checkpoints, or twice: for BEFORE and for AFTER.")
    first, second = (*values, *values, None, None)[:2] if len(values) < 2 else values
    return first, second


@click.command(short_help="Compare two checkpoints: what changed.")
@click.argument("before")
@click.argument("after")
@click.option("--spec", metavar="FILE", help="A freeze spec: only what it trains may have changed.")
@click.option("--phase", metavar="NAME", help="Judge by this phase of the spec. [default: all phases taken together]")
@click.option(
    "--key",
    "keys",
    metavar="KEY",
    multiple=True,
    callback=_two,
    help="Which state dict of a file is meant, such as ema or model.generator; . is the top. With a dot at its end it "
    "is how the names begin, as in `student.`. Given twice: one each.",
)
@options(JUDGE, TABLE, OUTPUT)
def diff(
    before: str,
    after: str,
    spec: str | None,
    phase: str | None,
    keys: tuple[str | None, str | None],
    **given: Any,
) -> int:
    """Compare two checkpoints tensor by tensor: what changed, by how much, and whether it was allowed to.

    BEFORE and AFTER are .pt, .pth, .ckpt, .bin or .safetensors files, shards with their index, or folders: of Hugging
    Face or of torch.distributed.checkpoint. Nothing stored in a pickle is ever run.
    """
    chosen = Options(**given)
    return deliver([partial(_diff, before, after, spec, phase, keys, chosen)], chosen)


def _diff(
    before: str, after: str, file: str | None, phase: str | None, keys: tuple[str | None, str | None], chosen: Options
) -> Report:
    from ..differ import diff as compare
    from ..records import Severity
    from ..spec import Spec

    say(f"opening {before} and {after}")
    return compare(
        before,
        after,
        None if file is None else Spec.load(file),
        keys=keys,
        phase=phase,
        select=chosen.select,
        ignore=chosen.ignore,
        fail_on=Severity(chosen.fail_on),
        progress=_tell,
    )


def _tell(done: int, total: int) -> None:
    say(f"comparing {done / _GB:.1f} of {total / _GB:.1f} GB")
