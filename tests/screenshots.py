"""Pictures of the page, for a person to look at: `python -m tests.screenshots FOLDER [NAME]`.

Writes for each example that `tests/test_examples.py` runs the page itself and four pictures of it, wide and narrow,
light and dark; NAME picks the examples whose names contain it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.readme import freezecheck_command
from tests.render.browser import browser
from tests.test_examples import EXAMPLES, FIRING, SILENT

SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
SCHEMES = ("light", "dark")


def pages(folder: Path, wanted: str) -> Iterator[Path]:
    """Write each example's page, and its SVG."""
    for example, arguments in [(entry[0], entry[1]) for entry in (*SILENT, *FIRING)]:
        words = arguments.split()
        name = f"{example}-{Path(words[0] if words[0] != '--spec' else words[1]).stem}"
        if wanted not in name:
            continue
        for form in ("html", "svg"):
            path = folder / f"{name}.{form}"
            to = ("--format", form, "--output", str(path))
            ran = freezecheck_command("verify", *words, *to, folder=EXAMPLES / example)
            assert ran.code in (0, 1), ran.err
        yield path.with_suffix(".html")


def photograph(path: Path, running: object) -> None:
    """Write the four pictures of one page."""
    for size, (width, height) in SIZES.items():
        for scheme in SCHEMES:
            sheet = running.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[attr-defined]  # playwright is not everywhere
            sheet.goto(path.as_uri())
            sheet.screenshot(path=path.with_suffix(f".{size}.{scheme}.png"), full_page=True)
            sheet.close()


def main(arguments: list[str]) -> None:
    """Make the pages and photograph them."""
    folder = Path(arguments[0]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as running:
        for path in pages(folder, arguments[1] if len(arguments) > 1 else ""):
            photograph(path, running)
            print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
