"""Flags that change between set-up and step, and trainings in stages."""

from __future__ import annotations

import re

import pytest
import torch

from freezecheck.rules.requires_grad_flipped import RULE
from tests.watching.loops import MODEL, SPEC, WRONG, codes, report_of, run, write
from tests.watching.twins import SCRIPTS, Twin

torch.set_num_threads(1)

TRAINER = """\
class Trainer:
    def __init__(self, model):
        self.model = model

    def fit(self, steps):
        for p in self.model.parameters():
            p.requires_grad = True
        for _ in range(steps):
            step()

Trainer(model).fit(5)
"""
PHASES = """\
[[phase]]
name = "head"
trainable = ["head"]
[[phase]]
name = "all"
trainable = ["*"]
"""


def findings(ran, code):
    return [finding for finding in report_of(ran)["findings"] if finding["code"] == code]


class TestSilent:
    def test_flags_set_twice_before_training_are_set_up(self, tmp_path):
        """Freezing all and then unfreezing the head is no flip."""
        source = MODEL.replace(
            "model.body.requires_grad_(False)", "model.requires_grad_(False)\nmodel.head.requires_grad_(True)"
        )
        write(tmp_path, source + "for _ in range(5):\n    step()\n")
        ran = run(tmp_path, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])

    def test_without_a_spec_the_flags_are_the_intent(self, tmp_path):
        """Unfreezing in the middle of the watched steps is right when nothing says otherwise."""
        loop = (
            "step()\nmodel.body.requires_grad_(True)\n"
            "optimizer.add_param_group({'params': model.body.parameters()})\nstep()\nstep()\nstep()\n"
        )
        write(tmp_path, MODEL + loop, spec=None)
        ran = run(tmp_path, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])

    @pytest.mark.parametrize("spec", ["steps = 2\n", 'optimizer = "train.py:optimizer"\n'])
    def test_a_spec_without_lists_leaves_the_flags_as_the_intent(self, tmp_path, spec):
        """A spec that names no layer expects none: the flags say what is meant, and nothing is called unexpected."""
        write(tmp_path, MODEL + "for _ in range(5):\n    step()\n", spec=spec)
        ran = run(tmp_path, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])
        write(tmp_path, WRONG + "for _ in range(5):\n    step()\n", spec=spec)
        assert codes(run(tmp_path, "--format", "json", "train.py")) == ["FZ401"]

    def test_a_short_warm_up_with_other_flags_is_over_when_the_flags_fit(self, tmp_path):
        """A first step with everything frozen but the head, where the spec describes what comes after it."""
        loop = (
            "step()\nmodel.body.requires_grad_(True)\n"
            "optimizer.add_param_group({'params': model.body.parameters()})\nstep()\nstep()\nstep()\n"
        )
        write(tmp_path, MODEL + loop, spec='trainable = ["*"]\n')
        ran = run(tmp_path, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])

    def test_toggled_flags_of_two_optimizers(self, tmp_path):
        """A model that is frozen while the other is stepped is trainable when its own turn comes."""
        source = (SCRIPTS / "gan" / "train.py").read_text()
        write(tmp_path, source, spec='trainable = ["*"]\n')
        ran = run(tmp_path, "--format", "json", "train.py")
        assert ran.code == 0, report_of(ran)["findings"]


class TestFired:
    def test_a_trainer_that_sets_all_flags(self, tmp_path):
        """FZ106 with the line in the trainer, though the optimizer does not hold the layer."""
        write(tmp_path, MODEL + TRAINER)
        ran = run(tmp_path, "--format", "json", "train.py")
        (finding,) = findings(ran, "FZ106")
        assert finding["tensors"] == ["body.weight", "body.bias"]
        line = (tmp_path / "train.py").read_text().splitlines()[finding["location"]["line"] - 1]
        assert line.strip() == "p.requires_grad = True"
        assert finding["location"]["function"] == "Trainer.fit"
        assert codes(ran) == ["FZ106"]

    def test_a_helper_that_freezes_too_is_not_the_line(self, tmp_path):
        """FZ106 with the call: emptying the helper would take the freezing away as well."""
        helper = "def switch(part, on):\n    for p in part.parameters():\n        p.requires_grad_(on)\n\n"
        setup = MODEL.replace("model.body.requires_grad_(False)", helper + "switch(model.body, False)")
        write(tmp_path, setup + "for _ in range(5):\n    switch(model, True)\n    step()\n")
        ran = run(tmp_path, "--format", "json", "train.py")
        (finding,) = findings(ran, "FZ106")
        assert finding["evidence"]["flipped"]["text"] == "switch(model, True)"
        assert finding["fix"].startswith("take that line out, keep `model.body` out of it")

    def test_a_helper_that_only_unfreezes_is_the_line(self, tmp_path):
        """FZ106 with the line that did it, though a function stands around it."""
        helper = "def switch(part):\n    part.requires_grad_(True)\n\n"
        write(tmp_path, MODEL + helper + "for _ in range(5):\n    switch(model)\n    step()\n")
        (finding,) = findings(run(tmp_path, "--format", "json", "train.py"), "FZ106")
        assert finding["evidence"]["flipped"]["text"] == "part.requires_grad_(True)"

    def test_a_later_loop_that_freezes(self, tmp_path):
        """FZ106 with the line of a loop that runs after set-up and freezes what should train."""
        loop = (
            "for _ in range(5):\n    for p in model.head.parameters():\n        p.requires_grad_(False)\n"
            "    model.body.requires_grad_(True)\n    step()\n"
        )
        write(tmp_path, MODEL.replace("model.head.parameters()", "model.parameters()") + loop)
        ran = run(tmp_path, "--format", "json", "train.py")
        lines = (tmp_path / "train.py").read_text().splitlines()
        places = {tuple(f["tensors"]): lines[f["location"]["line"] - 1].strip() for f in findings(ran, "FZ106")}
        assert places == {
            ("head.weight", "head.bias"): "p.requires_grad_(False)",
            ("body.weight", "body.bias"): "model.body.requires_grad_(True)",
        }

    @pytest.mark.parametrize(("section", "code"), [("Example", ["FZ106"]), ("Use instead", [])])
    def test_the_example_of_the_rule(self, tmp_path, section, code):
        """What the rule's docstring shows is what `run` finds."""
        text = RULE.doc.partition(f"## {section}\n")[2].partition("\n## ")[0]
        (script,) = re.findall(r"```python\n(.*?)```", text, re.S)
        (spec,) = re.findall(r"```toml\n(.*?)```", RULE.doc, re.S)
        write(tmp_path, script, spec=spec)
        ran = run(tmp_path, "--format", "json", "train.py")
        assert [f["code"] for f in report_of(ran)["findings"] if f["severity"] == "error"] == code


class TestPhases:
    def test_the_first_steps_are_the_first_phase(self, tmp_path):
        """And a finding carries its name."""
        write(tmp_path, MODEL + "for _ in range(5):\n    step()\n", spec=PHASES)
        assert run(tmp_path, "train.py").code == 0
        ran = run(tmp_path, "--format", "json", "--phase", "all", "train.py")
        assert {finding["phase"] for finding in findings(ran, "FZ102")} == {"all"}

    def test_those_that_were_not_watched_are_named(self, tmp_path):
        """Three steps of the first phase say nothing of the second, and the report does not hide that."""
        write(tmp_path, MODEL + "for _ in range(5):\n    step()\n", spec=PHASES)
        skipped = {
            one["what"]: one["why"] for one in report_of(run(tmp_path, "--format", "json", "train.py"))["skipped"]
        }
        assert "the script ended in phase head" in skipped["phase all"]

    def test_the_flags_tell_when_the_second_begins(self):
        """A two-stage script that goes on is right in both its stages."""
        ran = run(SCRIPTS / "two_stage", "--spec", "freeze.toml", "--continue", "2", "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])
        assert "done" in ran.err

    def test_a_mistake_of_the_second_is_found_there(self, tmp_path):
        """The block is unfrozen and not given to the optimizer: FZ402 in phase finetune, seen at a later step, once."""
        start = "    optimizer.add_param_group("
        source = (SCRIPTS / "two_stage" / "train.py").read_text()
        line = next(line for line in source.splitlines() if line.startswith(start))
        twin = Twin("two_stage", "", ((line + "\n", ""),), {})
        ran = run(tmp_path, *twin.write(tmp_path), "--continue", "2", "--format", "json", "train.py")
        (finding,) = findings(ran, "FZ402")
        assert finding["phase"] == "finetune"
        assert "layer4.0.conv1.weight" in finding["tensors"]
        assert ran.code == 1
        assert ran.err.count("FZ402 in phase finetune") == 1
        assert "FZ402 at step" not in ran.err


def test_a_gradient_that_is_cleared_before_the_first_step_is_not_stale(tmp_path):
    """Frozen in mid-training, in the usual order: forward, zero_grad(), backward, step()."""
    loop = (
        "for n in range(12):\n    if n == 5:\n        model.body.requires_grad_(False)\n"
        "    loss = F.cross_entropy(model(torch.randn(4, 4)), torch.randint(0, 2, (4,)))\n"
        "    optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()\n"
    )
    source = MODEL.replace("model.body.requires_grad_(False)\n", "").replace("model.head.p", "model.p")
    write(tmp_path, source + loop, spec=None)
    assert codes(run(tmp_path, "--continue", "2", "--format", "json", "train.py")) == ["FZ401"]
    write(tmp_path, source + loop.replace("    optimizer.zero_grad()\n", ""), spec=None)
    assert "FZ203" in codes(run(tmp_path, "--continue", "2", "--format", "json", "train.py"))


def test_the_specs_lines_are_told_with_a_rest(tmp_path):
    """A spec that the flags contradict from the start is no flip: FZ101 and its like, not FZ106."""
    write(
        tmp_path,
        MODEL.replace("model.body.requires_grad_(False)\n", "").replace("model.head.p", "model.p") + "step()\n",
        spec=SPEC,
    )
    assert codes(run(tmp_path, "--format", "json", "train.py")) == ["FZ101"]


TWO = """\
import torch
from torch import nn

encoder, decoder = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
decoder[0].requires_grad_(False)
both = [*encoder.parameters(), *decoder.parameters()]
optimizer = torch.optim.SGD(both, lr=0.1)
for _ in range(4):
    optimizer.zero_grad()
    decoder(encoder(torch.randn(3, 4))).square().sum().backward()
    optimizer.step()
"""


class TestSeveralModels:
    def test_all_are_told_apart_by_their_variables(self, tmp_path):
        """Without a spec each tensor's name begins with its model's."""
        write(tmp_path, TWO, spec=None)
        (finding,) = findings(run(tmp_path, "--format", "json", "train.py"), "FZ401")
        assert finding["tensors"] == ["decoder.0.weight", "decoder.0.bias"]

    def test_one_can_be_chosen_by_variable_or_class(self, tmp_path):
        """The other is then neither judged nor passed over in silence."""
        write(tmp_path, TWO, spec=None)
        ran = run(tmp_path, "--model", "encoder", "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])
        assert [s["what"] for s in report_of(ran)["skipped"] if "model" in s["what"]] == ["the model decoder"]
        ran = run(tmp_path, "--model", "Sequential", "--format", "json", "train.py")
        assert findings(ran, "FZ401")[0]["tensors"] == ["0.weight", "0.bias"]

    def test_a_spec_may_name_both_or_fit_one(self, tmp_path):
        """Selectors of both models' names judge both; selectors that only one model fits judge that one."""
        write(tmp_path, TWO, spec='frozen = ["decoder.0"]\nignore = ["FZ401"]\n')
        assert run(tmp_path, "--format", "json", "train.py").code == 0
        write(tmp_path, TWO, spec='frozen = ["0"]\n')
        assert findings(run(tmp_path, "--format", "json", "train.py"), "FZ401")[0]["tensors"] == ["0.weight", "0.bias"]

    def test_a_spec_is_for_the_model_inside_a_wrapper(self, tmp_path):
        """Selectors without the prefix that a module around model and loss puts before every name."""
        wrapper = (
            "class WithLoss(nn.Module):\n    def __init__(self, model):\n        super().__init__()\n"
            "        self.model = model\n        self.scale = nn.Parameter(torch.ones(1))\n"
            "    def forward(self, x):\n        return (self.model(x) * self.scale).square().sum()\n"
            "both = WithLoss(model)\noptimizer = torch.optim.SGD([*model.head.parameters(), both.scale], lr=0.1)\n"
            "for _ in range(4):\n    optimizer.zero_grad()\n"
            "    both(torch.randn(4, 4)).backward()\n    optimizer.step()\n"
        )
        write(tmp_path, MODEL + wrapper)
        ran = run(tmp_path, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])
