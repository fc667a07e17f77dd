"""What freezecheck costs, as ratios against the same work without it. Run by hand: `python tests/benchmarks/verify.py`.

Whole processes and calls alternate (A B A B …), so that both see the same machine; the ratio is the median of the
ratios of neighbours.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
FREEZECHECK = (sys.executable, "-m", "freezecheck")
MIB = 2**20


def process(*command: str) -> tuple[float, float]:
    """Run a process; return its wall time in seconds and its peak memory in MiB."""
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read() if child.stderr else b""
    _, status, usage = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(command)} failed:\n{errors.decode()}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / MIB


def compare(name: str, bound: float, ours: tuple[str, ...], bare: tuple[str, ...], pairs: int) -> None:
    """Print the medians, the ratio and the peak memory of two commands."""
    process(*ours), process(*bare)  # the files of both are in the page cache from here on
    runs = [(process(*ours), process(*bare)) for _ in range(pairs)]
    ratio = median(a[0] / b[0] for a, b in runs)
    seconds = [median(run[side][0] for run in runs) for side in (0, 1)]
    memory = [median(run[side][1] for run in runs) for side in (0, 1)]
    print(f"{name}: {seconds[0]:.2f} s, bare {seconds[1]:.2f} s, ratio {ratio:.3f} (aim: at most {bound})")
    print(f"    peak memory {memory[0]:.0f} MiB, bare {memory[1]:.0f} MiB, {memory[0] - memory[1]:+.0f} MiB", flush=True)


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class Stopwatch:
    """Adds up the time spent inside functions, by the name that the breakdown gives them."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextlib.contextmanager
    def on(self, owner: object, attribute: str, name: str) -> Iterator[None]:
        """Time every call of `owner.attribute` while this is open."""
        real = getattr(owner, attribute)

        def wrapper(*args: object, **kwargs: object) -> object:
            start = time.perf_counter()
            try:
                return real(*args, **kwargs)
            finally:
                self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - start

        setattr(owner, attribute, wrapper)
        try:
            yield
        finally:
            setattr(owner, attribute, real)
