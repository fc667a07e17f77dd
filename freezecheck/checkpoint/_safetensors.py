"""Reads `.safetensors`: the library checks the file, the header says where each tensor lies."""

from __future__ import annotations

import json

from ..errors import UsageError
from ..records import Stored
from ._entry import Entry, Read
from ._file import File

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
    "C64": "complex64",
    "BOOL": "bool",
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is meant to be one: a length of eight bytes, then a JSON object."""
    return head[8:9] == b"{"


def read_safetensors(path: str, file: File) -> dict[str, Entry]:
    """Return every tensor of the file by name. Raises UsageError when the file is not whole.

    A name that `safetensors.torch.save_model` left out because its tensor is stored under another comes back as a
    second name of that.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise UsageError(
            f"{file.said} is no whole safetensors file: {_plainly(str(error))}",
            hint="It is truncated, corrupt, or still being written.",
        ) from None
    length = int.from_bytes(file.head(8), "little")
    header = json.loads(file.head(8 + length)[8:])
    tied = _tied(header.pop("__metadata__", None) or {}, header)
    entries: dict[str, Entry] = {}
    for name, about in header.items():
        start, stop = about["data_offsets"]
        stored = Stored(tuple(about["shape"]), _DTYPES.get(about["dtype"], about["dtype"].lower()))
        entry = Entry((name, *tied.get(name, ())), stored, stop - start, _reader(file, 8 + length + start))
        entries.update(dict.fromkeys(entry.names, entry))
    return entries


def _reader(file: File, start: int) -> Read:
    return lambda offset, into: file.read(start + offset, into)


def _tied(metadata: dict[str, str], header: dict[str, object]) -> dict[str, tuple[str, ...]]:
    """By the name that was kept, those that were left out."""
    found: dict[str, tuple[str, ...]] = {}
    for dropped, kept in metadata.items():
        if kept in header and dropped not in header:
            found[kept] = (*found.get(kept, ()), dropped)
    return found


def _plainly(said: str) -> str:
    return said.removeprefix("Error while deserializing header: ")
