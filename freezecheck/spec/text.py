"""The text of a freeze spec: its values, and the place of each."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SpecError
from ..places import shown
from ..records import Location
from .mistakes import Mistake, spec_error
from .toml_lines import Path as TomlPath
from .toml_lines import toml_lines

NO_FILE = "<text>"
"""What stands for the name of a text that came from no file."""
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a spec's values come from."""

    path: str | None
    folder: Path
    lines: Mapping[TomlPath, int]
    text: tuple[str, ...] = ()
    """The text's own lines."""
    above: TomlPath = ()
    """The table that holds the spec."""

    def at(self, loc: TomlPath) -> Location | None:
        """The place of the innermost part of `loc` that stands in the text; None when there is no text."""
        if self.path is None:
            return None
        whole = self.above + loc
        known = (self.lines[whole[:end]] for end in range(len(whole), 0, -1) if whole[:end] in self.lines)
        line = next(known, 1)
        return Location(self.path, line, text=self.text[line - 1].strip() if self.text else "")


def text_of(path: Path) -> str:
    """Return what a file holds. Raises SpecError when it cannot be read or is not UTF-8."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        name = shown(str(path))
        hint = "Name an existing TOML file, or write one with `freezecheck init TARGET`."
        raise SpecError(f"{name}: the spec cannot be read: {error.strerror}", hint=hint) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        place = Location(shown(str(path)), line)
        what = f"not UTF-8 text: byte 0x{raw[error.start]:02x} at position {error.start}"
        raise spec_error([Mistake(what, place)], "Save the file as UTF-8.") from None
    return text


def read(text: str, path: Path | None) -> tuple[dict[str, Any], Source]:
    """Return the values in a TOML text, and where they stand. Raises SpecError when it is not valid TOML."""
    name = NO_FILE if path is None else shown(str(path))
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_toml(error, name, text) from None
    folder = Path.cwd() if path is None else path.absolute().parent
    return data, Source(name, folder, toml_lines(text), tuple(text.split("\n")))


def _not_toml(error: Exception, name: str, text: str) -> SpecError:
    if isinstance(error, RecursionError):
        return spec_error([Mistake("not valid TOML: nested too deeply", Location(name, 1))], "No list holds lists.")
    said = str(error)
    place = _TOML_PLACE.search(said)
    line = int(place[1]) if place and place[1] else text.rstrip().count("\n") + 1
    column = f" (column {place[2]})" if place and place[2] else ""
    what = said[: place.start()] if place else said
    mistake = Mistake(f"not valid TOML: {what[:1].lower()}{what[1:]}{column}", Location(name, line))
    return spec_error([mistake], 'Texts stand in quotes, lists in brackets: trainable = ["fc", "layer4"].')
