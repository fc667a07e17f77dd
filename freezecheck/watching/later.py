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

_Key = tuple[str, str | None, str]
"""A finding of one tensor: code, phase, name."""
_BY_CHANCE = frozenset({"FZ201", "FZ202", "FZ206", "FZ302", "FZ303", "FZ405"})
"""What one step alone may show of a right training: a branch that this batch does not take, a gradient that is zero."""
_RUNNING = 6
"""Looks in which such a thing must be seen, one after another.

The first leads to looks at the very next steps: at every K-th alone, tasks that take turns would look as if one of them
never came.
"""
_AS_OFTEN = 10
"""So many times as long as it was seen before, where it went away again."""


class Later:
    """Counts optimizer steps, and watches every `every`-th from its forward to its end. The others cost a call."""

    def __init__(
        self, spec: Spec | None, first: Session, every: int, judge: Callable[[Session, int], None], count: int = 0
    ) -> None:
        """`first` saw the first steps; `judge` is told each later one, and its step's number; `count` are made."""
        self._spec, self._first, self._every, self._judge = spec, first, every, judge
        self.count = count
        """Optimizer steps by now."""
        self._running: Counter[_Key] = Counter()
        self._before: Counter[_Key] = Counter()
        """The longest such row of looks that ended: a branch that is taken at times may sleep as long again."""
        self._in_doubt = False
        """Something was seen that the next steps will tell to be chance or not."""
        self._session: Session | None = None
        self._stop = listen(lambda *_: None, self._stepped)
        self._look_if_due()

    def _stepped(self, _optimizer: Any) -> None:
        self.count += 1
        self._look_if_due()

    def _look_if_due(self) -> None:
        if self._session is None and ((self.count + 1) % self._every == 0 or self._in_doubt):
            self._session = Session(self._spec, steps=1, choose=self._first.choose, enough=self._seen)
            self._session.pretrained = False  # what it starts from was seen with the first steps
            self._session.follow(self._first)
            self._session.inherited = 0  # one optimizer's step is waited for as another's
            self._session.__enter__()

    def _seen(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._judge(session, self.count)
            self._look_if_due()

    def news(
        self, now: Sequence[Finding], known: Iterable[Finding], without: Callable[[set[str]], Sequence[Finding]]
    ) -> list[Finding]:
        """Return what is new: said of other tensors than before, and not seen by chance in this step alone.

        `without` judges the step again, with some tensors left out: those that may sleep by chance beside others.
        """
        said = {key for finding in known for key in _keys(finding)}
        seen = {key for finding in now for key in _keys(finding)}
        for key in self._running.keys() - seen:
            self._before[key] = max(self._before[key], self._running[key])
        self._running = Counter({key: self._running[key] + 1 for key in seen})
        missing = {key: self._wanted(key) - times for key, times in self._running.items() if key not in said}
        self._in_doubt = any(0 < looks < _RUNNING for looks in missing.values())
        told = {key for key, looks in missing.items() if looks <= 0}
        chance = {code for code, _, _ in told} & _BY_CHANCE
        resting = {name for code, _, name in seen - told if code in chance}
        if resting:
            now = [finding for finding in without(resting) if finding.code in chance] + [
                finding for finding in now if finding.code not in chance
            ]
        return [finding for finding in now if _keys(finding) & told]

    def _wanted(self, key: _Key) -> int:
        """In how many looks running it must be seen."""
        return max(_RUNNING, _AS_OFTEN * self._before[key]) if key[0] in _BY_CHANCE else 1

    def close(self) -> None:
        """Stop counting, and drop a step that is only half seen."""
        self._stop()
        if self._session is not None:
            self._session.close()
        let_go()


def _keys(finding: Finding) -> set[_Key]:
    return {(finding.code, finding.phase, name) for name in finding.tensors or (finding.message,)}
