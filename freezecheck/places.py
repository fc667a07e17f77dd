"""Whose file a frame is in, and the places in the user's own files that a message points to. No torch here."""

from __future__ import annotations

import importlib.util
import linecache
import os
import re
import sys
import sysconfig
import traceback
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Literal

from .records import Location

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

Kind = Literal["user", "library", "torch", "freezecheck", "python"]

_HERE = os.path.dirname(os.path.abspath(__file__))
_OURS = os.path.join(_HERE, "")
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_ENTRANCES = tuple(os.path.join(_HERE, name) for name in ("subject.py", "check.py", "pytest_plugin.py"))
"""Where freezecheck calls the user's code: what lies outside of such a frame only called freezecheck."""
_MOST_FRAMES = 12
"""Of a deeper traceback, only so many frames are shown: the outermost and the innermost half."""


_home: str | None = None
"""The folder that paths are told from, while the user's own code may change the working directory."""


@contextmanager
def told_from_here() -> Iterator[None]:
    """Tell paths as they are seen from where this was entered, wherever the user's code goes meanwhile."""
    global _home
    before, _home = _home, os.getcwd()
    try:
        yield
    finally:
        _home = before


def shown(path: str) -> str:
    """Return a file's path as the user would type it: relative to the working directory below it, else absolute."""
    absolute = os.path.abspath(path)
    below = os.path.join(_home or os.getcwd(), "")
    return absolute.removeprefix(below) if absolute.startswith(below) else absolute


@cache
def kind(filename: str) -> Kind:
    """Say whose code a file holds, by its path (`co_filename`).

    `library` is what is installed, torch aside; `python` is the standard library, and code that has no file. Whatever
    is left is the user's, wherever it lies: also below a folder that happens to be called torch.
    """
    if filename.startswith("<"):
        return "user" if filename.startswith("<ipython-input") else "python"
    path = filename if os.path.isabs(filename) and ".." not in filename else os.path.abspath(filename)
    if path.startswith(_OURS):
        return "freezecheck"
    if path.startswith(_torch_folders()):
        return "torch"
    if any(folder in path for folder in _INSTALLED):
        return "library"
    return "python" if path.startswith(_python_folders()) else "user"


@cache
def _torch_folders() -> tuple[str, ...]:
    """Where the torch package lies, with a separator at the end; finding a top-level package does not import it."""
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        return ()
    if spec is None or spec.origin is None:
        return ()
    folder = os.path.dirname(os.path.abspath(spec.origin))
    return (os.path.join(folder, ""), os.path.join(os.path.realpath(folder), ""))


@cache
def _python_folders() -> tuple[str, ...]:
    found = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.path.dirname(os.__file__))
    return tuple({os.path.join(os.path.abspath(folder), "") for folder in found if folder})


def user_location(frame: FrameType | None) -> Location | None:
    """Return the innermost line of the user's that `frame` was reached from, or None where they wrote none of it."""
    for outer in _outwards(frame):
        if kind(outer.f_code.co_filename) == "user":
            return _location(outer.f_code, outer.f_lineno)
    return None


def user_calls(frame: FrameType | None) -> tuple[tuple[CodeType, int], ...]:
    """Return the user's lines that `frame` was reached from, the innermost first, for `located`."""
    outwards = ((outer.f_code, outer.f_lineno) for outer in _outwards(frame))
    return tuple(call for call in outwards if kind(call[0].co_filename) == "user")


def located(call: tuple[CodeType, int]) -> Location:
    """Return the place of one of the `user_calls`."""
    return _location(*call)


def library_location(frame: FrameType | None) -> Location | None:
    """Return the innermost line of an installed library that the user's own line called into, or None."""
    for outer in _outwards(frame):
        whose = kind(outer.f_code.co_filename)
        if whose == "library":
            return _location(outer.f_code, outer.f_lineno)
        if whose == "user":
            return None
    return None


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """Walk from a frame to its callers, as far as the call with which freezecheck entered the user's code."""
    while frame is not None and frame.f_code.co_filename not in _ENTRANCES:
        yield frame
        frame = frame.f_back


def _location(code: CodeType, line: int | None) -> Location:
    number = line or code.co_firstlineno
    function = None if code.co_qualname == "<module>" else code.co_qualname
    text = linecache.getline(code.co_filename, number).strip()
    return Location(shown(code.co_filename), number, function, text)


def location_in(code: CodeType) -> Location:
    """Return where a function of the user's begins."""
    return _location(code, code.co_firstlineno)


def class_location(cls: type) -> Location | None:
    """Return the line on which a class of the user's begins; None for anybody else's, or one without a file."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return _class_in(file, cls.__name__) if file and kind(file) == "user" else None


@cache
def _class_in(file: str, name: str) -> Location | None:
    begins = re.compile(rf"\s*class\s+{re.escape(name)}\b")
    lines = enumerate(linecache.getlines(file), start=1)
    return next((Location(shown(file), n, text=line.strip()) for n, line in lines if begins.match(line)), None)


def raised_at(exception: BaseException) -> Location | None:
    """Return the innermost line of the user's in an exception's traceback; of a SyntaxError, the line it names."""
    if isinstance(exception, SyntaxError) and exception.filename and kind(exception.filename) == "user":
        return Location(shown(exception.filename), exception.lineno or 1, None, (exception.text or "").strip())
    places = _traced(exception, {"user"})
    return places[-1] if places else None


def frames_of(exception: BaseException) -> list[str]:
    """Return an exception's traceback cut to the user's frames, outermost first, each as two lines.

    Where no frame is the user's, the innermost frame of a library is given. Of a deep recursion the middle is left
    out; of a SyntaxError the offending line follows with a caret under the place.
    """
    places = _traced(exception, {"user"}) or _traced(exception, {"library", "torch"})[-1:]
    lines = _without_the_middle([_frame(place) for place in places])
    if isinstance(exception, SyntaxError) and exception.filename and exception.text:
        lines.append(_syntax(exception))
    return lines


def _traced(exception: BaseException, kinds: set[Kind]) -> list[Location]:
    steps = traceback.walk_tb(exception.__traceback__)
    return [_location(frame.f_code, line) for frame, line in steps if kind(frame.f_code.co_filename) in kinds]


def _frame(place: Location) -> str:
    where = f"  {place}" + (f" in {place.function}" if place.function else "")
    return f"{where}\n    {place.text}" if place.text else where


def _without_the_middle(lines: list[str]) -> list[str]:
    """Cut a deep traceback; a straight run of one repeated frame is said once with its count."""
    runs: list[tuple[str, int]] = []
    for line in lines:
        if runs and runs[-1][0] == line:
            runs[-1] = (line, runs[-1][1] + 1)
        else:
            runs.append((line, 1))
    said = [line + (f"\n    ({count} times)" if count > 1 else "") for line, count in runs]
    if len(said) <= _MOST_FRAMES:
        return said
    half = _MOST_FRAMES // 2
    return [*said[:half], f"  … {len(said) - 2 * half} frames left out …", *said[-half:]]


def _syntax(error: SyntaxError) -> str:
    text = (error.text or "").rstrip("\n")
    indent = len(text) - len(text.lstrip())
    column = max(0, (error.offset or 1) - 1 - indent)
    width = 1
    if error.end_lineno == error.lineno and error.end_offset and error.end_offset > (error.offset or 0):
        width = error.end_offset - (error.offset or 1)
    where = f"  {shown(error.filename or '')}:{error.lineno}"
    return f"{where}\n    {text.strip()}\n    {' ' * column}{'^' * width}"


def from_checkpoint(frame: FrameType | None) -> bool:
    """Whether a switch of the grad mode was asked for by torch's own checkpointing."""
    while frame is not None and frame.f_code.co_filename.endswith(("grad_mode.py", "_contextlib.py")):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.endswith(os.path.join("torch", "utils", "checkpoint.py"))


def switched_off_at(frame: FrameType) -> Location | None:
    """Return the user's line at which gradients were switched off; of a decorated function, its decorator."""
    outer: FrameType | None = frame
    while outer is not None and kind(outer.f_code.co_filename) == "torch":
        code = getattr(outer.f_locals.get("func"), "__code__", None)
        if outer.f_code.co_filename.endswith("_contextlib.py") and code is not None:
            begins = location_in(code)
            return begins if begins.text.startswith("@") and kind(code.co_filename) == "user" else None
        outer = outer.f_back
    return user_location(frame)
