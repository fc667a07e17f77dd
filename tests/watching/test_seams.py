"""Where one watch ends and another thing begins: the last step, the next model, the end that comes early."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from freezecheck import Spec
from freezecheck.callbacks._renewed import Renewed
from tests.watching.loops import MODEL, codes, report_of, run, write

torch.set_num_threads(1)

TWO = """\
import torch
from torch import nn

class First(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
    def forward(self, x):
        return self.two(self.one(x))

class Second(First):
    pass

def fit(optimizer, loss, steps=6):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()

"""
STACKED = TWO + (
    "a = First()\nfit(torch.optim.SGD(a.parameters(), lr=0.1), COMPILED(a))\n"
    "b = Second()\nfit(torch.optim.SGD(b.parameters(), lr=0.1), lambda x: b(a(x)))\n"
)
DISTILLED = TWO + (
    "teacher, student = First(), Second()\n"
    "def loss(x):\n    with torch.no_grad():\n        wanted = teacher(x)\n    return student(x) - wanted\n"
    "fit(torch.optim.SGD(student.parameters(), lr=0.1), loss)\n"
)
PHASES = '[[phase]]\nname = "head"\ntrainable = ["head"]\n[[phase]]\nname = "all"\ntrainable = ["*"]\n'


def watched(folder, source, *arguments, spec=None):
    write(folder, source, spec=spec)
    return run(folder, *arguments, "--format", "json", "train.py")


class TestTheNextModel:
    @pytest.mark.parametrize("compiled", ["", 'lambda m: torch.compile(m, backend="eager")'])
    def test_one_that_is_called_after_a_known_one_is_found(self, tmp_path, compiled):
        """In each of its steps the model that was trained before runs first; compiled or not."""
        ran = watched(tmp_path, STACKED.replace("COMPILED", f"({compiled})" if compiled else ""), "--model", "b")
        assert (ran.code, codes(ran)) == (0, []), ran.err
        names = {tensor["name"] for tensor in report_of(ran)["tensors"]}
        assert names == {"one.weight", "one.bias", "two.weight", "two.bias"}

    def test_a_teacher_without_buffers_may_be_named(self, tmp_path):
        """It only runs without gradients, and the spec says that it is frozen."""
        ran = watched(tmp_path, DISTILLED, spec='trainable = ["student"]\nfrozen = ["teacher"]\n')
        assert (ran.code, codes(ran)) == (0, [])
        assert "teacher.one.weight" in {tensor["name"] for tensor in report_of(ran)["tensors"]}

    def test_a_teacher_that_moves_is_told(self, tmp_path):
        """The same teacher, written to in every step."""
        source = DISTILLED.replace("        wanted", "        teacher.one.weight.mul_(0.9)\n        wanted")
        ran = watched(tmp_path, source, spec='trainable = ["student"]\nfrozen = ["teacher"]\n')
        assert "FZ301" in codes(ran)


class TestTheLastStep:
    MERGE = "with torch.no_grad():\n    model.body.weight.add_(1.0)\n"

    def test_what_follows_it_is_no_part_of_the_training(self, tmp_path):
        """A script of two steps merges its weights for export."""
        ran = watched(tmp_path, MODEL + "step()\nstep()\n" + self.MERGE, spec='trainable = ["head"]\n')
        assert (ran.code, codes(ran)) == (0, [])

    def test_what_stands_between_two_steps_is(self, tmp_path):
        """The same line before the last step."""
        ran = watched(tmp_path, MODEL + "step()\n" + self.MERGE + "step()\n", spec='trainable = ["head"]\n')
        assert "FZ301" in codes(ran)

    def test_an_abandoned_optimizer_holds_nothing(self, tmp_path):
        """The second phase has an optimizer of its own that forgets the body; the first one, which held it, rests."""
        source = (
            MODEL.replace("model.head.parameters()", "model.parameters()") + "for _ in range(4):\n    step()\n"
            "model.body.requires_grad_(True)\noptimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)\n"
            "for _ in range(4):\n    step()\n    model.zero_grad()\n"
        )
        ran = watched(tmp_path, source, spec=PHASES)
        found = [(f["code"], f["phase"]) for f in report_of(ran)["findings"] if f["severity"] == "error"]
        assert found == [("FZ402", "all")]

    def test_a_group_that_was_given_nothing_is_named(self, tmp_path):
        """The body's parameters were counted before the optimizer took them, and an iterator has them once."""
        groups = '[{"params": model.head.parameters()}, {"params": once}]'
        source = MODEL.replace("model.head.parameters()", groups).replace(
            "model.body.requires_grad_(False)\n", "once = iter(model.body.parameters())\nprint(len(list(once)))\n"
        )
        ran = watched(tmp_path, source + "step()\nstep()\n", spec='trainable = ["*"]\n')
        (finding,) = [f for f in report_of(ran)["findings"] if f["code"] == "FZ402"]
        assert "Group 1 of SGD is empty" in finding["message"]

    def test_a_slow_optimizer_of_an_earlier_phase_is_waited_for(self, tmp_path):
        """It is kept for the head, and steps once in five."""
        source = (
            MODEL + "for _ in range(4):\n    step()\nmodel.body.requires_grad_(True)\nslow = optimizer\n"
            "fast = torch.optim.SGD(model.body.parameters(), lr=0.1)\n"
            "for number in range(1, 31):\n    fast.zero_grad()\n"
            "    F.cross_entropy(model(torch.randn(4, 4)), torch.randint(0, 2, (4,))).backward()\n    fast.step()\n"
            "    if number % 5 == 0:\n        slow.step()\n        slow.zero_grad()\n"
        )
        ran = watched(tmp_path, source, spec=PHASES)
        assert [f for f in codes(ran) if f in ("FZ302", "FZ402")] == []


class TestTheEnd:
    def test_a_spec_that_does_not_fit_is_told_after_a_short_script(self, tmp_path):
        """Two steps, fewer than are watched: no traceback of ours, and the place in the spec."""
        ran = watched(tmp_path, MODEL + "step()\nstep()\n", spec='trainable = ["body[5]"]\n')
        assert ran.code == 2
        assert "Traceback" not in ran.err
        assert report_of(ran)["error"]["location"]["file"] == "freezecheck.toml"

    def test_leaving_at_once_when_stopped_is_no_failure(self, tmp_path):
        """The script meets being stopped with `os._exit(1)`."""
        source = MODEL + "import os\ntry:\n    while True:\n        step()\nexcept BaseException:\n    os._exit(1)\n"
        assert watched(tmp_path, source, spec='trainable = ["head"]\n').code == 0

    @pytest.mark.parametrize("line", ['torch.compile(model, modee="default")', "torch.autograd.backward()"])
    def test_a_wrong_call_of_the_users_is_theirs(self, tmp_path, line):
        """Though a function of ours stands in the called one's place."""
        ran = watched(tmp_path, MODEL + f"step()\n{line}\n", spec='trainable = ["head"]\n')
        assert ran.code == 1
        assert "this is a bug in freezecheck" not in ran.err


def test_a_second_fit_of_one_callback_is_in_its_own_phase():
    """All that trains changed between two trainings, and no epoch of the first has seen it."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    spec = Spec.parse(PHASES.replace('"head"]', '"1"]'))
    renewed = Renewed(spec, "raise", 2)
    for every in (False, True):
        model[0].requires_grad_(every)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        renewed.begin(model)
        renewed.renew(model)
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randn(3, 4)).square().mean().backward()
            optimizer.step()
        renewed.end()
    assert [result.report.findings for result in renewed.results] == [(), ()]
