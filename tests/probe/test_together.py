"""Small tensors in one copy: each is told apart, whatever bytes they hold."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freezecheck.probe.together import COMPARED, Together
from tests.probe.test_change import DTYPES, from_bytes


def together(*parts: torch.Tensor) -> Together:
    return Together(parts, [part.untyped_storage().nbytes() for part in parts])


@given(st.data())
def test_every_tensor_that_changed_is_told(data: st.DataObject) -> None:
    """Of any dtype that is held so, of any shapes (also of one element), whatever bytes they hold."""
    dtype = data.draw(st.sampled_from([dtype for dtype in DTYPES if dtype.itemsize in COMPARED]))
    shapes = data.draw(st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=9))
    parts, expected = [], set()
    for shape in shapes:
        count = math.prod(shape)
        drawn = data.draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
        parts.append(from_bytes(drawn, dtype, count).view(shape))
    raw = [part.view(-1).view(torch.uint8) for part in parts]
    before = [bytes(part.tolist()) for part in raw]
    held = together(*parts)
    assert held.changed() == set()
    for i, part in enumerate(raw):
        if data.draw(st.booleans()):
            part[data.draw(st.integers(0, len(part) - 1))] ^= 1
            expected.add(i)
    assert held.changed() == expected
    copies = [held.copy_of(place) for place in range(len(parts))]
    assert [bytes(copy.reshape(-1).view(torch.uint8).tolist()) for copy in copies] == before
    assert [copy.shape for copy in copies] == [part.shape for part in parts]


@pytest.mark.parametrize("size", [0, 64])
def test_memory_that_was_taken_or_given_is_not_read(size: int) -> None:
    """Of a storage that was resized nothing can be said here, nor of those beside it."""
    one, other = torch.ones(3), torch.ones(5)
    held = together(one, other)
    one.untyped_storage().resize_(size)
    assert held.changed() == {0, 1}
    one.untyped_storage().resize_(12)
    one.fill_(1.0)
    assert held.changed() == set()
