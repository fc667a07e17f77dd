"""Reads a folder of torch.distributed.checkpoint in one process, and piece by piece.

Its metadata is a pickle, which torch itself would run; here only the classes that such metadata is made of are let in.
Format: `torch.distributed.checkpoint.filesystem.FileSystemWriter`, every piece of a tensor a torch.save archive of its
own at some place in a `.distcp` file.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch

from ..errors import UsageError
from ..records import Stored
from ._choose import Chosen, choose
from ._entry import Entry, Read
from ._file import File, Slice
from ._folder import DISTRIBUTED
from ._torch import dtype_name
from ._zip import data_offsets

_MODULES = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")
_CLASSES = frozenset(
    {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
        "_StorageInfo",
    }
)
_OTHERS = frozenset(
    {
        ("torch", "Size"),
        ("torch.serialization", "_get_layout"),
        ("collections", "OrderedDict"),
        ("builtins", "set"),
        *(("pathlib", name) for name in ("Path", "PosixPath", "PurePath", "PurePosixPath", "WindowsPath")),
    }
)
_DAMAGED = "The folder is not whole, or still being written."


def read_distributed(path: str, key: str | None, said: str) -> tuple[Chosen, list[File]]:
    """Return the entries of a folder's state dict and the open files. Raises UsageError."""
    metadata = _metadata(os.path.join(path, DISTRIBUTED), said)
    folder = _Folder(path, said, metadata)
    tree: dict[Any, Any] = {}
    paths = metadata.planner_data if isinstance(metadata.planner_data, Mapping) else {}
    try:
        for name, about in metadata.state_dict_metadata.items():
            if hasattr(about, "chunks"):
                _put(tree, paths.get(name) or (name,), folder.entry(name, about))
        chosen = choose(tree, key, lambda leaf: isinstance(leaf, Entry), said)
    except BaseException:
        folder.close()
        raise
    named = {name: Entry((name,), e.stored, e.nbytes, e.read, e.load, e.why) for name, e in chosen.tensors.items()}
    return replace(chosen, tensors=named), list(folder.files.values())


class _Unpickler(pickle.Unpickler):
    """Lets in what the metadata of torch.distributed.checkpoint is made of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = (module in _MODULES and name in _CLASSES) or (module, name) in _OTHERS
        if not allowed and not (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            raise pickle.UnpicklingError(f"`{module}.{name}`")
        return super().find_class(module, name)


def _metadata(path: str, said: str) -> Any:

    try:
        with open(path, "rb") as file:
            found = _Unpickler(file).load()
    except pickle.UnpicklingError as error:
        if str(error).startswith("`"):
            raise UsageError(
                f"{said}: its {DISTRIBUTED} asks Python to run {error}, which is not done",
                hint="It was written by something other than torch.distributed.checkpoint.",
            ) from None
        raise UsageError(f"{said}: its {DISTRIBUTED} is malformed: {error}", hint=_DAMAGED) from None
    except Exception as error:
        raise UsageError(
            f"{said}: its {DISTRIBUTED} cannot be read: {str(error) or type(error).__name__}", hint=_DAMAGED
        ) from None
    if not isinstance(getattr(found, "state_dict_metadata", None), Mapping):
        raise UsageError(f"{said}: its {DISTRIBUTED} describes no tensors", hint=_DAMAGED)
    return found


def _put(tree: dict[Any, Any], path: tuple[Any, ...], entry: Entry) -> None:
    """Put an entry into the nested state dict that was flattened when it was saved."""
    for step in path[:-1]:
        tree = tree.setdefault(step, {})
    tree[path[-1]] = entry


@dataclass(frozen=True)
class _Piece:
    """A part of a tensor, as one process saved it."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: File
    start: int
    """Where its archive begins in the file."""
    length: int

    def archive(self) -> Slice:
        return Slice(self.file, self.start, self.length)

    def tensor(self) -> torch.Tensor:
        found = torch.load(io.BufferedReader(self.archive()), map_location="cpu", weights_only=True)
        assert isinstance(found, torch.Tensor)
        return found.detach()

    def bytes_at(self, stored: Stored) -> int | None:
        """Where its elements begin in the file, one after another; None where they do not lie so."""
        with torch.serialization.skip_data():
            blank = self.tensor()
        if not blank.is_contiguous() or dtype_name(blank.dtype) != stored.dtype:
            return None
        offsets = data_offsets(io.BufferedReader(self.archive()))
        if len(offsets) != 1:
            return None
        ((start, _),) = offsets.values()
        return self.start + start + int(blank.storage_offset()) * blank.element_size()


class _Folder:
    """The files of the folder, opened when they are first needed."""

    def __init__(self, path: str, said: str, metadata: Any) -> None:
        self.path, self.said = path, said
        self.files: dict[str, File] = {}
        self.pieces: dict[str, dict[tuple[int, ...], Any]] = {}
        for index, info in (metadata.storage_data or {}).items():
            self.pieces.setdefault(index.fqn, {})[tuple(index.offset or ())] = info

    def close(self) -> None:
        for file in self.files.values():
            file.close()

    def entry(self, name: str, about: Any) -> Entry:
        stored = Stored(tuple(about.size), dtype_name(about.properties.dtype))
        nbytes = prod(stored.shape) * about.properties.dtype.itemsize
        pieces = [self._piece(name, chunk) for chunk in about.chunks]
        if sum(prod(piece.sizes) for piece in pieces) != prod(stored.shape):
            raise UsageError(f"{self.said} holds only a part of `{name}`", hint=_DAMAGED)
        return Entry((name,), stored, nbytes, _lazily(lambda: _reader(pieces, stored, nbytes)))

    def _piece(self, name: str, chunk: Any) -> _Piece:
        offsets = tuple(chunk.offsets)
        info = self.pieces.get(name, {}).get(offsets)
        if info is None:
            raise UsageError(f"{self.said} does not say where it holds `{name}`", hint=_DAMAGED)
        if getattr(info, "transform_descriptors", None):
            raise UsageError(
                f"{self.said} holds `{name}` compressed ({', '.join(info.transform_descriptors)}), which is not read",
                hint="Save it once more without a transform, or load it and save its state dict as one file.",
            )
        return _Piece(offsets, tuple(chunk.sizes), self._file(info.relative_path), info.offset, info.length)

    def _file(self, relative: str) -> File:
        if os.path.isabs(relative) or ".." in relative.replace("\\", "/").split("/"):
            raise UsageError(f"{self.said} names a file outside of its folder: {relative}", hint=_DAMAGED)
        if relative not in self.files:
            self.files[relative] = File(os.path.join(self.path, relative))
        return self.files[relative]


def _lazily(make: Callable[[], Read]) -> Read:
    made: list[Read] = []

    def read(offset: int, into: memoryview) -> None:
        if not made:
            made.append(make())
        made[0](offset, into)

    return read


def _reader(pieces: list[_Piece], stored: Stored, nbytes: int) -> Read:
    """Read from where the pieces lie in their files, or, if they are no whole rows, from the tensor put together."""
    try:
        if all(piece.sizes[1:] == stored.shape[1:] for piece in pieces):
            item = nbytes // max(prod(stored.shape), 1)
            row = prod(stored.shape[1:]) * item
            runs = [
                ((piece.offsets[0] if piece.offsets else 0) * row, prod(piece.sizes) * item, piece.file, at)
                for piece in pieces
                if (at := piece.bytes_at(stored)) is not None
            ]
            if len(runs) == len(pieces):
                return _from_runs(sorted(runs, key=lambda run: run[0]))
        return _whole(pieces, stored)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        said = str(error).strip().splitlines()
        raise UsageError(
            f"{pieces[0].file.said} cannot be read: {said[0] if said else type(error).__name__}", hint=_DAMAGED
        ) from None


def _from_runs(runs: list[tuple[int, int, File, int]]) -> Read:
    def read(offset: int, into: memoryview) -> None:
        for start, length, file, at in runs:
            skip = max(offset - start, 0)
            count = min(length - skip, start + skip < offset + len(into) and offset + len(into) - start - skip)
            if count > 0:
                to = start + skip - offset
                file.read(at + skip, into[to : to + count])

    return read


def _whole(pieces: list[_Piece], stored: Stored) -> Read:
    """Put a tensor together that is cut along other dimensions than its rows; it is in memory from then on."""
    from ._torch import entries

    full = torch.empty(stored.shape, dtype=getattr(torch, stored.dtype))
    for piece in pieces:
        target = full
        for dim, (offset, size) in enumerate(zip(piece.offsets, piece.sizes, strict=True)):
            target = target.narrow(dim, offset, size)
        target.copy_(piece.tensor())
    read = entries({"": full})[""].read
    assert read is not None
    return read
