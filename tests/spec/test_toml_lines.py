"""The line of every key and array element, held against the lines counted while the text is written."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from freezecheck.spec.toml_lines import Path, toml_lines

keys = st.sampled_from(("a", "b-c", '"x y"', "'d.e'", '"\\u0041"'))
leaves = st.sampled_from(("1", "true", '"s"', "'''two\nlines'''", '"""three\n\n # lines"""', "1979-05-27"))
gaps = st.sampled_from(("", " ", "\n", " # comment, [ = \n", "\n\n"))


@dataclass
class Writer:
    """Writes a random TOML text and notes where each path stands."""

    draw: st.DrawFn
    text: str = ""
    lines: dict[Path, int] = field(default_factory=dict)

    def mark(self, *path: str | int) -> None:
        self.lines.setdefault(path, self.text.count("\n") + 1)

    def value(self, path: Path, depth: int = 0) -> None:
        form = self.draw(st.sampled_from(("leaf", "list", "table"))) if depth < 2 else "leaf"
        if form == "leaf":
            self.text += self.draw(leaves)
        elif form == "list":
            self.text += "["
            for position in range(self.draw(st.integers(0, 3))):
                self.text += self.draw(gaps)
                self.mark(*path, position)
                self.value((*path, position), depth + 1)
                self.text += self.draw(gaps) + ","
            self.text += self.draw(gaps) + "]"
        else:
            self.text += "{ "
            for number, key in enumerate(self.draw(st.lists(keys, max_size=2, unique=True))):
                self.text += ", " if number else ""
                self.pair(path, key, depth + 1)
            self.text += " }"

    def pair(self, path: Path, key: str, depth: int = 0) -> None:
        inner = (*path, plain(key))
        self.mark(*inner)
        self.text += f"{key} = "
        self.value(inner, depth)

    def block(self, *path: str | int) -> None:
        for key in self.draw(st.lists(keys, max_size=3, unique=True)):
            self.pair(path, key)
            self.text += self.draw(st.sampled_from(("\n", "  # said = [why]\n", "\n\n")))

    def header(self, text: str, *path: str | int) -> None:
        for end in range(1, len(path) + 1):
            self.mark(*path[:end])
        self.text += f"{text}\n"
        self.block(*path)


@st.composite
def texts(draw: st.DrawFn) -> Writer:
    """A text with keys at the top, tables, and arrays of tables with tables in them."""
    out = Writer(draw)
    out.block()
    for number in range(draw(st.integers(0, 2))):
        out.header(f"[t.n{number}]", "t", f"n{number}")
    for number in range(draw(st.integers(0, 3))):
        out.header("[[many]] # one more", "many", number)
        if draw(st.booleans()):
            out.header("[many.sub]", "many", number, "sub")
    return out


def plain(key: str) -> str:
    """A key without its quotes, as the TOML parser of Python reads it."""
    return next(iter(tomllib.loads(f"{key} = 0")))


@given(texts())
def test_every_path_has_its_line(written: Writer) -> None:
    """Keys, elements, inline tables, tables and arrays of tables stand on the lines where they were written."""
    tomllib.loads(written.text)
    assert toml_lines(written.text) == written.lines


def test_dotted_keys() -> None:
    """A dotted key gives a line to every table it goes through."""
    assert toml_lines('\na.b."c.d" = 1\na.e = 2\n') == {("a",): 2, ("a", "b"): 2, ("a", "b", "c.d"): 2, ("a", "e"): 3}


@given(st.text())
def test_no_text_is_too_wild(text: str) -> None:
    """Of a text that is no TOML, whatever can be made out is returned; nothing is raised."""
    assert isinstance(toml_lines(text), dict)
