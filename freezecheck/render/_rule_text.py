"""A rule's docstring, taken apart."""

from __future__ import annotations

import re

_HEADING = re.compile(r"^## (.+)\n", re.MULTILINE)


def sections(doc: str) -> dict[str, str]:
    """Return the text under each heading; what stands before the first is under the empty one."""
    first, *others = _HEADING.split(doc)
    return {"": first.strip()} | dict(zip(others[::2], (text.strip() for text in others[1::2]), strict=True))


def paragraph(text: str) -> str:
    """Return the first paragraph on one line."""
    return " ".join(text.split("\n\n")[0].split())
