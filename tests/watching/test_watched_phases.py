"""Phases of a spec under `freezecheck run`: each is noticed, watched with fresh eyes, and told in the one report."""

from __future__ import annotations

import pytest
import torch

from tests.watching.loops import MODEL, WRONG, codes, report_of, run, write

torch.set_num_threads(1)

SETUP = """\
def unfreeze(model, optimizer):
    model.body.requires_grad_(True)
    optimizer.add_param_group({"params": model.body.parameters(), "lr": 0.01})

"""
SPEC = """\
[[phase]]
name = "head"
trainable = ["head"]
[[phase]]
name = "all"
setup = "train.py:unfreeze"
trainable = ["*"]
"""
TURN = "unfreeze(model, optimizer)\n"


def steps(number):
    return f"for _ in range({number}):\n    step()\n"


def watched(folder, source, *arguments, spec=SPEC):
    write(folder, source, spec=spec)
    return run(folder, *arguments, "--format", "json", "train.py")


def seen(ran):
    """(code, phase) of each finding."""
    return [(finding["code"], finding["phase"]) for finding in report_of(ran)["findings"]]


class TestSilent:
    @pytest.mark.parametrize("second", [1, 2, 5])
    @pytest.mark.parametrize("first", [1, 2, 3, 5])
    def test_both_phases_of_a_right_training(self, tmp_path, first, second):
        """Whatever number of steps each makes, fewer or more than are watched."""
        ran = watched(tmp_path, MODEL + SETUP + steps(first) + TURN + steps(second))
        assert (ran.code, seen(ran), report_of(ran)["skipped"]) == (0, [], [])
        assert report_of(ran)["conditions"]["phases"] == ["head", "all"]
        assert report_of(ran)["conditions"]["steps"] == min(second, 3)

    @pytest.mark.parametrize("first", [2, 5])
    def test_the_flags_alone_tell(self, tmp_path, first):
        """Without a setup in the spec, and with the unfreezing inline."""
        inline = "model.body.requires_grad_(True)\noptimizer.add_param_group({'params': model.body.parameters()})\n"
        spec = SPEC.replace('setup = "train.py:unfreeze"\n', "")
        ran = watched(tmp_path, MODEL + steps(first) + inline + steps(4), spec=spec)
        assert (ran.code, seen(ran), report_of(ran)["skipped"]) == (0, [], [])

    @pytest.mark.parametrize("first", [2, 5])
    def test_a_new_optimizer_tells_where_the_flags_are_the_same(self, tmp_path, first):
        """Two phases that train the same layers, the second with an optimizer of its own."""
        spec = '[[phase]]\nname = "fast"\ntrainable = ["head"]\n[[phase]]\nname = "slow"\ntrainable = ["head"]\n'
        again = "optimizer = torch.optim.SGD(model.head.parameters(), lr=0.001)\n"
        ran = watched(tmp_path, MODEL + steps(first) + again + steps(4), spec=spec)
        assert (ran.code, seen(ran), report_of(ran)["skipped"]) == (0, [], [])

    @pytest.mark.parametrize("first", [2, 5])
    def test_what_is_done_between_two_phases_belongs_to_neither(self, tmp_path, first):
        """The frozen body is written to before it is unfrozen, as from the checkpoint of the best epoch."""
        between = "with torch.no_grad():\n    model.body.weight.add_(1)\n"
        ran = watched(tmp_path, MODEL + SETUP + steps(first) + between + TURN + steps(4))
        assert (ran.code, seen(ran)) == (0, [])

    @pytest.mark.parametrize("first", [2, 5])
    def test_the_second_phase_may_have_a_model_of_its_own(self, tmp_path, first):
        """A copy of the first that is unfrozen, with an optimizer made for it."""
        copied = (
            "import copy\nmodel = copy.deepcopy(model).requires_grad_(True)\n"
            "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        )
        ran = watched(tmp_path, MODEL + steps(first) + copied + steps(5), spec=SPEC.replace("setup", "# setup"))
        assert (ran.code, seen(ran), report_of(ran)["skipped"]) == (0, [], [])

    def test_the_scripts_own_function_is_back(self, tmp_path):
        """After the last phase is watched the name stands for what the script defined, and nothing waits any more."""
        tell = "print('own' if unfreeze is own else 'wrapped', len(module._global_forward_pre_hooks))\n"
        start = "from torch.nn.modules import module\n" + MODEL + SETUP + "own = unfreeze\n"
        ran = watched(tmp_path, start + steps(3) + tell + TURN + steps(3) + steps(3) + tell, "--continue", "100")
        assert ran.code == 0
        assert "wrapped 1\n" in ran.err
        assert "own 0\n" in ran.err


FORGOT = SETUP.replace("    optimizer.add", "    # optimizer.add")


class TestFired:
    @pytest.mark.parametrize("arguments", [(), ("--steps", "12"), ("--steps", "1"), ("--continue", "4")])
    @pytest.mark.parametrize("first", [1, 3, 5])
    def test_a_mistake_of_the_second_phase(self, tmp_path, first, arguments):
        """The body is unfrozen and given to no optimizer: found however many steps are watched."""
        ran = watched(tmp_path, MODEL + FORGOT + steps(first) + TURN + steps(6), *arguments)
        assert (ran.code, seen(ran)) == (1, [("FZ402", "all")])

    @pytest.mark.parametrize("first", [2, 5])
    def test_a_mistake_of_the_first_phase(self, tmp_path, first):
        """It is kept, with its phase, though the second is right."""
        setup = SETUP.replace("    optimizer.add", "    # optimizer.add")
        ran = watched(tmp_path, WRONG + setup + steps(first) + TURN + steps(4))
        assert (ran.code, seen(ran)) == (1, [("FZ401", "head")])

    @pytest.mark.parametrize("first", [2, 5])
    def test_a_setup_that_does_nothing(self, tmp_path, first):
        """The flag is set on the module: no flag changes, but the call of the setup is seen."""
        setup = SETUP.replace("model.body.requires_grad_(True)", "model.body.requires_grad = True")
        ran = watched(tmp_path, MODEL + setup + steps(first) + TURN + steps(4))
        assert ran.code == 1
        assert {("FZ104", "all")} <= set(seen(ran))

    def test_a_flag_that_turns_away_from_every_phase(self, tmp_path):
        """The head is frozen after the first step: no later phase wants that, so it is this phase's mistake."""
        source = MODEL.replace("backward()", "backward() if loss.requires_grad else None")
        ran = watched(tmp_path, source + SETUP + "model.head.requires_grad_(False)\n" + steps(1) + steps(4))
        assert {phase for _, phase in seen(ran)} == {"head"}

    def test_what_momentum_moves_on_after_the_freezing(self, tmp_path):
        """A warm-up of everything, then the body is frozen while the optimizer holds it and its gradients."""
        source = MODEL.replace("model.body.requires_grad_(False)\n", "").replace(
            "SGD(model.head.parameters(), lr=0.1)", "Adam(model.parameters())"
        )
        loop = source.replace("zero_grad()", "zero_grad(set_to_none=False)") + steps(3)
        spec = '[[phase]]\nname = "warm"\ntrainable = ["*"]\n[[phase]]\nname = "cold"\ntrainable = ["head"]\n'
        ran = watched(tmp_path, loop + "model.body.requires_grad_(False)\n" + steps(3), "--steps", "12", spec=spec)
        assert ("FZ301", "cold") in seen(ran)


class TestNotReached:
    def test_a_phase_that_never_came_is_named(self, tmp_path):
        """With what would have told that it began; the verdict names the phase that it rests on."""
        write(tmp_path, MODEL + SETUP + steps(5), spec=SPEC)
        ran = run(tmp_path, "train.py")
        assert ran.code == 0
        assert "not checked: phase all — the script ended in phase head" in ran.out
        assert "train.py:unfreeze was not seen to be called" in " ".join(ran.out.split())
        assert "ok — in phase head:" in ran.out

    def test_one_that_was_left_out_is_named_too(self, tmp_path):
        """`--phase` says which one the first steps are in."""
        ran = watched(tmp_path, MODEL + SETUP + TURN + steps(5), "--phase", "all")
        assert (ran.code, codes(ran)) == (0, [])
        assert [one["what"] for one in report_of(ran)["skipped"]] == ["phase head"]
