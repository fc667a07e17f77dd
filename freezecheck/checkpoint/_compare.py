"""Compares the tensors of two sides, streamed: pieces of both are read into the same small buffers again and again.

Reading into buffers that stay in the processor's cache is faster than mapping the files, and it keeps a process's
memory small whatever the files' size (pages of a mapping count as its own). numpy is imported only where bytes differ,
and torch only where dtypes do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from ..records import Change, Stored
from ._entry import Entry
from ._pairs import Pair
from ._rows import spans

if TYPE_CHECKING:
    from ._numbers import Array, Sums

PIECE = 2**18
"""Bytes of each side that are compared at once."""
_JOB = 2**24
"""Bytes of each side that a thread takes on."""
_PAUSE = 0.2
"""Seconds between two calls of `progress`, which is called from the thread that compares."""
_MOST_ROWS = 2**22
"""Of a tensor with more rows (a flat one of all parameters) it is not kept which of them changed."""
Progress = Callable[[int, int], None]
"""Told now and then: bytes done, bytes in all (of one side)."""


@dataclass
class _Tally:
    """What was seen so far of a pair that is streamed."""

    pair: Pair
    before: Entry
    after: Entry
    units: int
    """Elements that both sides have."""
    compared_as: str | None = None
    extra: int = 0
    """Rows that only one side has."""
    differs: bool = False
    sums: Sums | None = None
    rows: bytearray | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def row(self) -> int:
        """Units in a row."""
        shape = self.after.stored.shape
        return max(prod(shape[1:]), 1) if shape else 1


def compare(pairs: Sequence[Pair], progress: Progress | None = None) -> list[Change]:
    """Return how each pair differs, in their order.

    Raises UsageError when a file turns out to be truncated while it is read.
    """
    changes: list[Change | None] = []
    tallies: list[tuple[int, _Tally]] = []
    for place, pair in enumerate(pairs):
        outcome = _start(pair)
        changes.append(outcome if isinstance(outcome, Change) else None)
        if isinstance(outcome, _Tally):
            tallies.append((place, outcome))
    _stream([tally for _, tally in tallies], progress)
    for place, tally in tallies:
        changes[place] = _ended(tally)
    return [change for change in changes if change is not None]


def nbytes(pairs: Sequence[Pair]) -> int:
    """Return how many bytes of one side can be compared."""
    return sum(pair.after.nbytes for pair in pairs if pair.before is not None and pair.after is not None)


def _start(pair: Pair) -> Change | _Tally:
    """The answer, where it needs no streaming, else what to stream."""
    before, after = pair.before, pair.after
    sides = (before.stored if before else None, after.stored if after else None)
    if before is None or after is None:
        return Change(*sides)
    if why := before.why or after.why:
        return Change(*sides, why=why)
    extra = _more_rows(before.stored, after.stored)
    if extra is None:
        return Change(*sides, same=False, why="the shapes differ")
    if before.read is None or after.read is None:
        from ._whole import compare_whole

        return compare_whole(before, after) if not extra else Change(*sides, same=False, why="the shapes differ")
    if before.stored.dtype == after.stored.dtype:
        return _tally(pair, before, after, extra, None)
    from ._numbers import lower

    dtype = lower(before.stored.dtype, after.stored.dtype)
    if dtype is None:
        return Change(*sides, same=False, why="their dtypes cannot be compared as numbers")
    return _tally(pair, before, after, extra, dtype)


def _more_rows(before: Stored, after: Stored) -> int | None:
    """By how many rows a table of more than one dimension grew or shrank; None where the shapes differ otherwise."""
    if before.shape == after.shape:
        return 0
    if len(before.shape) > 1 and before.shape[1:] == after.shape[1:]:
        return abs(before.shape[0] - after.shape[0])
    return None


def _tally(pair: Pair, before: Entry, after: Entry, extra: int, dtype: str | None) -> _Tally:
    units = min(before.nbytes // before.itemsize, after.nbytes // after.itemsize)
    return _Tally(pair, before, after, units, dtype, extra)


_Job = tuple[_Tally, int, int]


def _jobs(tallies: Sequence[_Tally]) -> Iterator[_Job]:
    for tally in tallies:
        step = _JOB // max(tally.before.itemsize, tally.after.itemsize)
        for start in range(0, tally.units, step):
            yield tally, start, min(start + step, tally.units)


def _stream(tallies: Sequence[_Tally], progress: Progress | None) -> None:
    """Work through all pairs with a few threads, which wait for the disk or copy from its cache side by side."""
    jobs, lock = _jobs(tallies), threading.Lock()
    total = sum(tally.units * tally.after.itemsize for tally in tallies)
    done = 0
    errors: list[BaseException] = []

    def work() -> None:
        nonlocal done
        buffers = bytearray(PIECE), bytearray(PIECE)
        try:
            while not errors:
                with lock:
                    job = next(jobs, None)
                if job is None:
                    return
                _run(*job, buffers)
                with lock:
                    done += (job[2] - job[1]) * job[0].after.itemsize
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(_threads(total))]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(_PAUSE)
            if progress is not None:
                progress(done, total)
    if errors:
        raise errors[0]


def _threads(total: int) -> int:
    return min(4, os.cpu_count() or 1) if total > _JOB else 1


def _run(tally: _Tally, start: int, stop: int, buffers: tuple[bytearray, bytearray]) -> None:
    """Compare some elements of a pair, piece by piece."""
    before, after = tally.before, tally.after
    assert before.read is not None
    assert after.read is not None
    sizes = before.itemsize, after.itemsize
    step = PIECE // max(sizes)
    while start < stop:
        count = min(step, stop - start)
        room = [
            buffer if count * size == PIECE else bytearray(count * size)
            for buffer, size in zip(buffers, sizes, strict=True)
        ]
        before.read(start * sizes[0], memoryview(room[0]))
        after.read(start * sizes[1], memoryview(room[1]))
        if tally.compared_as is not None or room[0] != room[1]:
            _measure(tally, start, room[0], room[1])
        start += count


def _measure(tally: _Tally, start: int, first: bytearray, second: bytearray) -> None:
    """Add to a pair's tally what differs in a piece that begins at an element."""
    from ._numbers import lowered, measure

    dtype, itemsize = tally.after.stored.dtype, tally.after.itemsize
    if tally.compared_as is not None:
        dtype = tally.compared_as
        count = len(second) // itemsize
        first = lowered(first, tally.before.stored.dtype, dtype)
        second = lowered(second, tally.after.stored.dtype, dtype)
        itemsize = len(second) // count
    sums, differ = measure(first, second, dtype, itemsize)
    with tally.lock:
        tally.sums = sums.plus(tally.sums)
        if sums.changed:
            tally.differs = True
            _mark_rows(tally, start, differ)


def _mark_rows(tally: _Tally, start: int, differ: Array) -> None:
    """Mark the rows in which an element from `start` on differs, if rows are kept for this tensor."""
    import numpy as np

    shape = tally.after.stored.shape
    rows = tally.units // tally.row if shape else 0
    if tally.rows is None and 0 < rows <= _MOST_ROWS and tally.units == rows * tally.row:
        tally.rows = bytearray(rows)
    if tally.rows is not None:
        head = start % tally.row
        whole = np.pad(differ, (head, -(head + len(differ)) % tally.row))
        seen: Array = np.logical_or.reduce(whole.reshape(-1, tally.row), axis=1)
        marks = np.frombuffer(tally.rows, np.uint8, count=len(seen), offset=start // tally.row)
        np.bitwise_or(marks, seen, out=marks)


def _ended(tally: _Tally) -> Change:
    before, after, sums = tally.before.stored, tally.after.stored, tally.sums
    rows = None if tally.rows is None else spans(tally.rows)
    if tally.extra:
        rows = _joined(rows or (), (tally.units // tally.row, max(before.shape[0], after.shape[0])))
    if not tally.differs:
        return Change(
            before, after, not tally.extra, 0.0, 0.0, 0, rows=rows, compared_as=tally.compared_as, why=_grew(tally)
        )
    assert sums is not None, "what differs was measured"
    numbers = sums.readable
    return Change(
        before,
        after,
        same=False,
        max_abs=sums.largest if numbers else None,
        mean_abs=sums.total / max(tally.units - sums.nonfinite, 1) if numbers else None,
        changed=sums.changed,
        nonfinite=sums.nonfinite,
        rows=rows,
        compared_as=tally.compared_as,
        why=_grew(tally) or ("" if numbers else f"{after.dtype} cannot be read as numbers"),
    )


def _grew(tally: _Tally) -> str:
    return "the numbers of rows differ" if tally.extra else ""


def _joined(rows: tuple[tuple[int, int], ...], more: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    if rows and rows[-1][1] == more[0]:
        return (*rows[:-1], (rows[-1][0], more[1]))
    return (*rows, more)
