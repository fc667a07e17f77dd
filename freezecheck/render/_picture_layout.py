"""Where the boxes of a picture lie: an icicle with the root at the left and one row for each box that is not opened.

The page does the same in the browser, where a person zooms (`templates/layout.js`); a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ._picture import Box

LEAST = 17.0
"""Least height of a row in pixels, at which its name can be read."""
LEAST_WRONG = 30.0
"""Least height of a row that is wrong: two lines say what is."""
LEAST_SPARE = 0.12
"""Share of the least heights that is added at least, so that a large layer is taller than a small one."""
MOST_MEAN = 48.0
"""Height of a row at most, on average: few rows make a low picture."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one box is drawn."""

    box: int
    depth: int
    """Column, 0 for the root of what is shown."""
    top: float
    height: float
    row: bool
    """Whether it is a row: nothing of what is inside it is drawn."""


def place(boxes: Sequence[Box], root: int, columns: int, height: float) -> list[Place]:
    """Return where the boxes at and below `root` lie, parents first, in as many columns at most.

    `height` is grown where the rows would not fit, and less is used where they are few. A row's height is its least
    height and a share of what is left in proportion to its parameters.
    """
    opened = open_boxes(boxes, root, columns, int(height / 2 / LEAST))
    order = _in_order(boxes, root, opened)
    rows = [index for index, _ in order if index not in opened]
    least = {index: LEAST_WRONG if boxes[index].wrong else LEAST for index in rows}
    whole = sum(boxes[index].size for index in rows) or 1
    height = min(height, MOST_MEAN * len(rows))
    needed = sum(least.values())
    spare = max(height - needed, needed * LEAST_SPARE)
    heights = {index: least[index] + spare * boxes[index].size / whole for index in rows}
    for index, _ in reversed(order):
        if index in opened:
            heights[index] = sum(heights[child] for child in boxes[index].children)
    tops = {root: 0.0}
    for index, _ in order:
        if index in opened:
            top = tops[index]
            for child in boxes[index].children:
                tops[child] = top
                top += heights[child]
    return [Place(index, depth, tops[index], heights[index], index not in opened) for index, depth in order]


def open_boxes(boxes: Sequence[Box], root: int, columns: int, most_rows: int) -> set[int]:
    """Choose the boxes to open: where something is wrong in a part first, then mixed ones, then the largest.

    Layers are opened before the tensors of any. The root is opened whatever it holds; another box stays closed when it
    is wrong as a whole, when nothing in it is wrong but something beside it is, when it holds one tensor alone, or when
    its children would make more rows than `most_rows` (twice that where something is wrong) and it is less than half of
    what is shown.
    """
    opened: set[int] = set()
    waiting = {root: 0}
    rows = 1
    urgency = _urgency(boxes)
    while waiting:
        index = min(waiting, key=urgency)
        depth = waiting.pop(index)
        children = boxes[index].children
        more = rows - 1 + len(children)
        small = 2 * boxes[index].size < boxes[root].size
        most = 2 * most_rows if boxes[index].problems else most_rows
        sound = boxes[root].problems > 0 and not boxes[index].problems
        dull = bool(boxes[index].wrong) or sound or len(children) == 1 or (more > most and small)
        if not children or depth + 1 >= columns or (dull and index != root):
            continue
        opened.add(index)
        rows = more
        waiting |= dict.fromkeys(children, depth + 1)
    return opened


def _urgency(boxes: Sequence[Box]) -> Callable[[int], tuple[bool, bool, bool, int, int]]:
    def urgency(index: int) -> tuple[bool, bool, bool, int, int]:
        box = boxes[index]
        tensors = all(boxes[child].kind == "tensor" for child in box.children)
        troubled = box.problems > 0 and not box.wrong
        return (tensors, not troubled, box.state != "mixed", -box.size, index)

    return urgency


def _in_order(boxes: Sequence[Box], root: int, opened: set[int]) -> list[tuple[int, int]]:
    """Return (box, depth) of everything drawn, parents first and from top to bottom."""
    order: list[tuple[int, int]] = []
    waiting = [(root, 0)]
    while waiting:
        index, depth = waiting.pop()
        order.append((index, depth))
        if index in opened:
            waiting.extend((child, depth + 1) for child in reversed(boxes[index].children))
    return order
