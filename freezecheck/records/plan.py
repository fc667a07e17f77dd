"""What is expected of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .words import Expected, Location


@dataclass(frozen=True, slots=True)
class Selector:
    """One selector of the spec and the list it stands in."""

    text: str
    list: str
    """The key it stands under: trainable, frozen, unchecked, buffers_may_move or eval."""
    location: Location | None = None


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A selector that selects nothing."""

    selector: Selector
    nearest: tuple[str, ...] = ()
    """The nearest existing names, best first."""
    hint: str = ""
    """Why it selects nothing, where that is known and more than a misspelling."""
    meant: tuple[str, ...] = ()
    """Canonical names of the tensors that the nearest name would select."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A selector of which a checkpoint does not tell what it selects in the model."""

    selector: Selector
    why: str
    """What is not known."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Tensors that two lists name."""

    stronger: Selector
    """The selector that wins."""
    weaker: Selector
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A tied tensor that is expected frozen under one name and trainable under another."""

    tensor: str
    frozen_as: str
    trainable_as: str
    location: Location | None = None
    """The selector that makes it trainable."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The `[expect]` table of a spec; None where a count is not given."""

    trainable_parameters: int | None = None
    frozen_parameters: int | None = None
    location: Location | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """Neighbouring rows of one parameter (indices into its first dimension) of which the same is expected."""

    start: int
    stop: int
    """Half-open, as in Python."""
    expected: Expected


@dataclass(frozen=True)
class Plan:
    """What the spec says of each tensor of this model."""

    expected: Mapping[str, Expected]
    """By canonical tensor name. A tensor in `contradictions` is unchecked here.

    A tensor in `rows` is expected trainable here when some of its rows are, else unchecked.
    """
    from_spec: bool = True
    """False when the `requires_grad` flags were taken as the intent."""
    buffers_may_move: frozenset[str] = frozenset()
    """Canonical names of buffers that may change although expected frozen."""
    eval_layers: tuple[str, ...] = ()
    """Paths of the modules that the training loop puts back into eval mode (each with its subtree)."""
    unmatched: tuple[Unmatched, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    counts: Counts | None = None
    rows: Mapping[str, tuple[Rows, ...]] = field(default_factory=dict)
    """By canonical name, the rows of each parameter whose rows are not all expected alike: all of them, in order."""
    said_at: Mapping[str, Location] = field(default_factory=dict)
    """By canonical tensor name, the line of the spec that says it; only where the spec has lines."""
    doubts: tuple[Doubt, ...] = ()
    """The selectors that could not be settled; of a real model there are none."""
    in_doubt: frozenset[str] = frozenset()
    """Canonical names of the tensors of which something else is expected one way than another: they are unchecked."""
