"""A function that the spec names: `train.py:build_optimizer`, or `package.module:function`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from ..places import shown
from ._modules import files_of, import_file, import_name
from ._nearest import perhaps

if TYPE_CHECKING:
    from types import ModuleType

    from ..records import Location


def user_function(
    reference: str, folder: str, key: str, location: Location | None = None
) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """Return the function that `reference` names, and the user's files that were read for it.

    `folder` is what a relative path in it means, `key` and `location` the key of the spec that holds it and its
    place. Raises SpecError when there is no such function, TargetError when the import of its file fails.
    """
    path, _, name = reference.rpartition(":")
    if not path or not all(part.isidentifier() for part in name.split(".")):
        hint = f'{key} = "{reference}:NAME"' if reference.endswith(".py") else f'{key} = "train.py:NAME"'
        raise SpecError(f"`{key}` is {reference!r}, which names no function", hint=hint, location=location)
    module = _module(path, folder, key, location)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = [n for n, value in vars(found).items() if callable(value)]
            what = f"`{key}` is {reference!r}, but {path} defines no `{part}`"
            raise SpecError(what, hint=perhaps(part, names), location=location)
        found = getattr(found, part)
    if not callable(found):
        what = f"`{key}` is {reference!r}, which is a {type(found).__name__}, not a function"
        raise SpecError(what, hint="name a function: it is called when it is needed", location=location)
    return found, files_of(module)


def _module(path: str, folder: str, key: str, location: Location | None) -> ModuleType:
    if not path.endswith(".py"):
        return import_name(path, folder)
    absolute = os.path.join(folder, path)
    if not os.path.isfile(absolute):
        what = f"`{key}` names a file that does not exist: {shown(absolute)}"
        raise SpecError(what, hint="a path in a spec begins at the spec's own folder", location=location)
    return import_file(absolute)
