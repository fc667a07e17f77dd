"""What stands in for loading and checking behind the command line."""

from __future__ import annotations

import sys
import types

import pytest

import freezecheck
from tests.render.samples import verified


class Fakes:
    """Stands in for loading and checking, and remembers what it was asked."""

    def __init__(self) -> None:
        self.loaded: list[dict] = []
        self.checked: list[dict] = []
        self.answers: list[object] = []

    def load(self, target, **given):
        self.loaded.append({"target": target, **given})
        print("the user's code prints this")
        return types.SimpleNamespace(model=object(), target=target)

    def check(self, subject, spec, **given):
        self.checked.append({"spec": spec, **given})
        answer = self.answers.pop(0) if self.answers else verified()
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def fakes(monkeypatch, tmp_path) -> Fakes:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "train.py").write_text("")
    fakes = Fakes()
    loading, check = types.ModuleType("freezecheck.loading"), types.ModuleType("freezecheck.check")
    loading.load = fakes.load
    loading.target_of = lambda spec: spec.target
    check.verify_subject = check.report_subject = fakes.check
    for module in (loading, check):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(freezecheck, module.__name__.rpartition(".")[2], module, raising=False)
    return fakes
