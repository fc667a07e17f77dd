"""For a README or a paper: the model as a still picture, with its title and legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unicodedata import east_asian_width
from xml.etree import ElementTree

from ..records import Report
from ._paint import printable, shortened
from ._picture import Box, Picture
from ._picture_layout import Place, place
from ._picture_page import filled, headline, sign
from ._renderer import EVERY_COMMAND, Renderer, Style
from ._words import count

WIDTH = 860
"""Width of the picture in pixels."""
_MARGIN, _TOP, _SPINE, _COLUMN = 12, 84, 26, 132
_HEIGHT = 460
_TAIL = 268
"""Room right of the last column, for what is said of a row."""
_CHARACTER = 7.3
"""Width of one character of the font at its size, with a little to spare; a wide one takes two."""
_COLORS = {"frozen": "#c3d9ee", "trainable": "#0a6b50", "mixed": "#e4efe9", "none": "#eceef1"}
_INKS = {"frozen": "#10304f", "trainable": "#ffffff", "mixed": "#143a2f", "none": "#1b1f24"}
_INK, _FAINT = "#1b1f24", "#5a6572"
_MARKS = {2: "#8a5a00", 3: "#c43e00"}
"""What marks a warning, and an error, by its rank."""
_SIGNS = {2: "⚠ ", 3: "✗ "}
"""What stands before the name of what is wrong; a number after an exclamation mark counts."""
_NAMESPACE = "http://www.w3.org/2000/svg"


@dataclass(frozen=True, slots=True)
class Label:
    """A text and the box that it is clipped to; `plate` is the width of the ground it stands on, 0 for none."""

    text: str
    x: float
    y: float
    width: float
    height: float
    ink: str = _INK
    bold: bool = False
    plate: float = 0
    ground: str = "#ffffff"


@dataclass(frozen=True, slots=True)
class _Key:
    x: float
    y: float
    state: str
    rank: int
    """How grave what is wrong with it is; 0 for nothing."""
    label: Label


@dataclass(frozen=True, slots=True)
class _Drawn:
    x: float
    y: float
    width: float
    height: float
    state: str
    rank: int
    """How grave what is wrong with it is; 0 for nothing."""
    title: str
    spine: str
    """The name of what is shown, written along the box; empty where it has a label."""
    along: float
    """Length of the ground that this name stands on."""
    labels: tuple[Label, ...]


def render(report: Report, style: Style) -> str:
    """Return an SVG image that stands alone: text, rectangles and two patterns."""
    picture = Picture(report)
    columns = (WIDTH - 2 * _MARGIN - _SPINE - _TAIL) // _COLUMN + 1
    if style.depth is not None:
        columns = min(columns, style.depth + 1)
    leaves = sum(not box.children for box in picture.boxes)
    places = place(picture.boxes, 0, columns, min(_HEIGHT, 34.0 * leaves)) if picture.boxes else []
    bottom = places[0].height if places else 0.0
    title = f"{report.command} {report.target}" + (f" against {report.spec}" if report.spec else "")
    return filled(
        "picture.svg",
        width=WIDTH,
        height=round(_TOP + bottom + _MARGIN),
        title=title,
        headline=headline(report),
        heads=list(_heads(report, title)),
        legend=list(_legend(picture)),
        places=[_drawn(picture.boxes[one.box], one) for one in places],
        colors=_COLORS,
        inks=_INKS,
        marks=_MARKS,
    )


def _heads(report: Report, title: str) -> Iterator[Label]:
    room = WIDTH - 2 * _MARGIN
    yield Label(_fitted(title, room), _MARGIN, 6, room, 20, _FAINT)
    mark = sign(report)
    ink = {"✓": "#0a6b50", "⚠": _MARKS[2], "✗": _MARKS[3]}[mark]
    yield Label(_fitted(f"{mark} {headline(report)}", room), _MARGIN, 26, room, 22, ink, bold=True)


def _legend(picture: Picture) -> Iterator[_Key]:
    keys = [("trainable", 0, "trains"), ("frozen", 0, "frozen"), ("mixed", 0, "some of it trains")]
    words_of = {3: "error", 2: "warning"}
    keys += [("frozen", rank, words) for rank, words in words_of.items() if rank in picture.ranks]
    x = float(_MARGIN)
    for state, rank, words in keys if picture.boxes else ():
        width = _width(words)
        yield _Key(x, 56, state, rank, Label(words, x + 32, 53, width, 20))
        x += width + 54
    if picture.ranks:
        words = "! 3: 3 tensors wrong in it"
        yield _Key(x, 56, "", 0, Label(words, x, 53, _width(words), 20, _MARKS[max(picture.ranks)]))


def _drawn(box: Box, one: Place) -> _Drawn:
    left = _left(one.depth)
    spine = one.depth == 0 and not one.row
    width = (_SPINE if spine else _COLUMN) - 1
    top, height = _TOP + one.top, one.height - 1
    labels = [] if spine else [_name(box, left, top, width, height)]
    if box.problems and not box.wrong:
        labels.append(_badge(box, left, top, width, height))
    if one.row:
        labels.append(_said(box, _left(one.depth + 1) if one.depth else left + _COLUMN, top, height))
    words = [box.label or box.type, f"expected {box.expected}", f"actual {box.state}", f"{box.size:,} parameters"]
    inside = f"{count(box.problems, 'tensor')} in it not as expected" if box.problems and not box.wrong else ""
    title = ", ".join(part for part in (*words, box.wrong, inside) if part)
    name = _fitted(box.label or box.type, height - 40) if spine else ""
    at = (left, _short(top), width, _short(height))
    return _Drawn(*at, box.state, _rank(box), title, name, _short(_width(name) + 6), tuple(labels))


def _rank(box: Box) -> int:
    return box.rank if box.wrong else 0


def _left(depth: int) -> float:
    return float(_MARGIN + (_SPINE + (depth - 1) * _COLUMN if depth else 0))


def _name(box: Box, left: float, top: float, width: float, height: float) -> Label:
    """The box's name inside it, on a ground of its own where it lies on a pattern."""
    inset = 10.0 if box.wrong else 4.0
    room = width - inset - 12 - (_width(f"! {box.problems}") + 8 if box.problems and not box.wrong else 0)
    text = _fitted((_SIGNS[box.rank] if box.wrong else "") + (box.label or box.type), room)
    patterned = bool(box.wrong) or box.state == "mixed"
    return Label(
        text,
        left + inset,
        _short(top),
        width - inset - 2,
        _short(height),
        _INK if box.wrong else _INKS[box.state],
        bold=bool(box.wrong),
        plate=min(_width(text) + 8, room + 8) if patterned else 0,
        ground="#ffffff" if box.wrong else _COLORS["mixed"],
    )


def _badge(box: Box, left: float, top: float, width: float, height: float) -> Label:
    """How many tensors in it are wrong, at its right end; on the spine a mark alone, at its foot."""
    spine = width < _SPINE
    text = "!" if spine else f"! {box.problems}"
    room = _width(text) + 8
    at, tall = (top + height - 20, 20.0) if spine else (top, height)
    return Label(text, left + width - room, _short(at), room, _short(tall), _MARKS[box.worst], bold=True, plate=room)


def _said(box: Box, left: float, top: float, height: float) -> Label:
    """What is said beside a row: what is wrong, else its type and size."""
    room = WIDTH - _MARGIN - left - 8
    words = box.wrong or " · ".join(part for part in (box.type, f"{box.size:,}" if box.size else "") if part)
    ink = _MARKS[box.rank] if box.wrong else _FAINT
    return Label(_fitted(words, room), left + 8, _short(top), room, _short(height), ink, bold=bool(box.wrong))


def _width(text: str) -> float:
    return _CHARACTER * sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _fitted(text: str, room: float) -> str:
    """Cut the middle out of a text that would be wider than there is room."""
    text = printable(text)
    shown = shortened(text, int(room // _CHARACTER) + 1)
    while _width(shown) > room and len(shown) > 3:
        shown = shortened(text, len(shown) - 1)
    return shown


def _short(number: float) -> float:
    return round(number, 1)


def join(pictures: Sequence[str]) -> str:
    """Make one image of several, one below the other."""
    if len(pictures) == 1:
        return pictures[0]
    ElementTree.register_namespace("", _NAMESPACE)
    roots = [ElementTree.fromstring(text) for text in pictures]
    height = 0.0
    whole = ElementTree.Element(f"{{{_NAMESPACE}}}svg", {"width": str(WIDTH)})
    for number, root in enumerate(roots):
        if number:  # the patterns are the same in all, and a name stands once in a document
            root.remove(root.findall(f"{{{_NAMESPACE}}}defs")[0])
        root.set("y", str(height))
        height += float(root.get("height", "0"))
        whole.append(root)
    whole.set("height", f"{height:g}")
    whole.set("viewBox", f"0 0 {WIDTH} {height:g}")
    return ElementTree.tostring(whole, encoding="unicode") + "\n"


RENDERER = Renderer("svg", render, EVERY_COMMAND - {"lint"}, join=join)
