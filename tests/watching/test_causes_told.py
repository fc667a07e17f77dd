"""The cause that a message of `run` tells: what the loop does between its forward, its backward and its step."""

from __future__ import annotations

import re

import pytest

from tests.watching.loops import MODEL, codes, report_of, run, write

LOOP = """
for _ in range(5):
    loss = F.cross_entropy(model(torch.randn(4, 4)), torch.randint(0, 2, (4,)))
    {body}
"""
CLEAR = {
    "optimizer": ("optimizer.zero_grad()", "optimizer.zero_grad()"),
    "model": ("model.zero_grad()", "model.zero_grad()"),
    "by hand": ("model.head.weight.grad = model.head.bias.grad = None", "model.head.weight.grad"),
    "zeros": ("optimizer.zero_grad(set_to_none=False)", "optimizer.zero_grad(set_to_none=False)"),
}
ALL = MODEL.replace("model.body.requires_grad_(False)\n", "").replace("model.head.parameters()", "model.parameters()")
"""The same with every layer in the optimizer and every flag on."""


def loop(*lines):
    return LOOP.format(body="\n    ".join(lines))


def found(folder, source, *arguments, spec='trainable = ["head"]\n'):
    write(folder, source, spec=spec)
    return run(folder, *arguments, "--format", "json", "train.py")


def line_of(folder, finding):
    return (folder / "train.py").read_text().splitlines()[finding["location"]["line"] - 1].strip()


class TestGradientsTakenAway:
    @pytest.mark.parametrize(("clear", "quoted"), CLEAR.values(), ids=CLEAR)
    def test_between_backward_and_step(self, tmp_path, clear, quoted):
        """FZ302 says that it is the loop that takes them away, and where; not that the step is skipped."""
        ran = found(tmp_path, MODEL + loop("loss.backward()", clear, "optimizer.step()"))
        (finding,) = report_of(ran)["findings"]
        assert finding["code"] == "FZ302"
        assert "takes it away again between backward() and step()" in finding["message"]
        assert finding["fix"] == "call zero_grad() before backward() or after step(), not between the two"
        assert line_of(tmp_path, finding).startswith(quoted)

    @pytest.mark.parametrize(
        ("line", "fix"),
        [
            ("torch.nn.utils.clip_grad_norm_(model.parameters(), 0)", "clip to a limit above 0"),
            ("torch.nn.utils.clip_grad_value_(model.parameters(), 0.0)", "clip to a limit above 0"),
            ("for p in model.head.parameters(): p.grad.mul_(0)", "leave something of the gradient in train.py:"),
            ("for p in model.head.parameters(): p.grad *= 1 // 2", "leave something of the gradient in train.py:"),
        ],
    )
    def test_what_makes_zeros_of_them_is_told(self, tmp_path, line, fix):
        """A clip to nothing, a factor that is 0: the line, and what to change in it."""
        ran = found(tmp_path, MODEL + loop("optimizer.zero_grad()", "loss.backward()", line, "optimizer.step()"))
        (finding,) = report_of(ran)["findings"]
        assert finding["code"] == "FZ302"
        assert line_of(tmp_path, finding) == line
        assert finding["fix"].startswith(fix)

    @pytest.mark.parametrize(
        "line",
        [
            "torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)",
            "for p in model.head.parameters(): p.grad.mul_(0.5)",
            "for p in model.head.parameters(): p.grad[:1] = 0",
        ],
    )
    def test_what_leaves_something_is_right(self, tmp_path, line):
        """Clipped, scaled, or masked in part."""
        ran = found(tmp_path, MODEL + loop("optimizer.zero_grad()", "loss.backward()", line, "optimizer.step()"))
        assert (ran.code, codes(ran)) == (0, [])

    def test_zeros_of_one_layer_beside_others(self, tmp_path):
        """By a spec it is a mistake, with its line; the flags alone do not say that it is one."""
        line = "for p in model.head.parameters(): p.grad.mul_(0)"
        body = loop("optimizer.zero_grad()", "loss.backward()", line, "optimizer.step()")
        assert codes(found(tmp_path, ALL + body, spec=None)) == []
        (finding,) = report_of(found(tmp_path, ALL + body, spec='trainable = ["*"]\n'))["findings"]
        assert (finding["code"], finding["tensors"]) == ("FZ302", ["head.weight", "head.bias"])
        assert line_of(tmp_path, finding) == line

    def test_of_one_optimizer_while_another_steps(self, tmp_path):
        """Each optimizer finds its own gradients: what is cleared before the second's step is told, with its line."""
        second = "second = torch.optim.SGD(model.body.parameters(), lr=0.1)\n"
        body = loop("loss.backward()", "optimizer.step()", "model.zero_grad()", "second.step()")
        source = MODEL.replace("model.body.requires_grad_(False)\n", "") + second + body
        (finding,) = report_of(found(tmp_path, source, spec=None))["findings"]
        assert (finding["code"], finding["tensors"]) == ("FZ302", ["body.weight", "body.bias"])
        assert line_of(tmp_path, finding) == "model.zero_grad()"

    @pytest.mark.parametrize("before", ["optimizer.zero_grad()", "F.relu(loss).backward(); optimizer.zero_grad()"])
    def test_before_the_last_backward_is_as_it_should_be(self, tmp_path, before):
        """Also after a first backward for something else, as adversarial examples have."""
        body = loop(
            before, "loss = F.cross_entropy(model(torch.randn(4, 4)), torch.ones(4, dtype=int))", "loss.backward()"
        )
        ran = found(tmp_path, MODEL + body + "    optimizer.step()\n")
        assert (ran.code, codes(ran)) == (0, [])

    def test_of_the_backbone_freezes_it(self, tmp_path):
        """A loop that cancels the gradients of what the spec calls frozen is right: a note says how it is held."""
        body = loop("loss.backward()", "for p in model.body.parameters(): p.grad = None", "optimizer.step()")
        ran = found(tmp_path, ALL + body)
        assert (ran.code, codes(ran)) == (0, ["FZ107"])
        (finding,) = report_of(ran)["findings"]
        assert "the loop takes their gradients away before the optimizer steps at train.py:" in finding["message"]
        assert line_of(tmp_path, finding) == "for p in model.body.parameters(): p.grad = None"

    def test_of_one_layer_for_a_while(self, tmp_path):
        """Without a spec, a layer that waits while the others step is the loop's own doing; a spec may forbid it."""
        body = loop("loss.backward()", "model.head.zero_grad()", "optimizer.step()")
        assert codes(found(tmp_path, ALL + body, spec=None)) == []
        assert codes(found(tmp_path, ALL + body, spec='trainable = ["*"]\n')) == ["FZ302"]

    def test_a_bias_that_only_another_loss_reaches(self, tmp_path):
        """A critic's last bias: its own loss cancels it, the generator's gradient is cleared. It need not move."""
        source = (
            "import torch\nfrom torch import nn\n"
            "generator, critic = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))\n"
            "slow, fast = (torch.optim.Adam(one.parameters()) for one in (generator, critic))\n"
            "for _ in range(5):\n"
            "    fake = generator(torch.randn(5, 3))\n"
            "    fast.zero_grad()\n"
            "    (critic(fake.detach()).mean() - critic(torch.randn(5, 4)).mean()).backward()\n"
            "    fast.step()\n"
            "    slow.zero_grad()\n"
            "    (-critic(fake).mean()).backward()\n"
            "    slow.step()\n"
        )
        ran = found(tmp_path, source, spec=None)
        assert (ran.code, codes(ran)) == (0, [])


class TestAnOptimizerThatNeverSteps:
    TWO = "second = torch.optim.Adam(model.body.parameters(), lr=0.1)\n"

    def test_its_step_is_missing(self, tmp_path):
        """FZ302 says that it was not called; not that it was, and did nothing."""
        source = ALL.replace("SGD(model.parameters()", "SGD(model.head.parameters()") + self.TWO
        body = loop("optimizer.zero_grad()", "second.zero_grad()", "loss.backward()", "optimizer.step()")
        (finding,) = report_of(found(tmp_path, source + body, spec=None))["findings"]
        assert (finding["code"], finding["tensors"]) == ("FZ302", ["body.weight", "body.bias"])
        assert "sit in Adam (lr 0.1, beta1 0.9), whose step() was not called while" in finding["message"]
        assert finding["fix"].startswith("call step() of the Adam that holds them after backward()")

    def test_two_that_step_are_right(self, tmp_path):
        """The same with the line that was missing."""
        source = ALL.replace("SGD(model.parameters()", "SGD(model.head.parameters()") + self.TWO
        body = loop(
            "optimizer.zero_grad()", "second.zero_grad()", "loss.backward()", "optimizer.step()", "second.step()"
        )
        assert codes(found(tmp_path, source + body, spec=None)) == []


class TestNoBackward:
    def test_it_is_told(self, tmp_path):
        """FZ201 says that no backward ran, instead of guessing at no_grad and detach()."""
        (finding,) = report_of(found(tmp_path, MODEL + loop("optimizer.step()")))["findings"]
        assert finding["code"] == "FZ201"
        assert finding["message"].endswith("in 3 steps: the optimizer stepped, but no backward() ran.")
        assert finding["fix"] == "call loss.backward() before optimizer.step()"

    def test_gradients_given_by_hand_are_something_else(self, tmp_path):
        """`torch.autograd.grad` for one layer of two: the other did not get one, and nothing is said of backward()."""
        give = "model.head.weight.grad, = torch.autograd.grad(loss, [model.head.weight])"
        (finding,) = report_of(found(tmp_path, MODEL + loop(give, "optimizer.step()")))["findings"]
        assert (finding["code"], finding["tensors"]) == ("FZ201", ["head.bias"])
        assert "backward()" not in finding["message"] + finding["fix"]


class TestStaleOptimizer:
    def test_a_replaced_head(self, tmp_path):
        """FZ403 names what stands in no optimizer, and both ways in which that comes about."""
        source = MODEL + "model.head = nn.Linear(8, 2)\n" + loop("loss.backward()", "optimizer.step()")
        (finding,) = report_of(found(tmp_path, source))["findings"]
        assert finding["code"] == "FZ403"
        assert "`head.weight` and `head.bias` are expected trainable and in no optimizer" in finding["message"]
        assert "a layer was replaced, or the whole model copied" in finding["message"]


class TestWrites:
    def moved(self, folder, source):
        (finding,) = report_of(found(folder, source))["findings"]
        assert finding["code"] == "FZ301"
        return finding

    def test_by_the_loop(self, tmp_path):
        """A weight that is scaled after each step: by the loop, and not in any forward."""
        scale = "model.body.weight.data.mul_(0.99)"
        finding = self.moved(tmp_path, MODEL + loop("loss.backward()", "optimizer.step()", scale))
        assert line_of(tmp_path, finding) == scale
        assert "writes to it in place in the training loop, outside of forward and step" in finding["message"]

    def test_by_the_forward(self, tmp_path):
        """The same line in the model."""
        scaling = "        self.body.weight.data.mul_(0.99)\n        return self.head"
        source = MODEL.replace("        return self.head", scaling) + loop("loss.backward()", "optimizer.step()")
        finding = self.moved(tmp_path, source)
        assert line_of(tmp_path, finding) == "self.body.weight.data.mul_(0.99)"
        assert "in place during the forward" in finding["message"]

    @pytest.mark.parametrize(
        ("register", "argument"),
        [("register_hook", "gradient"), ("register_post_accumulate_grad_hook", "parameter")],
    )
    @pytest.mark.parametrize("backward", ["loss.backward()", "torch.autograd.backward([loss])"])
    def test_by_a_hook_of_the_backward(self, tmp_path, register, argument, backward):
        """A hook on a gradient runs deep in the engine; its line is found all the same."""
        hook = f"def hook({argument}):\n    model.body.weight.data.mul_(0.99)\n\nmodel.head.weight.{register}(hook)\n"
        finding = self.moved(tmp_path, MODEL + hook + loop(backward, "optimizer.step()"))
        assert line_of(tmp_path, finding) == "model.body.weight.data.mul_(0.99)"
        assert "in place during the backward" in finding["message"]

    def test_by_a_hook_of_the_step(self, tmp_path):
        """An optimizer's own hook is neither forward nor loop."""
        hook = "def hook(*_):\n    model.body.weight.data.mul_(0.99)\n\noptimizer.register_step_post_hook(hook)\n"
        finding = self.moved(tmp_path, MODEL + hook + loop("loss.backward()", "optimizer.step()"))
        assert line_of(tmp_path, finding) == "model.body.weight.data.mul_(0.99)"
        assert "in place during the step" in finding["message"]

    def test_parameters_that_the_loop_itself_steps(self, tmp_path):
        """An optimizer of full-precision copies, whose values the loop puts back: nothing is in no optimizer."""
        copies = "copies = [p.detach().clone().requires_grad_() for p in model.head.parameters()]\n"
        give = "for a, b in zip(copies, model.head.parameters()): a.grad, b.grad = b.grad, None"
        back = "for a, b in zip(copies, model.head.parameters()): b.data.copy_(a.data)"
        body = loop("loss.backward()", give, "optimizer.step()", back)
        ran = found(tmp_path, MODEL + copies + "optimizer = torch.optim.SGD(copies, lr=0.1)\n" + body)
        assert (ran.code, codes(ran)) == (0, [])


def test_a_validation_in_train_mode(tmp_path):
    """The frozen BatchNorm is in eval mode at each step, and follows the validation's batches: it ran in train mode."""
    source = MODEL.replace("nn.Linear(4, 8)", "nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))") + (
        "for _ in range(5):\n    model.train()\n    model.body.eval()\n    step()\n"
        "    model.train()\n    with torch.no_grad():\n        model(torch.randn(4, 4))\n"
    )
    (finding,) = report_of(found(tmp_path, source))["findings"]
    assert finding["code"] == "FZ502"
    assert "model.body.eval() after every model.train()" in finding["fix"]
    right = source.replace("    model.train()\n    with", "    model.eval()\n    with")
    assert codes(found(tmp_path, right)) == []


TOGGLED = """\
import torch
from torch import nn

class Gan(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator, self.critic = nn.Linear(3, 4), nn.Linear(4, 1)

gan = Gan()
slow, fast = torch.optim.Adam(gan.generator.parameters()), torch.optim.Adam(gan.critic.parameters())
for _ in range(9):
    noise = torch.randn(5, 3)
    gan.critic.requires_grad_(True)
    fast.zero_grad()
    (gan.critic(gan.generator(noise).detach()).square().mean() - gan.critic(torch.randn(5, 4)).mean()).backward()
    fast.step()
    gan.critic.requires_grad_(False)
    slow.zero_grad()
    (-gan.critic(gan.generator(noise)).mean()).backward()
    slow.step()
    print("round")
"""


@pytest.mark.parametrize("spec", [None, 'trainable = ["*"]\n'])
def test_flags_that_go_off_and_on_are_one_training(tmp_path, spec):
    """A critic that is frozen while the generator steps: three rounds are three steps, and no warm-up begins anew."""
    ran = found(tmp_path, TOGGLED, spec=spec)
    assert (ran.code, codes(ran)) == (0, [])
    assert report_of(ran)["conditions"]["steps"] == 3
    assert len(re.findall("round", ran.err)) == 2


def test_a_gradient_hook_is_told_with_its_line(tmp_path):
    """As `verify` tells it."""
    hook = "def nothing(gradient):\n    return gradient * 0\n\nmodel.head.weight.register_hook(nothing)\n"
    write(tmp_path, MODEL + hook + "for _ in range(5):\n    step()\n")
    (finding,) = report_of(run(tmp_path, "--format", "json", "train.py"))["findings"]
    assert finding["code"] == "FZ202"
    assert "(`def nothing(gradient):`)" in finding["message"]


def test_what_moved_without_a_gradient_is_told_apart(tmp_path):
    """Weight decay moves the bias whose gradient is zero in the one step that is watched."""
    source = MODEL.replace("self.head(self.body(x).relu())", "self.head(self.body(x).relu() * 0)")
    write(tmp_path, source.replace("lr=0.1", "lr=0.1, weight_decay=0.1") + "step()\n")
    ran = run(tmp_path, "--ignore", "FZ202", "train.py")
    assert "1 trainable tensor got gradients and moved, 1 trainable tensor moved with a gradient of zero" in " ".join(
        ran.out.split()
    )
