"""Verifying a small model in a test, and reading what was found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

import freezecheck
from tests.readme import freezecheck_command

TRAINING = """
for _ in range(3):
    optimizer.zero_grad()
    model(example_inputs()).square().mean().backward()
    optimizer.step()
"""

torch.set_num_threads(1)


class Base(nn.Module):
    """An encoder, a middle and a head, which the tests join in their own ways."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Linear(3, 4)
        self.mid = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)


def sgd(model: nn.Module, lr: float = 0.1, **options: Any) -> torch.optim.Optimizer:
    """An SGD over what requires grad."""
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, **options)


def verified(model: nn.Module, spec: str = "", **options: Any) -> freezecheck.Result:
    """Verify; by default with an SGD over what requires grad, five rows of three, and the flags as the intent."""
    torch.manual_seed(0)
    options.setdefault("optimizer", sgd(model))
    options.setdefault("inputs", torch.randn(5, 3))
    return freezecheck.verify(model, freezecheck.Spec.parse(spec) if spec else None, **options)


def told(folder: Path, command: str, source: str, code: str, *arguments: str) -> dict[str, Any]:
    """The one finding of this code that `freezecheck COMMAND train.py` tells, in JSON; `run` trains a few steps."""
    (folder / "train.py").write_text(source + (TRAINING if command == "run" else ""), encoding="utf-8")
    ran = freezecheck_command(command, *arguments, "--format", "json", "train.py", folder=folder)
    (finding,) = [one for one in json.loads(ran.out)["findings"] if one["code"] == code]
    return dict(finding)


def found(result: freezecheck.Result, code: str) -> list[freezecheck.Finding]:
    """The findings of one code."""
    return [finding for finding in result.findings if finding.code == code]


def loud(result: freezecheck.Result) -> list[str]:
    """What is an error or a warning."""
    return [f"{f.code} {', '.join(f.tensors)}: {f.message}" for f in result.findings if f.severity != "note"]


def facts(result: freezecheck.Result) -> dict[str, Any]:
    """The table's rows by name."""
    return {row.name: row for row in result.report.case.facts}
