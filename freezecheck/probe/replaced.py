"""Functions of torch that are replaced for a while, by several who may end in another order than they began."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Around = Callable[[Any], Any]
"""Called with what stood there before; returns what is to stand there instead."""


def hand_on(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Make a call that is the user's own, asked for through a function of ours: what is wrong with it ends here."""
    return call(*args, **kwargs)


class _Place:
    """One attribute, with torch's own value and all that is put around it now, the innermost first."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name, self.own = owner, name, vars(owner)[name]
        self.around: list[Around] = []

    def renew(self) -> None:
        value = self.own
        for around in self.around:
            value = around(value)
        setattr(self.owner, self.name, value)


_places: dict[tuple[int, str], _Place] = {}


@contextmanager
def replaced(owner: Any, name: str, around: Around) -> Iterator[None]:
    """Let `owner.name` be `around(what it was)` while the context lasts; torch's own comes back with the last.

    `owner` is a module or a class that has the attribute itself. A classmethod or staticmethod is handed over as such.
    """
    key = (id(owner), name)
    place = _places.get(key) or _places.setdefault(key, _Place(owner, name))
    place.around.append(around)
    place.renew()
    try:
        yield
    finally:
        place.around.remove(around)
        place.renew()
        if not place.around:
            _places.pop(key, None)
