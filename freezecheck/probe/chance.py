"""What slept by chance: layers that dice or a router left out of every step, and that are not broken.

Asked only when all steps are made and something never woke for which no cut was seen. One more look is taken with
dropout and its kin switched off, and, where the forward itself throws dice (LayerDrop), more of them. What still sleeps
beside siblings that do the same work on other rows of the batch, in a forward that chooses by its data, is an expert
that nothing chose: it is left unjudged, and said.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import ProbeError
from ..records import Expected, Skipped
from .choice import Choice
from .flow import tensors_in
from .trace import Trace

if TYPE_CHECKING:
    from .step import Probe

_MOST_LOOKS = 8


class Look(Trace):
    """A trace that notes as well whether the forward chose by its data, threw dice, and what ran above what."""

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe.trainable.values(), probe.ground.tensors, probe.ground.keep)
        self.choice = Choice(self.flow)
        self.above: dict[int, int] = {}
        """By the bit of a parameter, those upstream of what it was applied to."""
        self._generators = _generators(probe.anatomy.modules.values())
        self.before_inputs, self._before, self._after = self._dice(), None, None

    def __enter__(self) -> Any:
        """Begin to trace; the first time, the forward is about to begin."""
        self._before = self._before or self._dice()
        return super().__enter__()  # type: ignore[no-untyped-call]  # torch's own

    def __exit__(self, *raised: Any) -> None:
        """Stop tracing; the first time, the forward is over."""
        self._after = self._after or self._dice()
        super().__exit__(*raised)

    def _dice(self) -> Any:
        """The state of every random number generator that a forward may ask."""
        numpy = sys.modules.get("numpy")
        drawn = None if numpy is None else str(numpy.random.get_state())
        own = [_state_of(generator) for generator in self._generators]
        return torch.get_rng_state().numpy().tobytes(), random.getstate(), drawn, own

    @property
    def by_dice(self) -> bool:
        """Whether another look may see another forward."""
        return self._before != self._after or (self.choice.asked and self.before_inputs != self._before)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note what this look is for, and trace on."""
        inputs = tensors_in(args, kwargs or {})
        for tensor in inputs:
            bit = self.flow.bit(tensor)
            if bit:
                for other in inputs:
                    if other is not tensor:
                        self.above[bit] = self.above.get(bit, 0) | self.flow.of(other)[0]
        if self.phase == "forward":
            self.choice.before(func, inputs)
        result = super().__torch_function__(func, types, args, kwargs)
        if self.phase == "forward":
            self.choice.after(func, inputs, result)
        return result


def look_without_chance(probe: Probe) -> tuple[frozenset[str], frozenset[str]]:
    """Look again for what never woke; return the names that woke now, and those that nothing chose."""
    waiting = _asleep(probe)
    if not waiting:
        return frozenset(), frozenset()
    with _modes_kept(probe):
        for module in probe.anatomy.modules.values():
            if _is_chance(module):
                module.training = False
        looks = [_look(probe)]
        if looks[0].by_dice and _asleep(probe):
            looks += _with_dice(probe, looks[0])
    still = _asleep(probe)
    return waiting - still, _not_chosen(probe, still, looks) if looks[-1].choice.asked else frozenset()


def _with_dice(probe: Probe, look: Look) -> list[Look]:
    """Look in eval mode, in which LayerDrop keeps every layer; where dice are thrown even there, throw them again."""
    looks = []
    training = {module: module.training for module in probe.anatomy.modules.values()}
    for module in training:
        module.training = False
    with suppress(ProbeError):  # a model that computes its loss in train mode only
        look = _look(probe)
        looks.append(look)
    if look.by_dice:
        for module, mode in training.items():
            module.training = mode
        for _ in range(_MOST_LOOKS):
            if not _asleep(probe):
                break
            looks.append(_look(probe))
    return looks


def _look(probe: Probe) -> Look:
    look = Look(probe)
    probe.look(look)
    return look


@contextmanager
def _modes_kept(probe: Probe) -> Iterator[None]:
    modes = [(module, module.training) for module in probe.anatomy.modules.values()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def skipped(names: frozenset[str]) -> tuple[Skipped, ...]:
    """Say what was left unjudged."""
    if not names:
        return ()
    layers = sorted({name.rpartition(".")[0] for name in names})
    few = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more layers" if len(layers) > 3 else "")
    why = "nothing in the inputs chose them among their siblings: give inputs that reach them, or more steps"
    return (Skipped(f"whether {few} would train", why),)


def _asleep(probe: Probe) -> frozenset[str]:
    """Names of what should train and never got a gradient, for no reason that was seen."""
    return frozenset(
        name
        for name in probe.trainable
        if probe.plan.expected.get(name) is Expected.TRAINABLE
        and probe.evidence.asleep(name)
        and name not in probe.evidence.cuts
    )


def _not_chosen(probe: Probe, asleep: frozenset[str], looks: list[Look]) -> frozenset[str]:
    return frozenset(n for n in asleep if any(_beside(probe, path, key, looks) for path, key in _containers(probe, n)))


def _containers(probe: Probe, name: str) -> Iterator[tuple[str, str]]:
    """Yield (path, key) of every module around a tensor that may hold siblings, and the key that leads to it."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        path = ".".join(parts[: end - 1])
        if path in probe.anatomy.modules:
            yield path, parts[end - 1]


def _siblings(module: nn.Module, key: str) -> Iterator[str]:
    """Yield the keys of those that may do the same work: in a list or dict all, else those named alike (`expert2`)."""
    children = module._modules
    collected = isinstance(module, nn.ModuleList | nn.ModuleDict)
    for other, child in children.items():
        alike = collected or (key[-1:].isdigit() and other.rstrip("0123456789") == key.rstrip("0123456789"))
        if alike and other != key and type(child) is type(children[key]):
            yield other


def _beside(probe: Probe, path: str, key: str, looks: list[Look]) -> bool:
    """Whether siblings of the same class are awake, the data chose them, and none runs on what another one made."""
    prefix = f"{path}." if path else ""
    awake = [
        bits
        for other in _siblings(probe.anatomy.modules[path], key)
        if (bits := _awake_bits(probe, f"{prefix}{other}.", looks[-1]))
    ]
    everyone = 0
    for bits in awake:
        everyone |= bits
    for bits in awake:
        for bit, above in looks[-1].above.items():
            if bit & bits and above & everyone & ~bits:
                return False
    differ = len({look.flow.used & everyone for look in looks}) > 1
    return differ or any(look.choice.among([bits for bits in awake if look.flow.used & bits]) for look in looks)


def _awake_bits(probe: Probe, prefix: str, look: Look) -> int:
    """Bits of the parameters below a module, or 0 when all of them sleep."""
    names = [name for name in probe.trainable if name.startswith(prefix)]
    if all(probe.evidence.asleep(name) for name in names):
        return 0
    return sum(look.flow.bit(probe.trainable[name]) for name in names)


def _is_chance(module: nn.Module) -> bool:
    name = type(module).__name__.lower()
    return "drop" in name or "stochasticdepth" in name


def _generators(modules: Iterable[nn.Module]) -> list[Any]:
    """Return the random number generators that modules keep for themselves."""
    numpy = sys.modules.get("numpy")
    kinds = (torch.Generator, random.Random, *((numpy.random.Generator,) if numpy is not None else ()))
    return [value for module in modules for value in vars(module).values() if isinstance(value, kinds)]


def _state_of(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state().tolist()
    return generator.getstate() if isinstance(generator, random.Random) else str(generator.bit_generator.state)
