"""Where results lie: the few operations that the commit protocol needs, and how a local disk does them for good.

An object store stands behind the same interface, in `darkroom.object_storage`. Locks only save work; the number of the
commit is what guarantees.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol, runtime_checkable
from urllib.parse import unquote

from darkroom.errors import CommitConflict, StorageError, WrongUse

_ADDRESS: Final = re.compile(r"(s3|gs|az):/{1,2}([^/].*)", re.DOTALL)
_FILE: Final = re.compile(r"file:(?://)?(/.*)")
_TEMPORARY = ".tmp"
_REMOVED = "removed"
_LOCKS = ".locks"
_POLL_SECONDS = 0.05
_TODO = {
    errno.ENOSPC: "free some space and run again: what is finished is kept, and nothing is scored twice",
    errno.EDQUOT: "raise the quota or free some space, and run again",
    errno.EROFS: "mount the file system writable, or choose another results folder",
    errno.EACCES: "give this user the right to write there, or choose another results folder",
    errno.EPERM: "give this user the right to write there, or choose another results folder",
    errno.EXDEV: "keep the whole results folder on one file system",
    errno.ENOTSUP: "choose a file system with hard links and locks for the results folder",
}


class Lock(Protocol):
    """Something held until it is released, or until its process dies."""

    def release(self, *, forget: bool = False) -> None:
        """Let go; `forget` also removes the name, when what it guarded is gone."""


@runtime_checkable
class Storage(Protocol):
    """What the results need from where they lie. Keys are relative, `/`-separated; every failure is a StorageError."""

    @property
    def name(self) -> str:
        """The folder as a person would name it."""

    def describe(self, key: str) -> str:
        """The key as a person would name it: for messages."""

    def read(self, key: str) -> bytes:
        """The whole content."""

    def peek(self, key: str) -> bytes | None:
        """The whole content, or None where there is nothing."""

    def write(self, key: str, data: bytes | Iterable[bytes]) -> None:
        """Complete content or none, replacing what was there; on disk when this returns."""

    def write_new(self, key: str, data: bytes) -> None:
        """The same, but raises CommitConflict where something is already: of many writers one wins."""

    def copy(self, source: str, target: str) -> None:
        """The same content under a second key; neither may be changed afterwards."""

    def list(self, folder: str) -> list[str]:
        """Names directly in the folder, sorted; none where there is no folder."""

    def exists(self, key: str) -> bool:
        """Whether there is a file or a folder."""

    def size(self, key: str) -> int:
        """Bytes of a file."""

    def move_folder(self, source: str, target: str) -> None:
        """Move a folder for good, file by file where it must be; after a crash, called again, it completes the move."""

    def remove_folder(self, key: str) -> None:
        """Remove a folder, file by file where it must be; nothing happens where there is none."""

    def remove(self, key: str) -> None:
        """Remove a file; nothing happens where there is none."""

    def tidy(self, older_than_seconds: float) -> None:
        """Remove what writers that died left half-written."""

    def try_lock(self, name: str, patience: float = 0.0) -> Lock | None:
        """Take the lock, waiting at most `patience` seconds; None: somebody else has it."""

    def open(self, key: str) -> Any:
        """A file for pyarrow to read from; a context manager. Its failures are OSErrors."""


def storage_at(results: Storage | Path | str) -> Storage:
    """The storage of a results folder, or of an address such as s3://bucket/results; a storage is itself."""
    if isinstance(results, Storage):
        return results
    address = store_address(results)
    if address is None:
        return LocalStorage(local_place(results).absolute())
    from darkroom.object_storage import ObjectStorage

    return ObjectStorage(address)


def store_address(place: Path | str) -> str | None:
    """The address of a folder in an object store; None: a folder on this machine.

    A Path keeps one of the two slashes of an address: s3:/bucket/folder is s3://bucket/folder.
    """
    found = _ADDRESS.fullmatch(str(place))
    if found is None:
        return None
    bucket, *folders = found[2].rstrip("/").split("/")
    if "@" in bucket or {"", ".", ".."} & set(folders):
        raise WrongUse(
            "This is not the address of a folder in an object store.",
            expected=f"{found[1]}://BUCKET/FOLDER, and no name or secret in it: those come from the environment",
            todo="write the address without user names, empty parts, `.` and `..`",
        )
    return f"{found[1]}://{found[2].rstrip('/')}"


def local_place(place: Path | str) -> Path:
    """A folder on this machine, also where it is written as a file: address."""
    found = _FILE.fullmatch(str(place))
    return Path(place if found is None else unquote(found[1]))


def checked_key(key: str) -> str:
    """The key, if it is one. Raises ValueError."""
    parts = PurePosixPath(key).parts
    if not parts or ".." in parts or key.startswith("/"):
        raise ValueError(f"not a key of the storage: {key!r}")
    return key


@dataclass(frozen=True)
class LocalStorage:
    """A folder on a local (or mounted) file system with hard links and locks. Carries no state: it can be pickled."""

    root: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.root)

    def describe(self, key: str) -> str:
        """The path."""
        return str(self._path(key))

    def read(self, key: str) -> bytes:
        """The file's bytes."""
        with self._refusing("could not be read", key):
            return self._path(key).read_bytes()

    def peek(self, key: str) -> bytes | None:
        """The file's bytes, or None."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refusal("could not be read", key, error) from error

    def write(self, key: str, data: bytes | Iterable[bytes]) -> None:
        """Temporary file, fsync, rename, fsync of the folder."""
        with self._refusing("could not be written", key), self._temporary(data) as temporary:
            path = self._path(key)
            _make_folder(path.parent)
            os.rename(temporary, path)  # noqa: PTH104 - the call that the crash tests count
            _sync_folder(path.parent)

    def write_new(self, key: str, data: bytes) -> None:
        """Temporary file, fsync, hard link (which fails where a name exists), fsync of the folder."""
        with self._refusing("could not be written", key), self._temporary(data) as temporary:
            path = self._path(key)
            _make_folder(path.parent)
            try:
                os.link(temporary, path)
            except FileExistsError as error:
                raise CommitConflict(
                    "Somebody else has written this first.", file=path, todo="read what is there, and try again"
                ) from error
            _sync_folder(path.parent)

    def copy(self, source: str, target: str) -> None:
        """A hard link: no byte is copied. `move_folder` makes the new name durable."""
        with self._refusing("could not be linked", target):
            path = self._path(target)
            _make_folder(path.parent)
            os.link(self._path(source), path)

    def list(self, folder: str) -> list[str]:
        """Names in the folder, without hidden ones."""
        try:
            names = os.listdir(self._path(folder))  # noqa: PTH208 - names only
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._refusal("could not be listed", folder, error) from error
        return sorted(name for name in names if not name.startswith("."))

    def exists(self, key: str) -> bool:
        """Whether the path is there."""
        return self._path(key).exists()

    def size(self, key: str) -> int:
        """From the file system."""
        with self._refusing("could not be looked at", key):
            return self._path(key).stat().st_size

    def move_folder(self, source: str, target: str) -> None:
        """Fsync of the folder, rename, fsync of both parents."""
        with self._refusing("could not be moved into place", target):
            old, new = self._path(source), self._path(target)
            _make_folder(new.parent)
            if not new.exists():
                _sync_folder(old)
                os.rename(old, new)  # noqa: PTH104 - the call that the crash tests count
                _sync_folder(old.parent)
            _sync_folder(new.parent)

    def remove_folder(self, key: str) -> None:
        """Renamed out of sight first: a crash while removing must not leave half a folder behind."""
        with self._refusing("could not be removed", key):
            path = self._path(key)
            grave = self._new_temporary(_REMOVED)
            try:
                os.rename(path, grave)  # noqa: PTH104 - the call that the crash tests count
            except FileNotFoundError:
                return
            _sync_folder(path.parent)
            shutil.rmtree(grave, ignore_errors=True)

    def remove(self, key: str) -> None:
        """Unlink, fsync of the folder."""
        with self._refusing("could not be removed", key):
            path = self._path(key)
            try:
                os.unlink(path)  # noqa: PTH108 - the call that the crash tests count
            except FileNotFoundError:
                return
            _sync_folder(path.parent)

    def tidy(self, older_than_seconds: float) -> None:
        """Old temporary files and folders."""
        oldest = time.time() - older_than_seconds
        with suppress(OSError):
            for path in (self.root / _TEMPORARY).iterdir():
                with suppress(OSError):
                    if path.name.startswith(_REMOVED):
                        shutil.rmtree(path, ignore_errors=True)
                    elif path.lstat().st_mtime < oldest:
                        path.unlink()

    def try_lock(self, name: str, patience: float = 0.0) -> Lock | None:
        """`flock` on a file: the kernel lets go when the process dies, however it dies."""
        path = self.root / _LOCKS / name
        deadline = time.monotonic() + patience
        with self._refusing("could not be locked", f"{_LOCKS}/{name}"):
            _make_folder(path.parent)
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    if time.monotonic() >= deadline:
                        return None
                    time.sleep(_POLL_SECONDS)
                    continue
                except OSError:
                    os.close(descriptor)
                    raise
                if _is_still(path, descriptor):
                    return _FileLock(path, descriptor)
                os.close(descriptor)  # the one who had it has removed the name meanwhile

    def open(self, key: str) -> Any:
        """By the system."""
        import pyarrow as pa

        return pa.OSFile(str(self._path(key)))

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*PurePosixPath(checked_key(key)).parts)

    def _new_temporary(self, word: str) -> Path:
        folder = self.root / _TEMPORARY
        _make_folder(folder)
        return folder / f"{word}-{uuid.uuid4().hex}"

    @contextmanager
    def _temporary(self, data: bytes | Iterable[bytes]) -> Iterator[Path]:
        """A finished, synced file outside of everything that anybody reads; removed if it was not moved away."""
        path = self._new_temporary("write")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                for block in [data] if isinstance(data, bytes) else data:
                    file.write(block)
                file.flush()
                _sync(descriptor)
            yield path
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - the call that the crash tests count

    @contextmanager
    def _refusing(self, what: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refusal(what, key, error) from error

    def _refusal(self, what: str, key: str, error: OSError) -> StorageError:
        return StorageError(
            f"A file of the results {what}: {error.strerror or error}.",
            file=self._path(key),
            todo=_TODO.get(error.errno or 0, "look at the disk and the folder's rights, then run again"),
        )


@dataclass
class _FileLock:
    """A held `flock`."""

    path: Path
    descriptor: int

    def release(self, *, forget: bool = False) -> None:
        """Close the file; with `forget`, unlink it while it is still held."""
        if self.descriptor < 0:
            return
        if forget:
            with suppress(OSError):
                self.path.unlink()
        os.close(self.descriptor)
        self.descriptor = -1


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _make_folder(folder: Path) -> None:
    """Like mkdir -p, and every new name is made durable."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        with suppress(FileExistsError):
            path.mkdir()
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    # On macOS fsync stops at the drive's cache; this does not.
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, full)
