"""Every way to lose a gradient, in every place people write it, is found at its exact line."""

from __future__ import annotations

import itertools
import sys
import textwrap

import pytest
import torch

from freezecheck.check import verify_subject
from freezecheck.loading import load

torch.set_num_threads(1)

# Each kind takes `x`, which depends on the encoder, and leaves an `x` without its gradient. `# CUT` marks the line.
KINDS = {
    "no_grad": ("no_grad", "with torch.no_grad():\n    x = x * 2  # CUT"),
    "set_grad_enabled": (
        "set_grad_enabled",
        "torch.set_grad_enabled(False)\nx = x * 2  # CUT\ntorch.set_grad_enabled(True)",
    ),
    "inference_mode": ("inference_mode", "with torch.inference_mode():\n    x = x * 2  # CUT\nx = x.clone()"),
    "detach": ("detach()", "x = x.detach()  # CUT"),
    "detach_": ("detach_()", "x = x * 1\nx.detach_()  # CUT"),
    "data": (".data", "x = x.data  # CUT"),
    "numpy": ("detach()", "array = x.detach().numpy()  # CUT\nx = torch.from_numpy(array * 2)"),
    "tolist": ("tolist()", "values = x.tolist()  # CUT\nx = torch.tensor(values)"),
    "item": ("item()", "size = x.sum().item()  # CUT\nx = torch.ones(2, 4) * size"),
    "float": ("float()", "size = float(x.sum())  # CUT\nx = torch.full((2, 4), size)"),
    "tensor": ("tensor()", "x = torch.tensor(x)  # CUT"),
    "new_tensor": ("new_tensor()", "x = x.new_tensor(x)  # CUT"),
    "argmax": ("argmax()", "index = x.argmax(dim=1)  # CUT\nx = F.one_hot(index, 4).float()"),
    "long": ("long()", "x = x.long()  # CUT\nx = x.float()"),
    "to_int": ("to()", "x = x.to(torch.int32)  # CUT\nx = x.float()"),
    "comparison": ("gt()", "x = x > 0  # CUT\nx = x.float()"),
    "round": ("round()", "x = torch.round(x)  # CUT"),
    "sign": ("sign()", "x = x.sign()  # CUT"),
    "function_none": ("Forget.backward()", "x = Forget.apply(x)  # CUT"),
    "function_dead": ("Dead.apply()", "x = Dead.apply(x)  # CUT"),
    "parameter": ("Parameter()", "x = nn.Parameter(x)  # CUT"),
    "copy_under_no_grad": (
        "no_grad",
        "out = torch.empty(2, 4)\nwith torch.no_grad():\n    out.copy_(x)  # CUT\nx = out",
    ),
}
FLAT = {"round", "sign"}

HEAD = """
import torch
import torch.nn as nn
import torch.nn.functional as F

class Forget(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    def backward(ctx, gradient):
        return None

class Dead(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x * 2
        ctx.mark_non_differentiable(y)
        return y
    @staticmethod
    def backward(ctx, gradient):
        return gradient

"""
TAIL = """
torch.manual_seed(0)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def example_inputs():
    return torch.randn(2, 3)
"""


def _plain(cut: str) -> dict[str, str]:
    body = textwrap.indent(cut, "        ")
    net = f"""
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)
    def forward(self, x):
        x = self.enc(x)
{body}
        return self.head(x)
"""
    return {"model.py": HEAD + net + TAIL}


def _submodule(cut: str) -> dict[str, str]:
    body = textwrap.indent(cut, "        ")
    block = f"""
class Enc(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)
    def forward(self, x):
        x = self.linear(x)
{body}
        return x
"""
    net = """
from blocks import Enc
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = Enc()
        self.head = nn.Linear(4, 2)
    def forward(self, x):
        return self.head(self.enc(x))
"""
    return {"blocks.py": HEAD + block, "model.py": HEAD + net + TAIL}


def _decorator(cut: str) -> dict[str, str]:
    body = textwrap.indent(cut, "        ")
    net = f"""
import functools
def cutting(function):
    @functools.wraps(function)
    def wrapper(*args):
        x = function(*args)
{body}
        return x
    return wrapper

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)
    @cutting
    def encode(self, x):
        return self.enc(x)
    def forward(self, x):
        return self.head(self.encode(x))
"""
    return {"model.py": HEAD + net + TAIL}


def _hook(cut: str) -> dict[str, str]:
    body = textwrap.indent(cut, "    ")
    net = f"""
def hook(module, args, x):
{body}
    return x

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(3, 4)
        self.enc.register_forward_hook(hook)
        self.head = nn.Linear(4, 2)
    def forward(self, x):
        return self.head(self.enc(x))
"""
    return {"model.py": HEAD + net + TAIL}


def _sequential(cut: str) -> dict[str, str]:
    body = textwrap.indent(cut, "        ")
    net = f"""
class Cutting(nn.Module):
    def forward(self, x):
{body}
        return x

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(3, 4)
        self.all = nn.Sequential(self.enc, Cutting(), nn.Linear(4, 2))
    def forward(self, x):
        return self.all(x)
"""
    return {"model.py": HEAD + net + TAIL}


PLACES = {
    "plain": _plain,
    "submodule": _submodule,
    "decorator": _decorator,
    "hook": _hook,
    "sequential": _sequential,
}


@pytest.mark.parametrize(("kind", "place"), list(itertools.product(KINDS, PLACES)))
def test_the_cut_is_named_at_its_line(kind: str, place: str, tmp_path) -> None:
    """The finding points at the file and the line of the operation that lost the gradient, and names it."""
    operation, cut = KINDS[kind]
    sys.modules.pop("blocks", None)
    files = PLACES[place](cut)
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    report = verify_subject(load(str(tmp_path / "model.py")))
    code = "FZ202" if kind in FLAT else "FZ201"
    (finding,) = [f for f in report.findings if f.code == code]
    assert {name.split(".")[0] for name in finding.tensors} == {"enc"}
    assert finding.location is not None
    assert finding.location.file.endswith("blocks.py" if place == "submodule" else "model.py")
    assert "# CUT" in finding.location.text
    assert operation in finding.message
