"""A line on stderr that says what is under way, for a person at a terminal who has waited for a second."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event, Thread

from .options import Options
from .output import encodable

_PATIENCE = 1.0
"""Seconds before anything is said."""
_TURN = 0.2
"""Seconds between two drawings."""
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_WIPE = "\r\x1b[K"


class _Spinner:
    """Draws from a thread of its own, so that it turns while the user's code runs."""

    def __init__(self) -> None:
        self.doing = "checking"
        self._began = time.monotonic()
        self._done = Event()
        self._drawn = False
        self._thread = Thread(target=self._turn, daemon=True)
        self._thread.start()

    def _turn(self) -> None:
        if self._done.wait(_PATIENCE):
            return
        number = 0
        while not self._done.wait(_TURN):
            self._drawn = True
            number += 1
            self._draw(_FRAMES[number % len(_FRAMES)])

    def _draw(self, frame: str) -> None:
        said = f"{frame} {self.doing} … {time.monotonic() - self._began:.0f} s"
        width = shutil.get_terminal_size().columns - 1
        print(_WIPE + encodable(said[:width], sys.stderr), end="", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Draw no more, and wipe away what was drawn."""
        self._done.set()
        self._thread.join()
        if self._drawn:
            print(_WIPE, end="", file=sys.stderr, flush=True)


_spinner: ContextVar[_Spinner | None] = ContextVar("_spinner", default=None)


def say(doing: str) -> None:
    """Tell whoever is waiting what is about to be done, as in `training step 2 of at most 3`; else do nothing."""
    spinner = _spinner.get()
    if spinner is not None:
        spinner.doing = doing


@contextmanager
def progress(options: Options) -> Iterator[None]:
    """Show what `say` is told for the time of the block; with --quiet, or where stderr is no terminal, show nothing."""
    if options.quiet or not sys.stderr.isatty():
        yield
        return
    spinner = _Spinner()
    before = _spinner.set(spinner)
    try:
        yield
    finally:
        _spinner.reset(before)
        spinner.stop()
