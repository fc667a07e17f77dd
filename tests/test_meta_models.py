"""The meta device: models of any size, without a weight in memory, and what cannot be seen there."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

import freezecheck
from freezecheck.check import report_subject, verify_subject
from freezecheck.loading import load

torch.set_num_threads(1)

HEAD = "import torch\nfrom torch import nn\n\n"
TIED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.norm = nn.BatchNorm1d(4).requires_grad_(False)
        self.unused = nn.Linear(4, 4)
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids).mean(1)
        return self.head(self.norm(x))

model = Net()
optimizer = torch.optim.AdamW([*model.unused.parameters(), nn.Parameter(torch.zeros(3))])
"""
CUT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.body(x).detach()  # the cut
        return self.head(x)
"""
READING = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        width = int(torch.tensor([4.0]).sum().item())
        self.fc = nn.Linear(3, width)

    def forward(self, x):
        return self.fc(x)
"""


def checked(source: str, tmp_path, monkeypatch, spec: str = "") -> freezecheck.records.Report:
    (tmp_path / "model.py").write_text(HEAD + source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return verify_subject(load("model.py", device="meta"), freezecheck.Spec.parse(spec) if spec else None)


def codes(report) -> dict[str, tuple[str, ...]]:
    return {finding.code: finding.tensors for finding in report.findings}


def test_membership_unused_layers_buffers_and_ties(tmp_path, monkeypatch) -> None:
    """What needs no values is found as on the CPU; what was not seen is in `skipped`, with the reason."""
    spec = "trainable = ['embed', 'head', 'unused']\nfrozen = ['norm']"
    report = checked(TIED, tmp_path, monkeypatch, spec)
    found = codes(report)
    assert found["FZ402"] == ("embed.weight",)
    assert set(found["FZ201"]) == {"unused.weight", "unused.bias"}
    assert set(found["FZ501"]) == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert "FZ403" in found
    tied = next(tensor for tensor in report.case.facts if tensor.name == "embed.weight")
    assert tied.tensor.aliases == ("head.weight",)
    assert not any(row.moved for row in report.case.facts)
    skipped = {code for item in report.skipped for code in item.codes}
    assert {"FZ202", "FZ204", "FZ301", "FZ302", "FZ303"} <= skipped
    assert any("holds no values" in item.why for item in report.skipped)


def test_a_batch_norm_in_eval_is_not_called_moving(tmp_path, monkeypatch) -> None:
    """Its mode holds the statistics, on the meta device too."""
    spec = "trainable = ['embed', 'head']\nunchecked = ['unused']\nfrozen = ['norm']\neval = ['norm']"
    assert "FZ501" not in codes(checked(TIED, tmp_path, monkeypatch, spec))


def test_a_cut_has_its_line(tmp_path, monkeypatch) -> None:
    """The tracer works without values."""
    (finding,) = [f for f in checked(CUT, tmp_path, monkeypatch).findings if f.code == "FZ201"]
    assert finding.location is not None
    assert finding.location.text.endswith("# the cut")


def test_a_constructor_that_reads_numbers_is_named(tmp_path, monkeypatch) -> None:
    """It is built on the CPU and moved; what it was and why is said, and the verdict is the same."""
    report = checked(READING, tmp_path, monkeypatch)
    assert not report.findings
    (item,) = [item for item in report.skipped if "meta device" in item.what]
    assert "building model.py:Net" in item.what
    assert "item()" in item.why
    assert "model.py:8" in item.why


def test_the_report_needs_no_forward(tmp_path, monkeypatch) -> None:
    """`report` of a model on the meta device counts what it would hold."""
    big = "model = nn.Sequential(nn.Linear(100_000, 100_000), nn.Linear(100_000, 10))\n"
    (tmp_path / "model.py").write_text(f"{HEAD}def build_model():\n    {big}    return model\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    case = report_subject(load("model.py", device="meta")).case
    assert sum(row.tensor.numel for row in case.facts) == 100_000 * 100_001 + 10 * 100_001


def test_a_model_that_is_on_meta_already() -> None:
    """Python callers may hand over a model of the meta device; it stays there."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).to("meta")
    result = freezecheck.verify(model)
    assert not result.findings
    assert all(parameter.is_meta for parameter in model.parameters())


LLAMA = """
import json, sys, time
import torch, torch.nn, transformers
from transformers import LlamaConfig, LlamaForCausalLM
import freezecheck
from freezecheck.check import verify_subject
from freezecheck.loading import load

start = time.perf_counter()
report = verify_subject(load("model.py", device="meta"), freezecheck.Spec.parse("trainable = ['lm_head']"))
seconds = time.perf_counter() - start
# getrusage would tell the peak of the process that started this one, where that is higher.
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 2**20
total = sum(row.tensor.numel for row in report.case.facts if row.tensor.kind == "parameter")
loud = [f.code for f in report.findings if f.severity != "note"]
print(json.dumps({"seconds": seconds, "gib": peak, "parameters": total, "loud": loud}))
"""
LLAMA_MODEL = """
from transformers import LlamaConfig, LlamaForCausalLM

def build_model():
    config = LlamaConfig(
        hidden_size=16384, intermediate_size=53248, num_hidden_layers=126, num_attention_heads=128,
        num_key_value_heads=8, vocab_size=128256,
    )
    model = LlamaForCausalLM(config)
    model.requires_grad_(False)
    model.lm_head.requires_grad_(True)
    return model
"""


@pytest.mark.slow
def test_a_llama_of_405_billion_parameters(tmp_path) -> None:
    """In a process of its own: verified in under 5 s beyond the imports, and under 1.5 GB."""
    (tmp_path / "model.py").write_text(textwrap.dedent(LLAMA_MODEL), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", LLAMA], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    print(seen)
    assert seen["loud"] == []
    assert 405e9 < seen["parameters"] < 407e9
    assert seen["gib"] < 1.5
    assert seen["seconds"] < 5
