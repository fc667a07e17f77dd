"""Tensors that stand in for others: lent parameters, groups that two optimizers share, values that are only logged."""

from __future__ import annotations

import pytest

from tests.watching.loops import MODEL, codes, report_of, run, write

LENT = """
from torch.func import functional_call
for _ in range(5):
    optimizer.zero_grad()
    x, y = torch.randn(4, 4), torch.randint(0, 2, (4,))
    lent = {{n: {lent} for n, p in model.named_parameters() if p.requires_grad}}
    loss = F.cross_entropy(functional_call(model, lent, (x,)), y)
    loss.backward()
    optimizer.step()
    print(loss.item())
"""
BY_HAND = """
for _ in range(5):
    optimizer.zero_grad()
    x, y = torch.randn(4, 4), torch.randint(0, 2, (4,))
    F.cross_entropy(model(x), y)
    own = dict(model.head._parameters)
    model.head._parameters.update({n: p * 1.0 for n, p in own.items()})
    F.cross_entropy(model(x), y).backward()
    model.head._parameters.update(own)
    optimizer.step()
"""
SAM = """
class SAM(torch.optim.Optimizer):
    def __init__(self, params, base, **options):
        super().__init__(params, options)
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    def step(self, closure=None):
        return self.base.step(closure)

optimizer = SAM(model.head.parameters(), torch.optim.SGD, lr=0.1)
"""
AROUND = """
class Around(torch.optim.Optimizer):
    def __init__(self, base):
        super().__init__(list(base.param_groups[0]["params"]), {"lr": 0.1})
        self.base = base
        self.param_groups = base.param_groups

    def step(self, closure=None):
        return self.base.step(closure)

optimizer = Around(optimizer)
"""


class TestLentParameters:
    """`functional_call` puts other tensors in the parameters' places for one call."""

    @pytest.mark.parametrize("lent", ["p * 1.0", "p"])
    def test_the_parameters_themselves_are_judged(self, tmp_path, lent, recwarn):
        """All steps wanted are watched, and nothing asks a tensor that is no leaf for its gradient."""
        write(tmp_path, MODEL + LENT.format(lent=lent))
        ran = run(tmp_path, "--steps", "4", "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])
        assert report_of(ran)["conditions"]["steps"] == 4
        assert not [w for w in recwarn if ".grad" in str(w.message)]

    def test_put_in_place_by_hand(self, tmp_path):
        """A loop that exchanges them itself, as meta-learning by hand does."""
        write(tmp_path, MODEL + BY_HAND)
        ran = run(tmp_path, "--steps", "4", "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])
        assert report_of(ran)["conditions"]["steps"] == 4

    def test_lent_without_the_graph(self, tmp_path):
        """Copies that lead back to no parameter train nothing."""
        write(tmp_path, MODEL + LENT.format(lent="p.detach().requires_grad_()"))
        ran = run(tmp_path, "--format", "json", "train.py")
        assert ran.code == 1
        assert "FZ206" in codes(ran)


class TestSharedGroups:
    """An optimizer around another one that has the very groups of that one."""

    @pytest.mark.parametrize("around", [SAM, AROUND], ids=["made first", "made last"])
    def test_are_one_place(self, tmp_path, around):
        """One step moves them once."""
        write(tmp_path, MODEL + around + "for _ in range(4): step()\n")
        ran = run(tmp_path, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])

    def test_groups_of_ones_own_are_two(self, tmp_path):
        """Two optimizers that hold the same tensors in groups of their own do move them twice."""
        second = "second = torch.optim.SGD(model.head.parameters(), lr=0.1)\n"
        write(tmp_path, MODEL + second + "for _ in range(4):\n    step()\n    second.step()\n")
        ran = run(tmp_path, "--format", "json", "train.py")
        assert "FZ404" in codes(ran)


class TestLoggedValues:
    """A loss that is printed after its backward has left torch, and nothing came back."""

    COPY = """
import copy, numpy
best = copy.deepcopy(model)
for _ in range(4):
    optimizer.zero_grad()
    loss = F.cross_entropy(best(torch.randn(4, 4)), {target})
    loss.backward()
    {before}
    optimizer.step()
    {after}
"""

    MICRO = ("loss = F.cross_entropy(model(torch.randn(4, 4)), numpied())", "loss.backward()")

    @pytest.mark.parametrize("log", ["loss.item()", "float(loss)", "print(f'{loss:.3f}')", "loss.detach().numpy()"])
    @pytest.mark.parametrize("target", ["torch.arange(4) % 2", "torch.from_numpy(numpy.arange(4) % 2)"])
    def test_are_no_cut(self, tmp_path, log, target):
        """Of a model that the loss does not reach, no line is blamed for what another's loss was asked."""
        for body in ({"before": log, "after": ""}, {"before": "", "after": log}):
            write(tmp_path, MODEL + self.COPY.format(target=target, **body))
            ran = run(tmp_path, "--format", "json", "--model", "model", "train.py")
            assert ran.code == 1
            assert not any("cut by" in finding["message"] for finding in report_of(ran)["findings"])

    @pytest.mark.parametrize(
        "lines",
        [
            (*MICRO, "loss.item()", *MICRO, "optimizer.step()"),
            ("out.mean().item()", "F.cross_entropy(out, torch.arange(4) % 2).backward()", "optimizer.step()"),
        ],
        ids=["between two backwards", "before the loss"],
    )
    def test_are_not_told_beside_the_real_cut(self, tmp_path, lines):
        """The way to the next loss does not lead through what was logged of the last one."""
        cutting = MODEL.replace("self.body(x).relu()", "self.body(x).relu().detach()").replace(
            "model.body.requires_grad_(False)\n", ""
        )
        numpied = "import numpy\ndef numpied(): return torch.from_numpy(numpy.arange(4) % 2)\n"
        body = "\n    ".join(("optimizer.zero_grad()", "out = model(torch.randn(4, 4))", *lines))
        write(tmp_path, cutting + numpied + f"for _ in range(4):\n    {body}\n", spec='trainable = ["body", "head"]\n')
        ran = run(tmp_path, "--format", "json", "train.py")
        (finding,) = [f for f in report_of(ran)["findings"] if f["code"] == "FZ201"]
        assert [cut["operation"] for cut in finding["evidence"]["cuts"]] == ["detach()"]

    def test_a_value_that_comes_back_is_one(self, tmp_path):
        """The very value that the loss is then made of."""
        body = (
            "for _ in range(4):\n    optimizer.zero_grad()\n    value = model(torch.randn(4, 4)).mean().item()\n"
            "    loss = torch.tensor(value, requires_grad=True)\n    loss.backward()\n    optimizer.step()\n"
        )
        write(tmp_path, MODEL + body)
        ran = run(tmp_path, "--format", "json", "train.py")
        (finding,) = [f for f in report_of(ran)["findings"] if f["code"] == "FZ206"]
        assert "cut by `item()` at train.py:" in finding["message"]
        assert finding["fix"].startswith("stay in torch at train.py:")
