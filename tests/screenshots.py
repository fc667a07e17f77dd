"""Pictures of what people see, for a person to look at: `python -m tests.screenshots FOLDER [NAME]`.

Writes for each example that `tests/test_examples.py` runs the page itself and four pictures of it, wide and narrow,
light and dark; and pictures of a terminal that shows `report`, `verify` and `verify -v`, 80 and 140 columns wide, dark,
light and without colours. NAME picks the examples whose names contain it.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text

from tests.readme import freezecheck_command
from tests.render.browser import browser
from tests.test_examples import EXAMPLES, FIRING, SILENT

SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
SCHEMES = ("light", "dark")
COMMANDS = ("report", "verify", "verify -v")
COLUMNS = (80, 140)
THEMES = {"light": DEFAULT_TERMINAL_THEME, "dark": SVG_EXPORT_THEME}
FRAME = (
    "<body style='margin: 8px; color: {foreground}; background: {background}'>"
    "<pre style='width: calc(COLUMNSch + 4px); font: 14px/1.25 monospace; white-space: pre-wrap; "
    "word-break: break-all; outline: 1px dotted #8888'>{code}</pre>"
)


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


def terminals(folder: Path, wanted: str, running: Any) -> Iterator[Path]:
    """Write the pictures of a terminal for each example."""
    for example, arguments in [(entry[0], entry[1]) for entry in (*SILENT, *FIRING)]:
        words = arguments.split()
        name = f"{example}-{Path(words[0] if words[0] != '--spec' else words[1]).stem}"
        for command in COMMANDS if wanted in name else ():
            for columns in COLUMNS:
                color = _ran(command, words, example, columns, "--color")
                plain = _ran(command, words, example, columns, "--no-color")
                for look, text in (*((scheme, color) for scheme in THEMES), ("plain", plain)):
                    path = folder / f"{name}.{command.replace(' ', '')}.{columns}.{look}.png"
                    sheet = running.new_page(viewport={"width": 10 * columns, "height": 200})
                    sheet.set_content(_terminal(text, columns, THEMES.get(look, THEMES["light"])))
                    sheet.screenshot(path=path, full_page=True)
                    sheet.close()
                    yield path


def _ran(command: str, words: list[str], example: str, columns: int, color: str) -> str:
    verb, *options = command.split()
    ran = freezecheck_command(verb, *options, *words, color, folder=EXAMPLES / example, columns=columns)
    assert ran.code in (0, 1), ran.err
    return ran.out


def _terminal(text: str, columns: int, theme: TerminalTheme) -> str:
    """A page that shows the text as a terminal of that width would, longer lines broken at its edge."""
    console = Console(record=True, width=columns, file=io.StringIO(), legacy_windows=False)
    console.print(Text.from_ansi(text, no_wrap=False), soft_wrap=True)
    return console.export_html(theme=theme, inline_styles=True, code_format=FRAME.replace("COLUMNS", str(columns)))


def photograph(path: Path, running: Any) -> None:
    """Write the four pictures of one page."""
    for size, (width, height) in SIZES.items():
        for scheme in SCHEMES:
            sheet = running.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
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
        for path in terminals(folder, arguments[1] if len(arguments) > 1 else "", running):
            print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
