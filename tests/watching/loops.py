"""Pieces of small training scripts for the tests of `freezecheck run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.readme import freezecheck_command

MODEL = """\
import torch
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(x).relu())

model = Net()
model.body.requires_grad_(False)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)

def step():
    optimizer.zero_grad()
    loss = F.cross_entropy(model(torch.randn(4, 4)), torch.randint(0, 2, (4,)))
    loss.backward()
    optimizer.step()
"""
"""A right set-up: the body frozen, the head trained by `step()`."""
WRONG = MODEL.replace("SGD(model.head.parameters()", "SGD(model.parameters()")
"""The same with the frozen body in the optimizer: FZ401."""
SPEC = 'trainable = ["head"]\n'


def write(folder, source, name="train.py", spec=SPEC):
    """Write a script and its spec, which `run` discovers."""
    (folder / name).write_text(source, encoding="utf-8")
    if spec is not None:
        (folder / "freezecheck.toml").write_text(spec, encoding="utf-8")


def run(folder, *arguments):
    """`freezecheck run ARGUMENTS` in this process."""
    return freezecheck_command("run", *arguments, folder=folder)


def report_of(ran):
    """The report in JSON on stdout."""
    return json.loads(ran.out)


def codes(ran):
    """The codes found, in their order."""
    return [finding["code"] for finding in report_of(ran)["findings"]]


def command(*arguments):
    """The command line of a process of its own."""
    return [sys.executable, "-m", "freezecheck", "run", *arguments]


def process(folder, *arguments, timeout=120):
    """`freezecheck run ARGUMENTS` in a process of its own."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
