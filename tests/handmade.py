"""Models as records, made by hand."""

from __future__ import annotations

from freezecheck.records import Description, Layer, Tensor


def model(*names: str, items: dict[str, int] | None = None, types: dict[str, str] | None = None) -> Description:
    """A model with these parameters (`~` before a name: a buffer; `a=b`: b is a further name of a)."""
    tensors = []
    for text in names:
        first, *others = text.removeprefix("~").split("=")
        tensors.append(Tensor(first, "buffer" if text.startswith("~") else "parameter", aliases=tuple(others)))
    every = [name for tensor in tensors for name in tensor.names]
    known = {"": None, **dict.fromkeys(above for name in every for above in prefixes(name)[:-1])}
    known.update(dict.fromkeys(types or {}))
    own = {path: tuple(n for n in every if n.rpartition(".")[0] == path) for path in known}
    layers = []
    for path in known:
        name = (types or {}).get(path, "Linear" if own[path] else "Block")
        count = (items or {}).get(path)
        indexed = None if count is None else tuple(map(str, range(count)))
        layers.append(Layer(path, name, (name, f"_{name}", "Module"), tensors=own[path], items=indexed))
    return Description(tuple(tensors), tuple(layers))


def prefixes(name: str) -> list[str]:
    """The root, every module above a name, and the name."""
    parts = name.split(".")
    return ["", *(".".join(parts[:end]) for end in range(1, len(parts) + 1))]
