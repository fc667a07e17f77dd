"""What is frozen in a watched model, held against the checkpoint that the spec says it starts from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..pretrained import against_pretrained
from ..records import Change

if TYPE_CHECKING:
    from .watched import Watched


@dataclass(frozen=True)
class Pretrained:
    """What the comparison showed."""

    changes: Mapping[str, Change] = field(default_factory=dict)
    said: str = ""
    """The checkpoint's name; empty where none was compared."""
    notes: tuple[str, ...] = ()
    why: str | None = None
    """Why none was, where the spec names one."""


def look(one: Watched, trained: Collection[int]) -> None:
    """Compare a model just before its first step; `trained` are the tensors that an earlier phase may have moved."""
    spec = one.spec
    if spec is None or spec.pretrained is None or one.plan.unmatched or not one.plan.from_spec:
        return
    if one.evidence.sharded:
        one.pretrained = Pretrained(why="the parameters are sharded over ranks, and the checkpoint holds whole ones")
        return
    try:
        one.pretrained = Pretrained(*against_pretrained(spec, one.body, one.plan, trained))
    except UsageError as error:  # the training is not ours to end
        one.pretrained = Pretrained(why=f"the pretrained checkpoint could not be compared: {error.message}")
