"""The words that every record uses: one for one thing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Json = Any
"""A value that `json.dumps` takes: None, bool, int, float, str, list or dict of these."""


class Expected(StrEnum):
    """What the spec (or, without one, the `requires_grad` flags) says of a tensor."""

    FROZEN = "frozen"
    TRAINABLE = "trainable"
    UNCHECKED = "unchecked"


class Gradient(StrEnum):
    """The strongest that was seen in a tensor's `.grad` over all steps; nonfinite beats nonzero beats zero."""

    NONE = "none"
    ZERO = "zero"
    NONZERO = "nonzero"
    NONFINITE = "nonfinite"

    @property
    def rank(self) -> int:
        """0 for none, up to 3 for nonfinite."""
        return list(Gradient).index(self)

    def or_stronger(self, other: Gradient) -> Gradient:
        """Return the stronger of the two."""
        return max(self, other, key=lambda one: one.rank)


class Severity(StrEnum):
    """How grave a finding is; `rank` orders them (error highest)."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for a note, 1 for a warning, 2 for an error."""
        return list(Severity).index(self)


class Need(StrEnum):
    """What a rule cannot do without; where it is missing the rule is reported as skipped, with the reason."""

    SPEC = "spec"
    OPTIMIZER = "optimizer"
    PROBE = "probe"
    VALUES = "values"
    TRAINING = "training"
    COMPARISON = "comparison"
    PRETRAINED = "pretrained"


@dataclass(frozen=True, slots=True)
class Location:
    """A line of somebody's source file."""

    file: str
    """As the user would type it: relative to the working directory where it lies below it, else absolute."""
    line: int
    """Counted from 1."""
    function: str | None = None
    """Qualified name of the function the line is in, such as `Net.forward`."""
    text: str = ""
    """The source line itself, stripped; empty when it could not be read."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"
