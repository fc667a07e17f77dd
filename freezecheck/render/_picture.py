"""The model as a picture: a tree of boxes, each with its size, its state and what is wrong in it.

What a tensor did counts, not what its flag says: a parameter that moved is drawn as trainable, one that stayed as
frozen, and `requires_grad` decides only where nothing was watched. Equal for `html` and `svg`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..records import Case, Finding, Gradient, LayerFacts, Report, Severity
from ._paint import printable
from ._picture_findings import Subjects, subjects
from ._picture_words import does, meant, of_layer, trouble
from ._words import in_bytes

MOST_CHILDREN = 40
"""A layer with more children than this gets a level of groups in between, so that no column has thousands of boxes."""
_GROUPS = 32


@dataclass(slots=True)
class Box:
    """A layer, a tensor, or a run of neighbours in a layer that has too many children."""

    label: str
    """Its name below its parent; several names for a chain of layers that have one child each."""
    kind: str
    """`layer`, `tensor` or `group`."""
    type: str = ""
    """The layer's class; a tensor's kind, `parameter` or `buffer`."""
    parent: int = -1
    """Index of the box around it; -1 for the root."""
    children: list[int] = field(default_factory=list)
    fact: int = -1
    """A tensor's row in the table of facts; -1 for a layer."""
    size: int = 0
    """Parameters in it; a tied tensor counts in each box it is in."""
    trained: int = 0
    """How many of these train."""
    expected: str = "none"
    state: str = "none"
    """What it does: frozen, trainable, mixed, or none where there is no parameter."""
    rank: int = 0
    """How grave the gravest finding is that names it or, for a leaf layer, one of its tensors: 1 note, 3 error."""
    wrong: str = ""
    """In a few words what is wrong with all that it holds; empty when nothing is."""
    problems: int = 0
    """Number of tensors in it that are wrong, or of layers without tensors."""
    worst: int = 0
    """The rank of the gravest of these."""
    gradient: Gradient | None = None
    gradient_max: float | None = None
    """Largest absolute element of any gradient in it."""
    change: float | None = None
    """Largest change of any floating element of its parameters."""
    drift: float | None = None
    """Largest change of any floating element of its buffers."""
    astray: float | None = None
    """The same of those buffers alone that a finding names."""
    mode: str = ""
    held_by: str = ""
    saved: str = ""
    """How much it keeps for the backward pass; empty where that was not measured."""


class Picture:
    """The boxes of a report, the root first and every parent before its children."""

    def __init__(self, report: Report) -> None:
        self.case: Case = report.case
        self.subjects: Subjects = subjects(report)
        self._gravest = self._gravest_findings(report.findings)
        self.boxes: list[Box] = []
        self.of_path: dict[str, int] = {}
        """The box of each drawn layer's path and of each tensor's name, aliases too."""
        if self.case.facts or self.case.layers:
            self._build()
            self._sum_up()

    @cached_property
    def ranks(self) -> frozenset[int]:
        """How grave the things are that are wrong in it: 3 where there are errors, 2 where there are warnings."""
        return frozenset(box.rank for box in self.boxes if box.wrong)

    @property
    def has_measures(self) -> bool:
        """Whether a gradient or a change of any tensor is known."""
        return any(f.gradient is not None or f.max_abs_change is not None for f in self.case.facts)

    @property
    def hidden(self) -> int:
        """Number of layers that are not drawn, because no tensor is in them and no finding names them."""
        return sum(layer.name not in self.of_path for layer in self.case.layers)

    def _gravest_findings(self, findings: Sequence[Finding]) -> dict[str, Finding]:
        """For every name that a finding is about, the gravest of these findings."""
        gravest: dict[str, Finding] = {}
        for finding, names in sorted(
            zip(findings, self.subjects, strict=True), key=lambda pair: -pair[0].severity.rank
        ):
            for name in names:
                gravest.setdefault(name, finding)
        return gravest

    # ---- the tree

    def _build(self) -> None:
        inside, tensors = self._outline()
        root = self.case.layer_of.get("")
        waiting: list[tuple[str, str, int]] = [("", root.layer.type if root else "checkpoint", -1)]
        while waiting:
            path, label, parent = waiting.pop()
            passed = [path]
            while parent >= 0 and len(inside[path]) == 1 and path not in tensors:
                path = inside[path][0]
                passed.append(path)
                label = f"{label}.{path.rpartition('.')[2]}"
            box = self._add(self._layer_box(path, label, parent))
            self.of_path.update(dict.fromkeys(passed, box))
            for name, fact in tensors.get(path, ()):
                self._add_tensor(name, fact, box)
            below = [(child, child.rpartition(".")[2], box) for child in inside[path]]
            waiting.extend(reversed(below))
        self._group()

    def _outline(self) -> tuple[dict[str, list[str]], dict[str, list[tuple[str, int]]]]:
        """Return for every path to draw the paths right below it, and for every owner its tensors."""
        tensors: dict[str, list[tuple[str, int]]] = {}
        for index, facts in enumerate(self.case.facts):
            for name in facts.tensor.names:
                tensors.setdefault(name.rpartition(".")[0], []).append((name, index))
        named = [name for names in self.subjects for name in names if name in self.case.layer_of]
        wanted = {"": None} | {path: None for end in (*tensors, *named) for path in _down_to(end)}
        known = [layer.name for layer in self.case.layers if layer.name in wanted]
        inside: dict[str, list[str]] = {path: [] for path in wanted}
        for path in dict.fromkeys((*known, *wanted)):
            if path:
                inside[path.rpartition(".")[0]].append(path)
        return inside, tensors

    def _add(self, box: Box) -> int:
        self.boxes.append(box)
        return len(self.boxes) - 1

    def _layer_box(self, path: str, label: str, parent: int) -> Box:
        layer = self.case.layer_of.get(path)
        box = Box(printable(label), "layer", parent=parent)
        if layer is not None:
            box.type = printable(layer.layer.type)
            box.mode = _mode(layer)
            box.held_by = layer.held_by or ""
            box.saved = in_bytes(layer.saved_bytes)
        if (finding := self._gravest.get(path)) is not None:
            self._blame(box, finding, finding.name.replace("-", " "))
        return box

    def _add_tensor(self, name: str, index: int, parent: int) -> None:
        facts = self.case.facts[index]
        box = Box(printable(name.rpartition(".")[2]), "tensor", facts.tensor.kind, parent, fact=index)
        box.size = 0 if facts.is_buffer else facts.tensor.numel
        box.state = does(facts)
        box.trained = box.size if box.state == "trainable" else 0
        box.expected = meant(facts)
        box.gradient, box.gradient_max = facts.gradient, facts.gradient_max
        change = facts.max_abs_change if facts.tensor.differentiable else None
        box.change, box.drift = (None, change) if facts.is_buffer else (change, None)
        if (finding := self._gravest.get(facts.name)) is not None:
            self._blame(box, finding, trouble(facts, finding))
            box.astray = box.drift if box.wrong else None
        self.of_path[name] = self._add(box)

    @staticmethod
    def _blame(box: Box, finding: Finding, words: str) -> None:
        box.rank = finding.severity.rank + 1
        if finding.severity is not Severity.NOTE:
            box.wrong, box.problems, box.worst = words, 1, box.rank

    def _group(self) -> None:
        """Put groups between a layer and its children where these are too many, and list the boxes in order."""
        for index, box in enumerate(self.boxes):
            if box.parent >= 0:
                self.boxes[box.parent].children.append(index)
        old, order, moved = self.boxes, list[Box](), dict[int, int]()
        waiting: list[tuple[int | list[int], int]] = [(0, -1)]
        while waiting:
            item, parent = waiting.pop()
            index = len(order)
            if isinstance(item, int):
                box, children = old[item], old[item].children
                moved[item] = index
            else:
                box, children = Box(f"{old[item[0]].label} … {old[item[-1]].label}", "group"), item
            box.parent, box.children = parent, []
            order.append(box)
            if parent >= 0:
                order[parent].children.append(index)
            waiting.extend((part, index) for part in reversed(_parts(children)))
        self.boxes = order
        self.of_path = {path: moved[index] for path, index in self.of_path.items()}

    # ---- what a box holds, from its leaves up

    def _sum_up(self) -> None:
        for box in reversed(self.boxes):
            if box.kind != "tensor" and box.children:
                self._join(box, [self.boxes[index] for index in box.children])

    def _join(self, box: Box, inside: Sequence[Box]) -> None:
        box.size = sum(one.size for one in inside)
        box.trained = sum(one.trained for one in inside)
        holding = [one for one in inside if one.kind != "tensor" or one.type == "parameter"]
        box.state = _one(one.state for one in holding)
        box.expected = _one(one.expected for one in holding)
        box.problems += sum(one.problems for one in inside)
        box.worst = max(box.worst, *(one.worst for one in inside))
        box.gradient = max((one.gradient for one in inside if one.gradient), key=list(Gradient).index, default=None)
        box.gradient_max = _largest(one.gradient_max for one in inside)
        box.change = _largest(one.change for one in inside)
        box.drift = _largest(one.drift for one in inside)
        box.astray = _largest(one.astray for one in inside)
        leaf = all(one.kind == "tensor" for one in inside)
        if not box.wrong:
            self._blame_whole(box, inside, leaf=leaf)
        if leaf and not box.rank:
            box.rank = max(one.rank for one in inside)

    @staticmethod
    def _blame_whole(box: Box, inside: Sequence[Box], *, leaf: bool) -> None:
        """Draw a box as wrong when all in it is wrong alike; a leaf layer, when anything of it is."""
        wrong = [one for one in inside if one.wrong]
        alike = len({(of_layer(one.wrong), one.rank) for one in wrong}) == 1
        if not wrong or not (leaf or (len(wrong) == len(inside) and alike)):
            return
        worst = max(wrong, key=lambda one: one.rank)
        parameters = sum(one.type == "parameter" for one in inside)
        alone = leaf and len(wrong) == 1 < parameters and worst.type == "parameter"
        box.wrong, box.rank = f"{worst.label} {worst.wrong}" if alone else of_layer(worst.wrong), worst.rank


def _down_to(path: str) -> Iterator[str]:
    """Give `a`, `a.b`, `a.b.c` for the last of them; nothing for the root."""
    parts = path.split(".") if path else []
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _parts(children: list[int]) -> Sequence[int | list[int]]:
    """Return the children, or lists of neighbours when they are too many."""
    if len(children) <= MOST_CHILDREN:
        return children
    length = -(-len(children) // _GROUPS)
    return [children[start : start + length] for start in range(0, len(children), length)]


def _mode(layer: LayerFacts) -> str:
    training = layer.layer.training if layer.training is None else layer.training
    return "train" if training else "eval"


def _one(words: Iterable[str]) -> str:
    found = set(words) - {"none"}
    return found.pop() if len(found) == 1 else "mixed" if found else "none"


def _largest(numbers: Iterable[float | None]) -> float | None:
    """Return the largest number; a NaN beats all, nothing known gives None."""
    known = [number for number in numbers if number is not None]
    return next((number for number in known if number != number), max(known, default=None))
