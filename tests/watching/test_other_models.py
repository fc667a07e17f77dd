"""Models beside the one that trains: teachers, encoders, averages, critics. Which are judged, and under which names."""

from __future__ import annotations

import pytest

from tests.watching.loops import MODEL, codes, report_of, run, write

NETS = """\
import copy
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)

def net():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

def x():
    return torch.randn(8, 6)

def update(loss, optimizer):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

"""
DISTILLED = """\
student, teacher = net(), net()
{prepare}
optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
for _ in range(6):
    batch = x()
    with {without}:
        target = teacher(batch)
    update(F.mse_loss(student(batch), target.clone()), optimizer)
"""
FOLLOWED = """\
student = net()
teacher = copy.deepcopy(student).requires_grad_(False)
optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
for _ in range(6):
    batch = x()
    update(F.mse_loss(student(batch), teacher(batch) + 1), optimizer)
{follow}
"""
AVERAGES = {
    "mul and add": """\
    with torch.no_grad():
        for a, b in zip(teacher.parameters(), student.parameters()):
            a.mul_(0.9).add_(b, alpha=0.1)
""",
    "data": """\
    for a, b in zip(teacher.parameters(), student.parameters()):
        a.data = a.data * 0.9 + b.data * 0.1
""",
    "foreach": """\
    torch._foreach_lerp_([p.data for p in teacher.parameters()], [p.data for p in student.parameters()], 0.1)
""",
    "state": """\
    own = student.state_dict()
    new = {n: t if t.dtype == torch.long else t.lerp(own[n], 0.1) for n, t in teacher.state_dict().items()}
    teacher.load_state_dict(new)
""",
}
AVERAGED = """\
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

student = net()
average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
for _ in range(6):
    batch = x()
    update(F.mse_loss(student(batch), average(batch).detach() + 1), optimizer)
    average.update_parameters(student)
    with torch.no_grad():
        average(batch)
"""
CRITICS = """\
generator = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6))
critic = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
{prepare}
slow, fast = (torch.optim.Adam(one.parameters(), lr=1e-3) for one in (generator, critic))
for number in range(60):
    with torch.no_grad():
        fake = generator(torch.randn(8, 4))
    update(critic(fake).mean() - critic(x()).mean(), fast)
    if number % 5 == 4:
        update(-critic(generator(torch.randn(8, 4))).mean(), slow)
"""


def found(folder, source, *arguments, spec=None):
    write(folder, NETS + source, spec=spec)
    return run(folder, *arguments, "--format", "json", "train.py")


def left_out(ran):
    return {skipped["what"]: skipped["why"] for skipped in report_of(ran)["skipped"] if "model" in skipped["what"]}


class TestSilent:
    @pytest.mark.parametrize("without", ["torch.no_grad()", "torch.inference_mode()"])
    def test_a_teacher_in_eval_mode(self, tmp_path, without):
        """Its flags are on, nothing trains it and nothing moves: no_grad is how it is frozen, which is no finding."""
        ran = found(tmp_path, DISTILLED.format(prepare="teacher.eval()", without=without))
        assert (ran.code, codes(ran), left_out(ran)) == (0, [], {})

    @pytest.mark.parametrize("follow", AVERAGES.values(), ids=AVERAGES)
    def test_a_teacher_that_follows_the_student(self, tmp_path, follow):
        """A moving average written by the loop, with its own statistics: not judged, which is said with its name."""
        ran = found(tmp_path, FOLLOWED.format(follow=follow))
        assert (ran.code, codes(ran)) == (0, [])
        assert "moving average" in left_out(ran)["the model teacher"]

    def test_torchs_own_average(self, tmp_path):
        """AveragedModel, called with gradients and without."""
        ran = found(tmp_path, AVERAGED)
        assert (ran.code, codes(ran)) == (0, [])

    def test_a_generator_that_waits_without_gradients(self, tmp_path):
        """Its statistics move and its optimizer is slow: the watch waits until both have stepped, and says so."""
        ran = found(tmp_path, CRITICS.format(prepare=""))
        assert (ran.code, codes(ran), left_out(ran)) == (0, [], {})
        told = report_of(ran)["conditions"]
        assert (told["steps"], told["optimizer"]) == (15, "Adam (3 steps), Adam (15 steps)")

    def test_a_teacher_that_the_spec_does_not_know(self, tmp_path):
        """A spec for the student judges the student; that the teacher drifts is left as not checked."""
        drifting = DISTILLED.format(prepare="", without="torch.no_grad()")
        ran = found(tmp_path, drifting, spec='trainable = ["*"]\n')
        assert (ran.code, codes(ran)) == (0, [])
        assert "its statistics move" in left_out(ran)["the model teacher"]

    def test_a_teacher_that_the_spec_leaves_alone(self, tmp_path):
        """Both models have their names in the spec."""
        drifting = DISTILLED.format(prepare="", without="torch.no_grad()")
        ran = found(tmp_path, drifting, spec='trainable = ["student"]\nunchecked = ["teacher"]\n')
        assert (ran.code, codes(ran), left_out(ran)) == (0, [], {})


class TestFired:
    @pytest.mark.parametrize("prepare", ["", "teacher.requires_grad_(False)"])
    @pytest.mark.parametrize("without", ["torch.no_grad()", "torch.inference_mode()"])
    def test_a_teacher_in_train_mode(self, tmp_path, prepare, without):
        """Its BatchNorm follows every batch, though no gradient ever reaches it: FZ501 with its name."""
        ran = found(tmp_path, DISTILLED.format(prepare=prepare, without=without))
        (finding,) = report_of(ran)["findings"]
        assert finding["code"] == "FZ501"
        assert finding["tensors"][:2] == ["teacher.1.running_mean", "teacher.1.running_var"]
        assert finding["fix"].startswith("teacher.eval() after every teacher.train()")
        assert ran.code == 1

    def test_a_teacher_that_the_spec_names(self, tmp_path):
        """`teacher` is found for the spec although only forwards without gradients show it."""
        drifting = DISTILLED.format(prepare="", without="torch.no_grad()")
        ran = found(tmp_path, drifting, spec='trainable = ["student"]\nfrozen = ["teacher"]\n')
        assert codes(ran) == ["FZ501"]

    def test_a_teacher_that_is_chosen(self, tmp_path):
        """`--model teacher` judges it alone, in its own names."""
        drifting = DISTILLED.format(prepare="", without="torch.no_grad()")
        (finding,) = report_of(found(tmp_path, drifting, "--model", "teacher"))["findings"]
        assert finding["tensors"][0] == "1.running_mean"

    def test_a_teacher_in_the_memory_of_the_student(self, tmp_path):
        """It moves with the student's optimizer, and nothing of the loop writes to it: no moving average, FZ301."""
        share = "for a, b in zip(teacher.parameters(), student.parameters()):\n    a.data = b.data\n"
        source = FOLLOWED.format(follow="").replace("optimizer =", f"{share}optimizer =", 1)
        ran = found(tmp_path, source.replace("(False)", "(False).eval()"))
        assert codes(ran) == ["FZ301"]
        assert {name.partition(".")[0] for name in report_of(ran)["findings"][0]["tensors"]} == {"teacher"}

    def test_a_teacher_whose_own_forward_writes(self, tmp_path):
        """A write in its forward is a mistake of the model's, and no rule of the loop's."""
        hook = (
            "def fade(layer, inputs):\n    layer.weight.data.mul_(0.99)\n\nteacher[0].register_forward_pre_hook(fade)\n"
        )
        source = FOLLOWED.format(follow="").replace("optimizer =", f"{hook}optimizer =", 1)
        source = source.replace("(False)", "(False).eval()")
        ran = found(tmp_path, source)
        assert codes(ran) == ["FZ301"]
        assert report_of(ran)["findings"][0]["evidence"]["writes"][0]["phase"] == "forward"

    def test_the_fix_speaks_of_the_model_that_is_meant(self, tmp_path):
        """Of several models each has its own name in the line to change; `model` is none of theirs."""
        ran = found(tmp_path, CRITICS.format(prepare="critic[0].requires_grad_(False)"))
        (finding,) = report_of(ran)["findings"]
        assert (finding["code"], finding["tensors"]) == ("FZ401", ["critic.0.weight", "critic.0.bias"])
        assert "for p in critic.parameters()" in finding["fix"]

    def test_a_layer_of_one_of_several_models(self, tmp_path):
        """`critic[0]`, and not `model.critic[0]`."""
        spec = 'trainable = ["generator", "critic.2"]\nfrozen = ["critic.0"]\n'
        ran = found(tmp_path, CRITICS.format(prepare=""), spec=spec)
        (finding,) = report_of(ran)["findings"]
        assert finding["code"] == "FZ101"
        assert finding["fix"].startswith("critic[0].requires_grad_(False)")


FOLDS = """\
optimizer = None
for fold in range(3):
    model = Net()
    model.body.requires_grad_(False)
    optimizer = {kept}torch.optim.SGD(model.head.parameters(), lr=0.1)
    for _ in range(2):
        step()
"""


class TestFolds:
    """A model for each fold of a cross-validation."""

    def test_each_with_its_own_optimizer(self, tmp_path):
        """Is right."""
        write(tmp_path, MODEL + FOLDS.format(kept=""))
        ran = run(tmp_path, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])

    def test_all_with_the_first_ones(self, tmp_path):
        """FZ403 on the second, which trains nothing, though the optimizer's tensors are those of a watched model."""
        write(tmp_path, MODEL + FOLDS.format(kept="optimizer or "))
        ran = run(tmp_path, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (1, ["FZ403"])
        assert "`head.weight` and `head.bias` are expected trainable" in report_of(ran)["findings"][0]["message"]
