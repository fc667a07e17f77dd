"""A script that ends with an error while it is watched: the report says so, and what the process does."""

from __future__ import annotations

import pytest
import torch

from tests.watching.loops import MODEL, WRONG, codes, report_of, run, write

torch.set_num_threads(1)

LEAK = """\
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
model[0].requires_grad_(False)
optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
for epoch in range(3):
    optimizer.zero_grad()
    loss = model(torch.randn(3, 4)).square().mean()
    loss.backward()
    optimizer.step()
    torch.set_grad_enabled(epoch != 1)
"""


@pytest.fixture(autouse=True)
def gradients_on():
    """Switch on again what a script left off, as the next process would find it."""
    yield
    torch.set_grad_enabled(True)


def watched(folder, source, *arguments, **kwargs):
    write(folder, source, **kwargs)
    return run(folder, *arguments, "--format", "json", "train.py")


class TestSilent:
    @pytest.mark.parametrize("ending", ["", "raise SystemExit\n", "raise SystemExit(0)\n", "import os\nos._exit(0)\n"])
    def test_a_script_that_ends_well(self, tmp_path, ending):
        """Before all steps were made: ok, and nothing is said of its end."""
        ran = watched(tmp_path, MODEL + "step()\n" + ending)
        report = report_of(ran)
        assert (ran.code, report["ok"], report["exit_code"], report["skipped"]) == (0, True, 0, [])
        assert "error" not in report

    def test_one_that_is_stopped(self, tmp_path):
        """What it does about being stopped is no error of its own."""
        ran = watched(tmp_path, MODEL + "try:\n    for _ in range(9):\n        step()\nfinally:\n    raise OSError\n")
        assert (ran.code, report_of(ran)["ok"]) == (0, True)

    def test_a_loss_without_a_graph_that_the_script_handles(self, tmp_path):
        """Its own `try` says that such a batch may come."""
        handled = LEAK.replace(
            "    loss.backward()\n    optimizer.step()\n",
            "    try:\n        loss.backward()\n    except RuntimeError:\n        pass\n    optimizer.step()\n",
        )
        ran = watched(tmp_path, handled, spec='trainable = ["1"]\n')
        assert (ran.code, codes(ran)) == (0, [])


class TestFired:
    @pytest.mark.parametrize(
        ("ending", "status", "said"),
        [
            ("raise ValueError('disk full')", 1, "raised ValueError: disk full"),
            ("raise SystemExit(3)", 3, "called sys.exit(3)"),
            ("import os; os._exit(4)", 4, "called os._exit(4)"),
            ("raise KeyboardInterrupt", 130, "was interrupted"),
        ],
    )
    def test_it_is_not_ok(self, tmp_path, ending, status, said):
        """The report's exit code is the process's; type, message and line are there; the verdict is not "ok"."""
        source = f"{MODEL}step()\n{ending}\n"
        ran = watched(tmp_path, source)
        report = report_of(ran)
        assert (ran.code, report["exit_code"], report["ok"]) == (status, status, False)
        assert report["error"]["message"] == f"train.py {said}"
        assert report["error"]["location"]["line"] == len(source.splitlines())
        ran = run(tmp_path, "train.py")
        assert ran.code == status
        assert "freezecheck: ok" not in ran.out
        assert f"freezecheck: train.py {said} at train.py:{len(source.splitlines())} — until then" in ran.out

    def test_a_test_view_shows_it_in_red(self, tmp_path):
        """JUnit: the script's own end is a case, and it is an error."""
        write(tmp_path, MODEL + "step()\nraise ValueError('disk full')\n")
        ran = run(tmp_path, "--format", "junit", "train.py")
        assert 'errors="1"' in ran.out
        assert '<error message="it raised ValueError: disk full" />' in ran.out

    def test_findings_are_told_with_it(self, tmp_path):
        """What decides is the finding; that the rest was not seen is said, and the exit code is the process's."""
        ran = watched(tmp_path, WRONG + "step()\nraise SystemExit(3)\n")
        report = report_of(ran)
        assert (ran.code, report["exit_code"], codes(ran)) == (3, 3, ["FZ401"])
        (rest,) = [one for one in report["skipped"] if one["what"] == "the rest of the script"]
        assert "called sys.exit(3) at train.py:" in rest["why"]

    def test_before_the_first_step_it_has_a_place(self, tmp_path):
        """The error is the user's line and their frames, also for a program."""
        ran = watched(tmp_path, MODEL + "model(torch.randn(2, 5))\n")
        error = report_of(ran)["error"]
        assert (ran.code, report_of(ran)["exit_code"]) == (1, 1)
        assert error["location"]["function"] == "Net.forward"
        assert "raised RuntimeError" in error["message"]
        assert "above" not in error["hint"]
        told = ran.err.partition("freezecheck: could not check")[2]
        assert " in Net.forward" in told
        assert "module.py" not in told

    def test_a_leaked_grad_mode(self, tmp_path):
        """The third backward has no graph: FZ206 with the line that switched gradients off."""
        ran = watched(tmp_path, LEAK, spec='trainable = ["1"]\n')
        assert (ran.code, codes(ran)) == (1, ["FZ206"])
        assert "train.py:12" in report_of(ran)["findings"][0]["message"]
