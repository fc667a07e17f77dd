"""A checkout with a model, a spec and findings of every kind of place, for the formats that point at lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from freezecheck.records import Finding, Report, Severity
from freezecheck.spec import Spec
from freezecheck.spec.match import match
from tests.handmade import model
from tests.render.samples import DRIFT, verified

SPEC = """\
target = "net.py"
trainable = [
    "head",
    "nek",
]
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A repository in which the work goes on in a folder whose name is not made for URIs."""
    folder = tmp_path / "models #1 ü"
    folder.mkdir()
    (tmp_path / ".git").mkdir()
    (folder / "freeze.toml").write_text(SPEC, encoding="utf-8")
    (folder / "net.py").write_text("", encoding="utf-8")
    monkeypatch.chdir(folder)
    return tmp_path


def finding(code: str, *tensors: str, **known: object) -> Finding:
    return Finding(code, "a-rule", Severity.ERROR, tensors, "What is wrong.", "the_mend()", **known)  # type: ignore[arg-type]  # a test names each field itself


def placed(*findings: Finding, spec: bool = True, **known: object) -> Report:
    """A report in which the spec's lines are known."""
    plan = match(Spec.load("freeze.toml"), model("conv.weight", "head.weight"))
    report = verified(findings)
    case = replace(report.case, plan=plan) if spec else report.case
    return replace(report, case=case, spec="freeze.toml" if spec else None, **known)  # type: ignore[arg-type]  # as above


def everywhere() -> Report:
    """The line of the code, of a selector, of the key that the rest follows from, and none at all."""
    return placed(DRIFT, finding("FZ402", "head.weight"), finding("FZ301", "conv.weight"), finding("FZ206"))


EVERYWHERE = [("train.py", 17), ("freeze.toml", 3), ("freeze.toml", 2), ("freeze.toml", 1)]
"""Where its findings are shown, in the folder `models #1 ü`."""
