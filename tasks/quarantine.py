"""Images that cannot or must not be scored: how they are recorded, and a copy of each for a person to look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from darkroom.decisions import Act, decisions
from darkroom.errors import StorageError
from darkroom.names import as_detail, from_text
from darkroom.reasons import FileStatus, Reason
from darkroom.schemas import QUARANTINE
from darkroom.storage import Storage, store_address
from tasks.formats import sniff
from tasks.identity import FIRST_BYTES, NotRead, blocks, first_bytes, opened
from tasks.object_inbox import fetch, file_at

COPIES = "quarantine_files"
_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif"}

# The file is not what it was, or not yet what it will be: it is looked at again, and nobody needs to see it now.
_DEFERRED = frozenset({Reason.STILL_GROWING, Reason.CHANGED_WHILE_READING, Reason.VANISHED})


def status_of(reason: Reason) -> FileStatus:
    """What becomes of a path for this reason: quarantined, or deferred to the next night."""
    return FileStatus.DEFERRED if reason in _DEFERRED else FileStatus.QUARANTINED


@dataclass(frozen=True)
class Refusal:
    """A path that was to be scored and could not be. `path` is text as in the manifest."""

    path: str
    content_id: str | None
    reason: Reason
    detail: str | None = None
    size: int | None = None


def refusals_table(refusals: Iterable[Refusal]) -> pa.Table:
    """Refusals as rows of the quarantine schema; those that are only deferred among them."""
    rows = [
        {
            "path": refusal.path,
            "content_id": refusal.content_id,
            "reason": str(refusal.reason),
            "retryable": refusal.reason.retryable,
            "detail": None if refusal.detail is None else as_detail(refusal.detail),
            "size": refusal.size,
        }
        for refusal in refusals
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE)


@dataclass(frozen=True)
class Copies:
    """What became of the copies of a night. `kept` were there before or are now; `new` of them are from tonight."""

    kept: int = 0
    new: int = 0
    refused: int = 0
    beyond_limit: int = 0
    unwanted: int = 0


def copy_key(content_id: str, found_format: str | None) -> str:
    """Where the copy of a content is: its suffix says what its first bytes say, never what its name said."""
    suffix = ".bin" if found_format is None else _SUFFIXES.get(found_format, f".{found_format.lower()}")
    return f"{COPIES}/{content_id}{suffix}"


def copies(storage: Storage) -> dict[str, str]:
    """Content id → key of its copy."""
    return {name.split(".")[0]: f"{COPIES}/{name}" for name in storage.list(COPIES)}


def unwanted(storage: Storage) -> frozenset[str]:
    """The contents whose copies somebody has deleted: none is made again."""
    deleted = decisions(storage, Act.DELETE_COPIES)
    return frozenset(content.content_id for decision in deleted for content in decision.contents)


def keep_copies(
    storage: Storage, inbox: Path, rows: pa.Table, *, max_bytes: int = 200_000_000, max_total_bytes: int = 10**10
) -> Copies:
    """Copy what was quarantined for good, each content once for ever; a file that cannot be copied stops nothing.

    `rows` are of the quarantine schema, their paths relative to `inbox`. Not copied: what may be scored another night,
    what was never read, files of no bytes or more than `max_bytes`, what comes after `max_total_bytes` new bytes, and
    what somebody has deleted.
    Files are read as at intake: through no link out of the inbox, from no device, and only while their content is
    still the one that was quarantined.
    """
    there = set(copies(storage))
    deleted = unwanted(storage)
    kept = new = refused = beyond = left_out = total = 0
    root = inbox if store_address(inbox) else inbox.resolve()
    for row in rows.select(["path", "content_id", "retryable", "size"]).to_pylist():
        content = row["content_id"]
        if content is None or row["retryable"] or not row["size"]:
            continue
        if content in there:
            kept += 1
        elif content in deleted:
            left_out += 1
        elif row["size"] > max_bytes or total + row["size"] > max_total_bytes:
            beyond += 1
        else:
            try:
                _copy(storage, root, row["path"], content, row["size"])
            except (NotRead, StorageError):
                # The row stays, and the content is there to be copied when it is seen again.
                refused += 1
                continue
            there.add(content)
            total += row["size"]
            kept, new = kept + 1, new + 1
    return Copies(kept, new, refused, beyond, left_out)


def _copy(storage: Storage, root: Path, text: str, content_id: str, size: int) -> None:
    place = store_address(file_at(root, text))
    if place is not None:
        data = fetch(place, size)
        if sha256(data).hexdigest() != content_id:
            raise NotRead(Reason.CHANGED_WHILE_READING, "no longer the content that was quarantined")
        storage.write(copy_key(content_id, sniff(data[:FIRST_BYTES])), data)
        return
    path = (root / from_text(text)).resolve()
    if not path.is_relative_to(root):
        raise NotRead(Reason.LINK_OUT_OF_FOLDER, "became a link out of the folder")
    with opened(path) as descriptor:
        found_format = sniff(first_bytes(descriptor)[:FIRST_BYTES])
        storage.write(copy_key(content_id, found_format), _proved(descriptor, content_id, size))


def _proved(descriptor: int, content_id: str, size: int) -> Iterator[bytes]:
    """The bytes; raises at their end, before anything is kept, where they are not the content."""
    digest = sha256()
    for block in blocks(descriptor, size):
        digest.update(block)
        yield block
    if digest.hexdigest() != content_id:
        raise NotRead(Reason.CHANGED_WHILE_READING, "no longer the content that was quarantined")
