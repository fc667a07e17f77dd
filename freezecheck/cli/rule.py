"""`freezecheck rule`: explain one rule, or list them."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ..errors import UsageError
from .output import to_stdout

if TYPE_CHECKING:
    from ..records import Rule


def codes(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the codes that begin so, for a shell."""
    from ..discover import rules

    return [CompletionItem(one.code, help=one.name) for one in rules() if one.code.startswith(incomplete.upper())]


@click.command(short_help="Explain a rule, or list them.")
@click.argument("code", required=False, shell_complete=codes)
@click.option(
    "--json-schema",
    type=click.Choice(["report", "spec"]),
    is_flag=False,
    flag_value="report",
    help="Print the JSON Schema of the JSON report, or of the freeze spec.",
)
def rule(code: str | None, json_schema: str | None) -> None:
    """Explain the rule CODE, list those whose codes begin with it, or list all."""
    if code in ("report", "spec") and json_schema:
        json_schema, code = code, None
    if json_schema:
        to_stdout(_schema(json_schema))
        return
    found = matching(code or "")
    if not found:
        raise UsageError(unknown(code or ""), hint="`freezecheck rule` lists all.")
    to_stdout(_explained(found[0]) if code and len(found) == 1 else _listed(found))


def matching(start: str) -> list[Rule]:
    """Return the rules whose codes begin so, or the one of that name; in either case of letters."""
    from ..discover import rules

    return [one for one in rules() if one.code.startswith(start.upper()) or one.name == start.lower()]


def unknown(code: str) -> str:
    """Say that no rule's code begins so, and name the nearest."""
    from ..discover import rules
    from ..spec.mistakes import nearest

    words = [word for one in rules() for word in (one.code, one.name)]
    near = nearest(code.upper(), words) or nearest(code.lower(), words)
    return f"`{code}` is no rule's code or the beginning of one{near}"


def _schema(which: str) -> str:
    if which == "spec":
        from ..spec import Spec

        return _pretty(Spec.json_schema())
    return (files("freezecheck") / "schema" / "report.schema.json").read_text(encoding="utf-8")


def _pretty(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2) + "\n"


def _explained(one: Rule) -> str:
    return f"{one.code} {one.name} ({one.severity.value})\n\n{one.doc.strip()}\n"


def _listed(found: list[Rule]) -> str:
    rows = [(one.code, one.severity.value, one.name) for one in found]
    lines = [f"{code}  {severity:<7}  {name}" for code, severity, name in rows]
    return "\n".join([*lines, "", "`freezecheck rule CODE` explains one.", ""])
