"""Small tensors in one copy: each is told apart, whatever bytes they hold."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freezecheck.probe.change import max_abs_change
from freezecheck.probe.together import TOGETHER, Together
from tests.probe.test_change import DTYPES, from_bytes


def together(*parts: torch.Tensor) -> Together:
    return Together(parts, [part.untyped_storage().nbytes() for part in parts])


@given(st.data())
def test_every_tensor_that_changed_is_told(data: st.DataObject) -> None:
    """Of any dtype that is held so, of any shapes (also of one element), whatever bytes they hold."""
    dtype = data.draw(st.sampled_from([dtype for dtype in DTYPES if dtype in TOGETHER]))
    shapes = data.draw(st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=9))
    parts, touched = [], set()
    for shape in shapes:
        count = math.prod(shape)
        drawn = data.draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
        parts.append(from_bytes(drawn, dtype, count).view(shape))
    raw = [part.view(-1).view(torch.uint8) for part in parts]
    before, clones = [bytes(part.tolist()) for part in raw], [part.clone() for part in parts]
    held = together(*parts)
    assert held.changed() == {}
    for i, part in enumerate(raw):
        if data.draw(st.booleans()):
            part[data.draw(st.integers(0, len(part) - 1))] ^= (
                1 if dtype == torch.bool else data.draw(st.integers(1, 255))
            )
            touched.add(i)
    changes = held.changed()
    assert changes.keys() == touched
    for place, change in changes.items():
        assert change is None or change == max_abs_change(clones[place], parts[place])
    copies = [held.copy_of(place) for place in range(len(parts))]
    assert [bytes(copy.reshape(-1).view(torch.uint8).tolist()) for copy in copies] == before
    assert [copy.shape for copy in copies] == [part.shape for part in parts]


@pytest.mark.parametrize("dtype", [
    torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
])  # fmt: skip
def test_by_how_much_is_told(dtype: torch.dtype) -> None:
    """Up and down; not where it goes beyond the dtype, or is no number."""
    up, down, still, far = (torch.arange(start, start + 3).to(dtype) for start in (1, 4, 7, 10))
    held = together(up, down, still, far)
    up[1] += 3
    down[2] -= 5
    far[0] = torch.iinfo(dtype).max if dtype in {torch.uint8, torch.int8} else 110
    assert held.changed() == {0: 3.0, 1: 5.0, 3: float(far[0]) - 10}
    if dtype.is_floating_point:
        still[0] = math.nan
        assert held.changed()[2] is None
    if dtype.is_signed and not dtype.is_floating_point:
        far[0] = torch.iinfo(dtype).min
        assert held.changed()[3] is None


@pytest.mark.parametrize("size", [0, 64])
def test_memory_that_was_taken_or_given_is_not_read(size: int) -> None:
    """Of a storage that was resized nothing can be said here, nor of those beside it."""
    one, other = torch.ones(3), torch.ones(5)
    held = together(one, other)
    one.untyped_storage().resize_(size)
    assert held.changed() == {0: None, 1: None}
    one.untyped_storage().resize_(12)
    one.fill_(1.0)
    assert held.changed() == {}
