"""Where in somebody's files a finding is shown: for formats in which each needs a file and a line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

from ..places import shown
from ..records import Finding, Location, Report

_PYTHON_FILE = re.compile(r"(.+\.py)(?::.*)?", re.DOTALL)


def place_of(finding: Finding, report: Report) -> Location:
    """Return the finding's own line, else the spec's line about its tensors, else the first of the spec or target."""
    if finding.location:
        return finding.location
    said_at = report.case.plan.said_at
    said = next((said_at[name] for name in finding.tensors if name in said_at), None)
    return said or Location(_file_of(report), 1)


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
    return Path(path).as_uri() if os.path.isabs(path) else quote(path)
