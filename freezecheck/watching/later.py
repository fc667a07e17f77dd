"""Looking again, at one step in so many, while the training goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from .session import Session

if TYPE_CHECKING:
    from ..spec import Spec


class Later:
    """Counts optimizer steps, and watches every `every`-th from its forward to its end. The others cost a call."""

    def __init__(self, spec: Spec | None, every: int, judge: Callable[[Session, int], None]) -> None:
        self._spec, self._every, self._judge = spec, every, judge
        self._count = 0
        self._session: Session | None = None
        self._handle = register_optimizer_step_post_hook(self._stepped)

    def _stepped(self, _optimizer: Any, _args: Any, _kwargs: Any) -> None:
        self._count += 1
        if self._session is None and (self._count + 1) % self._every == 0:
            self._session = Session(self._spec, steps=1, enough=self._seen)
            self._session.__enter__()

    def _seen(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._judge(session, self._count + 1)

    def close(self) -> None:
        """Stop counting, and drop a step that is only half seen."""
        self._handle.remove()
        if self._session is not None:
            self._session.close()
