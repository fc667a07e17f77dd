"""Training in stages: every arrow between two phases, the right ways first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from torch import nn

import freezecheck
from freezecheck.errors import FreezecheckError, ProbeError, SpecError, TargetError, UsageError
from freezecheck.phases import stages_of
from freezecheck.probe.describe import describe
from freezecheck.records import Expected, Report
from freezecheck.spec import Spec
from freezecheck.spec.match import match
from tests.readme import freezecheck_command

torch.set_num_threads(1)

TRAIN = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 8))
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        return self.fc(self.body(x))


def build_model():
    model = Net()
    model.body.requires_grad_(False)
    return model


def build_optimizer(model):
    return torch.optim.SGD(model.fc.parameters(), lr=0.1, momentum=0.9)


def example_inputs():
    return torch.randn(5, 4)


def unfreeze(model, optimizer):
{setup}
"""
"""The last function is each test's own."""

SPEC = """\
target = "train.py"
frozen = ["*"]
eval = ["body[1]"]

[[phase]]
name = "head"
trainable = ["fc"]

[[phase]]
name = "finetune"
setup = "train.py:unfreeze"
trainable = ["fc", "body[2]"]
"""
ADDS = "model.body[2].requires_grad_(True)\noptimizer.add_param_group({'params': model.body[2].parameters()})"
FORGETS = "model.body[2].requires_grad_(True)"
NEW = "torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)"


class Project:
    """A folder with a train.py and its spec, checked as the command line does."""

    def __init__(self, folder: Path, go: Callable[[Path], None]) -> None:
        self.folder, self._go = folder, go

    def write(self, setup: str, spec: str = SPEC) -> None:
        """Into a new folder, which becomes the working directory: a module that was imported is not read again."""
        self.folder = Path(mkdtemp(dir=self.folder))
        self._go(self.folder)
        body = "\n".join(f"    {line}" for line in setup.splitlines())
        (self.folder / "train.py").write_text(TRAIN.replace("{setup}", body))
        (self.folder / "freezecheck.toml").write_text(spec)

    def verify(self, setup: str, spec: str = SPEC, phase: str | None = None) -> Report:
        """Check it, and see that the model is as it was before."""
        from freezecheck.check import verify_subject
        from freezecheck.loading import load

        self.write(setup, spec)
        loaded = Spec.load(self.folder)
        subject = load(str(self.folder / "train.py"), spec=loaded)
        before = state(subject.model, subject.optimizers)
        try:
            return verify_subject(subject, loaded, phase=phase)
        finally:
            assert state(subject.model, subject.optimizers) == before


def state(model: nn.Module, optimizers: Any) -> list[object]:
    """All that a trace would show in, comparable."""
    tensors = [(name, id(t), t.requires_grad, t.tolist()) for name, t in model.state_dict(keep_vars=True).items()]
    modes = [(name, module.training) for name, module in model.named_modules()]
    held = [([id(t) for g in o.param_groups for t in g["params"]], len(o.state)) for o in optimizers]
    return [tensors, modes, held, [p.grad for p in model.parameters()]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, monkeypatch.chdir)


def found(report: Report) -> list[tuple[str, str | None]]:
    """Code and phase of each finding."""
    return [(finding.code, finding.phase) for finding in report.findings]


class TestSilent:
    """Set-ups that are right end without a finding in any phase."""

    @pytest.mark.parametrize(
        "setup",
        [
            ADDS,
            f"model.body[2].requires_grad_(True)\nreturn {NEW}",
            f"model.body[2].requires_grad_(True)\nreturn [{NEW}]",
            "model.requires_grad_(False)\nmodel.fc.requires_grad_(True)\n" + ADDS,
            "model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})\n" + ADDS,
            "model.body[0].weight.data = torch.zeros(8, 4)\n" + ADDS,
            f"model.fc = nn.Linear(8, 3)\nmodel.body[2].requires_grad_(True)\nreturn {NEW}",
            "loss = model(example_inputs()).sum()\nloss.backward()\nmodel.eval()\n" + ADDS,
            "model.body[2] = nn.Linear(8, 8)\n" + ADDS,
            f"model.body[2].requires_grad_(True)\nmodel.load_state_dict(model.state_dict(), assign=True)\nreturn {NEW}",
        ],
    )
    def test_right_ways_to_unfreeze(self, project: Project, setup: str) -> None:
        """A group added, an optimizer made anew, flags set again, weights loaded, layers replaced: all silent."""
        report = project.verify(setup)
        assert found(report) == []
        assert report.case.conditions.phases == ("head", "finetune")
        assert sum(fact.expected is Expected.TRAINABLE for fact in report.case.facts) == 4

    def test_without_setup(self, project: Project) -> None:
        """A phase that changes nothing but what is expected: what stays frozen in both is compared in both."""
        spec = SPEC.replace('setup = "train.py:unfreeze"\n', "").replace(', "body[2]"', "")
        assert found(project.verify("pass", spec)) == []

    def test_freezing_what_was_trained(self, project: Project) -> None:
        """The other direction: the head is trained, then frozen in the optimizer that knows its momentum."""
        spec = SPEC.replace('trainable = ["fc", "body[2]"]', 'trainable = ["body[2]"]\nignore = ["FZ401"]')
        assert found(project.verify("model.fc.requires_grad_(False)\n" + ADDS, spec)) == []

    def test_change_is_measured_from_where_the_phase_before_left_it(self, project: Project) -> None:
        """The head moved in the first phase; frozen in the second, it stands still there."""
        spec = SPEC.replace('trainable = ["fc", "body[2]"]', 'trainable = ["body[2]"]')
        report = project.verify(
            f"model.fc.requires_grad_(False)\nmodel.body[2].requires_grad_(True)\nreturn {NEW}", spec
        )
        assert found(report) == []
        assert [fact.moved for fact in report.case.facts if fact.name == "fc.weight"] == [False]


class TestArrows:
    """What breaks between two phases, each with its phase."""

    def test_the_optimizer_did_not_take_them(self, project: Project) -> None:
        """Unfrozen layers that no optimizer steps."""
        report = project.verify(FORGETS)
        assert found(report) == [("FZ402", "finetune")]
        assert report.findings[0].tensors == ("body.2.weight", "body.2.bias")

    def test_two_optimizers_take_them(self, project: Project) -> None:
        """The old optimizer goes on beside the new one."""
        report = project.verify(f"model.body[2].requires_grad_(True)\nreturn [optimizer, {NEW}]")
        assert found(report) == [("FZ404", "finetune")]

    def test_torch_itself_refuses_to_take_them_twice(self, project: Project) -> None:
        """`add_param_group` with all parameters raises: said with the phase, the line and what to do."""
        with pytest.raises(ProbeError) as caught:
            project.verify("optimizer.add_param_group({'params': model.parameters()})")
        assert str(caught.value).startswith("in phase finetune: train.py:unfreeze(model, optimizer) raised ValueError")
        assert "only those that it lacks" in caught.value.hint
        assert caught.value.location is not None
        assert "add_param_group" in caught.value.location.text

    def test_the_flags_of_the_head_go_back(self, project: Project) -> None:
        """Freezing everything and unfreezing one part freezes the head too: found at the line that did it."""
        setup = "for p in model.parameters():\n    p.requires_grad = False\nmodel.body[2].requires_grad_(True)"
        report = project.verify(f"{setup}\nreturn {NEW}")
        (flipped,) = report.findings
        assert (flipped.code, flipped.phase, flipped.tensors) == ("FZ106", "finetune", ("fc.weight", "fc.bias"))
        assert flipped.message.startswith(
            "Phase `head` had the requires_grad of `fc.weight` and `fc.bias` right, and phase `finetune` set it to "
            "False at "
        )
        assert flipped.location is not None
        assert flipped.location.text == "p.requires_grad = False"

    def test_too_much_is_unfrozen(self, project: Project) -> None:
        """And the other way round: what was frozen and must stay so is opened."""
        report = project.verify(f"model.requires_grad_(True)\nreturn {NEW}")
        flips = [f for f in report.findings if f.code == "FZ106"]
        assert [f.phase for f in flips] == ["finetune"]
        assert set(flips[0].tensors) == {"body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"}
        assert "They are expected frozen." in flips[0].message

    def test_a_head_that_the_optimizer_still_holds(self, project: Project) -> None:
        """The head is replaced after the optimizer took the old one."""
        report = project.verify(f"model.fc = nn.Linear(8, 3)\n{ADDS}")
        assert found(report) == [("FZ403", "finetune")]

    def test_batchnorm_is_forgotten_in_the_second_phase_only(self, project: Project) -> None:
        """`eval` of a phase replaces the top's: the statistics move in that phase."""
        report = project.verify(ADDS, SPEC + "eval = []\n")
        assert [phase for _, phase in found(report)] == ["finetune"]
        assert report.findings[0].tensors[0] == "body.1.running_mean"
        assert report.findings[0].code in ("FZ501", "FZ502")

    def test_each_phase_has_its_own_findings(self, project: Project) -> None:
        """A mistake of the first phase does not hide that of the second."""
        spec = SPEC.replace('trainable = ["fc"]', 'trainable = ["fc", "body[0]"]', 1)
        report = project.verify(FORGETS, spec)
        assert found(report) == [("FZ102", "head"), ("FZ402", "finetune")]

    def test_the_state_of_the_others_is_lost(self, project: Project) -> None:
        """Momentum that a new optimizer does not have is said among the conditions, unless it was carried over."""
        lost = project.verify(f"model.body[2].requires_grad_(True)\nreturn {NEW}").case.conditions.optimizer
        assert lost == (
            "SGD from train.py:unfreeze; its state of fc.weight, fc.bias from phase head was not carried over"
        )
        kept = f"model.body[2].requires_grad_(True)\nnew = {NEW}\nnew.state.update(optimizer.state)\nreturn new"
        assert project.verify(kept).case.conditions.optimizer == "SGD from train.py:unfreeze"
        assert "carried" not in project.verify(ADDS).case.conditions.optimizer

    def test_a_selector_of_the_top_is_said_once(self, project: Project) -> None:
        """A mistake of the spec that all phases share is one finding."""
        report = project.verify(ADDS, SPEC.replace('frozen = ["*"]', 'frozen = ["*"]\nbuffers_may_move = ["nothing"]'))
        assert found(report) == [("FZ001", "head")]

    def test_counts_are_those_of_the_last_phase(self, project: Project) -> None:
        """`[expect]` of the top holds at the end, and a phase may have its own."""
        top = '[expect]\ntrainable_parameters = {}\n\n[[phase]]\nname = "head"'
        right = SPEC.replace('[[phase]]\nname = "head"', top.format(90))
        assert found(project.verify(ADDS, right)) == []
        wrong = right.replace("= 90", "= 18")
        assert found(project.verify(ADDS, wrong)) == [("FZ003", "finetune")]
        own = right.replace('trainable = ["fc"]\n', 'trainable = ["fc"]\n[phase.expect]\ntrainable_parameters = 17\n')
        assert found(project.verify(ADDS, own)) == [("FZ003", "head")]


class TestSetup:
    """What a setup may not do, and what is said then."""

    @pytest.mark.parametrize(
        ("setup", "said"),
        [
            ("raise KeyError('x')", "in phase finetune: train.py:unfreeze(model, optimizer) raised KeyError"),
            ("return model", "in phase finetune: train.py:unfreeze(model, optimizer) returned Net, which is no optim"),
            ("return []", "in phase finetune: train.py:unfreeze(model, optimizer) returned list, which is no optim"),
            ("model.fc = nn.Linear(9, 2)\n" + ADDS, "in phase finetune: the forward and the loss raised RuntimeError"),
            (
                "model.body[1].running_mean.numpy()[:] = 7\nraise KeyError('x')",
                "in phase finetune: train.py:unfreeze(model, optimizer) raised KeyError",
            ),
        ],
    )
    def test_could_not_check(self, project: Project, setup: str, said: str) -> None:
        """An error of the user's code in a phase names the phase, and the model is as it was (seen by `verify`)."""
        with pytest.raises(ProbeError) as caught:
            project.verify(setup)
        assert str(caught.value).startswith(said)

    def test_no_optimizer_to_change(self, project: Project) -> None:
        """Without an optimizer `setup` gets None, and the hint says what to define."""
        project.write(ADDS)
        text = (project.folder / "train.py").read_text().replace("def build_optimizer", "def make")
        (project.folder / "other.py").write_text(text)
        spec = Spec.parse(SPEC.replace("train.py", "other.py"), "freezecheck.toml")
        from freezecheck.check import verify_subject
        from freezecheck.loading import load

        with pytest.raises(ProbeError) as caught:
            verify_subject(load("other.py", spec=spec), spec)
        assert "build_optimizer(model)" in caught.value.hint

    def test_a_function_that_is_not_there(self, project: Project) -> None:
        """Found before anything trains, with the line of the spec."""
        with pytest.raises(SpecError, match=r"defines no `unfreez`") as caught:
            project.verify("pass", SPEC.replace("py:unfreeze", "py:unfreez"))
        assert str(caught.value.location) == "freezecheck.toml:11"

    def test_a_file_that_cannot_be_imported(self, project: Project) -> None:
        """The file's own error comes through."""
        (project.folder / "setups.py").write_text("1/0")
        with pytest.raises(TargetError, match="ZeroDivisionError"):
            project.verify("pass", SPEC.replace("train.py:unfreeze", "../setups.py:f"))


class TestChoosing:
    """`--phase NAME` runs up to that phase and judges it alone."""

    def test_only_the_phase_asked_for(self, project: Project) -> None:
        """The second is judged on the model that the first left; of the first nothing is said."""
        spec = SPEC.replace('trainable = ["fc"]', 'trainable = ["fc", "body[0]"]', 1)
        assert found(project.verify(FORGETS, spec, "finetune")) == [("FZ402", "finetune")]
        report = project.verify(FORGETS, spec, "head")
        assert (found(report), report.case.conditions.phases) == ([("FZ102", "head")], ("head",))

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            (None, "there is no phase `head` without a freeze spec"),
            (Spec.parse("", "a.toml"), "a.toml has no phase `head`"),
            (Spec.of(phase=[{"name": "heat"}]), "the spec has no phase `head`; did you mean `heat`?"),
        ],
    )
    def test_an_unknown_name(self, spec: Spec | None, said: str) -> None:
        """Said with the nearest there is."""
        with pytest.raises(UsageError) as caught:
            stages_of(spec, "head")
        assert str(caught.value) == said
        assert caught.value.hint

    def test_on_the_command_line(self, project: Project) -> None:
        """The text names the phase of each finding and of the verdict; the JSON has it as a key."""
        project.write(FORGETS)
        ran = freezecheck_command("verify", folder=project.folder)
        assert ran.code == 1
        assert "error FZ402 trainable-parameter-not-in-optimizer (phase finetune)\n" in ran.out
        assert "in phase finetune, after head" in " ".join(ran.out.split())
        alone = freezecheck_command("verify", "--phase", "head", folder=project.folder)
        assert alone.code == 0
        assert "freezecheck: ok — in phase head: 2 trainable tensors got gradients and moved" in alone.out
        said = json.loads(freezecheck_command("verify", "--format", "json", folder=project.folder).out)
        assert [finding["phase"] for finding in said["findings"]] == ["finetune"]
        assert said["conditions"]["phases"] == ["head", "finetune"]
        assert freezecheck_command("verify", "--phase", "x", folder=project.folder).code == 2


class TestSpec:
    """What a phase means."""

    def test_keys_that_are_left_out_come_from_the_top(self) -> None:
        """Lists, rest and steps are the top's until a phase says its own; lines are those where they stand."""
        spec = Spec.parse(
            'frozen = ["a"]\nsteps = 2\nignore = ["FZ5"]\n[[phase]]\nname = "x"\n[[phase]]\nname = "y"\n'
            'trainable = ["b"]\nsteps = 4\nignore = []\n',
            "f.toml",
        )
        one, two = (phase.spec for phase in spec.phases)
        assert (one.rest, one.steps, one.ignore) == (Expected.TRAINABLE, 2, ("FZ5",))
        assert (two.rest, two.steps, two.ignore) == (Expected.UNCHECKED, 4, ())
        assert [str(s.location) for s in (*two.frozen, *two.trainable)] == ["f.toml:1", "f.toml:8"]
        assert spec.phase("y") is two
        with pytest.raises(SpecError, match="has no phase `z`"):
            spec.phase("z")

    def test_outside_of_verify_a_spec_with_phases_means_the_first(self) -> None:
        """`report`, `apply` and a watched training begin where the training begins."""
        model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
        spec = Spec.of(phase=[{"name": "one", "trainable": ["a"]}, {"name": "two", "trainable": ["b"]}])
        assert match(spec, describe(model)).expected["a.weight"] is Expected.TRAINABLE
        assert match(spec, describe(model)).expected["b.weight"] is Expected.FROZEN
        freezecheck.apply(model, spec.phase("two"))
        assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]

    def test_in_python(self) -> None:
        """`freezecheck.verify` takes the same spec, and the phase."""
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
        model[0].requires_grad_(False)
        spec = Spec.of(phase=[{"name": "one", "trainable": ["[1]"]}, {"name": "two", "trainable": ["[0]"]}])
        optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
        result = freezecheck.verify(model, spec, optimizer=optimizer, inputs=torch.randn(2, 3), phase="one")
        assert result.ok
        both = freezecheck.verify(model, spec, optimizer=optimizer, inputs=torch.randn(2, 3))
        assert {finding.phase for finding in both.findings} == {"two"}
        with pytest.raises(FreezecheckError):
            freezecheck.verify(model, spec, optimizer=optimizer, inputs=torch.randn(2, 3), phase="three")
