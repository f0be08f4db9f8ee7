"""Rows of one shape in a file: appended in order, read in any; memory holds only those that were asked for.

Not a memory map: what a map has touched counts as this process's memory, and a full disk kills it instead of telling.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import StorageError


class Rows:
    """`kept` rows of `shape` and `dtype` that an earlier process has left in `path`; what lies behind them is cut off.

    Raises: StorageError where the disk refuses, or holds fewer rows than it should.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: Any, kept: int = 0) -> None:
        self.path = path
        self.row_shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self._bytes = prod(self.row_shape) * self.dtype.itemsize
        self._count = kept
        with self._telling():
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            found = os.fstat(self._descriptor).st_size
            if found < kept * self._bytes:
                raise StorageError(
                    "The work folder of the training is damaged.",
                    file=path,
                    expected=f"{kept} rows of {self._bytes} bytes",
                    found=f"{found} bytes",
                    todo=f"remove {path.parent} and train again",
                )
            os.ftruncate(self._descriptor, kept * self._bytes)

    def __len__(self) -> int:
        return self._count

    def __del__(self) -> None:
        self.close()

    def __getitem__(self, which: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Rows by their positions, in that order: (len(which), *row_shape), a copy. Safe among threads."""
        rows = np.arange(self._count)[which] if isinstance(which, slice) else np.asarray(which, np.int64)
        out = np.empty((len(rows), *self.row_shape), self.dtype)
        for first, start, length in _runs(rows):
            if first < 0 or first + length > self._count:
                raise IndexError(f"rows {first} … {first + length - 1} of {self._count}")
            data = self._read(first * self._bytes, length * self._bytes)
            out[start : start + length] = np.frombuffer(data, self.dtype).reshape(length, *self.row_shape)
        return out

    def append(self, rows: NDArray[Any]) -> None:
        """Rows (n, *row_shape) behind those that are there."""
        data = memoryview(np.ascontiguousarray(rows, self.dtype).tobytes())
        at = self._count * self._bytes
        with self._telling():
            while data:
                written = os.pwrite(self._descriptor, data, at)
                data, at = data[written:], at + written
        self._count += len(rows)

    def sync(self) -> None:
        """Every row on disk: only then may a record say that it is there."""
        with self._telling():
            os.fsync(self._descriptor)

    def mapped(self) -> NDArray[Any]:
        """All rows as one read-only array, for those who want them all; the file must outlive it."""
        if not self._count:
            return np.empty((0, *self.row_shape), self.dtype)
        return np.memmap(self.path, self.dtype, "r", shape=(self._count, *self.row_shape))

    def close(self) -> None:
        """May be called again."""
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _read(self, at: int, length: int) -> bytes:
        with self._telling():
            data = os.pread(self._descriptor, length, at)
            while len(data) < length:
                more = os.pread(self._descriptor, length - len(data), at + len(data))
                if not more:
                    raise StorageError("The work folder was changed while training.", file=self.path)
                data += more
        return data

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                "The work folder of the training cannot be used.",
                file=self.path,
                found=error.strerror,
                todo="free some space or choose another models folder, and run again: it goes on from what is finished",
            ) from error


def _runs(rows: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Neighbours that are neighbours in the file, too: (first row, position, length)."""
    if len(rows):
        starts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for start, end in pairwise(starts):
            yield int(rows[start]), start, end - start
