"""Put back what a forward leaves on its modules."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Restore every module's attributes afterwards, and what lies in its own dicts, lists and sets.

    A forward caches activations, which would stay behind on the meta device. The first forward of a transformers
    model installs hooks and notes that it has: the note and the hooks must go together.
    """
    saved = [(module, dict(module.__dict__), _containers(module)) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes, containers in saved:
            for name in set(module.__dict__) - set(attributes):
                del module.__dict__[name]
            module.__dict__.update(attributes)
            for container, before in containers:
                _restore(container, before)


def _containers(module: nn.Module) -> list[tuple[Any, Any]]:
    return [(value, value.copy()) for value in module.__dict__.values() if isinstance(value, dict | list | set)]


def _restore(container: Any, before: Any) -> None:
    """By identity, for two tensors cannot be asked whether they are equal."""
    if len(container) == len(before) and all(map(_same, _parts(container), _parts(before))):
        return
    container.clear()
    if isinstance(container, list):
        container.extend(before)
    else:
        container.update(before)


def _parts(container: Any) -> Any:
    return container.items() if isinstance(container, dict) else container


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other) == 2:
        return all(a is b for a, b in zip(one, other, strict=True))
    return one is other
