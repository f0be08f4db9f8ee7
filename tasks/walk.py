"""What lies in a folder: every path once, in one order, links looked through but never out of the folder."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from darkroom.errors import InboxMissing, StorageError, WrongUse
from darkroom.names import as_detail, from_text, to_text
from darkroom.reasons import FileStatus, Reason
from darkroom.storage import store_address
from tasks.identity import Seen, inode_of, not_read

_CHUNK = 65_536
_NAMES = pa.string()


@dataclass
class Walked:
    """Every path below a folder, as columns: a million paths are a few hundred megabytes less than as objects.

    `status` is None where the file must still be looked into; `through_link` marks paths that are links.
    """

    root: str
    size: array[int] = field(default_factory=lambda: array("q"))
    mtime_ns: array[int] = field(default_factory=lambda: array("q"))
    inode: array[int] = field(default_factory=lambda: array("q"))
    through_link: bytearray = field(default_factory=bytearray)
    undecided: bytearray = field(default_factory=bytearray)
    decided: dict[int, tuple[FileStatus, Reason | None, str | None]] = field(default_factory=dict)
    _texts: list[str] = field(default_factory=list)
    _chunks: list[pa.Array] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.undecided)

    def add(
        self,
        text: str,
        seen: tuple[int, int, int] | None,
        decided: tuple[FileStatus, Reason | None, str | None] | None,
        *,
        through_link: bool = False,
    ) -> None:
        """One more path, with its size, time and inode; -1 stands for each where nobody looked."""
        if decided is not None:
            self.decided[len(self)] = decided
        size, mtime_ns, inode = (-1, -1, -1) if seen is None else seen
        self.size.append(size)
        self.mtime_ns.append(mtime_ns)
        self.inode.append(inode)
        self.through_link.append(through_link)
        self.undecided.append(decided is None)
        self._texts.append(text)
        if len(self._texts) == _CHUNK:
            self._flush()

    def texts(self) -> pa.ChunkedArray:
        """The paths, relative to the folder, as `names.to_text` writes them."""
        self._flush()
        return pa.chunked_array(self._chunks, type=_NAMES)

    def seen(self, row: int) -> Seen:
        """What the walk saw there."""
        return Seen(self.size[row], self.mtime_ns[row], self.inode[row])

    def _flush(self) -> None:
        if self._texts:
            self._chunks.append(pa.array(self._texts, type=_NAMES))
            self._texts = []


def walk(inbox: Path, exclude: Collection[Path] = ()) -> Walked:
    """Every path below `inbox`, folder by folder in the order of names.

    - A hidden file is not an image; a hidden folder, and a folder in `exclude`, is one path that is not an image, and
      nobody looks inside (trash, thumbnails, snapshots, our own results).
    - A link to a file below the inbox is a path of its own; a link to a folder below it is one path that is not an
      image, since that folder is walked anyway; a link out of the inbox goes to quarantine unread.
    - A device, pipe or socket goes to quarantine unopened; so does a folder that cannot be listed, to be tried again.

    Raises InboxMissing where there is no folder, WrongUse where it is a file, StorageError where it cannot be listed.
    """
    root = os.path.realpath(inbox)
    if not os.path.lexists(root):
        raise InboxMissing(
            "There is no folder to take images from.",
            file=inbox,
            todo="check the path, and whether anything was delivered for this night",
        )
    if not os.path.isdir(root):  # noqa: PTH112 - beside realpath
        raise WrongUse("Images are taken from a folder, and this is none.", file=inbox)
    walked = Walked(root)
    shut = {_identity(path) for path in exclude if os.path.exists(path)}  # noqa: PTH110
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(f"{root}/{folder}") as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise StorageError(
                    f"The inbox cannot be listed: {error.strerror}.", file=inbox, todo="check its rights and the mount"
                ) from error
            problem = not_read(error)
            walked.add(to_text(folder), None, (FileStatus.QUARANTINED, problem.reason, problem.detail))
            continue
        inner = []
        for entry in ordered:
            path = f"{folder}/{entry.name}" if folder else entry.name
            hidden, is_folder = entry.name.startswith("."), _is_folder(entry)
            if is_folder and not hidden and not (shut and _identity(entry.path) in shut):
                inner.append(path)
            elif is_folder or hidden:
                walked.add(to_text(path), None, (FileStatus.NOT_AN_IMAGE, None, None))
            else:
                _look(walked, entry, to_text(path))
        folders.extend(reversed(inner))
    return walked


def real_path(root: str, text: str, *, through_link: bool = False) -> str | None:
    """The file to open for a path of the walk; None: it is a link, and leads out of the folder by now."""
    path = f"{root}/{from_text(text)}"
    if not through_link or store_address(root) is not None:
        return path
    target = os.path.realpath(path)
    return target if _inside(root, target) else None


def _look(walked: Walked, entry: os.DirEntry[str], text: str) -> None:
    try:
        if entry.is_symlink():
            _look_through(walked, entry.path, text)
        else:
            status = entry.stat(follow_symlinks=False)
            walked.add(text, _marks(status), _unless_file(status))
    except OSError as error:
        problem = not_read(error)
        status_word = FileStatus.DEFERRED if problem.reason is Reason.VANISHED else FileStatus.QUARANTINED
        walked.add(text, None, (status_word, problem.reason, problem.detail))


def _look_through(walked: Walked, path: str, text: str) -> None:
    target = os.path.realpath(path)
    if not _inside(walked.root, target):
        detail = as_detail(f"leads to {target}")
        walked.add(text, None, (FileStatus.QUARANTINED, Reason.LINK_OUT_OF_FOLDER, detail))
        return
    try:
        status = os.stat(target, follow_symlinks=False)  # noqa: PTH116 - a string, a million times
    except FileNotFoundError:
        walked.add(text, None, (FileStatus.DEFERRED, Reason.VANISHED, "a link to nothing"))
        return
    if stat.S_ISLNK(status.st_mode):  # realpath gives up on a circle, and names one of its links
        walked.add(text, None, (FileStatus.QUARANTINED, Reason.NOT_A_REGULAR_FILE, "a circle of links"))
    elif stat.S_ISDIR(status.st_mode):
        walked.add(text, None, (FileStatus.NOT_AN_IMAGE, None, None))
    else:
        walked.add(text, _marks(status), _unless_file(status), through_link=True)


def _marks(status: os.stat_result) -> tuple[int, int, int]:
    """What Seen has; no Seen for each of a million files: it would take as long as asking the system."""
    return status.st_size, status.st_mtime_ns, inode_of(status)


def _unless_file(status: os.stat_result) -> tuple[FileStatus, Reason | None, str | None] | None:
    if stat.S_ISREG(status.st_mode):
        return None
    return FileStatus.QUARANTINED, Reason.NOT_A_REGULAR_FILE, None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _inside(root: str, path: str) -> bool:
    return path == root or path.startswith(root if root.endswith("/") else root + "/")


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino
