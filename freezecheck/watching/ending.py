"""How a script ended that did not come to its end, and what the report says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import ProbeError
from ..guard import said
from ..places import frames_of, raised_at
from ..records import Ending, Gradient, Location, Report, Skipped
from .main import LeftAtOnce

if TYPE_CHECKING:
    from .session import Session


@dataclass(frozen=True)
class Ended:
    """The error that a script raised, or with which it left."""

    error: BaseException
    said: str
    location: Location | None
    frames: tuple[str, ...]

    @classmethod
    def of(cls, error: BaseException) -> Ended:
        """Keep what is to be told of an exception that came out of the script."""
        words = f"called os._exit({error.status})" if isinstance(error, LeftAtOnce) else said(error)
        return cls(error, words, raised_at(error), tuple(frames_of(error)))

    def explained_by(self, session: Session) -> None:
        """Where it was a backward that ended it, from a loss without a graph: let that be what was seen of the loss."""
        if session.graphless is None or session.graphless[0] is not self.error:
            return
        for one in session.models:
            if any(seen is not Gradient.NONE for seen in one.evidence.gradients.values()):
                one.evidence.loss = session.graphless[1]

    def told_in(self, report: Report, status: int) -> Report:
        """The report with this ending."""
        at = f" at {self.location}" if self.location else ""
        rest = Skipped("the rest of the script", f"it {self.said}{at}")
        return replace(report, ending=Ending(status, self.said, self.location), skipped=(*report.skipped, rest))


def nothing_seen(path: str, session: Session, ended: Ended | None, status: int) -> ProbeError:
    """Say that a script made no step, and why if it told."""
    models = ", ".join(one.said for one in session.models) or "no model's forward"
    made = ", ".join(type(one).__name__ for one in session.optimizers) or "no optimizer"
    seen = f"seen by then: {models}, {made}"
    if ended is None:
        return ProbeError(
            f"{path} ended without an optimizer step; {seen}",
            hint="Nothing was trained, so nothing can be judged. A training in a thread of its own is not seen: call "
            "it from the main one. One in processes of its own (multiprocessing spawn) is watched with "
            "`torchrun … -m freezecheck run`; `freezecheck verify` checks a model without its script.",
        )
    error = ProbeError(
        f"{path} {ended.said}, before its first optimizer step; {seen}",
        hint="mend the script's own error first: nothing was trained, so nothing can be judged",
        location=ended.location,
        frames=ended.frames,
    )
    error.exit_code = status
    return error
