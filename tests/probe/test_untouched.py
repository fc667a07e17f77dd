"""The promise of the contract: "`verify` leaves no trace …, also when the user's code raises"."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import LAYERS, Net, dump, is_lazy, subjects, train
from torch import nn
from torch.optim import Optimizer

from freezecheck.errors import ProbeError
from freezecheck.probe import raw
from freezecheck.probe.pages import Pages
from freezecheck.probe.untouched import Ground, untouched

torch.set_num_threads(1)

Deed = Callable[[Net, Optimizer, Ground], object]


def alive(model: Net) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if not is_lazy(parameter)]


def step(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    for parameter in alive(model):
        ground.keep(parameter)
    train(model, optimizer)


def flip_flags(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    for parameter in model.parameters():
        parameter.requires_grad = not parameter.requires_grad


def flip_modes(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    for module in model.modules():
        module.train(not module.training)


def hang_hooks(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    nn.modules.module.register_module_forward_hook(lambda *_: None)
    optimizer.register_step_post_hook(lambda *_: None)
    for module in model.modules():
        module.register_forward_pre_hook(lambda *_: None)
        module.register_forward_hook(lambda *_: None, prepend=True)
    for parameter in alive(model):
        if parameter.requires_grad:
            parameter.register_hook(lambda grad: grad * 2)
            parameter.register_post_accumulate_grad_hook(lambda _: None)


def write_data(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    for parameter in alive(model):
        ground.keep(parameter)
        parameter.data.mul_(2).add_(1)


def write_by_alias(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    for parameter in alive(model):
        ground.keep(parameter)
    for parameter in alive(model):
        parameter.detach().fill_(float("nan"))


def swap_storage(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    for parameter in alive(model):
        parameter.grad = None
        parameter.data = parameter.data.double() + 1


def replace_tensors(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    for module in list(model.modules()):
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and not is_lazy(parameter):
                module._parameters[name] = nn.Parameter(torch.ones_like(parameter))
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and not is_lazy(buffer):
                module._buffers[name] = torch.zeros_like(buffer)


def write_gradients(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    for parameter in alive(model):
        parameter.grad = torch.ones_like(parameter)
        nn.utils.clip_grad_norm_([parameter], 0.1)


def rebuild(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    model.layers.append(nn.Linear(8, 8))
    model.extra = nn.Linear(2, 2)
    model.renamed, model.note = model.layers[0], "patched"
    del model.calls
    model.calls = 7
    model.log.clear()
    optimizer.add_param_group({"params": list(model.extra.parameters())})
    optimizer.param_groups[0]["lr"] = 7.0
    optimizer.state.clear()
    optimizer.note = "patched"
    for parameter in alive(model):
        parameter.note = "patched"


def shake_the_world(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    torch.set_default_dtype(torch.float64)
    torch.autograd.set_detect_anomaly(True)
    torch.set_autocast_dtype("cpu", torch.float16)
    torch.set_grad_enabled(False)
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    torch.set_default_device("meta")


def graph_into_buffer(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    model.average.add_(torch.ones(8, requires_grad=True))


def stumble(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    raise RuntimeError("the user's own")


def interrupt(model: Net, optimizer: Optimizer, ground: Ground) -> None:
    raise KeyboardInterrupt


DEEDS: tuple[Deed, ...] = (
    step, flip_flags, flip_modes, hang_hooks, write_data, write_by_alias, swap_storage, replace_tensors,
    write_gradients, rebuild, shake_the_world, graph_into_buffer, stumble, interrupt,
)  # fmt: skip


def do(deeds: list[Deed], model: Net, optimizer: Optimizer) -> Ground | None:
    """Do the deeds inside `untouched`; how they end is theirs, only a failed restoration is ours."""
    ground, raised = None, None
    try:
        with untouched(model, [optimizer]) as ground:
            for deed in deeds:
                deed(model, optimizer, ground)
    except ProbeError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        raised = error
    assert not getattr(raised, "__notes__", None)
    return ground


class TestLeavesNoTrace:
    """ "Parameters, buffers, gradients, flags, every module's mode, optimizer state, hooks and RNG"."""

    @settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
    @given(subjects(), st.lists(st.sampled_from(DEEDS), max_size=5))
    def test_whatever_the_body_does(self, subject: tuple[Net, Optimizer], deeds: list[Deed]) -> None:
        """Any model in any state, after any deeds in any order, is what an independent dump says it was."""
        before = dump(*subject)
        ground = do(deeds, *subject)
        after = dump(*subject)
        assert after.keys() == before.keys()
        for what, value in before.items():
            assert after[what] == value, what
        assert ground is not None
        assert ground.lost == []

    @pytest.mark.parametrize("kind", LAYERS)
    def test_a_step_through_each_layer(self, kind: str) -> None:
        """Each kind of layer comes back from a step, lazy ones lazy."""
        torch.manual_seed(0)
        model = Net([LAYERS[kind]()], nn.Linear(8, 8))
        optimizer = torch.optim.Adam([*model.parameters(), *model.hidden[0].parameters()])
        before = dump(model, optimizer)
        with untouched(model, [optimizer]):
            train(model, optimizer)
        assert dump(model, optimizer) == before

    @pytest.mark.parametrize("deed", DEEDS)
    def test_each_deed_alone(self, deed: Deed) -> None:
        """Each nasty deed is undone when it is done to a trained model."""
        torch.manual_seed(0)
        model = Net([nn.Linear(8, 8), nn.BatchNorm1d(8)], nn.Linear(8, 8))
        model.layers[0].weight.register_hook(lambda grad: grad)
        model.layers[0].bias.register_post_accumulate_grad_hook(lambda _: None)
        optimizer = torch.optim.Adam(model.parameters())
        train(model, optimizer)
        before = dump(model, optimizer)
        do([deed], model, optimizer)
        assert dump(model, optimizer) == before

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_inside_the_callers_grad_mode(self, mode: type) -> None:
        """Gradients flow in the body inside the caller's no_grad or inference_mode, which hold again afterwards."""
        model = Net([nn.Linear(8, 8)], None)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        before = dump(model, optimizer)
        with mode():
            with untouched(model, [optimizer]):
                train(model, optimizer)
                assert model.layers[0].weight.grad is not None
            assert not torch.is_grad_enabled()
            assert torch.is_inference_mode_enabled() is (mode is torch.inference_mode)
        assert dump(model, optimizer) == before

    def test_a_graph_of_the_users_survives(self) -> None:
        """A loss that the user computed before the check can still be run backward after it."""
        model = Net([nn.Linear(8, 8), nn.Linear(8, 8)], None)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = model(torch.ones(4, 8)).sum()
        with untouched(model, [optimizer]):
            train(model, optimizer)
        loss.backward()
        assert model.layers[0].weight.grad is not None

    def test_a_gradient_that_is_a_view_is_written_back(self) -> None:
        """A gradient that lies in a bucket, as in distributed training, has its bytes back though others wrote them."""
        model, bucket = nn.Linear(2, 2, bias=False), torch.ones(4)
        model.weight.grad = gradient = bucket.view(2, 2)
        with untouched(model):
            bucket.zero_()
        assert model.weight.grad is gradient
        assert bucket.tolist() == [1, 1, 1, 1]

    def test_compiled_modules_and_meta_models(self) -> None:
        """Scripted modules have their modes and tensors back, meta models their flags."""
        scripted = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval())
        meta = nn.Linear(2, 2, device="meta")
        weights = [tensor.clone() for tensor in scripted.state_dict().values()]
        with untouched(nn.Sequential(scripted, meta)) as ground:
            scripted.train()
            scripted(torch.randn(4, 2)).sum().backward()
            meta.requires_grad_(False)
            assert ground.change(meta.weight) == (False, 0.0)
        assert not any(module.training for module in scripted.modules())
        assert all(parameter.grad is None for parameter in scripted.parameters())
        assert all(map(torch.equal, weights, scripted.state_dict().values()))
        assert meta.weight.requires_grad

    def test_storages_stay_where_they_are(self) -> None:
        """Tensors that did not move are not written: not even their version says that somebody was there."""
        model = nn.BatchNorm1d(4)
        aliases = [tensor.data for tensor in (*model.parameters(), *model.buffers())]
        versions = [alias._version for alias in aliases]
        with untouched(model):
            pass
        assert [alias._version for alias in aliases] == versions

    def test_what_cannot_be_put_back_is_said(self) -> None:
        """A restoration that fails is a ProbeError that names the thing, and the rest is put back all the same."""
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        view = torch.zeros(4)[:2]
        model.register_buffer("view", view)

        def check() -> None:
            with untouched(model):
                view.add_(model[0].bias)
                model[1].requires_grad_(False)

        with pytest.raises(ProbeError, match=r"could not put back.*\n  view: "):
            check()
        assert model[1].weight.requires_grad

    def test_a_failure_beside_the_users_error_is_a_note(self) -> None:
        """When the user's code raised, its error goes on, with a note of what could not be put back."""
        model = nn.Linear(2, 2)
        model.register_buffer("view", torch.zeros(4)[:2])

        def check() -> None:
            with untouched(model):
                model.view.add_(model.bias)
                raise ValueError("mine")

        with pytest.raises(ValueError, match="mine") as caught:
            check()
        assert "view: " in caught.value.__notes__[0]


class TestGround:
    """What the probe asks while the body runs."""

    def big(self) -> nn.Linear:
        """A frozen layer above the size that is copied in any case."""
        return nn.Linear(64, 64).requires_grad_(False)

    def test_nothing_moved(self) -> None:
        """Neither trainable, frozen nor buffer tensors are said to move when nothing ran."""
        model = nn.Sequential(nn.Linear(2, 2), self.big(), nn.BatchNorm1d(64))
        with untouched(model) as ground:
            assert all(ground.change(t) == (False, 0.0) for t in (*model.parameters(), *model.buffers()))

    def test_a_write_after_keep_is_measured_and_undone(self) -> None:
        """A frozen tensor kept before the write has its exact change, and its bytes back."""
        model = self.big()
        before = model.weight.clone()
        with untouched(model) as ground:
            ground.keep(model.weight)
            model.weight.data[3, 4] += 0.5
            moved, change = ground.change(model.weight)
        assert moved
        assert change == pytest.approx(0.5)
        assert torch.equal(model.weight, before)
        assert ground.lost == []

    @pytest.mark.parametrize("asked", [True, False])
    def test_a_write_behind_torchs_back_is_lost(self, asked: bool) -> None:
        """A write that nobody announced is seen by the fingerprint and named as lost."""
        model = nn.Sequential(self.big())
        with untouched(model) as ground:
            model[0].weight.data[3, 4] += 0.5
            if asked:
                assert ground.change(model[0].weight) == (True, None)
        assert ground.lost == ["0.weight"]

    def test_keeping_too_late_is_lost(self) -> None:
        """A copy taken after a hidden write is not taken for the original."""
        model = self.big()
        with untouched(model) as ground:
            model.weight.data.add_(1)
            ground.keep(model.weight)
            assert ground.change(model.weight) == (True, None)
        assert ground.lost == ["weight"]

    def test_a_swapped_storage_is_measured_without_a_copy(self) -> None:
        """`p.data = ...` leaves the original alone, so that the change is exact and nothing is lost."""
        model = self.big()
        with untouched(model) as ground:
            model.weight.data = model.weight.data + 1
            moved, change = ground.change(model.weight)
        assert moved
        assert change == pytest.approx(1)
        assert ground.lost == []

    def test_a_tensor_that_stands_in_its_place(self) -> None:
        """A buffer replaced by another tensor is compared with what now stands under its name."""
        model = nn.BatchNorm1d(2)
        with untouched(model) as ground:
            before = model.running_mean
            assert before is not None
            model.running_mean = before + 2
            assert ground.change(before) == (False, 0.0)
            assert ground.change(before, model.running_mean) == (True, 2.0)

    def test_gradients_are_set_aside(self) -> None:
        """The user's gradient is out of the way, can be asked for, and is the same object afterwards."""
        model = nn.Linear(2, 2)
        model.weight.grad = gradient = torch.ones(2, 2)
        with untouched(model) as ground:
            assert model.weight.grad is None
            assert ground.gradient_before(model.weight) is gradient
            assert ground.gradient_before(model.bias) is None
        assert model.weight.grad is gradient

    def test_a_phase_measures_from_its_own_start(self) -> None:
        """After `settle` what moved before counts no more, and everything is still put back to the very beginning."""
        model = nn.Sequential(nn.Linear(2, 2), self.big())
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with untouched(model) as ground, torch.no_grad():
            model[0].weight.add_(1)
            model[1].requires_grad_(True)
            ground.settle()
            assert ground.change(model[0].weight) == (False, 0.0)
            model[1].weight.add_(1)
            assert ground.change(model[1].weight) == (True, pytest.approx(1))
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    def test_lazy_layers_are_measured_once_settled(self) -> None:
        """A layer that came to life during the check moves from there on, and is lazy again at the end."""
        model = nn.LazyLinear(2)
        with untouched(model) as ground:
            model(torch.ones(1, 3))
            ground.settle()
            assert ground.change(model.weight) == (False, 0.0)
            model.weight.data.add_(1)
            assert ground.change(model.weight) == (True, pytest.approx(1))
        assert type(model) is nn.LazyLinear
        assert is_lazy(model.weight)

    @pytest.mark.parametrize("begun", [False, True])
    def test_the_seed_of_a_device_not_yet_in_use(self, monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
        """torch.manual_seed keeps a seed for a GPU that is first used later, and the check's own must not take over."""
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
        seeds = type(torch.cuda._lazy_seed_tracker)()
        monkeypatch.setattr(torch.cuda, "_lazy_seed_tracker", seeds)
        given: list[int] = []
        seeds.queue_seed_all(lambda: given.append(42), [])
        before = vars(seeds).copy()
        with untouched(nn.Linear(1, 1)):
            torch.manual_seed(0)
            assert vars(seeds) != before
            monkeypatch.setattr(torch.cuda, "is_initialized", lambda: begun)
        assert vars(seeds) == before
        assert given == [42] * begun

    def test_frozen_weights_are_not_held_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Copies cover what is trainable, buffers and state: of the frozen weights no copy is made."""
        sizes: list[int] = []
        rooms = Pages.rooms
        monkeypatch.setattr(Pages, "rooms", lambda pages, wanted: sizes.extend(wanted) or rooms(pages, wanted))
        model = nn.Sequential(nn.Linear(512, 512, bias=False).requires_grad_(False), nn.Linear(512, 8, bias=False))
        with untouched(model):
            pass
        assert sum(sizes) == 512 * 8 * 4
        assert model[0].weight.nbytes == raw.CHUNK

    @pytest.mark.parametrize("elements", [3, 3 * 2**11], ids=["small", "large"])
    @pytest.mark.parametrize(
        ("replaced", "moved"),
        [
            (lambda data: data + 1, True),
            (lambda data: data.clone(), False),
            (lambda data: data.view(torch.bfloat16), True),
        ],
        ids=["other values", "the same values", "another dtype"],
    )
    def test_data_in_another_place_is_compared_there_and_put_back(
        self, elements: int, replaced: Callable[[torch.Tensor], torch.Tensor], moved: bool
    ) -> None:
        """What counts is what the parameter holds by now, not the memory in which it lay."""
        weight = nn.Parameter(torch.rand(elements, dtype=torch.float16), requires_grad=False)
        model, data, before = nn.ParameterList([weight]), weight.data, weight.detach().clone()
        with untouched(model) as ground:
            weight.data = replaced(weight.data)
            assert ground.change(weight)[0] is moved
            ground.look()
            assert ground.change(weight)[0] is moved
        assert weight.dtype == torch.float16
        assert weight.data_ptr() == data.data_ptr()
        assert torch.equal(weight, before)

    def test_what_an_optimizer_remembers_is_lent_in_storages_of_their_own(self) -> None:
        """Its small tensors are copied together, and a step may do with each what it likes."""
        model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        before = {id(p): {key: value.clone() for key, value in optimizer.state[p].items()} for p in model.parameters()}
        with untouched(model, [optimizer]):
            for state in optimizer.state.values():
                for value in state.values():
                    assert value.untyped_storage().nbytes() == value.nbytes
                    value.fill_(7.0)
        for parameter in model.parameters():
            state = optimizer.state[parameter]
            assert all(torch.equal(state[key], value) for key, value in before[id(parameter)].items())

    def test_one_tensor_that_an_optimizer_remembers_twice_is_lent_once(self) -> None:
        """What a step makes of it under one name shows under the other."""
        model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        one, other = model.parameters()
        optimizer.state[one]["momentum_buffer"] = optimizer.state[other]["momentum_buffer"] = torch.ones(2, 2)
        with untouched(model, [optimizer]):
            assert optimizer.state[one]["momentum_buffer"] is optimizer.state[other]["momentum_buffer"]

    def test_a_registry_of_a_class_of_its_own_is_emptied_again(self) -> None:
        """As some wrappers put in the place of torch's dicts."""

        class Registry(OrderedDict[str, torch.Tensor]):
            pass

        model = nn.Linear(2, 2)
        model._buffers = Registry()
        with untouched(model):
            model.register_buffer("late", torch.zeros(2))
        assert not model._buffers

    @pytest.mark.parametrize("count", [16, 2**14], ids=["small", "large"])
    def test_numbers_that_torch_cannot_copy(self, count: int) -> None:
        """Packed ones are copied and put back by their bytes."""
        model = nn.Linear(2, 2)
        model.register_buffer("packed", torch.zeros(count, dtype=torch.uint8).view(torch.uint4))
        with untouched(model) as ground:
            model.packed.view(torch.uint8).fill_(3)
            ground.look()
            assert ground.change(model.packed) == (True, float("inf"))
        assert model.packed.view(torch.uint8).eq(0).all()

    def test_what_is_lost_is_said_beside_the_users_error(self) -> None:
        """It can be put back no more than without the error."""
        model = nn.Linear(64, 64).requires_grad_(False)

        def break_it() -> None:
            with untouched(model):
                model.weight.detach().numpy()[:] = 1.0
                raise KeyError

        with pytest.raises(KeyError) as caught:
            break_it()
        assert caught.value.__notes__ == [
            "freezecheck could not put back what the check changed:\n  weight: written without torch seeing it"
        ]

    @pytest.mark.parametrize("older", [False, True])
    def test_version_counters_go_back(self, monkeypatch: pytest.MonkeyPatch, older: bool) -> None:
        """Also with a torch whose own function takes one tensor and no tuple of them."""
        setter = torch._C._autograd._unsafe_set_version_counter

        def one(tensor: torch.Tensor, version: int) -> None:
            if not isinstance(tensor, torch.Tensor):
                raise TypeError
            setter((tensor,), (version,))

        if older:
            monkeypatch.setattr(torch._C._autograd, "_unsafe_set_version_counter", one)
        model = nn.Linear(2, 2)
        before = model.weight._version
        with untouched(model), torch.no_grad():
            model.weight.mul_(2.0)
        assert model.weight._version == before

    def test_what_a_later_parameter_covers_comes_back_though_it_looked_right_before(self) -> None:
        """The later one is put back first, over the earlier one's content: that is looked at when its turn comes."""
        model = nn.Linear(3, 2)
        weight, before = model.weight, model.weight.detach().clone()
        with untouched(model) as ground:
            weight.data.neg_()
            model.weight = nn.Parameter(weight.data)
            ground.settle(model)
            model.weight.data.neg_()
        assert model.weight is weight
        assert torch.equal(weight, before)

    def test_large_weights_come_back_beside_one_without_elements(self) -> None:
        """Copies of 16 MiB and more lie in one block: each has its own place in it, also one of no bytes."""
        empty = nn.Parameter(torch.ones(4)[4:])
        model = nn.ParameterList([nn.Parameter(torch.rand(2**21)), empty, nn.Parameter(torch.rand(2**21 + 3)), empty])
        before = [parameter.clone() for parameter in model]
        with untouched(model) as ground:
            for parameter in model:
                ground.keep(parameter)
                parameter.data.neg_()
            assert torch.equal(ground.before(model[2]), before[2])
        assert all(map(torch.equal, model, before))

    @pytest.mark.parametrize("reach", [
        lambda weight: weight.view(-1),
        lambda weight: weight.detach(),
        lambda weight: weight.data,
        lambda weight: weight.detach().numpy(),
        lambda weight: torch.from_numpy(weight.detach().numpy()),
        lambda weight: torch.utils.dlpack.from_dlpack(weight.detach()),
        lambda weight: nn.Parameter(weight.data),
    ])  # fmt: skip
    def test_a_weight_stays_where_it_is(self, reach: Callable[[nn.Parameter], object]) -> None:
        """A view or an array, of the caller's or made by the body, sees the very weight that the model has."""
        model = nn.Linear(64, 64)
        memory = model.weight.data_ptr()
        alias = reach(model.weight)
        with untouched(model):
            assert model.weight.data_ptr() == memory
            kept = reach(model.weight)
            model.weight.data.fill_(7.0)
            assert (torch.as_tensor(alias) == 7).all()
        assert model.weight.data_ptr() == memory
        assert not (model.weight == 7).any()
        model.weight.data.fill_(8.0)
        assert (torch.as_tensor(kept) == 8).all()

    def test_a_graph_of_the_callers_is_as_it_was(self) -> None:
        """A backward that begins after the check finds the weights that its forward saw."""
        model = nn.Linear(64, 64)
        loss = (model.weight * model.weight).sum()
        with untouched(model):
            model.weight.data.fill_(7.0)
        loss.backward()
        assert torch.equal(model.weight.grad, 2 * model.weight)
