"""Knows what a zip archive would become, before anything of it is unpacked."""

from __future__ import annotations

from typing import Final
from zipfile import ZipFile

# Neither Keras nor NumPy compresses what a bundle holds: an archive is as large as what is in it.
_MOST_TIMES: Final = 4
_ALWAYS: Final = 2**20


def check_unpacked(archive: ZipFile, size: int) -> None:
    """Raises ValueError where an archive of `size` bytes would be many times larger in memory, or repeats a name.

    What an entry says of its length is what the standard library reads of it at most.
    """
    entries = archive.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > _MOST_TIMES * size + _ALWAYS:
        raise ValueError(f"an archive of {size:,} bytes that would unpack to {unpacked:,}")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ValueError("an archive with two entries of one name")
