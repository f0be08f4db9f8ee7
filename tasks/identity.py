"""What one file is: opened without being led astray, its first bytes, and the sha256 of all of them."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from darkroom.names import as_detail
from darkroom.reasons import Reason

FIRST_BYTES = 64
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as the walk saw it: what must still hold when it is read."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Seen:
        """From a stat."""
        return cls(status.st_size, status.st_mtime_ns, inode_of(status))


def inode_of(status: os.stat_result) -> int:
    """Its number of the file; beyond 63 bits (some network file systems) without its top bit."""
    return status.st_ino & (2**63 - 1)


class NotRead(Exception):
    """A file that could not be read as it was seen."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@contextmanager
def opened(path: str | Path, seen: Seen | None = None) -> Iterator[int]:
    """A descriptor of a regular file, never through a link and never waiting for a pipe. Raises NotRead.

    With `seen`, the file must still be the one that was seen, here and at the end.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise not_read(error) from error
    try:
        _require(descriptor, seen)
        yield descriptor
        if seen is not None:
            _require(descriptor, seen)
    except OSError as error:
        raise not_read(error) from error
    finally:
        os.close(descriptor)


def blocks(descriptor: int, limit: int) -> Iterator[bytes]:
    """The file's bytes from where it stands, at most `limit` of them: a file may grow faster than it is read."""
    while limit > 0 and (block := os.read(descriptor, min(_BLOCK, limit))):
        limit -= len(block)
        yield block


def first_bytes(descriptor: int) -> bytes:
    """What a format is told by; the descriptor stands where it stood."""
    return os.pread(descriptor, FIRST_BYTES, 0)


def content_id(descriptor: int, size: int) -> str:
    """Sha256 of the bytes, hex."""
    digest = hashlib.sha256()
    for block in blocks(descriptor, size):
        digest.update(block)
    return digest.hexdigest()


def not_read(error: OSError) -> NotRead:
    """Which reason an error of the system is."""
    detail = as_detail(error.strerror or error)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ESTALE:
            return NotRead(Reason.VANISHED, detail)
        case errno.EACCES | errno.EPERM:
            return NotRead(Reason.PERMISSION_DENIED, detail)
        case errno.ELOOP:  # O_NOFOLLOW: it was a file when the folder was listed
            return NotRead(Reason.CHANGED_WHILE_READING, "became a link")
        case errno.ENXIO:  # a socket
            return NotRead(Reason.NOT_A_REGULAR_FILE, detail)
        case _:
            return NotRead(Reason.READ_ERROR, detail)


def _require(descriptor: int, seen: Seen | None) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise NotRead(Reason.NOT_A_REGULAR_FILE, "not a regular file")
    if seen is not None and Seen.of(status) != seen:
        raise NotRead(Reason.CHANGED_WHILE_READING, "size, time or file changed since the folder was listed")
