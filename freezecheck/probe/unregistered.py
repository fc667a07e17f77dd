"""What trains or runs beside the model's own tensors: leaves that are no parameters, layers unknown to torch."""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from types import FunctionType, SimpleNamespace
from typing import Any

import torch
from torch import nn

from ..places import kind
from ..records import Hidden, Leaf
from .describe import statistics_of, walk

_MOST_DEPTH = 5
_MOST_ITEMS = 1000
"""Longer containers hold data, not layers."""
_OWN = frozenset({"_parameters", "_buffers", "_modules"})
_PLAIN = frozenset({bool, int, float, str, type(None)})


def unregistered(
    leaves: Iterable[torch.Tensor],
    modules: Mapping[str, nn.Module],
    known: set[int],
    in_optimizers: set[int],
) -> tuple[Leaf, ...]:
    """Return the leaves that are neither `known` (parameters, inputs; by identity) nor made on the fly.

    A leaf that lies in an attribute of the model (a plain list, a dict, a raw tensor) is named by it, one that no
    optimizer holds also by the global variable or the closure that it lies in, or by the other model that it is a
    parameter of. One that lies elsewhere counts only as an `nn.Parameter`: a raw tensor made to require grad in the
    loss (an interpolation of a gradient penalty, an adversarial example) is right.
    """
    strange = {id(leaf): leaf for leaf in leaves if id(leaf) not in known}
    if not strange:
        return ()
    hidden = _found(strange.keys(), _attributes(modules))
    if nowhere := strange.keys() - hidden.keys() - in_optimizers:
        hidden |= _found(nowhere, _variables(modules))
    if any(isinstance(strange[key], nn.Parameter) for key in nowhere - hidden.keys()):
        hidden |= _found(nowhere - hidden.keys(), _other_models(modules))
    result = []
    for key, leaf in strange.items():
        name, container = hidden.get(key, ("", ""))
        if container or isinstance(leaf, nn.Parameter):
            result.append(Leaf(name, container, tuple(leaf.shape), key in in_optimizers))
    return tuple(sorted(result, key=lambda leaf: leaf.name))


def _found(wanted: Set[int], places: Iterable[tuple[str, str, Any]]) -> dict[int, tuple[str, str]]:
    """Return (name, container) of those of the wanted tensors (by identity) that lie in these places."""
    found: dict[int, tuple[str, str]] = {}
    for name, container, value in places:
        for inner, tensor in _tensors_in(name, value, 0, set()):
            if id(tensor) in wanted:
                found.setdefault(id(tensor), (inner, container))
    return found


def hidden_layers(modules: Mapping[str, nn.Module], moved: Callable[[torch.Tensor], bool]) -> tuple[Hidden, ...]:
    """Return the layers that lie in the model's attributes where torch does not look; `moved` tells of a buffer.

    Of their statistics only those count that no parameter trains beside: where one does, it is the better finding.
    """
    registered = {id(module) for module in modules.values()}
    found: dict[int, Hidden] = {}
    for name, container, value in _attributes(modules):
        for path, module in _modules_in(name, value, 0, set()):
            if id(module) not in registered and id(module) not in found:
                changed = tuple(path + key for key, buffer in _frozen_statistics(module) if moved(buffer))
                found[id(module)] = Hidden(path, type(module).__name__, container, changed)
    return tuple(found.values())


def _frozen_statistics(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    if any(parameter.requires_grad for parameter in module.parameters()):
        return
    for path, inner in walk(module):
        for key in statistics_of("", inner):
            yield f".{path}.{key}" if path else f".{key}", inner.get_buffer(key)


# ---------------------------------------------------------------- where to look


def _attributes(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, str, Any]]:
    """Yield (name, container as the records call it, value) for every attribute that torch does not look into."""
    for path, module in modules.items():
        for attribute, value in list(vars(module).items()):
            if type(value) in _PLAIN or attribute in _OWN or (type(value) is OrderedDict and not value):
                continue  # most of what a layer has
            if not _holds_nothing(value):
                name = f"{path}.{attribute}" if path else attribute
                yield name, f"{type(module).__name__}.{attribute}, {_kind(value)}", value


def _variables(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, str, Any]]:
    """Yield the same for the variables around the functions that the user wrote into the model."""
    seen: set[int] = set()
    for module in modules.values():
        for function in (getattr(type(module), "forward", None), *list(vars(module).values())):
            if not isinstance(function, FunctionType) or kind(function.__code__.co_filename) != "user":
                continue
            cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
            around = {name: _content(cell) for name, cell in cells}
            shared = function.__globals__
            around |= {name: shared[name] for name in function.__code__.co_names if name in shared}
            if id(shared) not in seen:
                seen.add(id(shared))
                around |= {name: value for name, value in shared.items() if not isinstance(value, nn.Module)}
            for name, value in list(around.items()):
                yield name, f"{name}, a variable", value


def _other_models(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, str, Any]]:
    """Yield the same for every model in the process that is neither part of this one nor around it.

    It is named by the user's variable that it lies in, or by its class.
    """
    ours = {id(module) for module in modules.values()}
    lying = {id(value): (name, value) for name, value in reversed([*_users_variables()]) if _is_module(value)}
    # What was alive at a `gc.freeze()` is not among the collector's objects.
    every = [*(value for _, value in lying.values()), *filter(_is_module, gc.get_objects())]
    apart = {id(one): one for one in every if not any(id(inner) in ours for _, inner in walk(one))}
    below = {id(inner) for one in apart.values() for path, inner in walk(one) if path}
    for key, one in apart.items():
        if key not in below:
            name = lying[key][0] if key in lying else type(one).__name__
            yield name, f"{name}, another {type(one).__name__}", one


def _is_module(value: Any) -> bool:
    """Whether it is a module; asked of its type, since what poses as another object may load it when asked itself."""
    return issubclass(type(value), nn.Module) and "_modules" in vars(value)


def _users_variables() -> Iterator[tuple[str, Any]]:
    """Yield (name, value) for the global variables of the user's files, then for the attributes of what they hold."""
    files = [(getattr(module, "__file__", None), module) for module in list(sys.modules.values())]
    users = [module for file, module in files if isinstance(file, str) and kind(file) == "user"]
    around = [(name, value) for module in users for name, value in list(vars(module).items())]
    yield from around
    for name, value in around:
        if sys.modules.get(type(value).__module__) in users:  # an object of a class of theirs
            held = getattr(value, "__dict__", {})
            yield from ((f"{name}.{key}", inner) for key, inner in list(held.items()))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value yet
        return None


def _holds_nothing(value: Any) -> bool:
    """Whether it is a plain value or a container of none but those, as all attributes of torch's own layers are."""
    if isinstance(value, (list, tuple, set)):
        return len(value) <= _MOST_ITEMS and _PLAIN.issuperset(map(type, value))
    return type(value) in _PLAIN or (isinstance(value, dict) and not value)


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


def _modules_in(name: str, value: Any, depth: int, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, module) for the outermost modules below an attribute's value."""
    if isinstance(value, nn.Module):
        yield name, value
    elif depth <= _MOST_DEPTH and id(value) not in seen:
        seen.add(id(value))
        for key, inner in _items(value):
            yield from _modules_in(f"{name}.{key}", inner, depth + 1, seen)


def _items(value: Any) -> list[tuple[Any, Any]]:
    """What a container holds; of a module, the plain containers and raw tensors in its children's attributes."""
    if isinstance(value, nn.Module):
        return [
            (f"{path}.{key}" if path else key, inner)
            for path, module in value.named_modules()
            for key, inner in list(vars(module).items())
            if key not in _OWN and isinstance(inner, (list, tuple, dict, torch.Tensor))
        ]
    if isinstance(value, SimpleNamespace) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return list(getattr(value, "__dict__", {}).items())
    if not isinstance(value, (list, tuple, set, Mapping)) or len(value) > _MOST_ITEMS:
        return []
    return list(value.items()) if isinstance(value, Mapping) else list(enumerate(value))
