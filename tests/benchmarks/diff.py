"""How fast `freezecheck diff` is beside `cmp` on one pair of equal files. By hand: `python -m tests.benchmarks.diff`.

Both are whole processes, the files are in the page cache, and the two alternate, so that both see the same machine; the
ratio is the median of the ratios of neighbours. The aim is at least 0.8 × the throughput of `cmp`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import struct
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

AIM = 0.8
GIB = 2**30
_ROWS, _COLUMNS = 4096, 2048


def write_pair(folder: Path, nbytes: int, *, form: str = "safetensors", equal: bool = True) -> tuple[Path, Path]:
    """Write two checkpoints of float32 tensors of 32 MiB each; in unequal ones every tensor has changed."""
    import torch

    count = max(nbytes // (_ROWS * _COLUMNS * 4), 1)
    paths = folder / f"before.{form}", folder / f"after.{form}"
    weight = torch.randn(_ROWS, _COLUMNS, generator=torch.Generator().manual_seed(0))
    for path, shift in zip(paths, (0.0, 0.0 if equal else 0.01), strict=True):
        _write(path, form, weight + shift, count)
    return paths


def _write(path: Path, form: str, weight: torch.Tensor, count: int) -> None:
    """Write the same tensor under many names, without ever holding more than one of them."""
    import torch

    names = [f"layers.{n}.weight" for n in range(count)]
    if form == "safetensors":
        size = weight.numel() * weight.element_size()
        header = {
            name: {"dtype": "F32", "shape": list(weight.shape), "data_offsets": [n * size, (n + 1) * size]}
            for n, name in enumerate(names)
        }
        raw = json.dumps(header).encode()
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(raw)) + raw)
            for _ in names:
                file.write(weight.numpy())
        return
    room = f"{path}.room"
    every = torch.from_file(room, shared=True, size=count * weight.numel()).view(count, *weight.shape)
    every.copy_(weight)
    torch.save({name: every[n] for n, name in enumerate(names)}, path)
    os.unlink(room)


def process(*command: str) -> tuple[float, float]:
    """Run a process; return its wall time in seconds and its peak memory in MB."""
    start = time.perf_counter()
    pid = os.posix_spawn(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    )
    _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    """Make the pair, let the two run by turns, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=4, help="size of each file [default: 4]")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each [default: 5]")
    given = parser.parse_args()
    cmp = shutil.which("cmp")
    if cmp is None:
        sys.exit("needs `cmp`")
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: a child's peak memory counts from what its parent had.
        writer = multiprocessing.get_context("spawn").Process(
            target=write_pair, args=(Path(folder), int(given.gib * GIB))
        )
        writer.start(), writer.join()
        first, second = (os.path.join(folder, f"{side}.safetensors") for side in ("before", "after"))
        ours = (sys.executable, "-m", "freezecheck", "diff", first, second)
        process(cmp, first, second), process(*ours)
        runs = [(process(*ours), process(cmp, first, second)) for _ in range(given.pairs)]
        size = os.path.getsize(first) / 1e9
    ratio = median(theirs[0] / our[0] for our, theirs in runs)
    seconds = [median(run[side][0] for run in runs) for side in (0, 1)]
    print(f"freezecheck diff: {size:.1f} GB in {seconds[0]:.2f} s ({size / seconds[0]:.2f} GB/s), ", end="")
    print(f"cmp {seconds[1]:.2f} s; throughput ratio {ratio:.2f} (aim: at least {AIM})")
    print(f"    peak memory {median(run[0][1] for run in runs):.0f} MB, cmp {median(run[1][1] for run in runs):.0f} MB")


if __name__ == "__main__":
    main()
