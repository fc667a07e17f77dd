"""What moved: judged against the bytes themselves, as Python and numpy see them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from freezecheck.probe import raw
from freezecheck.probe.change import fingerprint, max_abs_change, same_bytes

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.complex64, torch.complex128, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.uint16, torch.uint32, torch.uint64,
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def contents(tensor: Tensor) -> bytes:
    """The oracle: every element's bytes in logical order, without torch's own comparison."""
    flat = tensor.detach().reshape(-1)
    room = torch.empty(flat.numel() * flat.element_size(), dtype=torch.uint8)
    room.view(flat.dtype).copy_(flat)
    return room.numpy().tobytes()


def from_bytes(data: bytes, dtype: torch.dtype, count: int) -> Tensor:
    flat = torch.frombuffer(bytearray(data[: count * dtype.itemsize]), dtype=torch.uint8).clone()
    return (flat & 1 if dtype == torch.bool else flat).view(dtype)


@st.composite
def tensors(draw: st.DrawFn, least: int = 1) -> Tensor:
    """A tensor of any dtype, any bytes (NaN payloads and -0.0 among them), in one of many layouts."""
    dtype = draw(st.sampled_from(DTYPES))
    rows, columns = draw(st.integers(1, 7)), draw(st.integers(least, 9))
    count = rows * columns * 2
    data = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    flat = from_bytes(data, dtype, count)
    layout = draw(st.sampled_from(["contiguous", "transposed", "strided", "offset"]))
    if layout == "contiguous":
        return flat[: rows * columns].view(rows, columns)
    if layout == "transposed":
        return flat[: rows * columns].view(columns, rows).t()
    if layout == "strided":
        return flat.view(rows, columns * 2)[:, ::2]
    return flat[1 : 1 + rows * columns].view(rows, columns)


def element(tensor: Tensor, index: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(index, tensor.shape))


def write(tensor: Tensor, index: int, data: bytes) -> None:
    """Overwrite one element's bytes in place, whatever the strides."""
    place = element(tensor, index)
    tensor[place] = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(tensor.dtype)[0]


def read(tensor: Tensor, index: int) -> bytes:
    return contents(tensor[element(tensor, index)])


class TestSilent:
    """What did not move is not said to have moved."""

    @given(tensors())
    def test_the_same_bytes_are_the_same(self, tensor: Tensor) -> None:
        """A copy of a tensor, NaN or not, has its fingerprint, its bytes, and no change."""
        copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)
        assert contents(copy) == contents(tensor)
        assert torch.equal(fingerprint(copy), fingerprint(tensor))
        assert same_bytes(copy, tensor)
        assert max_abs_change(copy, tensor) == 0.0

    @pytest.mark.parametrize("tensor", [torch.empty(0), torch.empty(3, 0, 2), torch.empty(2, device="meta")])
    def test_nothing_cannot_move(self, tensor: Tensor) -> None:
        """Tensors without elements and meta tensors hold nothing that could change."""
        assert same_bytes(tensor, tensor.clone())
        assert max_abs_change(tensor, tensor.clone()) == 0.0
        assert fingerprint(tensor).numel() == 0

    def test_expanded_tensors_are_compared_by_value(self) -> None:
        """A tensor and its expanded twin of the same shape and values are the same."""
        assert same_bytes(torch.ones(1, 4).expand(3, 4), torch.ones(3, 4))

    def test_global_generator_is_not_drawn_from(self) -> None:
        """A fingerprint asks no generator for anything."""
        before = torch.get_rng_state()
        fingerprint(torch.ones(5))
        assert torch.equal(before, torch.get_rng_state())


class TestFiring:
    """What moved shows."""

    @given(st.data())
    def test_one_element_edited(self, data: st.DataObject) -> None:
        """Any other bytes in any one element alter the fingerprint for certain."""
        tensor = data.draw(tensors())
        index = data.draw(st.integers(0, tensor.numel() - 1))
        size = tensor.element_size()
        new = data.draw(st.binary(min_size=size, max_size=size))
        if tensor.dtype == torch.bool:
            new = bytes([new[0] & 1])
        assume(new != read(tensor, index))
        before, mark = tensor.clone(), fingerprint(tensor)
        write(tensor, index, new)
        assert not torch.equal(fingerprint(tensor), mark)
        assert not same_bytes(before, tensor)

    @given(st.data())
    def test_two_elements_exchanged(self, data: st.DataObject) -> None:
        """An exchange of two unequal elements, which an XOR or a sum would not see, alters the fingerprint."""
        tensor = data.draw(tensors(least=2))
        i, j = data.draw(st.lists(st.integers(0, tensor.numel() - 1), min_size=2, max_size=2, unique=True))
        one, other = read(tensor, i), read(tensor, j)
        assume(one != other)
        mark = fingerprint(tensor)
        write(tensor, i, other)
        write(tensor, j, one)
        assert not torch.equal(fingerprint(tensor), mark)

    @pytest.mark.parametrize("dtype", [d for d in DTYPES if d.is_signed and d != torch.bool])
    def test_signs_exchanged_anywhere(self, dtype: torch.dtype) -> None:
        """An exchange of 1 and -1, the hardest for a sum modulo 2**64, shows between any two places."""
        tensor = torch.ones(24).to(dtype)
        minus = (-torch.ones(1)).to(dtype)
        seen = set()
        for place in range(24):
            trial = tensor.clone()
            trial[place : place + 1] = minus
            seen.add(tuple(fingerprint(trial).tolist()))
        assert len(seen) == 24

    @settings(max_examples=20, deadline=None)
    @given(st.data())
    def test_exchange_between_chunks(self, data: st.DataObject) -> None:
        """Order counts across chunks and in the last, partial one as within a chunk."""
        count = raw.CHUNK // 4 * 2 + 3
        tensor = torch.zeros(count)
        places = st.one_of(st.integers(0, count - 1), st.sampled_from([0, count - 1, raw.CHUNK // 4]))
        i, j = data.draw(st.lists(places, min_size=2, max_size=2, unique=True))
        tensor[i] = 1.0
        mark = fingerprint(tensor)
        tensor[i], tensor[j] = 0.0, 1.0
        assert not torch.equal(fingerprint(tensor), mark)

    @settings(max_examples=20, deadline=None)
    @given(st.data())
    def test_three_words_edited(self, data: st.DataObject) -> None:
        """Changes within three 64-bit words show, whatever they are: also the top bit alone, in rows and columns."""
        rows, columns = 127, 257
        tensor = torch.zeros(rows * columns + 40, dtype=torch.int64)
        near = st.tuples(st.integers(0, 2), st.integers(0, 2)).map(lambda at: at[0] * columns + at[1])
        places = st.one_of(near, st.integers(0, len(tensor) - 1))
        changed = data.draw(st.lists(places, min_size=1, max_size=3, unique=True))
        mark = fingerprint(tensor)
        for place in changed:
            tensor[place] = data.draw(st.sampled_from([1, -1, 2**32, -(2**63)]))
        assert not torch.equal(fingerprint(tensor), mark)

    @pytest.mark.parametrize("dtype", [d for d in DTYPES if d.is_floating_point and d.itemsize > 1])
    @pytest.mark.parametrize("count", [1000, 31 * 37 * 2, 127 * 257, 2 * 127 * 257, 3 * 127 * 257 + 31 * 37 + 5])
    @pytest.mark.parametrize("write", [
        lambda t: t.neg_(),
        lambda t: t[len(t) // 2 :].neg_(),
        lambda t: t[::2].neg_(),
        lambda t: t.mul_(2),
        lambda t: t.copy_(t.flip(0)),
        lambda t: t.copy_(t.roll(1)),
        lambda t: t.copy_(t.roll(512)),
        lambda t: t.mul_(0.9),
        lambda t: t.copy_(t.sort().values),
        lambda t: t.zero_(),
    ])  # fmt: skip
    def test_writes_that_change_many_at_once(self, dtype: torch.dtype, count: int, write: object) -> None:
        """What people do to whole weights shows: turned signs, scalings, other orders."""
        tensor = torch.linspace(-3, 500, count, dtype=torch.float64).sin().to(dtype)
        mark = fingerprint(tensor)
        write(tensor)  # type: ignore[operator]  # a lambda of the list above
        assert not torch.equal(fingerprint(tensor), mark)

    def test_minus_zero_moved_by_nothing(self) -> None:
        """-0.0 has other bytes than 0.0, and the change is 0.0."""
        zero, minus = torch.zeros(3), -torch.zeros(3)
        assert not same_bytes(zero, minus)
        assert not torch.equal(fingerprint(zero), fingerprint(minus))
        assert max_abs_change(zero, minus) == 0.0

    def test_nan_is_an_infinite_change(self) -> None:
        """Where a value became NaN the change is infinite; an unchanged NaN beside it is none."""
        before = torch.tensor([math.nan, math.inf, 1.0])
        assert max_abs_change(before, torch.tensor([math.nan, math.inf, 1.5])) == 0.5
        assert max_abs_change(before, torch.tensor([math.nan, math.inf, math.nan])) == math.inf

    @given(st.data())
    def test_largest_change_is_numpys(self, data: st.DataObject) -> None:
        """The largest absolute change is the one that exact arithmetic gives, to the dtype's own rounding."""
        dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]))
        numbers = st.floats(-1e4, 1e4, width=16)
        pairs = data.draw(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20))
        before, after = (torch.tensor(side, dtype=dtype) for side in zip(*pairs, strict=True))
        expected = max(abs(b - a) for a, b in zip(before.tolist(), after.tolist(), strict=True))
        assert max_abs_change(before, after) == pytest.approx(expected, rel=1e-6)

    @given(st.data())
    def test_largest_change_of_integers_is_pythons(self, data: st.DataObject) -> None:
        """Integers of every width change by what Python says, also at the ends of their range."""
        dtype = data.draw(st.sampled_from([d for d in DTYPES if not d.is_floating_point and not d.is_complex]))
        low, high = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
        numbers = st.integers(low, high)
        pairs = data.draw(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=9))
        before, after = (torch.tensor(side, dtype=dtype) for side in zip(*pairs, strict=True))
        assert max_abs_change(before, after) == float(max(abs(a - b) for a, b in pairs))

    def test_another_dtype_or_shape_is_another_tensor(self) -> None:
        """Tensors that cannot be compared element by element are not the same."""
        assert not same_bytes(torch.ones(2), torch.ones(2, dtype=torch.float64))
        assert not same_bytes(torch.ones(2), torch.ones(3))
        assert max_abs_change(torch.ones(2), torch.ones(3)) == math.inf


class TestLayouts:
    """Every layout is read by its memory."""

    @pytest.mark.parametrize("make", [
        lambda: torch.eye(4).to_sparse(),
        lambda: torch.eye(4).to_sparse_csr(),
        lambda: torch.quantize_per_tensor(torch.arange(4.0), 0.1, 0, torch.quint8),
        lambda: torch.ones(4, dtype=torch.complex64).conj(),
        lambda: torch.nn.Parameter(torch.ones(4)),
    ])  # fmt: skip
    def test_a_write_to_its_parts_shows(self, make: object) -> None:
        """Sparse, quantised and conjugated tensors are seen to change through the memory they lie in."""
        tensor = make()  # type: ignore[operator]  # a lambda of the list above
        mark = fingerprint(tensor)
        assert torch.equal(mark, fingerprint(tensor))
        part = raw.parts(tensor)[-1]
        part[0] = part[0] + 1
        assert not torch.equal(mark, fingerprint(tensor))

    def test_runs_are_small_whatever_the_strides(self) -> None:
        """A big tensor that cannot be viewed flat is cut before it is copied."""
        big = torch.zeros(3, raw.CHUNK // 4 + 5)[:, ::2]
        sizes = [run.numel() * 4 for (run,) in raw.runs(big)]
        assert max(sizes) <= raw.CHUNK
        assert sum(sizes) == big.numel() * 4
