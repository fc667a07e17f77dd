"""Being Python: a script's `__main__`, argv and path, and how it ends."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import runpy
import sys
import traceback
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


def status_of(leaving: SystemExit) -> int:
    """Return the exit status of a `sys.exit`; a message is printed, as Python does."""
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code
    print(leaving.code, file=sys.stderr)
    return 1


def raised(error: BaseException) -> None:
    """Show what the script raised as Python would, by whatever hook it set, without any frame of ours."""
    chained: BaseException | None = error
    while chained is not None:
        chained.__traceback__ = _without_ours(chained.__traceback__)
        chained = chained.__cause__ or chained.__context__
    sys.excepthook(type(error), error, error.__traceback__)


def is_ours(error: BaseException) -> bool:
    """Whether the watch itself broke, and not the script: the innermost frame is in this package, this file aside.

    What a script asks for through a function of ours is called by `hand_on`, which is not in this package.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    folder, name = os.path.split(frames[-1].f_code.co_filename) if frames else ("", "")
    return isinstance(error, Exception) and folder == os.path.dirname(__file__) and name != "main.py"


def _without_ours(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Take out our own frames, and those with which torch hands a call to the tracer, which then makes it again."""
    steps = []
    while trace is not None:
        steps.append(trace)
        trace = trace.tb_next
    ours = [kind(step.tb_frame.f_code.co_filename) == "freezecheck" for step in steps]
    handed = [step.tb_frame.f_code.co_name == "handle_torch_function" for step in steps]
    first = next((n for n, step in enumerate(steps) if _is_script(step)), 0)
    kept = None
    for number in range(len(steps) - 1, first - 1, -1):
        if not (ours[number] or handed[number] or (number + 1 < len(steps) and handed[number + 1])):
            step = steps[number]
            kept = types.TracebackType(kept, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return kept


def _is_script(step: types.TracebackType) -> bool:
    return kind(step.tb_frame.f_code.co_filename) not in ("freezecheck", "python")
