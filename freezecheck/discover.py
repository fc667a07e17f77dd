"""The one registry: whatever a package's modules define under a name, found by walking the package."""

from __future__ import annotations

import importlib.util
import pkgutil
from functools import cache
from typing import Any


@cache
def discover(package: str, attribute: str) -> tuple[Any, ...]:
    """Return `attribute` of every public module in `package`, in the order of the modules' names.

    Modules whose name begins with an underscore hold helpers and are passed over. Raises AttributeError when a
    module forgot to define it, so that a new file cannot be left out silently.
    """
    parent = importlib.import_module(package)
    names = sorted(info.name for info in pkgutil.iter_modules(parent.__path__) if not info.name.startswith("_"))
    return tuple(getattr(importlib.import_module(f"{package}.{name}"), attribute) for name in names)


def rules() -> tuple[Any, ...]:
    """Every rule, in the order of its code."""
    return tuple(sorted(discover("freezecheck.rules", "RULE"), key=lambda rule: rule.code))


def loaders() -> tuple[Any, ...]:
    """Every form a target can take, in the order they are asked."""
    return tuple(sorted(discover("freezecheck.loaders", "LOADER"), key=lambda loader: loader.order))


def renderers() -> dict[str, Any]:
    """Every output format under its name."""
    return {renderer.name: renderer for renderer in discover("freezecheck.render", "RENDERER")}


def renderer(name: str) -> Any:
    """Return one output format; where a module is called like it, the others are not even imported.

    Raises KeyError when there is no such format.
    """
    for module in (f"freezecheck.render.{name}", f"freezecheck.render.{name}_format"):
        if importlib.util.find_spec(module) is not None:
            return importlib.import_module(module).RENDERER
    return renderers()[name]
