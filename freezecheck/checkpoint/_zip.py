"""Where the records of an uncompressed zip archive lie, which is how torch stores the bytes of tensors."""

from __future__ import annotations

import zipfile
from typing import IO

from ._file import File

_LOCAL_HEADER = 30
"""Bytes of a record's own header before its name and extra field, whose lengths stand at 26 and 28."""


def is_zip(file: File) -> bool:
    """Whether a file is an archive, by its first bytes."""
    return file.head(4) == b"PK\x03\x04"


def root_of(records: zipfile.ZipFile) -> str | None:
    """Return the folder that holds the pickle and the data; None where two readers could mean different ones."""
    names = [record.filename for record in records.infolist()]
    pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
    return pickles[0].rpartition("/")[0] if len(pickles) == 1 and len(set(names)) == len(names) else None


def data_offsets(archive: IO[bytes]) -> dict[str, tuple[int, int]]:
    """Return, by the record's name, where its bytes begin and how many they are, for every stored tensor (`…/data/0`).

    Raises zipfile.BadZipFile when it is no archive. Compressed records are left out; of an archive without one root
    nothing is returned.
    """
    found = {}
    with zipfile.ZipFile(archive) as records:
        root = root_of(records)
        for record in records.infolist() if root is not None else ():
            folder, _, key = record.filename.rpartition("/")
            if folder == f"{root}/data" and record.compress_type == zipfile.ZIP_STORED:
                archive.seek(record.header_offset + 26)
                lengths = archive.read(4)
                name, extra = (int.from_bytes(lengths[n : n + 2], "little") for n in (0, 2))
                found[key] = (record.header_offset + _LOCAL_HEADER + name + extra, record.file_size)
    return found
