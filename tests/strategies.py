"""Hypothesis strategies for models as records, and for selectors and specs that fit them."""

from __future__ import annotations

import re

from hypothesis import strategies as st

from freezecheck.records import Description, Layer, Tensor

WORDS = ("a", "ab", "fc", "bn1", "bn", "layers", "A")
"""So few that one is often the beginning of another, and that globs meet several."""
OWN = (("weight", "parameter"), ("bias", "parameter"), ("running_mean", "buffer"))
CLASSES = {
    "Net": (),
    "Linear": (("weight", "parameter"), ("bias", "parameter")),
    "BatchNorm2d": OWN,
    "ReLU": (),
    "Scale": (("scale", "parameter"),),
}
BASES = {"BatchNorm2d": ("BatchNorm2d", "_BatchNorm", "Module")}


@st.composite
def models(draw: st.DrawFn, *, tied: bool = True) -> Description:
    """A small module tree with up to three levels, some of them ModuleLists of up to twelve items."""
    layers: list[Layer] = []
    tensors: list[Tensor] = []

    def grow(path: str, depth: int) -> None:
        below = draw(st.sampled_from(("leaf", "list", "children"))) if depth < 3 and len(layers) < 25 else "leaf"
        name = draw(st.sampled_from(sorted(CLASSES))) if below != "list" else "ModuleList"
        names = [
            str(n) if below == "list" else word
            for n, word in enumerate(
                draw(st.lists(st.sampled_from(WORDS), min_size=depth == 0, max_size=3, unique=below != "list"))
                * (draw(st.sampled_from((1, 4))) if below == "list" else 1)
            )
            if below != "leaf"
        ]
        prefix = f"{path}." if path else ""
        own = CLASSES.get(name, ())
        layers.append(
            Layer(
                path,
                name,
                BASES.get(name, (name, "Module")),
                tensors=tuple(prefix + key for key, _ in own),
                items=tuple(names) if below == "list" else None,
            )
        )
        for key, kind in own:
            requires_grad = kind == "parameter" and draw(st.booleans())
            tensors.append(Tensor(prefix + key, kind, requires_grad=requires_grad))
        for child in names:
            grow(prefix + child, depth + 1)

    grow("", 0)
    if tied:
        tensors = _tie(tensors, draw(st.integers(0, 2)))
    return Description(tuple(tensors), tuple(layers))


def _tie(tensors: list[Tensor], pairs: int) -> list[Tensor]:
    """Make the last of each kind further names of the first."""
    for _ in range(pairs):
        parameters = [tensor for tensor in tensors if tensor.kind == "parameter"]
        if len(parameters) > 1:
            first, last = parameters[0], parameters[-1]
            merged = Tensor(
                first.name, first.kind, requires_grad=first.requires_grad, aliases=(*first.aliases, *last.names)
            )
            tensors = [merged if tensor is first else tensor for tensor in tensors if tensor is not last]
    return tensors


@st.composite
def paths(draw: st.DrawFn, model: Description) -> str:
    """A path selector: a name of the model, or one with wildcards or indices in it, or one that the model lacks."""
    known = [*model.by_name, *(layer.name for layer in model.layers if layer.name)]
    name = draw(st.sampled_from(known)) if known else "a"
    parts = name.split(".")[: draw(st.integers(1, 4))]
    for position in range(len(parts)):
        change = draw(st.sampled_from(("keep", "keep", "keep", "star", "mark", "other", "tail", "index", "slice")))
        part = parts[position]
        if change == "star":
            parts[position] = "*"
        elif change == "mark":
            parts[position] = part[:-1] + "?"
        elif change == "other":
            parts[position] = draw(st.sampled_from(WORDS))
        elif change == "tail":
            parts[position] = part[:1] + "*"
        elif change == "index" and part.isdigit():
            parts[position] = f"[{draw(st.integers(-4, 12))}]"
        elif change == "slice" and part.isdigit():
            bound = st.sampled_from(("", "0", "1", "2", "3", "-1", "-2", "5"))
            parts[position] = f"[{draw(bound)}:{draw(bound)}]"
    return re.sub(r"\.\[", "[", ".".join(parts))


def selectors(model: Description) -> st.SearchStrategy[str]:
    """A selector of any form, `!` included."""
    classes = st.sampled_from(("type:BatchNorm*", "type:Linear", "type:Scale", "type:?inear", "type:Module"))
    searches = st.sampled_from(("re:bn", r"re:\.weight$", "re:^a", "re:[0-9]", "re:zzz"))
    positive = st.one_of(paths(model), paths(model), paths(model), classes, searches, st.just("*"))
    return st.one_of(positive, positive, positive.map("!{}".format))


def lists(model: Description) -> st.SearchStrategy[list[str]]:
    """One of a spec's lists: empty, or with at least one selector that adds."""
    return st.lists(selectors(model), max_size=4).filter(
        lambda texts: not texts or not all(text.startswith("!") for text in texts)
    )


KEYS = st.sampled_from(
    (
        "target",
        "trainable",
        "frozen",
        "rest",
        "eval",
        "optimizer",
        "inputs",
        "loss",
        "steps",
        "ignore",
        "expect",
        "phase",
        "pretrained",
    )
)
SCALARS = st.one_of(
    st.integers(-1, 5), st.booleans(), st.just(1.5), st.sampled_from(("", "fc", "frozen", "FZ4", "FZx"))
)
TABLES = st.dictionaries(
    st.sampled_from(("shape", "dtype", "low", "name", "lr", "frozen_parameters", "typo")),
    st.one_of(SCALARS, st.just("float32"), st.lists(st.integers(0, 3), max_size=3)),
    max_size=3,
)
RIGHT_TABLES = st.sampled_from(
    (
        {"shape": [2, 3]},
        {"shape": [1], "dtype": "int64", "low": 0},
        {"name": "SGD", "lr": 0.1},
        {"frozen_parameters": 3},
        {"name": "a", "trainable": ["fc"], "steps": 2},
        {"file": "a.pt", "key": "ema"},
    )
)
VALUES = st.one_of(
    SCALARS,
    TABLES,
    RIGHT_TABLES,
    st.lists(SCALARS, max_size=2),
    st.lists(RIGHT_TABLES, max_size=2),
)
spec_tables = st.dictionaries(KEYS, VALUES, max_size=4)
"""Values under a spec's keys, right and wrong, as TOML could give them."""
