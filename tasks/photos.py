"""The photos of a folder: their paths, and their bytes when somebody asks for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from darkroom.errors import InboxMissing, StorageError
from darkroom.roots import check_inside
from tasks.formats import FORMAT_EXTENSIONS

_SUFFIXES = frozenset(suffix for suffixes in FORMAT_EXTENSIONS.values() for suffix in suffixes)


def photos_in(folder: Path) -> tuple[str, ...]:
    """Relative paths, with `/`, sorted, of every file that is named like an image; hidden ones left out.

    Raises: InboxMissing where there is no such folder.
    """
    if not folder.is_dir():
        raise InboxMissing(
            "There is no such folder of images.",
            file=folder,
            expected="the folder that the predictions were made on",
            found="a file" if folder.exists() else "nothing",
        )
    found = []
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(folder)
        found += [
            (below / name).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES
        ]
    return tuple(sorted(found))


class Photos(Sequence[bytes]):
    """The bytes of files, read when they are asked for: a folder need not fit in memory."""

    def __init__(self, folder: Path, paths: Sequence[str]) -> None:
        self._files = [folder / path for path in paths]

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[bytes]: ...
    def __getitem__(self, row: int | slice) -> bytes | Sequence[bytes]:
        """One file's bytes. StorageError where it cannot be read; WrongUse where it leads out of the roots."""
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        check_inside(self._files[row])
        try:
            return self._files[row].read_bytes()
        except OSError as problem:
            raise StorageError("A photo cannot be read.", file=self._files[row], found=problem.strerror) from problem
