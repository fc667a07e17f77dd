"""The Python side of a model and its optimizers: attributes, modes, hooks, lists, counters."""

from __future__ import annotations

import operator
import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import is_dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .switches import Switch

_MAPPINGS = frozenset({dict, OrderedDict, defaultdict})
_SEQUENCES = frozenset({list, deque})
_CONTAINERS = _MAPPINGS | _SEQUENCES | {set, tuple}


class Record(Protocol):
    """Something that was recorded and can be put back."""

    @property
    def what(self) -> str:
        """As a message calls it."""

    def restore(self) -> None:
        """Put it back; doing so twice does no harm."""


class Contents:
    """The items of a dict, list, deque or set, put back into the same object in the same order."""

    __slots__ = ("_items", "_object", "_values", "what")

    def __init__(self, what: str, container: Any) -> None:
        self.what, self._object = what, container
        self._items = list(container)
        self._values = list(container.values()) if type(container) in _MAPPINGS else None

    def restore(self) -> None:
        """Make the container hold the very same objects again."""
        box = self._object
        if _same_objects(box, self._items) and (self._values is None or _same_objects(box.values(), self._values)):
            return
        box.clear()
        if type(box) in _SEQUENCES:
            box.extend(self._items)
        else:
            box.update(self._items if self._values is None else zip(self._items, self._values, strict=True))


def _same_objects(now: Collection[Any], before: Collection[Any]) -> bool:
    return len(now) == len(before) and all(map(operator.is_, now, before))


class Empties:
    """Containers that held nothing, most of a module's registries of hooks: one record for all of them is far less."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._boxes: list[Any] = []

    def add(self, box: Any) -> None:
        """Remember an empty container."""
        self._boxes.append(box)

    def restore(self) -> None:
        """Empty the containers again."""
        for box in self._boxes:
            if box:
                box.clear()


class ClassOf:
    """The class of an object: a lazy module or parameter takes another one when it comes to life."""

    __slots__ = ("_class", "_object", "what")

    def __init__(self, what: str, thing: object) -> None:
        self.what, self._object, self._class = what, thing, type(thing)

    def restore(self) -> None:
        """Give the object its class back."""
        if type(self._object) is not self._class:
            self._object.__class__ = self._class


def _plainly(box: list[Any] | tuple[Any, ...]) -> Iterable[Any]:
    return list.__iter__(box) if isinstance(box, list) else tuple.__iter__(box)


class Belongings:
    """All that can be reached from the objects shown to it, through modules, optimizers and builtin containers.

    `records` takes what puts it back. Every tensor that is met is handed to `hold` with its
    path, and whether it is state: a registered buffer, or what an optimizer remembers.
    """

    def __init__(self, records: list[Record], hold: Callable[[str, Tensor, bool], None]) -> None:
        self.records = records
        self._hold = hold
        self._seen: set[int] = set()
        self._empties = Empties("containers that were empty")
        records.append(self._empties)

    def walk(self, path: str, thing: Any, state: bool = False) -> None:
        """Record `thing` and whatever it leads to."""
        kind = type(thing)
        if kind in _CONTAINERS:
            self._container(path, thing, state)
        elif isinstance(thing, Tensor):
            self._hold(path, thing, state)
        elif isinstance(thing, nn.Module):
            self._module(path, thing)
        elif isinstance(thing, Optimizer):
            self._optimizer(path, thing)
        elif isinstance(thing, torch.Generator):
            self.records.append(Switch(path, thing.get_state, thing.set_state))
        elif isinstance(thing, random.Random):
            self.records.append(Switch(path, thing.getstate, thing.setstate))
        elif isinstance(thing, SimpleNamespace) or (is_dataclass(thing) and not isinstance(thing, type)):
            self.walk(path, getattr(thing, "__dict__", None))
        elif isinstance(thing, (list, tuple, dict)):
            self._subclass(path, thing)

    def _new(self, thing: object) -> bool:
        """Say whether it is met for the first time; the records keep it alive, so that its id stays its own."""
        new = id(thing) not in self._seen
        self._seen.add(id(thing))
        return new

    def _container(self, path: str, box: Any, state: bool) -> None:
        if not box:
            self._empties.add(box)
            return
        if not self._new(box):
            return
        if type(box) is not tuple:
            self.records.append(Contents(path, box))
        if type(box) is set:
            return
        mapping = type(box) in _MAPPINGS
        for key, value in box.items() if mapping else enumerate(box):
            if type(value) not in _PLAIN:
                self.walk(f"{path}[{key!r}]" if not isinstance(key, Tensor) else f"{path}[...]", value, state)

    def _subclass(self, path: str, box: Any) -> None:
        """Walk a container of somebody's own class, whose methods may do anything, past them."""
        if self._new(box):
            for key, value in dict.items(box) if isinstance(box, dict) else enumerate(_plainly(box)):
                if type(value) not in _PLAIN:
                    self.walk(f"{path}[{key!r}]", value)

    def _module(self, path: str, module: nn.Module) -> None:
        if not self._new(module):
            return
        prefix = f"{path}." if path else ""
        if isinstance(module, torch.jit.ScriptModule):
            self._script_module(prefix, module)
            return
        attributes = vars(module)
        self.records += (ClassOf(f"the class of {path or 'the model'}", module), Contents(path, attributes))
        for registry, state in _REGISTRIES:
            self._registry(prefix, registry, attributes.get(registry), state)
        for name, value in list(attributes.items()):
            kind = type(value)
            if kind in _PLAIN:
                continue
            if kind in _CONTAINERS and not value:  # most of what a module has
                self._empties.add(value)
            else:
                self.walk(prefix + name, value)

    def _registry(self, prefix: str, name: str, box: Any, state: bool) -> None:
        if box is None or (not box and type(box) in _CONTAINERS) or not self._new(box):
            return
        self.records.append(Contents(prefix + name, box))
        for key, value in list(box.items()):
            if type(value) in _TENSORS:  # as nearly all are
                self._hold(prefix + key, value, state)
            else:
                self.walk(prefix + key, value, state)

    def _script_module(self, prefix: str, module: nn.Module) -> None:
        """Record what a compiled module lets be recorded: its attributes live outside Python."""
        mode = f"the mode of {prefix.rstrip('.') or 'the model'}"
        self.records.append(Switch(mode, lambda: module.training, lambda flag: setattr(module, "training", flag)))
        for name, parameter in module.named_parameters(recurse=False):
            self.walk(prefix + name, parameter)
        for name, buffer in module.named_buffers(recurse=False):
            self.walk(prefix + name, buffer, state=True)
        for name, child in module.named_children():
            self.walk(prefix + name, child)

    def _optimizer(self, path: str, optimizer: Optimizer) -> None:
        if not self._new(optimizer):
            return
        attributes = vars(optimizer)
        self.records.append(Contents(path, attributes))
        for name, value in list(attributes.items()):
            self.walk(f"{path}.{name}", value, state=name == "state")


_TENSORS = frozenset({Tensor, nn.Parameter})
_REGISTRIES = (("_parameters", False), ("_buffers", True), ("_modules", False))
"""With whether what lies there is state."""
_PLAIN = frozenset({int, float, bool, str, bytes, complex, type(None), type, type(len), type(lambda: None)})


def global_hooks() -> Iterable[Record]:
    """Yield the registries of hooks that stand on every module and on every optimizer, and their few flags."""
    for name in ("torch.nn.modules.module", "torch.optim.optimizer"):
        module = sys.modules[name]
        for attribute, value in list(vars(module).items()):
            if not attribute.startswith("_global_"):
                continue
            if type(value) in _CONTAINERS:
                yield Contents(f"{name}.{attribute}", value)
            else:
                read, write = partial(getattr, module, attribute), partial(setattr, module, attribute)
                yield Switch(f"{name}.{attribute}", read, write)
