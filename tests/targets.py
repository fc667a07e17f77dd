"""A small file with a model, written where a test works, and the error that loading a target gives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from freezecheck import loading
from freezecheck.errors import TargetError
from freezecheck.loaders import _modules

NET = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        return self.fc(x)

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.block = Block(width)
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.block(x))
"""


def work_in_an_empty_folder(tmp_path, monkeypatch):
    """Give a fixture's body: the modules that a test imports are forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(_modules, "_imported", {})
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def write(name, source=""):
    """Write a file below the working directory, its folders too."""
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source, encoding="utf-8")


def load(target, **options):
    return loading.load(target, **options)


def error_of(target, kind=TargetError, **options):
    with pytest.raises(kind) as caught:
        load(target, **options)
    return caught.value
