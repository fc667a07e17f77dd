"""What an optimizer moves in vain: a forward that writes over a parameter undoes every step.

That a forward writes to a parameter proves nothing: a clip, a norm, a `max_norm` or a first initialisation makes its
value of the one it found. So the forward runs again with other values in the parameter's place. One that leaves the
same there each time has not looked at them, and nothing that an optimizer does to them can last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import torch

from ..errors import ProbeError
from ..records import Expected

if TYPE_CHECKING:
    from .step import Probe

_NEARBY = 0.01
"""How far from it, in parts of the largest element, the other values are: far enough to show in any dtype."""
_FAR = 1000
"""So many times as far as that no grid to which a forward rounds, and no order of elements, is the same."""


def undone(probe: Probe) -> frozenset[str]:
    """Return the names of parameters meant to train that a step moved and the forward overwrites."""
    written = {name: parameter for name, parameter in probe.trainable.items() if _in_question(probe, name)}
    if not written or probe.meta:
        return frozenset()
    with _values_kept(written), suppress(ProbeError):
        stepped = _values(written)
        probe.forward(probe.trace())
        left = _values(written)
        written = {n: p for n, p in written.items() if not torch.equal(left[n], stepped[n])}
        for direction in (1, -1, _FAR, -_FAR):  # a clip lets one way pass, and rounding what is far
            if not written:
                break
            _put(written, {name: _nearby(left[name], direction) for name in written})
            probe.forward(probe.trace())
            now = _values(written)
            written = {n: p for n, p in written.items() if torch.equal(left[n], now[n])}
        return frozenset(written)
    return frozenset()


def _in_question(probe: Probe, name: str) -> bool:
    parameter = probe.parameters[name]
    return (
        any(write.phase == "forward" for write in probe.evidence.writes.get(name, ()))
        and probe.plan.expected.get(name) is Expected.TRAINABLE
        and name in probe.memberships
        and not hasattr(parameter, "_local_tensor")
        and probe.ground.change(parameter)[0]
    )


@contextmanager
def _values_kept(parameters: Mapping[str, torch.Tensor]) -> Iterator[None]:
    kept = _values(parameters)
    try:
        yield
    finally:
        _put(parameters, kept)


def _values(parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def _put(parameters: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.data.copy_(values[name])


def _nearby(value: torch.Tensor, direction: int) -> torch.Tensor:
    """Other values, in no direction that a norm would take away."""
    apart = torch.linspace(0.5, 1.0, value.numel(), device=value.device).view(value.shape)
    size = float(value.abs().max()) if value.numel() else 0.0
    return value + (direction * _NEARBY * (size or 1.0) * apart).to(value.dtype)
