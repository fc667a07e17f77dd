"""What a comparison of stored tensors saw: two checkpoints, or a model and the checkpoint it began from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as it lies in a checkpoint (or in the model that is compared with one)."""

    shape: tuple[int, ...]
    dtype: str
    """As torch names it, without `torch.`."""


@dataclass(frozen=True, slots=True)
class Change:
    """One tensor on both sides. Absolute changes are in the tensor's own unit."""

    before: Stored | None = None
    """None: it is only in what came after."""
    after: Stored | None = None
    """None: it is only in what came before."""
    same: bool | None = None
    """Whether every byte is the same (in the lower dtype where the two differ); None where that cannot be said."""
    max_abs: float | None = None
    """Over the elements that are finite on both sides; None where there are no numbers to compare."""
    mean_abs: float | None = None
    """Over the same elements, the unchanged ones included."""
    changed: int | None = None
    """Number of elements of which some byte differs."""
    nonfinite: int = 0
    """Number of changed elements that are NaN or infinite on either side; `max_abs` leaves them out."""
    rows: tuple[tuple[int, int], ...] | None = None
    """Half-open ranges of the first dimension in which something changed, ascending; None where rows mean nothing.

    Where the two have different numbers of rows, the rows that only one of them has count as changed.
    """
    compared_as: str | None = None
    """The lower dtype, when the two differ and the comparison was made in it."""
    why: str = ""
    """Why it could not be compared, or not as numbers; empty when it could."""

    @property
    def missing(self) -> bool:
        """Whether only one side has it."""
        return self.before is None or self.after is None

    @property
    def largest(self) -> float | None:
        """The largest absolute change; infinity where an element became NaN or infinite, or was and changed."""
        return float("inf") if self.nonfinite else self.max_abs


@dataclass(frozen=True, slots=True)
class Comparison:
    """The two sides as the user named them, and what must be known of how they were brought together."""

    before: str
    after: str
    notes: tuple[str, ...] = ()
    """Sentences: prefixes matched, dtypes lowered, state dicts chosen, optimizer state."""
    nbytes: int = 0
    """Bytes compared, of one side."""
