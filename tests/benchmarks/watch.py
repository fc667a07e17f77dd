"""What `freezecheck run` costs beside `python SCRIPT`, as ratios. By hand: `python tests/benchmarks/watch.py`.

Whole processes alternate (A B A B …), so that both see the same machine; every ratio is the median of the ratios of
neighbours. The watched steps are taken together with all that the watch does in them: the copy of what trains, the
tracing, the comparison and the judgement. Beside each ratio by the clock stands the one by processor time, which others
on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
WATCHED = 3
SCRIPT = "train_resnet50.py"


@dataclass(frozen=True)
class Run:
    """One process."""

    start: float
    """Seconds from the start of the process to the script's first line after its imports."""
    seconds: list[float]
    """Of each training step, by the clock."""
    processor: list[float]
    """As `seconds`, of all cores together."""


def run(command: list[str], steps: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        times = os.path.join(folder, "times.json")
        begun = time.time()
        done = subprocess.run(
            [*command, SCRIPT, str(steps)],
            cwd=HERE,
            env={**os.environ, "STEP_TIMES": times},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if not os.path.exists(times):
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
        told = json.loads(Path(times).read_text())
    return Run(told["started"] - begun, told["seconds"], told["processor"])


def ratio(pairs: list[tuple[Run, Run]], first: int, last: int | None) -> str:
    """Say both ratios of ours to the bare run, over the steps from `first` to `last`."""
    clock = median(sum(ours.seconds[first:last]) / sum(bare.seconds[first:last]) for ours, bare in pairs)
    processor = median(sum(ours.processor[first:last]) / sum(bare.processor[first:last]) for ours, bare in pairs)
    return f"ratio {clock:.3f}, by processor time {processor:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of processes")
    parser.add_argument("--steps", type=int, default=10, help="training steps of each; 3 are watched")
    options = parser.parse_args()
    freezecheck = [sys.executable, "-m", "freezecheck", "run", "--spec", "freeze.toml"]
    once, often = [*freezecheck, "--continue", "1000000"], [*freezecheck, "--continue", "5"]
    python = [sys.executable]
    run(once, 1), run(python, 1)  # the files of both are in the page cache from here on
    pairs = [(run(once, options.steps), run(python, options.steps)) for _ in range(options.pairs)]
    step = median(bare.seconds[-1] for _, bare in pairs)
    print(f"a bare step takes {step:.3f} s")
    print(f"watched steps: {ratio(pairs, 0, WATCHED)} (aim: 1.15)")
    print(f"steps after them: {ratio(pairs, WATCHED, None)} (aim: 1.00)")
    print(f"start-up: {median(ours.start - bare.start for ours, bare in pairs):+.3f} s (aim: 0.2)", flush=True)
    every = [(run(often, options.steps + 5), run(python, options.steps + 5)) for _ in range(options.pairs)]
    print(f"--continue 5, all steps after the first {WATCHED}: {ratio(every, WATCHED, None)}")


if __name__ == "__main__":
    main()
