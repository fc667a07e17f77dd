"""Being Python: a script's `__main__`, argv and path, and how it ends."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import runpy
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..errors import UsageError
from ..places import kind


class LeftAtOnce(BaseException):
    """The script called `os._exit`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def execute(path: str, *, as_module: bool) -> None:
    """Run a file, or a module by its dotted name, as the main module. Raises UsageError when there is no such module.

    A file runs in a real module of that name, so that its classes can be pickled and spawned workers find it.
    """
    if as_module:
        _must_exist(path)
        runpy.run_module(path, run_name="__main__", alter_sys=True)
        return
    path = os.path.abspath(path)
    with open(path, "rb") as file:
        source = file.read()
    main = types.ModuleType("__main__")
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    main.__dict__.update(
        __file__=path, __builtins__=__builtins__, __spec__=None, __cached__=None, __annotations__={}, __loader__=loader
    )
    sys.modules["__main__"] = main
    exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)  # that is what running a script is


def _must_exist(name: str) -> None:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a package on the way to it imports something that is not there
        found = None
    if found is None:
        raise UsageError(f"there is no module named {name}", hint="freezecheck run [OPTIONS] -m MODULE [ARGS...]")


@contextmanager
def as_main(path: str, arguments: Sequence[str], *, as_module: bool) -> Iterator[None]:
    """Give the script its own argv, first place on the path and `__main__`, and put ours back."""
    main, argv, before = sys.modules["__main__"], sys.argv, list(sys.path)
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.getcwd() if as_module else os.path.dirname(os.path.realpath(path)))
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = main, argv, before


@contextmanager
def leaving_seen() -> Iterator[None]:
    """Turn `os._exit` of this thread into an exception, so that what was seen is still told."""
    leave, process, thread = os._exit, os.getpid(), threading.get_ident()

    def watched_leave(status: int) -> None:
        if os.getpid() != process or threading.get_ident() != thread:
            leave(status)
        raise LeftAtOnce(status)

    os._exit = watched_leave  # type: ignore[assignment]  # put back below
    try:
        yield
    finally:
        os._exit = leave


def status_of(leaving: SystemExit) -> int:
    """Return the exit status of a `sys.exit`; a message is printed, as Python does."""
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code
    print(leaving.code, file=sys.stderr)
    return 1


def raised(error: BaseException) -> None:
    """Show what the script raised as Python would, by whatever hook it set, without our own frames at its head."""
    trace = error.__traceback__
    while trace is not None and kind(trace.tb_frame.f_code.co_filename) in ("freezecheck", "python"):
        trace = trace.tb_next
    sys.excepthook(type(error), error.with_traceback(trace), trace)
