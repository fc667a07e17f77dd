"""Reads what `torch.save` wrote, without ever running a pickle: `weights_only`, and its refusals in plain words."""

from __future__ import annotations

import importlib
import io
import logging
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch

from ..errors import UsageError
from ..records import Stored
from ._entry import Entry, Read, tied_entries
from ._file import File, Slice
from ._foreign import left_out
from ._zip import data_offsets, is_zip

_WANTED = re.compile(r"GLOBAL ([\w.]+)")
_PLAIN = (torch.Tensor, torch.nn.Parameter)


def load_torch(path: str, file: File) -> Any:
    """Return what the file holds; a zip archive's tensors are mapped, not read. Raises UsageError.

    A file of the format before torch 1.6, which is no zip archive, is read as a whole. Objects of other classes that
    lie beside the tensors are left out, unless they hold tensors themselves.
    """
    try:
        return _load(path, file)
    except pickle.UnpicklingError as error:
        with suppress(Exception):
            return _without_foreign(path, file, error)
        raise _refused(path, file, error) from None
    except Exception as error:
        if "TorchScript" in str(error):
            raise UsageError(
                f"{file.said} is a TorchScript archive, which is code and no checkpoint",
                hint="Save `model.state_dict()` with torch.save, or with safetensors.",
            ) from None
        said = str(error).strip().splitlines()
        raise UsageError(
            f"{file.said} cannot be read by torch.load: {said[0] if said else type(error).__name__}",
            hint="It is truncated, corrupt, still being written, or no checkpoint at all.",
        ) from None


def _without_foreign(path: str, file: File, error: pickle.UnpicklingError) -> Any:
    """Return what the file holds beside what torch refused; raises what torch does where that cannot be left out."""
    names = {*_wanted(path), *_WANTED.findall(str(error))}
    while True:
        try:
            with left_out(names):
                return _load(path, file)
        except pickle.UnpicklingError as again:  # of the old format torch names one at a time
            more = set(_WANTED.findall(str(again))) - names
            if not more:
                raise
            names |= more


def _load(path: str, file: File) -> Any:
    with warnings.catch_warnings(), _quiet("torch.distributed"):
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip(file))
        except pickle.UnpicklingError as error:
            if "torch.distributed" not in str(error) or "torch.distributed.tensor" in sys.modules:
                raise
            # torch itself lets sharded tensors in, but only once the module that defines them is imported.
            importlib.import_module("torch.distributed.tensor")

            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip(file))


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Keep a library from logging that a sharded tensor has no process group here."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def entries(tensors: Mapping[str, torch.Tensor], file: File | None = None) -> dict[str, Entry]:
    """Return an entry for every tensor by its name; tensors that share all of their memory become one.

    Of a sharded tensor (DTensor) it is the part that lies on this process, with the shape of that part.

    With the file that `load_torch` mapped them from they are read from the file instead, so that they are never all
    in memory.
    """
    at = _places(tensors.values(), file) if file is not None else {}
    return tied_entries(tensors, _identity, lambda names, tensor: _entry(names, tensor, file, at))


def dtype_name(dtype: torch.dtype) -> str:
    """Return a dtype's name without `torch.`."""
    return str(dtype).removeprefix("torch.")


def _refused(path: str, file: File, error: pickle.UnpicklingError) -> UsageError:
    wanted = _wanted(path) or _WANTED.findall(str(error))
    if not wanted:
        said = str(error).rpartition("WeightsUnpickler error: ")[2].strip().splitlines()
        return UsageError(
            f"{file.said} is no checkpoint that torch.load can read: {said[0] if said else 'its pickle is malformed'}",
            hint="It is truncated, corrupt, still being written, or no checkpoint at all.",
        )
    named = ", ".join(f"`{name}`" for name in wanted[:6]) + (f" and {len(wanted) - 6} more" if len(wanted) > 6 else "")
    return UsageError(
        f"{file.said} holds more than tensors: to read it, Python would have to run {named}. Nothing of it was run",
        hint="Where you trust the file, save its tensors alone: `torch.save(model.state_dict(), ...)`, or with "
        f"safetensors.{'' if is_zip(file) else ' A truncated file can look like this too.'}",
    )


def _wanted(path: str) -> list[str]:
    """What the pickle asks for beyond tensors, found without running it."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:
        return []  # a pickle that cannot even be taken apart, or a torch that cannot do so: the error itself names one


def _places(tensors: Iterable[torch.Tensor], file: File) -> dict[int, int]:
    """Where in the file each mapped storage lies, by its address; empty when that cannot be told for sure.

    The whole file is one mapping, so that addresses and offsets differ by one number; it must fit every storage.
    """
    starts = {t.untyped_storage().data_ptr() for t in tensors if _is_plain(t) and t.untyped_storage().nbytes()}
    if not starts or not is_zip(file):
        return {}
    try:
        offsets = {start for start, _ in data_offsets(io.BufferedReader(Slice(file))).values()}
    except (zipfile.BadZipFile, UsageError):
        return {}
    for first in sorted(offsets):
        base = min(starts) - first
        if base % 4096 == 0 and all(start - base in offsets for start in starts):
            return {start: start - base for start in starts}
    return {}


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether its elements lie in memory one by one: no meta, sparse, quantised or sharded tensor, no subclass."""
    return type(tensor) in _PLAIN and tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_quantized)


def _identity(name: str, tensor: torch.Tensor) -> tuple[object, ...]:
    """Equal for tensors that are one."""
    if not _is_plain(tensor) or not tensor.numel():
        return (name,)
    return (tensor.data_ptr(), tensor.dtype, tensor.device, tuple(tensor.shape), tensor.stride())


def _entry(names: tuple[str, ...], tensor: torch.Tensor, file: File | None, at: Mapping[int, int]) -> Entry:
    tensor = getattr(tensor, "_local_tensor", tensor).detach()
    stored = Stored(tuple(tensor.shape), dtype_name(tensor.dtype))
    if tensor.is_meta:
        return Entry(names, stored, why="it lies on the meta device, which holds no values")
    if not _is_plain(tensor):
        return Entry(names, stored, tensor.numel() * tensor.element_size(), load=lambda: tensor)
    tensor = tensor.resolve_conj().resolve_neg()
    nbytes = tensor.numel() * tensor.element_size()
    start = at.get(tensor.untyped_storage().data_ptr())
    if file is not None and start is not None and tensor.is_contiguous():
        return Entry(names, stored, nbytes, file.reader(start + int(tensor.storage_offset()) * tensor.element_size()))
    return Entry(names, stored, nbytes, _from_memory(tensor))


def _from_memory(tensor: torch.Tensor) -> Read:
    size = tensor.element_size()

    def read(offset: int, into: memoryview) -> None:
        piece = _run(tensor, offset // size, -(-len(into) // size)).cpu().contiguous()
        torch.frombuffer(into, dtype=torch.uint8).copy_(piece.view(torch.uint8))

    return read


def _run(tensor: torch.Tensor, start: int, count: int) -> torch.Tensor:
    """Return `count` elements from the `start`-th on, flat, without copying all of a tensor that is not contiguous."""
    if tensor.is_contiguous():
        return tensor.view(-1)[start : start + count]
    if tensor.shape[0] == 1:
        return _run(tensor[0], start, count)
    row = tensor[0].numel()
    first = start // row
    block = tensor[first : -(-(start + count) // row)]
    return block.reshape(-1)[start - first * row :][:count]
