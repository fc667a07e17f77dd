"""Reads the plain kind of torch.save's files, as nearly all are, without torch, whose import takes half a gigabyte.

A state dict is a pickle of dicts, lists, numbers and strings, and of tensors that name a record of the zip archive.
Nothing but that is read here: the opcodes are looked through first, no name stands for anything but `OrderedDict` and
the stand-ins below (as Python's documentation of pickle has it, "Restricting Globals"), and whatever is not plain
(another class, a sparse, quantised or strided tensor, a big-endian or a compressed archive) is left to `torch.load` and
its refusals.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from ..records import Stored
from ._entry import Entry, tied_entries
from ._file import File, Slice
from ._zip import data_offsets, root_of

_OPCODES = frozenset(
    """
    PROTO FRAME STOP MARK POP POP_MARK GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID
    MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES
    EMPTY_DICT DICT SETITEM SETITEMS EMPTY_LIST LIST APPEND APPENDS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_SET ADDITEMS
    """.split()  # noqa: SIM905  # as a list literal it would be a page
)
_MEMO = frozenset({"BINPUT", "LONG_BINPUT"})
_DTYPES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "ComplexDoubleStorage": ("complex128", 16),
    "ComplexFloatStorage": ("complex64", 8),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}
"""What torch calls the memory of each dtype, the dtype, and the bytes of an element."""


class NotPlain(Exception):  # noqa: N818 - no error: torch.load reads it instead
    """There is something in the file that is not read here."""


class _Fixed:
    """What a pickle may make, and not change."""

    def __setstate__(self, state: object) -> None:
        raise NotPlain


class _Dict(OrderedDict[Any, Any]):
    """An OrderedDict that takes no attributes: a state dict's `_metadata` is of no use here."""

    def __setstate__(self, state: object) -> None:
        """Let them go."""


@dataclass(frozen=True)
class PlainTensor(_Fixed):
    """A tensor as the pickle describes it: elements one after another, somewhere in the file."""

    start: int
    """Byte of the file at which it begins."""
    dtype: str
    itemsize: int
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return prod(self.shape) * self.itemsize


def load_plain(file: File) -> Any:
    """Return what the file holds, with a `PlainTensor` for each tensor. Raises NotPlain."""
    try:
        with zipfile.ZipFile(io.BufferedReader(Slice(file))) as archive:
            root, names = root_of(archive), set(archive.namelist())
            order = f"{root}/byteorder"
            if f"{root}/constants.pkl" in names or (order in names and archive.read(order) != b"little"):
                raise NotPlain
            record = archive.getinfo(f"{root}/data.pkl")
            if record.compress_type != zipfile.ZIP_STORED:
                raise NotPlain  # torch never compresses it, and what it unpacks to could be of any size
            text = archive.read(record)
        _look_through(text)
        return _Unpickler(text, data_offsets(io.BufferedReader(Slice(file)))).load()
    except NotPlain:
        raise
    except Exception as error:  # whatever is wrong with it, torch.load has the words for it
        raise NotPlain from error


def plain_entries(tensors: Mapping[str, PlainTensor], file: File) -> dict[str, Entry]:
    """Return an entry for every tensor by its name; one that is stored once under several names is one."""

    def made(names: tuple[str, ...], tensor: PlainTensor) -> Entry:
        return Entry(names, Stored(tensor.shape, tensor.dtype), tensor.nbytes, file.reader(tensor.start))

    return tied_entries(tensors, lambda name, tensor: tensor if tensor.nbytes else name, made)


def _look_through(text: bytes) -> None:
    """Raise NotPlain for an opcode that no state dict needs, and for a memo that would fill the memory."""
    for opcode, argument, _ in pickletools.genops(text):
        if opcode.name not in _OPCODES or (opcode.name in _MEMO and int(argument or 0) > len(text)):
            raise NotPlain


@dataclass(frozen=True)
class _Kind(_Fixed):
    """Stands in for one of torch's classes of storages. A pickle cannot make one of its own."""

    dtype: str
    itemsize: int


@dataclass(frozen=True)
class _Storage(_Fixed):
    """A record of the archive that holds elements of one dtype."""

    start: int
    size: int
    dtype: str
    itemsize: int


class _Unpickler(pickle.Unpickler):
    """Makes nothing but plain values and stand-ins."""

    def __init__(self, text: bytes, records: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(io.BytesIO(text))
        self._records = records

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands in for a name of the pickle; there are four kinds."""
        if (module, name) == ("collections", "OrderedDict"):
            return _Dict
        if module == "torch" and name in _DTYPES:
            return _Kind(*_DTYPES[name])
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")):
            return _Rebuild(name)
        raise NotPlain

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the record that ("storage", its type, its name, a device, the number of elements) stands for."""
        what, kind, name, *_ = pid
        if what != "storage" or not isinstance(kind, _Kind):
            raise NotPlain
        return _Storage(*self._records[name], kind.dtype, kind.itemsize)


@dataclass(frozen=True)
class _Rebuild(_Fixed):
    """Stands in for the function with which torch makes a tensor or a parameter; each name of a pickle gets its own."""

    name: str

    def __call__(self, first: Any, *arguments: Any) -> PlainTensor:
        if self.name == "_rebuild_parameter" and isinstance(first, PlainTensor):
            return first
        offset, shape, stride, _, hooks, *metadata = arguments
        if not isinstance(first, _Storage) or hooks or any(metadata) or not _contiguous(shape, stride):
            raise NotPlain
        begin = offset * first.itemsize
        tensor = PlainTensor(first.start + begin, first.dtype, first.itemsize, shape)
        if not isinstance(offset, int) or begin < 0 or begin + tensor.nbytes > first.size:
            raise NotPlain
        return tensor


def _contiguous(shape: Any, stride: Any) -> bool:
    """Whether these are a shape and strides, and the elements lie one after another, the last dimension fastest."""
    if not isinstance(shape, tuple) or any(type(size) is not int or size < 0 for size in (*shape, *stride)):
        return False
    step = 1
    for size, gap in zip(reversed(shape), reversed(stride), strict=True):
        if size > 1 and gap != step and prod(shape):
            return False
        step *= size
    return True
