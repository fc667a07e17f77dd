"""The page around the picture: its templates, its script and its style, in one file."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from ..records import Finding, Report, Severity
from ._paint import printable
from ._picture_findings import QUOTED
from ._words import totals, verdict

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

SCRIPTS = ("data.js", "layout.js", "words.js", "icicle.js", "keys.js", "table.js", "findings.js", "main.js")
"""The page's scripts, in the order in which they stand in it, as one."""
_TEMPLATES = files("freezecheck.render") / "templates"


def filled(template: str, **values: object) -> Markup:
    """Return a template of `templates/` with these values in it, each escaped."""
    from markupsafe import Markup

    return Markup(_environment().get_template(template).render(**values))


@cache
def _environment() -> Environment:
    """Return the templates' environment: every value is escaped, its control characters made visible."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("freezecheck.render"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "sort_keys": False, "allow_nan": False}
    made.filters["prose"] = prose
    return made


def page(articles: Markup, title: str) -> str:
    """Return a whole page around its articles, with nothing in it that the browser would fetch.

    A policy in its head lets no script run but this one.
    """
    script, style = "\n".join(_read(name) for name in SCRIPTS), _read("page.css")
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    return filled(
        "page.html",
        articles=articles,
        title=title,
        script=_raw(script),
        style=_raw(style),
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def prose(text: str) -> Markup:
    """Return a message as markup: escaped, and what stands in backticks as code."""
    from markupsafe import Markup

    parts = QUOTED.split(text)
    shown = (Markup("<code>{}</code>" if n % 2 else "{}").format(printable(part)) for n, part in enumerate(parts))
    return Markup("").join(shown)


def sign(report: Report) -> str:
    """Return ✓, ✗ for an error, or ⚠ where warnings alone made the check fail."""
    if report.ok:
        return "✓"
    doubtful = report.ending is None and all(one.severity is not Severity.ERROR for one in report.findings)
    return "⚠" if doubtful else "✗"


def headline(report: Report) -> str:
    """Say in one line of plain words how it stands."""
    if report.command == "report" and not report.findings:
        seen = totals(report.case)
        return f"{seen.trainable:,} of {seen.parameters:,} parameters train; nothing was run"
    return verdict(report).removeprefix("freezecheck: ")


def location_text(finding: Finding) -> str:
    """Return `train.py:17 in Net.forward`; empty when the finding has no place."""
    place = finding.location
    return f"{place}{f' in {place.function}' if place.function else ''}" if place else ""


@cache
def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _raw(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
