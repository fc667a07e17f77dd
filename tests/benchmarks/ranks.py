"""What the agreement of all ranks costs, by ranks and parameters. By hand: `python tests/benchmarks/ranks.py`.

Every rank is a thread with a connection of its own to one TCPStore, as under torchrun; one process has them all, so
that the times are upper bounds of what as many machines would take. What each rank does for itself (the digest of its
table) is timed apart: real ranks do it at the same time.
"""

from __future__ import annotations

import argparse
import threading
import time
from datetime import timedelta

from torch.distributed import TCPStore

from freezecheck.records import Finding, Severity
from freezecheck.watching.ranks import Ranks, Table


def table(parameters: int, *, odd: bool = False) -> Table:
    names = [f"model.layers.{n // 8}.attention.projection{n % 8}.weight" for n in range(parameters)]
    return Table(
        {name: n % 4 == 0 and not (odd and n == 8) for n, name in enumerate(names)},
        {name: (0,) if n % 4 == 0 else () for n, name in enumerate(names)},
    )


def agree(size: int, parameters: int, *, odd: bool) -> tuple[float, float]:
    """Return seconds for the comparison before the first backward, and for merging the findings after the last step."""
    server = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=60))
    names = tuple(f"layer{n}.weight" for n in range(60))
    finding = Finding("FZ401", "frozen-parameter-in-optimizer", Severity.WARNING, names, "a message " * 20, "a fix")
    ready, compared, merged = (threading.Barrier(size + 1) for _ in range(3))

    def rank(number: int) -> None:
        ranks = Ranks()
        ranks.number, ranks.size = number, size
        ranks._store = TCPStore("127.0.0.1", server.port, None, False, timedelta(seconds=60))
        mine = table(parameters, odd=odd and number == size - 1)
        assert mine.digest
        ready.wait()
        ranks.compare(mine)
        compared.wait()
        ranks.merged((finding,))
        merged.wait()

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(size)]
    for thread in threads:
        thread.start()
    ready.wait()
    times = [time.perf_counter()]
    for barrier in (compared, merged):
        barrier.wait()
        times.append(time.perf_counter())
    for thread in threads:
        thread.join()
    return times[1] - times[0], times[2] - times[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 8, 64, 512])
    parser.add_argument("--parameters", type=int, nargs="+", default=[200, 2_000, 20_000])
    options = parser.parse_args()
    for parameters in options.parameters:
        mine = table(parameters)
        start = time.perf_counter()
        assert mine.digest
        print(f"digest of {parameters:,} parameters: {time.perf_counter() - start:.3f} s")
    print("ranks  parameters  compare  (one differs)  merge      s")
    for size in options.ranks:
        for parameters in options.parameters:
            (same, merge), (differs, _) = (agree(size, parameters, odd=odd) for odd in (False, True))
            print(f"{size:5}  {parameters:10,}  {same:7.3f}  {differs:13.3f}  {merge:5.3f}", flush=True)


if __name__ == "__main__":
    main()
