"""Memory for copies: it serves one check after another, and never two at once."""

from __future__ import annotations

import mmap
import sys

import pytest
import torch
from torch import nn

from freezecheck.probe import pages
from freezecheck.probe.pages import Pages
from freezecheck.probe.untouched import untouched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="blocks in huge pages are Linux's")
LARGE = 2**24


@pytest.fixture(autouse=True)
def none_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_spare", [])


def test_each_room_has_its_size_and_its_own_storage() -> None:
    sizes = [LARGE, 0, 3, 64, 1]
    rooms = list(Pages().rooms(sizes))
    assert [room.numel() for room in rooms] == sizes
    for i, room in enumerate(rooms):
        room.fill_(i)
    assert all(bool((room == i).all()) for i, room in enumerate(rooms))
    assert len({room.untyped_storage()._cdata for room in rooms}) == len(rooms)


def test_memory_of_one_check_serves_the_next() -> None:
    first, second = Pages(), Pages()
    where = [room.data_ptr() for room in first.rooms([LARGE, 8])]
    first.hand_on()
    assert [room.data_ptr() for room in second.rooms([LARGE, 8])] == where


def test_memory_in_which_a_tensor_is_still_held_is_not_given_to_another() -> None:
    first, second = Pages(), Pages()
    (kept, _) = first.rooms([LARGE, 8])
    kept.fill_(7)
    view = kept[5:].view(torch.uint8)
    del kept
    first.hand_on()
    for room in second.rooms([LARGE, 8]):
        room.zero_()
    assert bool((view == 7).all())


def test_two_checks_at_once_have_two_blocks() -> None:
    first, second = Pages(), Pages()
    list(first.rooms([LARGE]))
    first.hand_on()
    (one,), (other,) = first.rooms([LARGE]), second.rooms([LARGE])
    assert one.fill_(1).data_ptr() != other.fill_(2).data_ptr()
    assert bool((one == 1).all())


def test_no_more_is_kept_than_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_WORTH_KEEPING", 2 * LARGE)
    for size in (LARGE, 4 * LARGE, LARGE + 2**21, LARGE):
        memory = Pages()
        list(memory.rooms([size]))
        memory.hand_on()
    assert sum(map(len, pages._spare)) <= 2 * LARGE
    assert pages._spare


@pytest.mark.parametrize("advice", ["MADV_HUGEPAGE", "MADV_FREE"])
def test_a_kernel_that_knows_no_such_advice_does_no_harm(advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, advice, 2**20)
    for _ in range(2):
        memory = Pages()
        (room,) = memory.rooms([LARGE])
        assert bool((room.fill_(3) == 3).all())
        del room
        memory.hand_on()
    assert bool(pages._spare) == (advice == "MADV_HUGEPAGE")


def test_a_check_hands_its_memory_on_and_what_raised_keeps_it() -> None:
    model = nn.Linear(2**11, 2**11)
    with untouched(model):
        model.weight.data.neg_()
    assert len(pages._spare) == 1
    copies: list[torch.Tensor | None] = []

    def take_and_fail() -> None:
        with untouched(model) as ground:
            copies.append(ground.before(model.weight))
            raise KeyError

    with pytest.raises(KeyError):
        take_and_fail()
    assert copies[0] is not None
    assert torch.equal(copies[0], model.weight)
    assert not pages._spare
