"""`--continue K`: the script goes on to its own end, and every K-th step is looked at."""

from __future__ import annotations

import pytest
import torch

from freezecheck.records import Finding, Severity
from freezecheck.watching.later import Later
from freezecheck.watching.session import Session
from freezecheck.watching.stages import Stages
from tests.watching.loops import MODEL, codes, report_of, run, write

torch.set_num_threads(1)

STATE = """\
from torch.nn.modules import module
from torch.optim import optimizer as optim
from torch.overrides import _get_current_function_mode_stack

def hooks():
    return (
        len(module._global_forward_pre_hooks), len(module._global_forward_hooks),
        len(optim._global_optimizer_pre_hooks) - 1,
        len(_get_current_function_mode_stack()), torch.autograd.backward.__module__, nn.Module.eval.__module__,
    )
"""
BRANCHES = (
    MODEL.replace(
        "self.head = nn.Linear(8, 2)",
        "self.head = nn.Linear(8, 2)\n        self.rare = nn.Linear(8, 2)\n        self.turn = 0",
    )
    .replace(
        "return self.head(self.body(x).relu())",
        "self.turn += 1\n        part = self.rare if self.turn % 3 == 2 else self.head\n"
        "        return part(self.body(x).relu())",
    )
    .replace("model.head.parameters()", "[p for p in model.parameters() if p.requires_grad]")
)


def test_the_script_comes_to_its_own_end(tmp_path):
    """Nothing is stopped, its exit status comes through, and the report tells how many steps were looked at."""
    write(tmp_path, MODEL + "for n in range(12):\n    step()\nprint('all', n)\nraise SystemExit(3)\n")
    ran = run(tmp_path, "--continue", "4", "--format", "json", "train.py")
    assert ran.code == 3
    assert "all 11" in ran.err
    assert report_of(ran)["findings"] == []
    assert report_of(ran)["conditions"]["steps"] == 3 + len([4, 8, 12])


def test_nothing_is_left_between_looks(tmp_path):
    """In a step that is not looked at, torch's functions are its own and one pair of hooks counts steps."""
    loop = "for n in range(12):\n    step()\n    print(n + 1, *hooks())\n"
    write(tmp_path, MODEL + STATE + loop)
    ran = run(tmp_path, "--continue", "5", "train.py")
    told = {int(line.split()[0]): line.split()[1:] for line in ran.err.splitlines() if line[:1].isdigit()}
    bare = ["0", "0", "0", "0", "torch.autograd", "torch.nn.modules.module"]
    assert {n for n, state in told.items() if state == bare} == {3, 5, 6, 7, 8, 10, 11, 12}
    assert told[1] == told[4] == told[9]


def test_a_later_mistake_is_told_once(tmp_path):
    """A layer that is unfrozen at step 7 is found at the next look, on stderr with its step and in the report once."""
    loop = (
        "for n in range(20):\n    if n == 7:\n        model.body.requires_grad_(True)\n"
        "        optimizer.add_param_group({'params': model.body.parameters()})\n    step()\n"
    )
    write(tmp_path, MODEL + loop)
    ran = run(tmp_path, "--continue", "4", "--format", "json", "train.py")
    assert (ran.code, codes(ran)) == (1, ["FZ101"])
    assert ran.err.count("freezecheck: FZ101 at step 8:") == 1
    assert ran.err.count("FZ101") == 1


def test_a_branch_that_one_batch_leaves_out_is_no_mistake(tmp_path):
    """Each look sees one step, and a layer that sleeps in it is awake in another: silence."""
    write(tmp_path, BRANCHES + "for _ in range(40):\n    step()\n", spec='frozen = ["body"]\n')
    ran = run(tmp_path, "--continue", "2", "--format", "json", "train.py")
    assert (ran.code, codes(ran)) == (0, [])


def test_a_layer_that_falls_asleep_for_good_is_one(tmp_path):
    """The same layer without a gradient in look after look is told."""
    loop = "for n in range(40):\n    model.turn = 1 if n > 5 else n\n    step()\n"
    write(tmp_path, BRANCHES + loop, spec='frozen = ["body"]\n')
    ran = run(tmp_path, "--continue", "3", "--format", "json", "train.py")
    assert (ran.code, codes(ran)) == (1, ["FZ201"])
    assert report_of(ran)["findings"][0]["tensors"] == ["head.weight", "head.bias"]


@pytest.fixture
def later():
    looking = Later(Stages(None), Session(None, steps=1), 5, lambda session, step: None)
    yield looking
    looking.close()


def finding(code, *tensors):
    return Finding(code, "a-rule", Severity.ERROR, tensors, "", "")


def news(later, now, known=()):
    """What is new, where the step judged without some tensors gives the rest of each finding."""

    def without(names):
        left = [(f.code, [name for name in f.tensors if name not in names]) for f in now]
        return [finding(code, *tensors) for code, tensors in left if tensors]

    return later.news(now, known, without)


class TestNews:
    def test_what_is_known_is_not_news(self, later):
        """The same code on the same tensors."""
        assert news(later, [finding("FZ101", "a")], [finding("FZ101", "a", "b")]) == []

    def test_what_is_certain_is_news_at_once(self, later):
        """Also when only one of its tensors is new."""
        new = finding("FZ101", "a", "c")
        assert news(later, [new], [finding("FZ101", "a")]) == [new]

    def test_what_may_be_chance_must_be_seen_in_six_looks_running(self, later):
        """Of what was never seen awake in between."""
        asleep = finding("FZ201", "a")
        assert [news(later, [asleep]) for _ in range(6)] == [[], [], [], [], [], [asleep]]

    def test_what_came_and_went_must_stay_ten_times_as_long(self, later):
        """A branch that slept for two looks may sleep for two again, or for nine."""
        asleep = finding("FZ201", "a")
        said = [news(later, seen) for seen in ([asleep], [asleep], [], *[[asleep]] * 20)]
        assert said == [[]] * 22 + [[asleep]]

    def test_what_sleeps_beside_it_by_chance_is_left_out(self, later):
        """A branch that was left out in the very step that tells of another."""
        certain = finding("FZ101", "b")
        said = [news(later, [finding("FZ201", "a")]) for _ in range(5)]
        assert said == [[]] * 5
        assert news(later, [finding("FZ201", "a", "b"), certain]) == [finding("FZ201", "a"), certain]


TURNS = (
    MODEL.replace("self.head = nn.Linear(8, 2)", "self.heads = nn.ModuleList([nn.Linear(8, 2) for _ in range(PERIOD)])")
    .replace("def forward(self, x):", "def forward(self, x, turn):")
    .replace("self.head(self.body(x).relu())", "self.heads[turn % PERIOD](self.body(x).relu())")
    .replace("model.head.parameters()", "model.heads.parameters()")
    .replace("def step():", "def step(turn):")
    .replace("model(torch.randn(4, 4))", "model(torch.randn(4, 4), turn)")
)


class TestTasksThatTakeTurns:
    """Every K-th step may be the same task's each time."""

    @pytest.mark.parametrize(("period", "every"), [(2, 2), (3, 3), (2, 4), (3, 6), (5, 5)])
    def test_none_is_told_to_sleep(self, tmp_path, period, every):
        """Through hundreds of steps."""
        loop = "for n in range(400):\n    step(n)\n"
        write(tmp_path, TURNS.replace("PERIOD", str(period)) + loop, spec='frozen = ["body"]\n')
        steps = str(2 * period)
        ran = run(tmp_path, "--continue", str(every), "--steps", steps, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, []), ran.err

    def test_one_that_never_comes_again_is_told(self, tmp_path):
        """The last of three tasks is left out from step 20 on."""
        loop = "for n in range(100):\n    step(n if n < 20 else n % 2)\n"
        write(tmp_path, TURNS.replace("PERIOD", "3") + loop, spec='frozen = ["body"]\n')
        ran = run(tmp_path, "--continue", "2", "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (1, ["FZ201"])
        assert report_of(ran)["findings"][0]["tensors"] == ["heads.2.weight", "heads.2.bias"]
