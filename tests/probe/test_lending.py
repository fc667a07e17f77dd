"""Where nobody else holds a weight's memory, a copy stands in for it during the check, and nobody can tell after it."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from freezecheck.probe import pages
from freezecheck.probe.held import SMALL
from freezecheck.probe.untouched import untouched

SIDE = 64
assert SIDE**2 * 4 > SMALL


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(SIDE, SIDE)


def is_lent(model: nn.Module, weight: Tensor) -> bool:
    """Whether the weight lies elsewhere during a check; that it is where and what it was after it holds in any case."""
    memory, before, version = weight.data_ptr(), weight.detach().clone(), weight._version
    with untouched(model) as ground:
        lent = weight.data_ptr() != memory
        weight.data.add_(1)
        assert ground.change(weight) == (True, pytest.approx(1))
        assert torch.equal(ground.before(weight), before)
    assert weight.data_ptr() == memory
    assert torch.equal(weight, before)
    assert weight._version == version
    return lent


class TestWhatIsLent:
    """The memory that the parameter alone holds."""

    @pytest.mark.parametrize("prepare", [
        lambda weight: None,
        lambda weight: weight.untyped_storage(),
        lambda weight: weight.square().sum().backward(),
    ], ids=["fresh", "once asked for its storage", "with a gradient"])  # fmt: skip
    def test_a_weight_that_may_train(self, prepare: Callable[[Tensor], object]) -> None:
        """Whatever was done with it, as long as nobody kept a hold of it."""
        model = layer()
        prepare(model.weight)
        assert is_lent(model, model.weight)
        assert is_lent(model, model.weight)  # and the check itself kept none

    def test_in_the_order_of_its_dimensions(self) -> None:
        """Strides are those of the weight itself: a forward takes the way that it would take."""
        model = nn.Conv2d(SIDE, SIDE, 3).to(memory_format=torch.channels_last)
        strides = model.weight.stride()
        with untouched(model):
            assert model.weight.stride() == strides
        assert is_lent(model, model.weight)

    def test_a_tied_weight_is_lent_once(self) -> None:
        """Both layers see the same copy."""
        model = nn.Sequential(layer(), layer())
        model[1].weight = model[0].weight
        with untouched(model):
            model[0].weight.data.fill_(7.0)
            assert (model[1].weight == 7).all()
        assert is_lent(model, model[0].weight)

    @pytest.mark.parametrize("alias", [
        lambda weight: weight.view(-1),
        lambda weight: weight.detach()[3:],
        lambda weight: weight.data,
        lambda weight: weight.detach().numpy(),
        lambda weight: torch.from_numpy(weight.detach().numpy()),
        lambda weight: torch.utils.dlpack.from_dlpack(weight.detach()),
        lambda weight: weight.untyped_storage(),
        lambda weight: functional.linear(torch.ones(1, SIDE, requires_grad=True), weight),
    ], ids=["view", "slice", "data", "numpy", "from numpy", "dlpack", "storage", "graph"])  # fmt: skip
    def test_not_where_somebody_else_has_the_memory(self, alias: Callable[[Tensor], object]) -> None:
        """They would see the parameter leave it, or write to it unseen."""
        model = layer()
        kept = alias(model.weight)
        assert not is_lent(model, model.weight)
        del kept
        # What was once handed to numpy torch itself takes for memory that others may reach, for good.
        assert is_lent(model, model.weight) is model.weight.untyped_storage().resizable()

    def test_not_where_the_state_dict_is_kept(self) -> None:
        """As `best = model.state_dict()` does, which copies nothing."""
        model = layer()
        best = model.state_dict()
        assert not is_lent(model, model.weight)
        assert best["weight"].data_ptr() == model.weight.data_ptr()

    def test_not_in_memory_that_others_reach_by_address(self, tmp_path: Path) -> None:
        """Shared with other processes, mapped from a file, an array's."""
        shared = layer().share_memory()
        assert not is_lent(shared, shared.weight)
        torch.save(layer().state_dict(), tmp_path / "w.pt")
        mapped = layer()
        mapped.load_state_dict(torch.load(tmp_path / "w.pt", mmap=True), assign=True)
        assert not is_lent(mapped, mapped.weight)
        array = layer()
        array.weight = nn.Parameter(torch.from_numpy(torch.ones(SIDE, SIDE).numpy().copy()))
        assert not is_lent(array, array.weight)

    def test_not_a_part_of_something_larger(self) -> None:
        """A flat buffer of all weights has its own holder, or had one that wrote down where each lies."""
        model, flat = layer(), torch.rand(SIDE * SIDE + 8)
        model.weight = nn.Parameter(flat[8:].view(SIDE, SIDE))
        del flat
        assert not is_lent(model, model.weight)

    def test_not_where_elements_share_memory(self) -> None:
        """A copy holds each once, and would not share it."""
        model = layer()
        model.weight = nn.Parameter(torch.rand(SIDE * SIDE).as_strided((SIDE, SIDE), (1, 1)))
        memory = model.weight.data_ptr()
        with untouched(model):
            assert model.weight.data_ptr() == memory

    def test_not_a_second_time(self) -> None:
        """What an optimizer remembers stands in for itself, also where it requires grad."""
        model = layer()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        remembered = torch.ones(SIDE, SIDE, requires_grad=True)
        optimizer.state[model.weight]["momentum_buffer"] = remembered
        memory = remembered.data_ptr()
        with untouched(model, [optimizer]):
            optimizer.state[model.weight]["momentum_buffer"].data.fill_(7.0)
            assert remembered.data_ptr() == memory
            assert (remembered == 1).all()
        assert optimizer.state[model.weight]["momentum_buffer"] is remembered

    def test_not_what_does_not_train(self) -> None:
        """Of the frozen there is no copy to lend, and what a forward writes to is no weight."""
        model = nn.Sequential(layer().requires_grad_(False), nn.BatchNorm1d(SIDE**2))
        where = [tensor.data_ptr() for tensor in (model[0].weight, model[1].running_mean)]
        with untouched(model):
            assert [tensor.data_ptr() for tensor in (model[0].weight, model[1].running_mean)] == where

    def test_a_pickled_model(self) -> None:
        """Whether lent or not: it comes back."""
        file = io.BytesIO()
        torch.save(layer(), file)
        file.seek(0)
        model = torch.load(file, weights_only=False)
        is_lent(model, model.weight)


class TestWhatTheBodyKept:
    """A view of the weight that the user's code took during the check, and still has after it."""

    @pytest.mark.parametrize("reach", [
        lambda weight: weight.view(-1),
        lambda weight: weight[3:, ::2],
        lambda weight: weight.t(),
        lambda weight: weight.detach(),
        lambda weight: weight.data.view(torch.int32),
        lambda weight: nn.Parameter(weight.data),
    ], ids=["view", "slice", "transposed", "detached", "integers", "parameter"])  # fmt: skip
    def test_a_tensor_sees_the_weight_itself(self, reach: Callable[[Tensor], Tensor]) -> None:
        """As it would had the weight never left."""
        model = layer()
        with untouched(model):
            kept = reach(model.weight)
            model.weight.data.fill_(7.0)
        expected = reach(model.weight)
        assert kept.data_ptr() == expected.data_ptr()
        assert kept.stride() == expected.stride()
        assert torch.equal(kept, expected)
        model.weight.data.fill_(8.0)
        assert torch.equal(kept, expected)

    @pytest.mark.parametrize("reach", [
        lambda weight: weight.detach().numpy(),
        lambda weight: torch.from_numpy(weight.detach().numpy()),
        lambda weight: torch.utils.dlpack.from_dlpack(weight.detach()),
    ], ids=["numpy", "from numpy", "dlpack"])  # fmt: skip
    def test_numbers_by_address_are_those_of_the_weight(self, reach: Callable[[Tensor], object]) -> None:
        """They stay in the copy, which lives as long as they do: its memory serves no other check."""
        model, other = (nn.Sequential(layer(), nn.Linear(2**11, 2**11, bias=False)) for _ in range(2))
        before = model[0].weight.detach().clone()
        with untouched(model):
            kept = reach(model[0].weight)
            model[0].weight.data.fill_(7.0)
        with untouched(other):
            other[0].weight.data.fill_(5.0)
        assert torch.equal(torch.as_tensor(kept), before)

    def test_a_graph_finds_the_weight_that_its_forward_saw(self) -> None:
        """A loss that a list in the user's code keeps can be run backward after the check."""
        model, losses = nn.Sequential(layer(), layer()), []
        with untouched(model):
            losses.append(model(torch.ones(2, SIDE)).square().sum())
            model[1].weight.data.fill_(7.0)
        losses[0].backward()
        got = model[0].weight.grad.clone()
        model.zero_grad()
        model(torch.ones(2, SIDE)).square().sum().backward()
        assert torch.allclose(got, model[0].weight.grad)

    def test_when_the_users_code_raises(self) -> None:
        """Views in the frames of the error do not keep the weight from going home."""
        model = layer()
        memory, before = model.weight.data_ptr(), model.weight.detach().clone()

        def body() -> None:
            view = model.weight.t()
            view.data.fill_(7.0)
            raise ValueError(functional.linear(torch.ones(1, SIDE), model.weight))

        with pytest.raises(ValueError, match="448") as caught, untouched(model):
            body()
        view = caught.traceback[-1].frame.f_locals["view"]
        assert model.weight.data_ptr() == view.data_ptr() == memory
        assert torch.equal(model.weight, before)

    def test_a_freed_copy(self) -> None:
        """Code that frees a weight's memory between its uses frees the copy's."""
        model = layer()
        before = model.weight.detach().clone()
        with untouched(model) as ground:
            kept = model.weight.detach()
            model.weight.untyped_storage().resize_(0)
            assert ground.change(model.weight)[0]
        assert torch.equal(model.weight, before)
        assert torch.equal(kept, before)


class TestAcrossACheck:
    """Phases, later checks, and what a check leaves to the next."""

    def test_all_that_was_kept_is_looked_for_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A loss that raises leaves a view of every weight in its graph, and a process may have millions of objects."""
        looked, everything = [], gc.get_objects

        def counted() -> list[object]:
            looked.append(True)
            return everything()

        monkeypatch.setattr("freezecheck.probe.lending.gc.get_objects", counted)
        model = nn.Sequential(layer(), layer(), layer())
        with untouched(model):
            kept = [model(torch.ones(1, SIDE)), model[0].weight[0], model[2].weight.detach()]
        assert looked == [True]
        assert [view.data_ptr() for view in kept[1:]] == [one.weight.data_ptr() for one in (model[0], model[2])]

    def test_where_the_body_kept_nothing_nobody_is_looked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """To look through all objects of a process takes long."""
        monkeypatch.setattr("freezecheck.probe.lending.gc.get_objects", pytest.fail)
        model = layer()
        with untouched(model) as ground:
            model(torch.ones(1, SIDE)).sum().backward()
            model.weight.data.add_(1)
            ground.settle(model)
            model(torch.ones(1, SIDE)).sum().backward()

    def test_phases_measure_from_their_own_start(self) -> None:
        """And all comes back to the beginning, also a view from an earlier phase."""
        model = layer()
        memory, before = model.weight.data_ptr(), model.weight.detach().clone()
        with untouched(model) as ground:
            kept = model.weight.detach()
            model.weight.data.add_(1)
            ground.settle(model)
            assert ground.change(model.weight) == (False, 0.0)
            model.weight.data.add_(2)
            assert ground.change(model.weight) == (True, pytest.approx(2))
        assert model.weight.data_ptr() == kept.data_ptr() == memory
        assert torch.equal(model.weight, before)

    def test_data_in_another_place(self) -> None:
        """What the body puts in the place of the copy goes as the copy does."""
        model = layer()
        assert is_lent(model, model.weight)
        memory, before = model.weight.data_ptr(), model.weight.detach().clone()
        with untouched(model) as ground:
            model.weight.data = model.weight.data.clone()
            assert ground.change(model.weight) == (False, 0.0)
            model.weight.data = model.weight.data + 1
            assert ground.change(model.weight) == (True, pytest.approx(1))
        assert model.weight.data_ptr() == memory
        assert torch.equal(model.weight, before)

    def test_the_memory_of_the_copies_serves_the_next_check(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The loans hold nothing of it."""
        monkeypatch.setattr(pages, "_spare", [])
        model = nn.Linear(2**11, 2**11)
        for _ in range(2):
            with untouched(model):
                pass
            assert len(pages._spare) == 1
