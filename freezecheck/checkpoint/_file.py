"""A file that is read at any place by several threads, and that must not change while it is."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from typing import Any

from ..errors import UsageError
from ..places import shown


class File:
    """An open file. Raises UsageError when it cannot be opened or read, or ends before it should."""

    def __init__(self, path: str) -> None:
        self.said = shown(path)
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - it stays open as long as its checkpoint
        except OSError as error:
            raise UsageError(
                f"{self.said} cannot be read: {error.strerror}", hint="Name a checkpoint file or folder."
            ) from None
        self._lock = threading.Lock()
        self._state = self._stat()

    @property
    def size(self) -> int:
        """Bytes it had when it was opened."""
        return self._state[0]

    def reader(self, start: int) -> Callable[[int, memoryview], None]:
        """Return a `read` that counts from a place in the file on."""
        return lambda offset, into: self.read(start + offset, into)

    def read(self, offset: int, into: memoryview) -> None:
        """Fill the view with what stands at an offset."""
        while into:
            try:
                got = self._read_once(offset, into)
            except OSError as error:
                raise UsageError(
                    f"{self.said} cannot be read at byte {offset:,}: {error.strerror}",
                    hint="Copy it to another disk first; where that fails as well, its disk is to blame.",
                ) from None
            if not got:
                raise UsageError(
                    f"{self.said} ends at byte {offset:,}, in the middle of its tensors",
                    hint="It is truncated, or still being written: compare it when it is whole.",
                )
            offset, into = offset + got, into[got:]

    def head(self, count: int) -> bytes:
        """Return its first bytes, fewer when it is shorter."""
        room = bytearray(min(count, self.size))
        self.read(0, memoryview(room))
        return bytes(room)

    def check_unchanged(self) -> None:
        """Raise UsageError when somebody wrote to it since it was opened."""
        if self._stat() != self._state:
            raise UsageError(
                f"{self.said} changed while it was read: a training may still be writing it",
                hint="Compare it when it is written, or compare a copy.",
            )

    def close(self) -> None:
        """Close it; reading is over."""
        self._file.close()

    def _read_once(self, offset: int, into: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [into], offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.readinto(into) or 0

    def _stat(self) -> tuple[int, int]:
        seen = os.fstat(self._file.fileno())
        return seen.st_size, seen.st_mtime_ns


class Slice(io.RawIOBase):
    """A part of a file, or all of it, as one of Python's own file objects: for the readers that want such a one."""

    def __init__(self, file: File, start: int = 0, length: int | None = None) -> None:
        self._file, self._start, self._at = file, start, 0
        self._length = file.size - start if length is None else length

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place in the part, as `io.IOBase.seek` does."""
        self._at = offset + (0, self._at, self._length)[whence]
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readinto(self, into: Any) -> int:
        """Fill the buffer as far as the part goes; return the number of bytes."""
        view = memoryview(into).cast("B")
        count = max(min(len(view), self._length - self._at), 0)
        self._file.read(self._start + self._at, view[:count])
        self._at += count
        return count
