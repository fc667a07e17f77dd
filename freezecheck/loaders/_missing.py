"""What to do when a file imports a module that is not there."""

from __future__ import annotations

import os
import re
import sys

from ..places import shown


def how_to_get(module: str, importer: str) -> str:
    """Say how to get a missing module for a file that imports it: a folder for the path, a requirement, an install."""
    top = module.partition(".")[0]
    for folder in _upwards(importer):
        if os.path.isdir(os.path.join(folder, top)) or os.path.isfile(os.path.join(folder, f"{top}.py")):
            if top in sys.modules:
                return f"{top} itself was imported from {shown(getattr(sys.modules[top], '__file__', None) or top)}"
            return f"{top} lies in {shown(folder) or folder}: run freezecheck with PYTHONPATH={shown(folder) or '.'}"
    for folder in _upwards(importer):
        for file in _requirement_files(folder):
            if _mentions(os.path.join(folder, file), top):
                return f"{shown(os.path.join(folder, file))} asks for {top}, it is not installed: pip install {top}"
    return f"pip install {top}; freezecheck runs in {sys.prefix} and sees what is installed there"


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
