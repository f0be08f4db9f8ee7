"""Knows how a folder becomes durable, and how one of many writers wins a name."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def files_of(folder: Path) -> list[Path]:
    """Every file below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sync_tree(folder: Path) -> None:
    """Every byte and every name on disk."""
    for path in files_of(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for path in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        sync_folder(path)


def sync_folder(folder: Path) -> None:
    """The names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_name(folder: Path, name: Path) -> bool:
    """Rename a finished, synced folder, for good; False: somebody else has the name.

    A rename onto a folder that holds something fails on every POSIX system: this is what decides a race.
    """
    try:
        folder.rename(name)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    sync_folder(name.parent)
    return True


def append_line(file: Path, line: str) -> None:
    """Append a line, for good; a writer that died in the middle of its line does not spoil this one."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (f"\n{line}\n" if torn else f"{line}\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if size == 0:
        sync_folder(file.parent)
