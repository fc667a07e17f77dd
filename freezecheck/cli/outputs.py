"""Which formats were asked for and where each goes: `--format NAME`, `--format NAME=FILE` and `--output FILE`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import click
from click.shell_completion import CompletionItem

from ..errors import UsageError


@dataclass(frozen=True, slots=True)
class Wanted:
    """One report that is to be written."""

    format: str
    path: str | None = None
    """None and `-` are stdout."""

    @property
    def to_stdout(self) -> bool:
        """Whether it goes to stdout."""
        return self.path in (None, "-")


def known(command: str | None) -> list[str]:
    """Return the formats that a command can write: those of the renderers found that serve it."""
    from ..discover import renderers

    return [name for name, renderer in renderers().items() if command in renderer.commands]


def read(ctx: click.Context, _: click.Parameter, values: Sequence[str]) -> tuple[Wanted, ...]:
    """Read the values of --format. Raises click.BadParameter for an unknown format or an empty file name."""
    wanted = []
    for value in values:
        name, equals, path = value.partition("=")
        if name not in (names := known(ctx.info_name)):
            raise click.BadParameter(f"{name!r} is not one of {', '.join(names)}.")
        if equals and not path:
            raise click.BadParameter(f"{value!r} names no file after the equals sign.")
        wanted.append(Wanted(name, path or None))
    return tuple(wanted)


def placed(formats: Sequence[Wanted], output: str | None) -> list[Wanted]:
    """Give each format its place: its own file, else that of --output, else stdout; no format at all means text.

    Raises UsageError where two would go to one place, or --output has no format left to write.
    """
    asked = list(formats) or [Wanted("text")]
    if output is not None:
        homeless = [place for place, one in enumerate(asked) if one.path is None]
        if not homeless:
            raise UsageError(
                f"--output {output} has nothing to write: each --format names a file of its own",
                hint="Leave --output out, or add a --format without a file.",
            )
        asked[homeless[0]] = Wanted(asked[homeless[0]].format, output)
    places = Counter("stdout" if one.to_stdout else os.path.realpath(one.path or "") for one in asked)
    shared = next((place for place, number in places.items() if number > 1), None)
    if shared is not None:
        raise UsageError(
            f"{places[shared]} formats would be written to {shared}",
            hint="Give each a file of its own, as in --format sarif=out.sarif --format text.",
        )
    return asked


class FormatOption(click.Option):
    """`--format`: its names are looked for only when they are asked for, in the help page or by a shell."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return what the help page says, with the names of the formats."""
        self.help = f"How to write the report: {', '.join(known(ctx.info_name))}; with =FILE into a file. May be given "
        self.help += "several times. [default: text]"
        return super().get_help_record(ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the formats that begin so."""
        return [CompletionItem(name) for name in known(ctx.info_name) if name.startswith(incomplete)]
