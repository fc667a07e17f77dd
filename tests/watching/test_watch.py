"""`freezecheck.watch` in the user's own loop, and what a session understands of it."""

from __future__ import annotations

import copy
import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

import freezecheck
from freezecheck.errors import FreezeError, ProbeError
from freezecheck.spec import Spec
from freezecheck.watching.session import Session

torch.set_num_threads(1)
HEAD = Spec.parse('trainable = ["head"]')


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(x).relu())


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = Net()
    net.body.requires_grad_(False)
    return net


def sgd(model, **options):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, **options)


def train(model, optimizer, steps=5):
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(4, 4)), torch.randint(0, 2, (4,))).backward()
        optimizer.step()


def hooks():
    """What a watch puts in place and takes away; of the hooks around a step, the pair goes when the block ends."""
    return (
        len(torch_module._global_forward_pre_hooks),
        len(torch_module._global_forward_hooks),
        len(torch_optimizer._global_optimizer_pre_hooks),
        len(torch_optimizer._global_optimizer_post_hooks),
        len(_get_current_function_mode_stack()),
        torch.autograd.backward,
        torch.compile,
        nn.Module.eval,
    )


class Doubling(TorchFunctionMode):
    """Somebody else's mode."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return result * 2 if func is torch.full else result


class TestTheBlock:
    def test_a_right_loop_is_judged_after_its_steps(self, model):
        """The result is there while the loop goes on, and torch's hooks are its own again."""
        before = hooks()
        optimizer = sgd(model)
        with freezecheck.watch(model, optimizer, HEAD) as watch:
            train(model, optimizer, 2)
            assert not watch.done
            train(model, optimizer, 1)
            assert watch.done
            assert (*hooks()[:2], *hooks()[4:]) == (*before[:2], *before[4:])
            train(model, optimizer, 2)
        assert hooks() == before
        assert watch.result.ok
        assert watch.result.report.case.conditions.steps == 3

    def test_the_training_is_not_changed(self, model):
        """Bit for bit the same weights and random numbers as without a watch."""
        twin = copy.deepcopy(model)
        torch.manual_seed(1)
        with freezecheck.watch(model, spec=HEAD):
            train(model, sgd(model, momentum=0.9, weight_decay=0.1))
        drawn = torch.rand(1)
        torch.manual_seed(1)
        train(twin, sgd(twin, momentum=0.9, weight_decay=0.1))
        assert torch.equal(drawn, torch.rand(1))
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))

    def test_a_violation_is_raised_out_of_the_step(self, model):
        """FreezeError at the third step, an AssertionError that shows the report; nothing is left behind."""
        before = hooks()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(AssertionError, match="FZ401") as caught, freezecheck.watch(model, optimizer, HEAD):
            train(model, optimizer)
        assert isinstance(caught.value, FreezeError)
        assert hooks() == before

    @pytest.mark.parametrize("steps", [1, 5])
    def test_a_violation_warns_or_is_ignored(self, model, steps):
        """Also when the block ends before its steps were made."""
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.warns(UserWarning, match="FZ401"), freezecheck.watch(model, optimizer, HEAD, on_violation="warn"):
            train(model, optimizer, steps)
        with warnings.catch_warnings(), freezecheck.watch(model, optimizer, HEAD, on_violation="ignore") as watch:
            warnings.simplefilter("error")
            train(model, optimizer, steps)
        assert [finding.code for finding in watch.result.findings] == ["FZ401"]

    def test_a_block_without_a_step_says_so(self, model):
        """It is an error, not a success; so is asking for the result too early."""
        watch = freezecheck.watch(model)
        with pytest.raises(ProbeError, match="nothing was judged yet"):
            watch.result  # noqa: B018  # asking is what raises
        with pytest.raises(ProbeError, match="without an optimizer step"), watch:
            model(torch.randn(2, 4))

    def test_the_users_own_error_passes(self, model):
        """And leaves nothing behind."""
        before = hooks()

        def loop():
            train(model, sgd(model), 1)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), freezecheck.watch(model, spec=HEAD):
            loop()
        assert hooks() == before

    def test_a_misspelled_word_is_told(self, model):
        """Not silently taken for another."""
        with pytest.raises(ValueError, match="on_violation"):
            freezecheck.watch(model, on_violation="rise")

    def test_only_this_model_is_watched(self, model):
        """Another model that trains beside it is nobody's business."""
        other = nn.Linear(4, 2)
        optimizer = torch.optim.SGD([*model.head.parameters(), *other.parameters()], lr=0.1)
        with freezecheck.watch(model, optimizer, Spec.parse('trainable = ["head"]\nignore = ["FZ403"]')) as watch:
            for _ in range(3):
                x = torch.randn(4, 4)
                (model(x) + other(x)).sum().backward()
                optimizer.step()
        assert {facts.name for facts in watch.result.report.case.parameters} == {
            "body.weight", "body.bias", "head.weight", "head.bias",
        }  # fmt: skip


class TestUnderstood:
    def watched(self, model, spec, body, **options):
        with freezecheck.watch(model, None, spec, on_violation="ignore", **options) as watch:
            body()
        return [finding.code for finding in watch.result.findings if finding.severity != "note"]

    def test_a_step_that_the_scaler_skips_is_none(self, model):
        """Overflowing gradients of a scale too large are neither a step nor FZ204."""
        optimizer = sgd(model)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)

        def body():
            for _ in range(30):
                optimizer.zero_grad()
                scaler.scale(F.cross_entropy(model(torch.randn(4, 4)), torch.randint(0, 2, (4,)))).backward()
                scaler.step(optimizer)
                scaler.update()

        assert self.watched(model, HEAD, body) == []

    def test_a_gradient_that_reaches_the_step_infinite_is_told(self, model):
        """The test above does not hide a real FZ204."""
        optimizer = sgd(model)

        def body():
            (model(torch.randn(4, 4)).sum() * 1e38 * 1e38).backward()
            optimizer.step()

        assert "FZ204" in self.watched(model, HEAD, body, steps=1)

    def test_a_lazy_model_and_one_that_moves(self):
        """Weights made by the first forward; a `.data` that is put elsewhere between forward and step."""
        model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))

        def body():
            model(torch.randn(2, 4))
            optimizer = sgd(model)
            train(model, optimizer, 2)
            for p in model.parameters():
                p.data = p.data.clone()
            train(model, optimizer, 2)

        assert self.watched(model, None, body) == []

    def test_a_thread_beside_the_training(self, model):
        """A forward in another thread (a server, a logger) is no step of this training."""
        other = nn.Linear(3, 3)

        def body():
            optimizer = sgd(model)
            for _ in range(3):
                thread = threading.Thread(target=lambda: other(torch.randn(1, 3)).sum().backward())
                thread.start()
                train(model, optimizer, 1)
                thread.join()

        assert self.watched(model, HEAD, body) == []

    def test_a_forward_that_raises_and_is_caught(self, model):
        """A batch that fails, and is skipped by the loop, does not unsettle the watch."""

        def body():
            optimizer = sgd(model)
            for _ in range(3):
                with pytest.raises(RuntimeError):
                    model(torch.randn(4, 5))
                train(model, optimizer, 1)

        assert self.watched(model, HEAD, body) == []

    def test_gradients_given_by_hand(self, model):
        """`torch.autograd.grad` and an assignment: no backward is seen, and what was not seen is not told."""

        def body():
            optimizer = sgd(model)
            trained = [p for p in model.parameters() if p.requires_grad]
            for _ in range(3):
                loss = F.cross_entropy(model(torch.randn(4, 4)), torch.randint(0, 2, (4,)))
                for p, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
                    p.grad = gradient
                optimizer.step()

        assert self.watched(model, HEAD, body) == []

    def test_functional_use_of_the_parameters(self, model):
        """Nobody calls the model: its parameters are used by hand, and it is found by its optimizer."""

        def body():
            optimizer = sgd(model)
            for _ in range(3):
                optimizer.zero_grad()
                x = F.linear(torch.randn(4, 4), model.body.weight, model.body.bias)
                F.linear(x, model.head.weight, model.head.bias).square().sum().backward()
                optimizer.step()

        assert self.watched(model, HEAD, body) == []

    def test_a_penalty_on_a_gradient(self, model):
        """A second backward through the first (create_graph) belongs to the same step."""

        def body():
            optimizer = sgd(model)
            for _ in range(3):
                x = torch.randn(4, 4, requires_grad=True)
                loss = model(x).square().sum()
                (slope,) = torch.autograd.grad(loss, x, create_graph=True)
                optimizer.zero_grad()
                (loss + slope.square().sum()).backward()
                optimizer.step()

        assert self.watched(model, HEAD, body) == []

    def test_two_optimizers_of_which_one_waits(self, model):
        """An optimizer that was made for later makes no double place (FZ404), and is told as not checked."""
        optimizer, later = sgd(model), torch.optim.Adam(model.parameters())
        with freezecheck.watch(model, [optimizer, later], HEAD, steps=1) as watch:
            train(model, optimizer, 12)
        assert watch.result.ok
        assert "Adam" in [skipped.what for skipped in watch.result.report.skipped]


class TestOfASession:
    def test_the_users_own_hooks_are_all_called(self, model):
        """Global hooks of the user's, set before and after ours, see every step, also those in which we come and go."""
        seen = []
        first = torch_optimizer.register_optimizer_step_post_hook(lambda *_: seen.append("first"))
        with freezecheck.watch(model, spec=HEAD):
            last = torch_optimizer.register_optimizer_step_post_hook(lambda *_: seen.append("last"))
            train(model, sgd(model), 5)
        first.remove()
        last.remove()
        assert seen == ["first", "last"] * 5

    def test_leaving_out_of_order_leaves_the_users_modes(self, model):
        """A mode that the user entered in between stays, and ours does not stay below it."""
        before = hooks()
        with Session(HEAD, steps=1, model=model) as session, Doubling() as mode:
            train(model, sgd(model), 1)
            assert session.done
            assert _get_current_function_mode_stack() == [mode]
            assert torch.full((1,), 2.0).item() == 4.0
        assert hooks() == before

    @pytest.mark.parametrize("first", [0, 1])
    def test_two_watches_may_end_in_any_order(self, model, first):
        """What they put around torch's functions, and around the compiler, goes with the last; the other goes on."""
        before = hooks()
        sessions = [Session(HEAD, steps=steps, model=model) for steps in (5, 6)]
        with sessions[0], sessions[1]:
            torch.compile(model)
            sessions[first].close()
            train(model, sgd(model), 7)
        assert hooks() == before
        stance = getattr(torch._dynamo.eval_frame, "_stance", None)  # torch 2.4 has none yet
        assert stance is None or stance.stance == "default"
        assert sessions[1 - first].total == 6 - first

    def test_a_watch_that_its_own_violation_ends_leaves_nothing(self, model):
        """Not even the hooks around a step: nobody has to come and take them away."""
        before = hooks()
        watch = freezecheck.watch(model, None, HEAD).__enter__()
        with pytest.raises(FreezeError):
            train(model, torch.optim.SGD(model.parameters(), lr=0.1))
        assert watch.done
        assert hooks() == before
