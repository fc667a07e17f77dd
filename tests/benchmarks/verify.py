"""What freezecheck costs, as ratios against the same work without it. Run by hand: `python tests/benchmarks/verify.py`.

Whole processes and calls alternate (A B A B …), so that both see the same machine; the ratio is the median of the
ratios of neighbours.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
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
    print(f"{name}: {seconds[0]:.2f} s, bare {seconds[1]:.2f} s, ratio {ratio:.3f} (aim: {bound})")
    more = memory[0] - memory[1]
    print(f"    peak memory {memory[0]:.0f} MiB, bare {memory[1]:.0f} MiB, {more:+.0f} MiB", flush=True)


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class Stopwatch:
    """Adds up the time spent inside functions, by the name that the breakdown gives them."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.calls: list[dict[str, float]] = []

    def call_ends(self) -> None:
        """Begin to add up anew."""
        self.calls.append(self.spent)
        self.spent = {}

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


def in_one_process(pairs: int, threads: int | None) -> None:
    """Print what `freezecheck.verify` with live objects costs against a bare step, and where the time goes.

    Once on a model whose gradients are cleared, as before a training, and then with those of the last step on it: they
    are kept, and the probe's own need as much memory again, which the system hands out page by page. So does a step
    that keeps them, and not one that frees them first. The first call stands apart: those after it find the memory for
    copies that it left.
    """
    sys.path.insert(0, str(HERE))
    import torch
    from resnet50 import build_model, build_optimizer, compute_loss, example_inputs, set_modes

    import freezecheck
    from freezecheck.probe.step import Probe
    from freezecheck.probe.untouched import Ground

    if threads is not None:
        torch.set_num_threads(threads)
    model = build_model()
    optimizer = build_optimizer(model)
    spec = freezecheck.Spec.load(HERE / "freeze.toml")
    images = example_inputs()

    def bare() -> None:
        set_modes(model)
        optimizer.zero_grad()
        compute_loss(model, images).backward()
        optimizer.step()

    def bare_with_gradients_kept() -> None:
        """As `bare`, but with the last step's gradients still there afterwards, as they are after a check."""
        trained = [p for p in model.parameters() if p.requires_grad]
        kept = [p.grad for p in trained]
        bare()
        for parameter, gradient in zip(trained, kept, strict=True):
            parameter.grad = gradient

    def ours() -> None:
        result = freezecheck.verify(model, spec, optimizer=optimizer, inputs=images, loss=compute_loss)
        result.raise_if_failed()

    watch = Stopwatch()

    def in_turn(step: Callable[[], None], cleared: bool) -> Iterator[tuple[float, float]]:
        for _ in range(pairs):
            if cleared:
                optimizer.zero_grad()
            called = timed(ours)
            watch.call_ends()
            yield called, timed(step)

    gc.disable()
    bare()
    print(f"the first call, which loads modules and asks for memory: {timed(ours):.3f} s,", end=" ")
    print(f"bare step {timed(bare):.3f} s")
    with contextlib.ExitStack() as stack:
        stack.enter_context(watch.on(Ground, "record", "snapshot"))
        stack.enter_context(watch.on(Probe, "step", "step, watched"))
        stack.enter_context(watch.on(Ground, "change", "comparison"))
        stack.enter_context(watch.on(Ground, "restore", "restoring"))
        runs = list(in_turn(bare, cleared=True))
    called, step = (median(run[side] for run in runs) for side in (0, 1))
    ratio = median(a / b for a, b in runs)
    print(f"freezecheck.verify in one process, {torch.get_num_threads()} threads: {called:.3f} s,", end=" ")
    print(f"bare step {step:.3f} s, ratio {ratio:.3f} (aim: 1.4)")
    elsewhere = "all else (describing, matching, judging)"
    calls = [
        {**call, elsewhere: total - sum(call.values())} for call, (total, _) in zip(watch.calls, runs, strict=True)
    ]
    for name in calls[0]:
        spent = median(call[name] for call in calls)
        print(f"    {name:<42} {spent * 1000:7.1f} ms  {spent / step:6.3f} of a bare step")
    freeing, keeping = (
        median(a / b for a, b in in_turn(step, cleared=False)) for step in (bare, bare_with_gradients_kept)
    )
    print(f"    with the gradients of the last step on the model: ratio {freeing:.3f} to a step that frees them first,")
    print(f"    {keeping:.3f} to one that keeps them, as the check does")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of processes (calls: three times as many)")
    parser.add_argument("--threads", type=int, help="torch's threads for the calls in one process")
    options = parser.parse_args()
    pairs = options.pairs
    bare = (sys.executable, "bare_step.py")
    compare("freezecheck verify", 1.10, (*FREEZECHECK, "verify", "--spec", "freeze.toml"), bare, pairs)
    bare = (sys.executable, "bare_build.py")
    compare("freezecheck report", 1.05, (*FREEZECHECK, "report", "resnet50.py"), bare, pairs)
    in_one_process(3 * pairs, options.threads)


if __name__ == "__main__":
    main()
