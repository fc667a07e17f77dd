"""Random number generators and the global switches of torch: read before a check, set back after it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch


class Switch:
    """One global value: what it was, and how to set it back."""

    def __init__(self, what: str, read: Callable[[], Any], write: Callable[[Any], object]) -> None:
        self.what, self._read, self._write = what, read, write
        self._before = read()

    def restore(self) -> None:
        """Set the value back, if it is another one now: some setters cost, or warn, even when nothing changes."""
        if not _same(self._read(), self._before):
            self._write(self._before)


def _same(now: Any, before: Any) -> bool:
    if isinstance(before, torch.Tensor):
        return torch.equal(now, before)
    if isinstance(before, list | tuple):
        return len(now) == len(before) and all(map(_same, now, before))
    if isinstance(before, dict):
        return list(now) == list(before) and all(map(_same, now.values(), before.values()))
    if type(before).__module__ == "numpy":
        return bool((now == before).all())
    return bool(now == before)


def generators() -> Iterator[Switch]:
    """Yield the state of every random number generator that a model, a loader or a loss may draw from."""
    yield Switch("the state of random", random.getstate, random.setstate)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        yield Switch("the state of numpy.random", numpy.random.get_state, numpy.random.set_state)
    yield Switch("the state of torch's generator", torch.get_rng_state, torch.set_rng_state)
    for kind in ("cuda", "xpu"):
        module: Any = getattr(torch, kind, None)
        if module is not None and module.is_initialized():
            yield Switch(f"the state of {kind}'s generators", module.get_rng_state_all, module.set_rng_state_all)
        seeds = getattr(module, "_lazy_seed_tracker", None)  # what a device not yet in use will be seeded with
        if seeds is not None:
            write = partial(_wait_to_seed, module, seeds)
            yield Switch(f"the seed of {kind}'s generators", partial(_copied, seeds), write)
    if torch.backends.mps.is_available():
        yield Switch("the state of mps's generator", torch.mps.get_rng_state, torch.mps.set_rng_state)


def _copied(seeds: object) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, list) else value for name, value in vars(seeds).items()}


def _wait_to_seed(module: Any, seeds: object, before: dict[str, Any]) -> None:
    """Have a device seeded with what it was to be seeded with: when it comes into use, or now if it did meanwhile."""
    vars(seeds).update(before)
    if module.is_initialized():
        for seed, _ in filter(None, before.get("call_order", ())):
            seed()


def switches() -> Iterator[Switch]:
    """Yield every global switch of torch that changes what a training step computes."""
    yield Switch("the anomaly mode", _anomaly, lambda value: torch.autograd.set_detect_anomaly(*value))
    yield Switch("the default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield from _default_device()
    yield Switch("the number of threads", torch.get_num_threads, torch.set_num_threads)
    yield Switch("the deterministic mode", _deterministic, _set_deterministic)
    for kind in ("cpu", "cuda", "xpu", "mps"):
        yield from _autocast(kind)
    yield Switch("the autocast cache", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled)
    yield from _backends()


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _default_device() -> Iterator[Switch]:
    # torch.get_default_device() cannot tell "never set" from "set to the CPU"; setting it would leave a mode behind.
    place = getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None)
    if place is not None:

        def read() -> torch.device | None:
            context = getattr(place, "device_context", None)
            return None if context is None else context.device

        def write(device: torch.device | None) -> None:
            torch.set_default_device(device)
            if device is None:
                vars(place).pop("device_context", None)  # up to torch 2.4 get_default_device() fails on a None there

        yield Switch("the default device", read, write)


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _autocast(kind: str) -> Iterator[Switch]:
    try:
        torch.is_autocast_enabled(kind)
    except RuntimeError:
        return
    enabled, set_enabled = partial(torch.is_autocast_enabled, kind), partial(torch.set_autocast_enabled, kind)
    yield Switch(f"autocast on {kind}", enabled, set_enabled)
    dtype, set_dtype = partial(torch.get_autocast_dtype, kind), partial(torch.set_autocast_dtype, kind)
    yield Switch(f"the autocast dtype on {kind}", dtype, set_dtype)


def _backends() -> Iterator[Switch]:
    owners: tuple[tuple[Any, str], ...] = (
        (torch.backends.cudnn, "enabled"),
        (torch.backends.cudnn, "benchmark"),
        (torch.backends.cudnn, "deterministic"),
        (torch.backends.cudnn, "allow_tf32"),
        (torch.backends.cuda.matmul, "allow_tf32"),
    )
    for owner, name in owners:
        yield from _readable(f"the switch {name}", partial(getattr, owner, name), partial(setattr, owner, name))
    yield from _readable(
        "the precision of float32 products", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    )


def _readable(what: str, read: Callable[[], Any], write: Callable[[Any], object]) -> Iterator[Switch]:
    # torch refuses to read its older switches once a program has used the newer ones.
    try:
        yield Switch(what, read, write)
    except RuntimeError:
        return


def seed_everything(seed: int) -> None:
    """Seed torch, random and (where it is loaded) numpy; the caller restores their states."""
    torch.manual_seed(seed)
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def eager() -> Any:
    """Run compiled modules as they were written: a compiled forward would hide its operations from the tracer."""
    if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
        return torch.compiler.set_stance("force_eager")
    return nullcontext()
