"""Looking again, at one step in so many, while the training goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .session import Session
from .steps import let_go, listen

if TYPE_CHECKING:
    from ..records import Finding
    from ..spec import Spec

_BY_CHANCE = frozenset({"FZ201", "FZ202", "FZ206", "FZ302", "FZ303", "FZ405"})
"""What one step alone may show of a right training: a branch that this batch does not take, a gradient that is zero."""
_RUNNING = 3
"""Looks in which such a thing must be seen, one after another."""


class Later:
    """Counts optimizer steps, and watches every `every`-th from its forward to its end. The others cost a call."""

    def __init__(
        self, spec: Spec | None, first: Session, every: int, judge: Callable[[Session, int], None], count: int = 0
    ) -> None:
        """`first` saw the first steps; `judge` is told each later one, and its step's number; `count` are made."""
        self._spec, self._first, self._every, self._judge = spec, first, every, judge
        self.count = count
        """Optimizer steps by now."""
        self._running: Counter[tuple[str, str | None, str]] = Counter()
        self._session: Session | None = None
        self._stop = listen(lambda *_: None, self._stepped)
        self._look_if_due()

    def _stepped(self, _optimizer: Any) -> None:
        self.count += 1
        self._look_if_due()

    def _look_if_due(self) -> None:
        if self._session is None and (self.count + 1) % self._every == 0:
            self._session = Session(self._spec, steps=1, choose=self._first.choose, enough=self._seen)
            self._session.pretrained = False  # what it starts from was seen with the first steps
            self._session.follow(self._first)
            self._session.inherited = 0  # one optimizer's step is waited for as another's
            self._session.__enter__()

    def _seen(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._judge(session, self.count)

    def news(self, now: Sequence[Finding], known: Iterable[Finding]) -> list[Finding]:
        """Return what is new: said of other tensors than before, and not seen by chance in this step alone."""
        said = {key for finding in known for key in _keys(finding)}
        self._running = Counter({key: self._running[key] + 1 for finding in now for key in _keys(finding)})
        return [finding for finding in now if any(self._counts(finding, key) for key in _keys(finding) - said)]

    def _counts(self, finding: Finding, key: tuple[str, str | None, str]) -> bool:
        return self._running[key] >= (_RUNNING if finding.code in _BY_CHANCE else 1)

    def close(self) -> None:
        """Stop counting, and drop a step that is only half seen."""
        self._stop()
        if self._session is not None:
            self._session.close()
        let_go()


def _keys(finding: Finding) -> set[tuple[str, str | None, str]]:
    return {(finding.code, finding.phase, name) for name in finding.tensors or (finding.message,)}
