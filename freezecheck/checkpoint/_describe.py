"""A model's description as far as the names, shapes and dtypes of a checkpoint give it away. Pure; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from ..records import Description, Layer, Stored, Tensor

Stock = Sequence[tuple[tuple[str, ...], Stored]]
"""Of every tensor its names, the canonical one first, and how it is stored."""

_BUFFERS = frozenset(
    {
        *("running_mean", "running_var", "num_batches_tracked"),
        *("inv_freq", "position_ids", "token_type_ids", "relative_position_index", "attn_mask"),
        *("weight_u", "weight_v", "_u", "_v"),
    }
)
"""Last parts of the names under which torch's, torchvision's and Hugging Face's layers keep buffers."""
_NORM = ("BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm", "_BatchNorm", "_NormBase", "Module")
_NUMBERS = ("float", "bfloat", "complex")


def describe(stock: Stock) -> Description:
    """Return the layers that the names tell of, and the tensors.

    Children that are all numbered make their layer one that takes an index; that no layers without tensors follow the
    last of them is known of blocks only. A layer's class is not stored and stays empty, except that running statistics
    give a batch norm away. What a name or an integer dtype does not show to be a buffer counts as a parameter.
    `requires_grad` is False throughout: a checkpoint has no flags.
    """
    tensors = tuple(_tensor(names, stored) for names, stored in stock)
    own: dict[str, list[str]] = {"": []}
    children: dict[str, dict[str, None]] = {"": {}}
    for tensor in tensors:
        for name in tensor.names:
            path = name.rpartition(".")[0]
            _add_layer(path, own, children)
            own[path].append(name)
    ordered = _in_order("", children)
    layers = tuple(_layer(path, own[path], children) for path in ordered)
    return Description(tensors, layers)


def is_buffer(name: str, dtype: str) -> bool:
    """Whether a tensor of this name and dtype is taken for a buffer."""
    last = name.rpartition(".")[2]
    return last in _BUFFERS or not (dtype.startswith(_NUMBERS) or _is_packed(last, dtype))


def _is_packed(last: str, dtype: str) -> bool:
    """Whether these are weights that were quantised into integers."""
    return dtype.startswith(("q", "int", "uint")) and "weight" in last


def _tensor(names: tuple[str, ...], stored: Stored) -> Tensor:
    first, *others = names
    return Tensor(
        name=first,
        kind="buffer" if is_buffer(first, stored.dtype) else "parameter",
        shape=stored.shape,
        dtype=stored.dtype,
        numel=prod(stored.shape),
        requires_grad=False,
        differentiable=stored.dtype.startswith(_NUMBERS),
        aliases=tuple(others),
    )


def _add_layer(path: str, own: dict[str, list[str]], children: dict[str, dict[str, None]]) -> None:
    """Note a layer and all above it."""
    while path not in own:
        own[path] = []
        children.setdefault(path, {})
        above, _, name = path.rpartition(".")
        children.setdefault(above, {})[name] = None
        path = above


def _in_order(path: str, children: Mapping[str, Mapping[str, None]]) -> list[str]:
    """A layer and all below it, each before its own children."""
    found = [path]
    for name in children[path]:
        found += _in_order(f"{path}.{name}" if path else name, children)
    return found


def _layer(path: str, own: Sequence[str], children: Mapping[str, Mapping[str, None]]) -> Layer:
    lasts = {name.rpartition(".")[2] for name in own}
    norm = {"running_mean", "running_var"} <= lasts
    names, items, more = list(children[path]), None, False
    if names and not own and all(name.isdecimal() and str(int(name)) == name for name in names):
        # Layers without tensors, such as a ReLU in a Sequential, leave gaps that the index has to count. They may stand
        # behind the last one as well, which nothing shows; but not among blocks, which have layers of their own.
        items = tuple(map(str, range(max(map(int, names)) + 1)))
        more = len(items) > len(names) or not all(children[f"{path}.{name}" if path else name] for name in names)
    kind, bases = ("BatchNorm", _NORM) if norm else ("", ("Module",))
    return Layer(path, kind, bases, tensors=tuple(own), items=items, more=more)
