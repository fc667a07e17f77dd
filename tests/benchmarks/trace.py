"""What looking for cuts costs, as ratios. Run by hand: `python tests/benchmarks/trace.py`.

The runs with and without the tracer alternate (A B A B …), so that both see the same machine; each ratio is the median
of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from resnet50 import build_model, build_optimizer, compute_loss, example_inputs

import freezecheck
from freezecheck.probe.functions import following_functions
from freezecheck.probe.trace import Trace

HERE = Path(__file__).parent


def compare(name: str, aim: str, traced: Callable[[], object], bare: Callable[[], object], pairs: int) -> None:
    """Print the medians and the ratio of two calls."""
    traced(), bare()
    gc.disable()
    runs = [(timed(traced), timed(bare)) for _ in range(pairs)]
    gc.enable()
    ours, theirs = (median(run[side] for run in runs) * 1000 for side in (0, 1))
    ratio = median(a / b for a, b in runs)
    print(f"{name}: {ours:.1f} ms traced, {theirs:.1f} ms bare, ratio {ratio:.3f} (aim: {aim})", flush=True)


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def on_meta(pairs: int) -> None:
    """A forward and backward of ResNet-50 on the meta device, where all the time is Python's."""
    model = build_model().to("meta").train()
    images = torch.empty(2, 3, 224, 224, device="meta")

    def bare() -> None:
        model(images).sum().backward()

    def traced() -> None:
        trace = Trace([p for p in model.parameters() if p.requires_grad], [*model.parameters(), *model.buffers()])
        with trace, following_functions(trace):
            loss = model(images).sum()
        trace.phase = "backward"
        with trace:
            loss.backward()

    compare("ResNet-50 step on meta", "at most 1.10", traced, bare, pairs)


@contextlib.contextmanager
def blind() -> Iterator[None]:
    """Let the probe's tracers see nothing."""
    enter, leave = Trace.__enter__, Trace.__exit__
    Trace.__enter__ = lambda self: self  # type: ignore[assignment,method-assign]  # put back below
    Trace.__exit__ = lambda *_: None  # type: ignore[assignment,method-assign]  # put back below
    try:
        yield
    finally:
        Trace.__enter__, Trace.__exit__ = enter, leave  # type: ignore[method-assign]  # as they were


def in_verify(pairs: int) -> None:
    """`freezecheck.verify` of ResNet-50 as a whole, with and without the tracer."""
    model = build_model()
    optimizer = build_optimizer(model)
    spec = freezecheck.Spec.load(HERE / "freeze.toml")
    images = example_inputs()

    def traced() -> None:
        freezecheck.verify(model, spec, optimizer=optimizer, inputs=images, loss=compute_loss).raise_if_failed()

    def bare() -> None:
        with blind():
            freezecheck.verify(model, spec, optimizer=optimizer, inputs=images, loss=compute_loss)

    compare("freezecheck.verify", "1.00, nothing measurable", traced, bare, pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15, help="pairs of runs")
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    on_meta(pairs)
    in_verify(pairs)


if __name__ == "__main__":
    main()
