"""Memory for copies. Fresh pages cost more than copying into them: they come in huge ones, and serve the next check."""

from __future__ import annotations

import mmap
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate

import torch
from torch import Tensor

_ALIGN = 64
_HUGE_PAGE = 2**21
_SHARED = 2**16
"""Elements that are enough for torch to share work among its threads (its grain is 2**15)."""
_WORTH_HUGE_PAGES = 2**24
"""Bytes from which on a block is asked for in huge pages: to find them, the kernel may first have to move others."""
_WORTH_KEEPING = 2**29
"""Bytes that are kept for the next check at the most, in blocks that no check uses."""

_spare: list[mmap.mmap] = []
"""Those blocks, the latest last. The kernel may take their pages at any time, and then gives fresh ones."""
_lock = threading.Lock()


class Pages:
    """The memory of one check's copies."""

    def __init__(self) -> None:
        self._blocks: list[tuple[mmap.mmap, weakref.ref[memoryview]]] = []
        """With the view through which tensors lie in the block: it lives for as long as one of them does."""

    def rooms(self, sizes: Sequence[int]) -> Iterator[Tensor]:
        """Yield uninitialised uint8 tensors of these sizes in bytes on the CPU, each in a storage of its own."""
        starts = list(accumulate((-(-size // _ALIGN) * _ALIGN for size in sizes), initial=0))
        if starts[-1] < _WORTH_HUGE_PAGES or not hasattr(mmap, "MADV_HUGEPAGE"):
            yield from (torch.empty(size, dtype=torch.uint8, device="cpu") for size in sizes)
            return
        block = _block(starts[-1])
        view = memoryview(block)
        self._blocks.append((block, weakref.ref(view)))
        for start, size in zip(starts, sizes, strict=False):
            if size:
                yield torch.frombuffer(view, dtype=torch.uint8, offset=start, count=size)
            else:  # of nothing there is no view
                yield torch.empty(0, dtype=torch.uint8, device="cpu")

    def hand_on(self) -> None:
        """Leave the memory to the next check of this process; call it when the check has let go of its copies.

        Until then it is the kernel's to take. A block in which somebody still holds a tensor stays theirs.
        """
        while self._blocks:
            block, view = self._blocks.pop()
            if view() is None and hasattr(mmap, "MADV_FREE"):
                _keep(block)


def _keep(block: mmap.mmap) -> None:
    with suppress(OSError), _lock:
        block.madvise(mmap.MADV_FREE)
        _spare.append(block)
        while sum(map(len, _spare)) > _WORTH_KEEPING:
            del _spare[0]


def _block(size: int) -> mmap.mmap:
    """Return a block of at least `size` bytes, and not of far more."""
    with _lock:
        fitting = [block for block in _spare if size <= len(block) <= 2 * size + _HUGE_PAGE]
        if fitting:
            best = min(fitting, key=len)
            _spare.remove(best)
            return best
    return _fresh(size)


def _fresh(size: int) -> mmap.mmap:
    """Return a new block, all of whose pages are there."""
    count = -(-size // _HUGE_PAGE)
    block = mmap.mmap(-1, count * _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel built without them
        block.madvise(mmap.MADV_HUGEPAGE)
    # Each page is met by one thread before any copying: threads that fault in one page wait for each other.
    pages = torch.frombuffer(block, dtype=torch.int64).view(count, -1)
    pages[:, : -(-_SHARED // count)].zero_()
    return block
