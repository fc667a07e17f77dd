"""Import the user's files and modules as Python would: each file once, under its own name, its folder on the path."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from ..errors import TargetError
from ..guard import users_code
from ..places import kind, shown, user_location
from ._missing import how_to_get, where_to_look

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_imported: dict[str, ModuleType] = {}
"""By absolute path, so that a target and a `file.py:function` of the spec share one module object."""
_brought: dict[str, tuple[str, ...]] = {}
"""By module name: the user's own files that came with its import."""


def import_file(path: str) -> ModuleType:
    """Import a Python file, or return it where it was imported before; the caller saw to it that it exists.

    The file's folder goes first on `sys.path`; a file in a package is imported by its dotted name with the package's
    parent on the path. Raises TargetError when the file's own code raises.
    """
    path = os.path.realpath(path)
    if path not in _imported:
        known = _already_imported(path)
        _imported[path] = known or _fresh(path)
    return _imported[path]


def import_name(name: str, folder: str | None = None) -> ModuleType:
    """Import a module by its dotted name; `folder` or the working directory is on the path. Raises TargetError."""
    _first_on_path(folder or os.getcwd())
    importlib.invalidate_caches()
    with _looked_for(name, folder or os.getcwd()), _importing(name, f"importing {name}", name):
        return importlib.import_module(name)


def files_of(module: ModuleType) -> tuple[str, ...]:
    """Return the user's own files that a module was read from: its own and those it imported, absolute."""
    own = getattr(module, "__file__", None)
    return tuple(dict.fromkeys(([os.path.abspath(own)] if own else []) + list(_brought.get(module.__name__, ()))))


def _already_imported(path: str) -> ModuleType | None:
    """The module that the running program itself made of this file: `__main__`, or under its own name."""
    for name in (_module_name(path)[0], _stem(path), "__main__"):
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if module is not None and file and os.path.realpath(file) == path:
            return module
    return None


def _module_name(path: str) -> tuple[str, str]:
    """The dotted name of a file in a package and the folder that makes it importable; else its stem and its folder."""
    folder = os.path.dirname(path)
    if not os.path.exists(os.path.join(folder, "__init__.py")):
        return _stem(path), folder
    parts = [] if _stem(path) == "__init__" else [_stem(path)]
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, name = os.path.split(folder)
        parts.insert(0, name)
    return ".".join(parts), folder


def _stem(path: str) -> str:
    """A dot in the name would make Python look for a package of that name."""
    return os.path.splitext(os.path.basename(path))[0].replace(".", "_")


def _fresh(path: str) -> ModuleType:
    name, root = _module_name(path)
    _first_on_path(root)
    importlib.invalidate_caches()
    doing = f"importing {shown(path)}"
    if "." in name or _stem(path) == "__init__":
        with _others_aside(name.partition(".")[0], root), _importing(name, doing, path):
            return importlib.import_module(name)
    if name in sys.modules or name in sys.stdlib_module_names:
        name = _free_name(name)
    with _importing(name, doing, path):
        return _execute(name, path)


def _execute(name: str, path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{shown(path)} cannot be imported as Python", hint="name a file that ends with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _free_name(stem: str) -> str:
    """Another name for a file whose own belongs to somebody else's module, such as `types.py`."""
    number = 1
    while f"{stem}_{number}" in sys.modules:
        number += 1
    return f"{stem}_{number}"


def _first_on_path(folder: str) -> None:
    if not sys.path or sys.path[0] != folder:
        sys.path.insert(0, folder)


@contextmanager
def _others_aside(package: str, root: str) -> Iterator[None]:
    """Put a package of the same name that lies elsewhere aside while ours is imported, and back afterwards."""
    other = sys.modules.get(package)
    places = [os.path.dirname(os.path.realpath(folder)) for folder in getattr(other, "__path__", ())]
    aside: dict[str, ModuleType] = {}
    if other is not None and os.path.realpath(root) not in places:
        aside = {n: m for n, m in sys.modules.items() if n == package or n.startswith(f"{package}.")}
        for name in aside:
            del sys.modules[name]
    try:
        yield
    finally:
        sys.modules.update(aside)


@contextmanager
def _importing(module: str, doing: str, argument: str) -> Iterator[None]:
    """Run an import as the user's code. Raises TargetError when it raises; warns when it trains."""
    with _imports_of(module), users_code(doing, TargetError), _arguments(argument), _training_told(doing):
        yield


_A_TRAINING = 10
"""So many steps an import makes before it is called a training."""


@contextmanager
def _training_told(doing: str) -> Iterator[None]:
    """Warn when an import goes on training: the file is a script, whose whole training runs before the check.

    It is no error, and a few steps are not worth a word: some train a little on purpose before they define what is to
    be checked.
    """
    steps = 0

    def tell(optimizer: Optimizer, *_: object) -> None:
        nonlocal steps
        steps += 1
        if steps != _A_TRAINING:
            return
        place = user_location(sys._getframe(1))
        file, line = (place.file, place.line) if place else ("train.py", 0)
        warnings.warn_explicit(
            f"{doing} trains: {type(optimizer).__name__} makes step after step before anything is checked. Put the "
            f'training below `if __name__ == "__main__":`, or watch the script as it is: freezecheck run {file}',
            UserWarning,
            file,
            line,
        )

    handle = register_optimizer_step_pre_hook(tell)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _arguments(name: str) -> Iterator[None]:
    """Hide freezecheck's own arguments from a file that parses the command line while it is imported."""
    before = sys.argv
    sys.argv = [name]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _looked_for(name: str, folder: str) -> Iterator[None]:
    """Say where a module was looked for that is not there itself, or of which a part is not."""
    try:
        yield
    except TargetError as error:
        missing = error.__cause__.name if isinstance(error.__cause__, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}.") and error.location is None:
            error.hint = where_to_look(missing, folder)
        raise


@contextmanager
def _imports_of(name: str) -> Iterator[None]:
    """Note which files of the user's an import brings in, and say what to do when one of its imports fails."""
    before = set(sys.modules)
    try:
        yield
    except TargetError as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name and not error.hint:
            error.hint = how_to_get(error.__cause__.name, error.location.file if error.location else ".")
        raise
    files = (getattr(sys.modules[new], "__file__", None) for new in set(sys.modules) - before)
    _brought[name] = tuple(sorted(os.path.abspath(file) for file in files if file and kind(file) == "user"))
