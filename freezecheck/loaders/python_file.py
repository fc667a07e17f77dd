"""A target that is a Python file: `model.py`, or `model.py:NAME` with a dotted name."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ..errors import TargetError
from ..places import shown
from ._find import find_model, made_at
from ._loader import Loaded, Loader
from ._modules import files_of, import_file
from ._nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

_WITH_NAME = re.compile(r"(?P<path>.+\.py):(?P<name>.*)", re.DOTALL)
_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".onnx", ".h5")
_MOST_LISTED = 6


def accepts(target: str) -> bool:
    """Whether it names a file: by its ending, by a path's separator, or because there is such a file."""
    path = split(target)[0]
    return path.endswith(".py") or os.sep in path or "/" in path or os.path.exists(path) or ":" not in target


def load(target: str, arguments: Mapping[str, object]) -> Loaded:
    """Import the file and find the model in it. Raises TargetError."""
    path, name = split(target)
    check_file(path)
    if name is not None and not all(part.isidentifier() for part in name.split(".")):
        raise TargetError(
            f"{target}: after the colon stands {name!r}, which is no name" if name else f"{target} ends with a colon",
            hint=f"{path} alone finds the model, or {path}:NAME names it",
        )
    module = import_file(path)
    return Loaded(
        find_model(module, shown(path), name, arguments),
        vars(module),
        shown(path),
        files_of(module),
        made_at(module, name),
    )


def split(target: str) -> tuple[str, str | None]:
    """Split `model.py:NAME` into path and name; a colon elsewhere belongs to the path."""
    match = _WITH_NAME.fullmatch(target)
    return (match["path"], match["name"]) if match else (target, None)


def check_file(path: str) -> None:
    """Raise TargetError, with what to do, unless `path` is a Python file with something in it."""
    if os.path.isdir(path):
        raise TargetError(f"{path} is a folder, not a Python file", hint=_files_in(path))
    if not os.path.exists(path):
        raise TargetError(f"there is no file {path}", hint=_perhaps_file(path))
    if not path.endswith(".py"):
        raise TargetError(f"{path} is no Python file", hint=_for_other_file(path))
    if os.path.getsize(path) == 0:
        raise TargetError(f"{path} is empty", hint="was it saved?")


def _files_in(folder: str) -> str:
    files = sorted(name for name in os.listdir(folder) if name.endswith(".py") and name != "__init__.py")
    if not files:
        return "name the file that builds the model"
    more = ", …" if len(files) > _MOST_LISTED else ""
    return "name one of its files: " + ", ".join(os.path.join(folder, file) for file in files[:_MOST_LISTED]) + more


def _perhaps_file(path: str) -> str:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return f"there is no folder {folder} either; paths are relative to {os.getcwd()}"
    files = [name for name in os.listdir(folder) if name.endswith(".py")]
    found = nearest(os.path.basename(path), files) or nearest(f"{os.path.basename(path)}.py", files)
    if found:
        return "did you mean " + " or ".join(os.path.normpath(os.path.join(folder, name)) for name in found) + "?"
    if re.fullmatch(r"\w+(\.\w+)*", path) and not path.endswith(".py"):
        return "a target is model.py, model.py:NAME, package.module:NAME, torchvision:NAME or timm:NAME"
    return f"paths are relative to {os.getcwd()}"


def _for_other_file(path: str) -> str:
    if path.endswith(_CHECKPOINTS):
        return "a checkpoint holds weights, not the model's code: name the .py file that builds it (see also: diff)"
    if path.endswith(".ipynb"):
        return f"turn the notebook into a script: jupyter nbconvert --to script {path}"
    if path.endswith(".toml"):
        return f"a spec is given by its option: --spec {path}"
    return "name the .py file that builds the model"


LOADER = Loader("a Python file", 30, accepts, load)
