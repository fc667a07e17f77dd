"""Where in somebody's files a finding is shown: for formats in which each needs a file and a line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ..places import shown
from ..records import Finding, Location, Report

_PYTHON_FILE = re.compile(r"(.+\.py)(?::.*)?", re.DOTALL)


def place_of(finding: Finding, report: Report) -> Location:
    """Return the line that a finding is shown at, the first of these that is known.

    Its own; the spec's line about its tensors; the class of the user's around what it is about; where the model is
    made; the first line of the spec or the target.
    """
    if finding.location:
        return finding.location
    said_at = report.case.plan.said_at
    said = next((said_at[name] for name in finding.tensors if name in said_at), None)
    return said or _class_around(finding, report) or report.made_at or Location(_file_of(report), 1)


def _class_around(finding: Finding, report: Report) -> Location | None:
    layers = finding.evidence.get("layers")
    path = str(next(iter(finding.tensors or (layers if isinstance(layers, Sequence) else ())), ""))
    while True:
        around = report.case.layer_of.get(path)
        if around is not None and around.layer.defined_at:
            return around.layer.defined_at
        if not path:
            return None
        path = path.rpartition(".")[0]


def _file_of(report: Report) -> str:
    if report.spec:
        return report.spec
    named = _PYTHON_FILE.fullmatch(report.target)
    if named:
        return named[1]
    return shown(report.files[0]) if report.files else report.target


def root() -> Path:
    """Return the folder that paths for code review count from: the repository's, else the working directory."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)


def from_root(file: str) -> str:
    """Return a file's path from `root`, with forward slashes; absolute where it lies elsewhere."""
    path = Path(os.path.abspath(file))
    base = root()
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


def uri(path: str) -> str:
    """Return the URI reference of what `from_root` gave; an absolute path becomes a file: URI."""
    return Path(path).as_uri() if os.path.isabs(path) else quote(path, errors="surrogateescape")
