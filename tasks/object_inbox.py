"""An inbox in an object store: listed in pages, read by gets. An object is whole as soon as it is there.

Its time and its etag stand for the time and the inode of a file: they only spare reading what did not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from darkroom.errors import InboxMissing, StorageError
from darkroom.names import as_detail, from_text, to_text
from darkroom.object_storage import Entry, ObjectStorage, bucket_and_key
from darkroom.reasons import FileStatus, Reason
from darkroom.storage import store_address
from tasks.identity import FIRST_BYTES, NotRead, Seen
from tasks.walk import Walked

_NOT_AN_IMAGE: Final = (FileStatus.NOT_AN_IMAGE, None, None)


def file_at(inbox: Path, text: str) -> Path:
    """The place of a path of the manifest: below the inbox, unless it is a place of its own."""
    name = from_text(text)
    # With both slashes, which no path below a folder has: a delivered folder may be named `s3:`.
    return Path(name) if "://" in name and store_address(name) is not None else inbox / name


def is_there(folder: Path) -> bool:
    """Whether anything was delivered there: a folder on a disk, an object in a store."""
    address = store_address(folder)
    return folder.is_dir() if address is None else ObjectStorage(address).holds_anything()


def walk_objects(address: str, exclude: Collection[Path]) -> Walked:
    """Every object below an address as tasks.walk tells a folder: in the same order, hidden folders and those in
    `exclude` as one path. Raises InboxMissing where there is none, StorageError where it cannot be listed.
    """
    storage = ObjectStorage(address)
    shut = {store_address(path) for path in exclude}
    walked = Walked(address)
    folders = [""]
    while folders:
        inner, objects = storage.entries(folders.pop())
        shown = {key for key in inner if not _is_hidden(key) and storage.describe(key) not in shut}
        paths: dict[str, Entry | None] = {key: None for key in inner if key not in shown}
        paths |= {one.key: None if _is_hidden(one.key) else one for one in objects}
        for key in sorted(paths):
            one = paths[key]
            if one is None:
                walked.add(to_text(key), None, _NOT_AN_IMAGE)
            else:
                seen = _seen(one)
                walked.add(to_text(key), (seen.size, seen.mtime_ns, seen.inode), None)
        folders.extend(sorted(shown, reverse=True))
    if not len(walked):
        raise InboxMissing(
            "There is nothing at this address to take images from.",
            file=address,
            todo="check the address, and whether anything was delivered for this night",
        )
    return walked


def examine_object(
    place: str, seen: Seen | None, *, wanted: Callable[[bytes], bool], max_bytes: int
) -> tuple[bytes, str | None]:
    """The first bytes of an object, and the sha256 of all of them where `wanted(first bytes)`. Raises NotRead."""
    with _got(place) as found:
        if seen is not None and _seen(Entry.of("", found.meta)) != seen:
            raise NotRead(Reason.CHANGED_WHILE_READING, "size, time or etag changed since the inbox was listed")
        first, digest = b"", hashlib.sha256()
        for block in found.stream(min_chunk_size=1 << 20):
            if not first:
                first = bytes(block)[:FIRST_BYTES]
                if found.meta["size"] > max_bytes or not wanted(first):
                    return first, None
            digest.update(block)
        return first, digest.hexdigest()


def look_at_object(place: str) -> Seen:
    """What a listing would say of it now. Raises NotRead."""
    with _got(place) as found:
        return _seen(Entry.of("", found.meta))


def fetch(place: str, max_bytes: int) -> bytes:
    """All bytes of an object. Raises NotRead."""
    with _got(place) as found:
        size = found.meta["size"]
        if size > max_bytes:
            raise NotRead(Reason.TOO_LARGE_FILE, f"{size:,} bytes, the limit is {max_bytes:,}")
        return bytes(found.bytes())


@contextmanager
def _got(place: str) -> Iterator[Any]:
    bucket, key = bucket_and_key(place)
    try:
        with ObjectStorage(bucket).got(key) as found:  # one client for all folders
            yield found
    except FileNotFoundError as error:
        raise NotRead(Reason.VANISHED, "no such object") from error
    except (StorageError, OSError) as error:
        denied = "403 Forbidden" in str(error)
        raise NotRead(Reason.PERMISSION_DENIED if denied else Reason.READ_ERROR, as_detail(error)) from error


def _is_hidden(key: str) -> bool:
    return key.rpartition("/")[2].startswith(".")


def _seen(entry: Entry) -> Seen:
    """A listing may tell milliseconds, and a tag without its quotes, where the answer to a get does not."""
    tag = int.from_bytes(hashlib.sha256(entry.e_tag.strip('"').encode()).digest()[:8], "big") & (2**63 - 1)
    return Seen(entry.size, int(entry.written_at.timestamp()) * 10**9, tag)
