"""Importing torch without the garbage collector in the way."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Import inside this block what makes a million objects that live until the end.

    The collector would look through them again and again, for nothing: with it, `import torch, torchvision` takes a
    fifth longer, and every later collection has them to walk.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
