"""Search for inputs that the model takes: candidates from its first layers, tried until one fits."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from inspect import Parameter
from itertools import combinations, islice
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ProbeError
from ..subject import Asking
from .candidates import BATCH, Family, families
from .declared import Declared, said_of
from .explain import Refusal
from .found import Found
from .signature import parameters_of
from .trial import Trials, keeps_batch

_NO_TENSOR = re.compile(r"'Tensor' object has no attribute|invalid data type 'str'|indices must be integers")
_FEATURES = re.compile(r"\(\d+x(\d+) and (\d+)x\d+\)|got \[\d+, (\d+)\] X \[(\d+), \d+\]")
"""What torch says, on the CPU and on the meta device, when a Linear is given another number of features."""
_VIEW = re.compile(r"shape '\[([-\d, ]+)\]' is invalid for input of size (\d+)")
"""What it says of a `view` that cannot be."""
_LARGEST = 2048
_MOST_TRIALS = 160
_PAIR_SIZES = 3
_MOST_SHOWN = 4
_ID_NAMES = ("id", "ids", "idx", "token", "tokens", "tok")


def search(model: nn.Module, trials: Trials, asking: Asking) -> Found:
    """Return inputs that the model's forward took. Raises ProbeError that shows what was tried and who refused it."""
    names = _wanted(model)
    if names is None:
        found = Found(tuple, "no inputs: forward takes none")
        if trials.accepts(found.make):
            return found
    weak: Found | None = None
    for found in islice(_candidates(model, names or ["x"], trials), _MOST_TRIALS):
        if trials.accepts(found.make):
            if keeps_batch(trials.output, BATCH):
                return found
            weak = weak or found
    if weak is None:
        raise _failure(model, names or ["x"], trials.refused, asking)
    return weak


def _wanted(model: nn.Module) -> list[str] | None:
    """Names of the arguments that forward cannot do without, else of its first; None when it takes none at all."""
    parameters = [p for p in parameters_of(model).values() if p.kind is not Parameter.VAR_KEYWORD]
    positional = [p for p in parameters if p.kind is not Parameter.KEYWORD_ONLY]
    if not parameters_of(model):
        return None
    required = [p.name for p in positional if p.default is Parameter.empty and p.kind is not Parameter.VAR_POSITIONAL]
    return required or [p.name for p in positional[:1]] or ["x"]


def _candidates(model: nn.Module, names: list[str], trials: Trials) -> Iterator[Found]:
    found = families(model, ids_first=bool(set(names[0].lower().split("_")) & set(_ID_NAMES)))
    for family in found:
        begin = len(trials.refused)
        for size in family.sizes:
            yield _found(names, family, [family.at(size)] * len(names))
        yield from _solved(names, family, lambda begin=begin: trials.refused[begin:])  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    if len(names) == 2:
        for first, second in combinations(found, 2):
            for size, other in ((a, b) for a in first.sizes[:_PAIR_SIZES] for b in second.sizes[:_PAIR_SIZES]):
                yield _found(names, first, [first.at(size), second.at(other)])


def _found(names: list[str], family: Family, inputs: list[Declared]) -> Found:
    """Inputs by position: what an argument's name says it is, else what the family suggests."""
    drawers = [_role(name, inputs[0]) or one.draw for name, one in zip(names, inputs, strict=True)]
    drawers[0] = inputs[0].draw

    def make() -> Any:
        return drawers[0]() if len(drawers) == 1 else tuple(draw() for draw in drawers)

    with torch.device("meta"):
        said = said_of(make())
    return Found(make, f"{said}, found from the shape of {family.layer or 'the model'}")


def _role(name: str, first: Declared) -> Callable[[], Tensor] | None:
    """How to draw an argument whose name says what it is, to go with the first one."""
    shape = first.shape
    if name.endswith("mask"):
        return lambda: torch.ones(shape[:2], dtype=torch.int64)
    if name == "token_type_ids":
        return lambda: torch.zeros(shape[:2], dtype=torch.int64)
    if name in ("t", "time", "timestep", "timesteps", "label", "labels", "target", "targets"):
        return lambda: torch.randint(0, 2, shape[:1])
    if name in ("length", "lengths"):
        return lambda: torch.full(shape[:1], shape[1] if len(shape) > 1 else 1)
    return None


def _solved(names: list[str], family: Family, refused: Callable[[], list[Refusal]]) -> Iterator[Found]:
    """Halve the range of sizes until the Linear behind a flatten gets as many features as it wants."""
    low, high = 1, _LARGEST
    if None not in family.template or all(_excess(refusal.words) is None for refusal in refused()):
        return
    while low <= high:
        size = (low + high) // 2
        before = len(refused())
        yield _found(names, family, [family.at(size)] * len(names))
        new = refused()[before:]
        too_large = bool(new) and (_excess(new[-1].words) or 0) > 0
        low, high = (low, size - 1) if too_large else (size + 1, high)


def _excess(words: str) -> int | None:
    """By how many features a flattened sample was larger than its Linear or `view` wanted; None of other refusals."""
    if found := _FEATURES.search(words):
        given, wanted = (int(n) for n in found.groups() if n)
        return given - wanted
    if found := _VIEW.search(words):
        lengths = [int(n) for n in found[1].split(",")]
        return int(found[2]) - abs(math.prod(lengths)) * (BATCH if -1 in lengths else 1)
    return None


def _failure(model: nn.Module, names: list[str], refused: list[Refusal], asking: Asking) -> ProbeError:
    what = f"no example inputs were found for {type(model).__name__}: forward({', '.join(names)})"
    if not refused:
        return ProbeError(f"{what} has no layer that says what it takes", hint=asking.shape)
    hint = asking.shape
    if any(_NO_TENSOR.search(refusal.words) for refusal in refused):
        hint = f"forward wants something other than tensors: {asking.other}"
    lines = [f"  {refusal.given}\n    refused by {refusal}" for refusal in _telling(refused)]
    return ProbeError(f"{what} took none of {len(refused)} shapes, such as\n" + "\n".join(lines), hint=hint)


def _telling(refused: list[Refusal]) -> list[Refusal]:
    """A few refusals by different layers: those say most about what the model wants."""
    by_layer = {(refusal.layer, refusal.type): refusal for refusal in reversed(refused)}
    return sorted(by_layer.values(), key=refused.index)[:_MOST_SHOWN]
