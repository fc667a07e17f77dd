"""Reports for the tests of the picture: a model with evil names, a huge one, and the reading back of a page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

from freezecheck.records import Case, Expected, Finding, Gradient, LayerFacts, Report, Severity
from freezecheck.render._renderer import Style
from freezecheck.render.html import RENDERER as HTML
from tests.render.samples import CONDITIONS, Sketch

EVIL = (
    "<script>window.hacked=1</script>",
    "</script><img src=x onerror=window.hacked=2>",
    "\"' onmouseover='window.hacked=3",
    "{{ 7*7 }}${7*7}",
    "&lt;b&gt;",
    "\u202egpj\x00\x1b[31m",
    "--><!-- report -->",
)
"""Names that a module can have; a dot alone is forbidden."""
EVIL = tuple(name.replace(".", "_") for name in EVIL)


def finding(code: str, *tensors: str, message: str = "It is wrong.", **more: Any) -> Finding:
    return Finding(code, "frozen-requires-grad", more.pop("severity", Severity.ERROR), tensors, message, "mend", **more)


def evil() -> Report:
    """A report in which every text that comes from the user tries to be markup."""
    net = Sketch(EVIL[0])
    for name in EVIL:
        net.linear(name, 4, 4, expected=Expected.FROZEN, moved=True, gradient=Gradient.NONZERO, gradient_max=0.5)
    named = tuple(f"{name}.weight" for name in EVIL)
    found = [finding("FZ101", name, message=f"`{name}` is wrong: {name}") for name in named]
    return Report("verify", EVIL[1], EVIL[0], net.case(spec=True, conditions=CONDITIONS), tuple(found))


def huge(blocks: int = 100) -> Report:
    """A model of 100 tensors a block, with 10,000 in all by default; every third block's first norm is wrong."""
    net = Sketch("Huge")
    net.layer("layers", "ModuleList")
    wrong: list[str] = []
    for block in range(blocks):
        path = net.layer(f"layers.{block}", "TransformerBlock")
        on = block >= blocks // 2
        seen: dict[str, Any] = {"gradient": Gradient.NONZERO if on else None, "moved": on}
        for part in range(50):
            expected = Expected.TRAINABLE if on else Expected.FROZEN
            net.linear(
                f"{path}.projection_{part}", 64 + part, 64, grad=on, expected=expected,
                gradient_max=0.123456789 / (part + 1), max_abs_change=1e-5 * part, **seen,
            )  # fmt: skip
        if block % 3 == 0:
            wrong.append(f"{path}.projection_0.weight")
    # Sketch.case asks every tensor for every layer; the picture does without the layers' own sums.
    case = Case(tuple(net.facts.values()), tuple(LayerFacts(layer) for layer in net.layers.values()))
    return Report("verify", "huge.py", "freeze.toml", case, (finding("FZ101", *wrong),))


def rendered(report: Report, **style: Any) -> str:
    return HTML.render(report, Style(**style))


class Page(HTMLParser):
    """What a page is made of: its elements, its texts, and what the script reads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.texts: list[str] = []
        self._inside: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        within = self._inside[-1] if self._inside else ""
        if within == "script":
            self.scripts.append((self.elements[-1][1], data))
        elif within == "style":
            self.styles.append(data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All that a person reads, with single spaces."""
        return " ".join(" ".join(self.texts).split())

    @property
    def data(self) -> list[dict[str, Any]]:
        """Each report's data, its columns unpacked."""
        found = [json.loads(text) for kind, text in self.scripts if kind.get("type") == "application/json"]
        for one in found:
            for table in ("boxes", "tensors"):
                one[table] = {name: unpacked(column) for name, column in one[table].items()}
        return found


def unpacked(column: Any) -> Any:
    if isinstance(column, dict) and "index" in column:
        return [column["words"][word] for word in column["index"]]
    return column


def names(data: dict[str, Any]) -> list[str]:
    """Put the tensors' full names together again from the boxes they lie in."""
    boxes = data["boxes"]
    paths: list[str] = []
    for label, kind, parent in zip(boxes["label"], boxes["kind"], boxes["parent"], strict=True):
        above = paths[parent] if parent >= 0 else ""
        paths.append(above if kind == "group" or parent < 0 else f"{above}.{label}".lstrip("."))
    return [paths[box] for box in data["tensors"]["box"]]
