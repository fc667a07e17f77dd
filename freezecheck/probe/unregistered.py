"""Leaves of the loss's graph that train but are no parameters of the model, and where they hide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ..records import Leaf

_MOST_DEPTH = 5
_OWN = frozenset({"_parameters", "_buffers", "_modules"})


def unregistered(
    leaves: Iterable[torch.Tensor],
    modules: Mapping[str, nn.Module],
    known: set[int],
    in_optimizers: set[int],
) -> tuple[Leaf, ...]:
    """Return the leaves that are neither `known` (parameters, inputs; by identity) nor made on the fly.

    A leaf that lies in an attribute of the model (a plain list, a dict, a raw tensor) is named by it. One that lies
    elsewhere counts only as an `nn.Parameter`: a raw tensor made to require grad in the loss (an interpolation of a
    gradient penalty, an adversarial example) is right.
    """
    strange = [leaf for leaf in leaves if id(leaf) not in known]
    if not strange:
        return ()
    wanted = {id(leaf) for leaf in strange}
    hidden: dict[int, tuple[str, str]] = {}
    for path, module in modules.items():
        for attribute, value in list(vars(module).items()):
            if attribute in _OWN:
                continue
            container = f"{type(module).__name__}.{attribute}, {_kind(value)}"
            name = f"{path}.{attribute}" if path else attribute
            for found, tensor in _tensors_in(name, value, 0, set()):
                if id(tensor) in wanted:
                    hidden.setdefault(id(tensor), (found, container))
    result = []
    for leaf in strange:
        name, container = hidden.get(id(leaf), ("", ""))
        if container or isinstance(leaf, nn.Parameter):
            result.append(Leaf(name, container, tuple(leaf.shape), id(leaf) in in_optimizers))
    return tuple(sorted(result, key=lambda leaf: leaf.name))


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "a raw tensor"
    article = "an" if type(value).__name__[:1] in "aeiouAEIOU" else "a"
    return f"{article} {type(value).__name__}"


def _tensors_in(name: str, value: Any, depth: int, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) for every tensor below an attribute's value."""
    if depth > _MOST_DEPTH or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield name, value
        return
    if isinstance(value, nn.Module):
        yield from ((f"{name}.{key}", parameter) for key, parameter in value.named_parameters())
    for key, inner in _items(value):
        yield from _tensors_in(f"{name}.{key}", inner, depth + 1, seen)


def _items(value: Any) -> list[tuple[Any, Any]]:
    """What a container holds; of a module, the plain containers and raw tensors in its children's attributes."""
    if isinstance(value, nn.Module):
        return [
            (f"{path}.{key}" if path else key, inner)
            for path, module in value.named_modules()
            for key, inner in list(vars(module).items())
            if key not in _OWN and isinstance(inner, (list, tuple, dict, torch.Tensor))
        ]
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, (list, tuple, set)) else []
