"""Where the report goes: stdout, or a file that is either written whole or left as it was."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from types import TracebackType
from typing import TextIO

from ..errors import UsageError


class Output:
    """A place to write one text to. Entering it finds out whether it can be written, before any work is done.

    A file appears, or is replaced, only by `write`; whatever goes wrong before leaves it as it was. Raises UsageError
    when it cannot be written.
    """

    def __init__(self, path: str | None) -> None:
        self._path = None if path in (None, "-") else os.path.realpath(path or "")
        self._said = path
        self._draft: str | None = None

    @property
    def file(self) -> str | None:
        """The file it writes, as the user named it; None for stdout."""
        return None if self._path is None else self._said

    def __enter__(self) -> Output:
        """Check that the place can be written."""
        if self._path is None:
            return self
        try:
            if os.path.exists(self._path):
                with open(self._path, "ab"):
                    pass
            if not self._is_device():
                handle, self._draft = tempfile.mkstemp(prefix=".freezecheck-", dir=os.path.dirname(self._path))
                os.close(handle)
        except OSError as error:
            raise UsageError(
                f"cannot write {self._said}: {error.strerror}", hint="Name a file in a folder that exists and is yours."
            ) from None
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Take away what was begun and not finished."""
        if self._draft is not None:
            with suppress(OSError):
                os.unlink(self._draft)

    def write(self, text: str) -> None:
        """Write the text, in UTF-8 to a file."""
        if self._path is None:
            to_stdout(text)
            return
        try:
            with open(self._draft or self._path, "w", encoding="utf-8") as file:
                file.write(readable(text))
            if self._draft is not None:
                os.chmod(self._draft, self._mode())
                os.replace(self._draft, self._path)
                self._draft = None
        except OSError as error:
            raise UsageError(
                f"cannot write {self._said}: {error.strerror}", hint="Name a file on another disk, or make room."
            ) from None

    def _is_device(self) -> bool:
        """Whether it is something that must not be replaced, such as /dev/stdout or a named pipe."""
        assert self._path is not None
        return os.path.exists(self._path) and not os.path.isfile(self._path)

    def _mode(self) -> int:
        """The permissions of the file that is replaced, else those that a new file would get."""
        assert self._path is not None
        if os.path.exists(self._path):
            return stat.S_IMODE(os.stat(self._path).st_mode)
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


def to_stdout(text: str) -> None:
    """Write to stdout; a character that its encoding lacks becomes a question mark rather than an error.

    A reader that went away, as `| head` does, is no error either: the exit code stays what was found.
    """
    try:
        sys.stdout.write(encodable(text, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer must go somewhere, or Python complains about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def encodable(text: str, stream: TextIO) -> str:
    """Return the text with a question mark for each character that the stream cannot encode."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return readable(text).encode(encoding, "replace").decode(encoding)


def readable(text: str) -> str:
    """Return the text with the names of files as UTF-8: where Python's own encoding is another, it keeps bare bytes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
