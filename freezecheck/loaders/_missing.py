"""What to do when a file imports a module that is not there."""

from __future__ import annotations

import os
import pkgutil
import re
import sys

from ..places import shown
from ._nearest import perhaps


def how_to_get(module: str, importer: str) -> str:
    """Say how to get a missing module for a file that imports it: a folder for the path, a requirement, an install."""
    top = module.partition(".")[0]
    known = _known(top, importer)
    return known or f"pip install {top}; freezecheck runs in {sys.prefix} and sees what is installed there"


def where_to_look(module: str, folder: str) -> str:
    """Say where a missing module was looked for that the user named: a slip of the pen, so nothing to install.

    `folder` is the one on the path for it.
    """
    parent, _, last = module.rpartition(".")
    if parent:
        below = pkgutil.iter_modules(getattr(sys.modules.get(parent), "__path__", ()))
        near = perhaps(last, [found.name for found in below])
        return f"`{parent}` has no module `{last}`" + (f"; {near}" if near else "")
    if known := _known(module, os.path.join(folder, "a file in it")):
        return known
    here = "the working directory" if os.path.realpath(folder) == os.path.realpath(os.getcwd()) else shown(folder)
    near = perhaps(module, [found.name for found in pkgutil.iter_modules([folder])])
    said = f"no module `{module}` is found in {here} or among what is installed in {sys.prefix}"
    return said + (f"; {near}" if near else "")


def _known(top: str, importer: str) -> str:
    """What is known of a missing module: the folder it lies in, or the file that requires it; empty for nothing."""
    for folder in _upwards(importer):
        if os.path.isdir(os.path.join(folder, top)) or os.path.isfile(os.path.join(folder, f"{top}.py")):
            if top in sys.modules:
                return f"{top} itself was imported from {shown(getattr(sys.modules[top], '__file__', None) or top)}"
            return f"{top} lies in {shown(folder) or folder}: run freezecheck with PYTHONPATH={shown(folder) or '.'}"
    for folder in _upwards(importer):
        for file in _requirement_files(folder):
            if _mentions(os.path.join(folder, file), top):
                return f"{shown(os.path.join(folder, file))} asks for {top}, it is not installed: pip install {top}"
    return ""


def _upwards(file: str) -> list[str]:
    """The file's folder, its parents up to a repository's root (three at most), and the working directory."""
    found = [os.path.dirname(os.path.abspath(file))]
    while len(found) < 4 and not os.path.exists(os.path.join(found[-1], ".git")):
        found.append(os.path.dirname(found[-1]))
    return list(dict.fromkeys([*found, os.getcwd()]))


def _requirement_files(folder: str) -> list[str]:
    wanted = re.compile(r"(requirements.*\.(txt|in)|pyproject\.toml|setup\.(py|cfg)|environment.*\.ya?ml)$")
    return sorted(name for name in os.listdir(folder) if wanted.match(name)) if os.path.isdir(folder) else []


def _mentions(file: str, name: str) -> bool:
    word = re.compile(rf"(?<![\w.-]){re.sub('[-_.]+', '[-_.]', name)}(?![\w-])", re.IGNORECASE)
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return bool(word.search(stream.read()))
    except OSError:
        return False
