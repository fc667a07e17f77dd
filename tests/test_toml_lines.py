"""The line of every key and array element, held against the lines counted while the text is written."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from freezecheck.toml_lines import Path, toml_lines

keys = st.sampled_from(("a", "b-c", '"x y"', "'d.e'", '"\\u0041"'))
leaves = st.sampled_from(("1", "true", '"s"', "'''two\nlines'''", '"""three\n\n # lines"""', "1979-05-27"))
gaps = st.sampled_from(("", " ", "\n", " # comment, [ = \n", "\n\n"))


class Text:
    """A TOML text that is written piece by piece, and where each path stood."""

    def __init__(self) -> None:
        self.text = ""
        self.lines: dict[Path, int] = {}

    def write(self, piece: str) -> None:
        self.text += piece

    def mark(self, path: Path) -> None:
        self.lines[path] = self.text.count("\n") + 1


@st.composite
def texts(draw: st.DrawFn) -> Text:
    out = Text()

    def value(path: Path, depth: int) -> None:
        form = draw(st.sampled_from(("leaf", "list", "table"))) if depth < 2 else "leaf"
        if form == "leaf":
            out.write(draw(leaves))
        elif form == "list":
            out.write("[")
            for position in range(draw(st.integers(0, 3))):
                out.write(draw(gaps))
                out.mark((*path, position))
                value((*path, position), depth + 1)
                out.write(draw(gaps) + ",")
            out.write(draw(gaps) + "]")
        else:
            out.write("{ ")
            for number, key in enumerate(draw(st.lists(keys, max_size=2, unique=True))):
                out.write(", " if number else "")
                pair(path, key, depth + 1)
            out.write(" }")

    def pair(path: Path, key: str, depth: int) -> None:
        inner = (*path, plain(key))
        out.mark(inner)
        out.write(f"{key} = ")
        value(inner, depth)

    def block(path: Path) -> None:
        for key in draw(st.lists(keys, max_size=3, unique=True)):
            pair(path, key, 0)
            out.write(draw(st.sampled_from(("\n", "  # said = [why]\n", "\n\n"))))

    block(())
    for number in range(draw(st.integers(0, 2))):
        out.mark(("t", f"n{number}"))
        out.lines.setdefault(("t",), out.lines["t", f"n{number}"])
        out.write(f"[t.n{number}]\n")
        block(("t", f"n{number}"))
    for number in range(draw(st.integers(0, 3))):
        out.mark(("many", number))
        out.lines.setdefault(("many",), out.lines["many", number])
        out.write("[[many]] # one more\n")
        block(("many", number))
        if draw(st.booleans()):
            out.mark(("many", number, "sub"))
            out.write("[many.sub]\n")
            block(("many", number, "sub"))
    return out


def plain(key: str) -> str:
    """A key without its quotes, as the TOML parser of Python reads it."""
    return next(iter(tomllib.loads(f"{key} = 0")))


@given(texts())
def test_every_path_has_its_line(written: Text) -> None:
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
