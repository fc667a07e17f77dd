"""For the browser: the model as a picture, the findings beside it and every tensor below, in one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from .. import __version__
from ..errors import FreezecheckError
from ..records import Conditions, Report
from ._picture import Picture
from ._picture_data import page_data
from ._picture_page import filled, headline, location_text, page, sign
from ._renderer import EVERY_COMMAND, Renderer, Style
from ._words import count, listed, skipped_lines, trainable_line
from .markdown import is_code

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_FINDINGS = 500
"""Findings that the page shows; of more it says how many are left out, and where they are."""
_BEGIN, _END = "<!-- report -->\n", "<!-- /report -->\n"
"""Around each report of a page. No name from a model can be taken for them: its `<` is escaped."""


def render(report: Report, style: Style) -> str:
    """Return one self-contained page: nothing in it is fetched, and it needs no server."""
    picture = Picture(report)
    shown = report.findings[:MOST_FINDINGS]
    article = filled(
        "article.html",
        report=report,
        headline=headline(report),
        counts=trainable_line(report.case) if report.case.facts else "",
        findings=list(zip(shown, map(location_text, shown), strict=True)),
        left_out=len(report.findings) - len(shown),
        data=page_data(report, picture, style.depth),
        hidden=count(picture.hidden, "layer") if picture.hidden else "",
        sign=sign(report),
        ranks=picture.ranks,
        is_code=is_code,
        bars=picture.has_measures,
        conditions=list(_conditions(report.case.conditions)),
        skipped=skipped_lines(report.skipped),
        listed=listed,
        version=__version__,
    )
    return page(_marked(article), f"freezecheck {report.command}: {report.target}")


def _conditions(conditions: Conditions) -> Iterator[tuple[str, str]]:
    """Give what the check ran under, by name; nothing where nothing ran."""
    if not conditions.steps:
        return
    for field in fields(conditions):
        value = getattr(conditions, field.name)
        text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if value is not None and text:
            yield field.name.replace("_", " "), text


def render_error(error: FreezecheckError) -> str:
    """Return a page that says why the check could not be made."""
    return page(_marked(filled("error.html", error=error)), "freezecheck: could not check")


def join(pages: Sequence[str]) -> str:
    """Make one page of several, the reports one below the other."""
    from markupsafe import Markup

    if len(pages) == 1:
        return pages[0]
    articles = [text[text.index(_BEGIN) : text.rindex(_END) + len(_END)] for text in pages]
    return page(Markup("".join(articles)), f"freezecheck: {count(len(pages), 'report')}")


def _marked(article: Markup) -> Markup:
    from markupsafe import Markup

    return Markup("{}{}{}").format(Markup(_BEGIN), article, Markup(_END))


RENDERER = Renderer("html", render, EVERY_COMMAND, error=render_error, join=join)
