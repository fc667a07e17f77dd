"""The two comparisons that are made: checkpoint with checkpoint, checkpoint with model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..records import Change
from ._checkpoint import Checkpoint
from ._compare import Progress, compare, nbytes
from ._names import Alignment, align
from ._pairs import Pair, pair

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Compared:
    """Every tensor of two checkpoints, in the order of the second, and what only the first has behind it."""

    pairs: tuple[Pair, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()
    """How the names were brought together."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """The first side's names that were renamed to the second's."""
    nbytes: int = 0
    """Bytes of one side that were compared."""


def compare_checkpoints(before: Checkpoint, after: Checkpoint, progress: Progress | None = None) -> Compared:
    """Compare two checkpoints tensor by tensor.

    Raises UsageError when they have no name in common, or one holds the other's twice and nothing says which is meant,
    or a file is truncated, or changed while it was read.
    """
    alignment = align(before.entries, after.entries)
    if alignment.rivals:
        raise _undecided(*((after, before.said) if alignment.longer == "after" else (before, after.said)), alignment)
    pairs = pair(before.entries, after.entries, alignment.rename)
    if not any(one.before and one.after for one in pairs):
        raise _strangers(before.said, before.names, after.said, after.names)
    changes = compare(pairs, progress)
    before.check_unchanged()
    after.check_unchanged()
    notes = (alignment.note,) if alignment.note else ()
    return Compared(tuple(pairs), tuple(changes), notes, alignment.rename, nbytes(pairs))


def compare_model(
    stored: Checkpoint, tensors: Mapping[str, torch.Tensor], progress: Progress | None = None
) -> dict[str, Change]:
    """Compare a model's tensors, by name, with a checkpoint, which is `before`; return a change under each name.

    A tensor that the checkpoint lacks has `before` None. What the checkpoint alone has is not mentioned. Raises
    UsageError when they have no name in common, or the checkpoint holds the model's twice and nothing says which is
    meant, or the file is truncated, or changed while it was read.
    """
    from ._torch import entries

    model = entries(tensors)
    alignment = align(stored.entries, model, ("in the checkpoint", "in the model"))
    if alignment.rivals and alignment.longer == "in the checkpoint":  # which part of a model is meant, no key could say
        raise _undecided(stored, "the model", alignment)
    pairs = [one for one in pair(stored.entries, model, alignment.rename) if one.after is not None]
    if tensors and not any(one.before for one in pairs):
        raise _strangers(stored.said, stored.names, "the model", tuple(tensors))
    changes = compare(pairs, progress)
    stored.check_unchanged()
    found = {name: change for one, change in zip(pairs, changes, strict=True) for name in one.names}
    return {name: found[name] for name in tensors}


def _strangers(first: str, ours: tuple[str, ...], second: str, theirs: tuple[str, ...]) -> UsageError:
    return UsageError(
        f"{first} and {second} have no tensor name in common: {_some(ours)} there, {_some(theirs)} here",
        hint="They are of two different models; or `--key` names the state dict that is meant.",
    )


def _undecided(longer: Checkpoint, shorter: str, alignment: Alignment) -> UsageError:
    behind = [f"behind `{prefix}`" for prefix in alignment.rivals]
    shown = behind if len(behind) <= 3 else [*behind[:3], f"{len(behind) - 3} more"]
    return UsageError(
        f"the names in {shorter} fit those in {longer.said} equally well {', '.join(shown[:-1])} and {shown[-1]}",
        hint=f"Say which is meant, such as `--key {longer.within}{alignment.rivals[0]}`, final dot included; a file "
        "without such names is taken whole.",
    )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names[:2]) + (" …" if len(names) > 2 else "")
