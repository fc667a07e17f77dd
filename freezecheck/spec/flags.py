"""Without a spec, the `requires_grad` flags are the intent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..records import Description, Expected, Plan, Tensor


def plan_from_flags(description: Description) -> Plan:
    """Expect of each parameter what its flag says, and of a buffer that it stands still where its layer is frozen.

    A buffer's layer is its owner when that has parameters of its own, else the nearest module above it (its owner
    included) whose subtree has any. Parameters that cannot require grad are unchecked.
    """
    own, below = _tally(description)
    return Plan({tensor.name: _intent(tensor, own, below) for tensor in description.tensors}, from_spec=False)


_Tally = Counter[tuple[str, bool]]
"""How many parameters with this flag (True: requires grad) a layer has."""


def _tally(description: Description) -> tuple[_Tally, _Tally]:
    """What each layer owns itself, and what its subtree holds."""
    own: _Tally = Counter()
    below: _Tally = Counter()
    for tensor in description.tensors:
        if tensor.kind == "parameter" and tensor.differentiable:
            for name in tensor.names:
                owner = name.rpartition(".")[0]
                own[owner, tensor.requires_grad] += 1
                for path in _upwards(owner):
                    below[path, tensor.requires_grad] += 1
    return own, below


def _intent(tensor: Tensor, own: _Tally, below: _Tally) -> Expected:
    if tensor.kind == "parameter":
        if not tensor.differentiable:
            return Expected.UNCHECKED
        return Expected.TRAINABLE if tensor.requires_grad else Expected.FROZEN
    if own[tensor.owner, True] or own[tensor.owner, False]:
        return Expected.UNCHECKED if own[tensor.owner, True] else Expected.FROZEN
    for path in _upwards(tensor.owner):
        if below[path, True] or below[path, False]:
            return Expected.UNCHECKED if below[path, True] else Expected.FROZEN
    return Expected.UNCHECKED


def _upwards(path: str) -> Iterator[str]:
    """The path itself and all above it, the root last."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""
