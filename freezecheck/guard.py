"""The one way the user's code is run: what it prints goes to stderr, what it raises becomes an error with its place."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from contextlib import contextmanager, redirect_stdout, suppress
from functools import cache
from typing import TYPE_CHECKING, TextIO

from .errors import FreezecheckError
from .places import frames_of, raised_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STDOUT, _STDERR = 1, 2  # the process's file descriptors
_LONGEST_WORDS = 2000
"""Characters of an exception's own message that are passed on; CUDA's and einops' can run to pages."""


@contextmanager
def users_code(doing: str, error: type[FreezecheckError], *, hint: str = "") -> Iterator[None]:
    """Run code of the user's; `doing` says what it does, as in `building the model`.

    For the time of the block stdout is stderr, for Python's prints and for those of C libraries alike. Whatever the
    code raises, also SystemExit and KeyboardInterrupt, is raised anew as `error` with the user's frames; an error of
    freezecheck's own passes unchanged.
    """
    try:
        with printing_to_stderr(), exits_seen():
            yield
    except (FreezecheckError, GeneratorExit):
        raise
    except BaseException as exception:
        raise error(
            f"{doing} {said(exception)}", hint=hint, location=raised_at(exception), frames=frames_of(exception)
        ) from exception


@contextmanager
def exits_seen(error: Callable[[int], BaseException] = SystemExit, *, everywhere: bool = True) -> Iterator[None]:
    """Turn `os._exit` of this process into an exception: it would end the check without a word, and with success.

    In another thread than this one only if `everywhere`.
    """
    leave, process, thread = os._exit, os.getpid(), threading.get_ident()

    def seen(status: int) -> None:
        if os.getpid() != process or not (everywhere or threading.get_ident() == thread):
            leave(status)
        raise error(status)

    os._exit = seen  # type: ignore[assignment]  # put back below
    try:
        yield
    finally:
        os._exit = leave


def said(exception: BaseException) -> str:
    """Say what an exception means in a clause: `raised ValueError: bad depth`, `called sys.exit(3)`."""
    if isinstance(exception, SystemExit):
        return f"called sys.exit({'' if exception.code is None else repr(exception.code)})"
    if isinstance(exception, KeyboardInterrupt):
        return "was interrupted"
    if isinstance(exception, RecursionError):
        return "never ended: its functions call one another without end (RecursionError)"
    if isinstance(exception, MemoryError):
        return f"ran out of memory{_words(exception)}"
    if isinstance(exception, SyntaxError):
        return f"failed, there is a syntax error: {exception.msg}"
    return f"raised {type(exception).__name__}{_words(exception)}"


def _words(exception: BaseException) -> str:
    """Its message after a colon. Somebody's `__str__` may itself raise, and a KeyError's message is only the key."""
    try:
        words = str(exception).strip()
    except Exception:
        return ""
    if len(words) > _LONGEST_WORDS:
        words = words[:_LONGEST_WORDS].rstrip() + " …"
    return f": {words}" if words else ""


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """Send to stderr what is printed meanwhile; the file descriptor too, when `sys.stdout` is the process's own."""
    with _descriptor_to_stderr(), redirect_stdout(sys.stderr):
        yield


def stdout_is_written() -> None:
    """Send to stderr what is printed from now on: by the user's own functions that run as the process ends."""
    stream = sys.stdout
    with suppress(OSError, ValueError):  # what could not be written is not to come out on stderr
        if stream is not None and stream.fileno() == _STDOUT:
            stream.flush()
            os.fstat(_STDERR)
            os.dup2(_STDERR, _STDOUT)


@contextmanager
def _descriptor_to_stderr() -> Iterator[None]:
    stream = sys.stdout
    saved = _copy_of(stream)
    if saved is None:
        yield
        return
    os.dup2(_STDERR, _STDOUT)
    try:
        yield
    finally:
        _flush(stream)
        os.dup2(saved, _STDOUT)
        os.close(saved)


def _copy_of(stream: TextIO | None) -> int | None:
    """Copy the descriptor that stdout writes to, to restore it later; None where it is not the process's own."""
    try:
        if stream is None or stream.fileno() != _STDOUT:
            return None
        _flush(stream)
        os.fstat(_STDERR)
        return os.dup(_STDOUT)
    except (OSError, ValueError):
        return None


def _flush(stream: TextIO) -> None:
    """Write out what Python and the C library still hold back, while the descriptor stands where it belongs."""
    with suppress(OSError, ValueError):
        stream.flush()
    with suppress(OSError, AttributeError, TypeError):  # Windows names its C library otherwise
        _c_library().fflush(None)


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
