"""Which files of an inbox are images, finished, safe to open and new: the manifest of a run."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkroom.errors import StorageError
from darkroom.names import to_text
from darkroom.reasons import FileStatus, Reason
from darkroom.results import now
from darkroom.schemas import FILES
from darkroom.storage import store_address
from darkroom.summary import Counts
from tasks.content_ids import BYTES, as_texts, packed
from tasks.formats import FORMAT_EXTENSIONS, sniff
from tasks.identity import FIRST_BYTES, NotRead, Seen, content_id, first_bytes, not_read, opened
from tasks.ledger import Ledger
from tasks.memory import return_large_blocks
from tasks.object_inbox import examine_object, walk_objects
from tasks.quarantine import status_of
from tasks.readers import NoAnswer, Readers
from tasks.walk import Walked, real_path, walk

MANIFEST = FILES.append(pa.field("detail", pa.string()))
TO_SCORE = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
    ]
)

IMAGE_SUFFIXES = frozenset("." + suffix.lower().lstrip(".") for names in FORMAT_EXTENSIONS.values() for suffix in names)
# Names that programs give to what they have not finished writing: however long ago, it is no image yet.
UNFINISHED_SUFFIXES = frozenset({".part", ".partial", ".filepart", ".crdownload"})

_STATUSES = list(FileStatus)
_REASONS = list(Reason)
_FILES_A_SLICE = 8192
_SLOWEST = 20_000  # bytes a second: what is slower than that, with several at once, is no answer


@dataclass(frozen=True)
class Manifest:
    """Every path of an inbox with what becomes of it if all goes well: what is `scored` here is to be scored.

    `files` has the columns of the files dataset and `detail`; `base` is the commit up to which the run knows what was
    scored; `inbox` is absolute, as text.
    """

    files: pa.Table
    inbox: str
    taken_in_at: datetime
    base: int

    @property
    def to_score(self) -> pa.Table:
        """What is to be scored: TO_SCORE columns, each content once, in the order of the walk."""
        files = self.files.select(TO_SCORE.names)
        return files.filter(pc.equal(self.files["status"], FileStatus.SCORED)).cast(TO_SCORE)

    @property
    def counts(self) -> Counts:
        """If all goes well."""
        return counts_of(self.files["status"])


def nothing_delivered(inbox: Path, ledger: Ledger) -> Manifest:
    """The manifest of a night without an inbox: what an `empty` night is committed with."""
    return Manifest(MANIFEST.empty_table(), inbox_text(inbox), now(), ledger.newest)


def counts_of(statuses: pa.ChunkedArray) -> Counts:
    """How many paths have which status."""
    return Counts.of({item["values"]: item["counts"] for item in pc.value_counts(statuses).to_pylist()})


def inbox_text(inbox: Path) -> str:
    """The one name of an inbox: absolute, links resolved, or an address; as text."""
    return to_text(store_address(inbox) or os.path.realpath(inbox))


def take_in(
    inbox: Path,
    *,
    formats: Collection[str],
    ledger: Ledger,
    rehash: bool = False,
    settle_seconds: float = 2.0,
    max_bytes: int = 200_000_000,
    exclude: Collection[Path] = (),
    threads: int | None = None,
    patience_seconds: float = 120.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Manifest:
    """Look through an inbox; nothing in it is changed.

    - What a file is its first bytes say. A name like an image's without them goes to quarantine; neither: not an image.
      An image in a format that is not in `formats` (names as in tasks.decode) goes to quarantine.
    - Files younger than `settle_seconds`, or dated in the future, are looked at again after one wait for all of them;
      what changed, or bears the name of an unfinished download, is deferred. So is what changes while it is read.
    - Identity is the sha256 of the content. The index of the inbox's last commit spares reading what has the same
      size, time and inode as then; `rehash` reads everything.
    - A file that is not read in `patience_seconds`, and a second more for every 20 kB, is a read error; where that
      happens to one after another, the inbox does not answer.
    - A content that the ledger knows was scored before. Of several paths with one new content the first is to be
      scored (files before links), the others are duplicates.

    `exclude` are folders that are not looked into (the results, if they lie in the inbox). Memory is some hundred
    bytes a path. Raises InboxMissing, WrongUse or StorageError as tasks.walk does, and StorageError for no answer.
    """
    return_large_blocks()
    taken_in_at = now()
    clock = time.time_ns()
    address = store_address(inbox)
    walked = walk(inbox, exclude) if address is None else walk_objects(address, exclude)
    texts = walked.texts()
    rows = _Rows(walked)
    if not rehash:
        rows.believe(texts, ledger.index_parts(inbox_text(inbox)))
    rows.settle(texts, clock, settle_seconds, sleep)
    at_once = threads or min(8, 2 * (os.cpu_count() or 1))
    try:
        rows.identify(texts, frozenset(formats), max_bytes, at_once, patience_seconds)
    except NoAnswer:
        raise StorageError(
            f"The inbox {inbox_text(inbox)} does not answer.",
            expected=f"a file within {patience_seconds:.0f} s, and a second more for every {_SLOWEST // 1000} kB",
            found="none that was read came within its time",
            todo="look at the mount, or at the machine that it is of, and run again: nothing was changed",
        ) from None
    rows.tell_new(ledger)
    return Manifest(rows.table(texts), inbox_text(inbox), taken_in_at, ledger.newest)


class _Rows:
    """What is known of each path so far: codes in arrays, and texts only where there are any."""

    def __init__(self, walked: Walked) -> None:
        count = len(walked)
        self.walked = walked
        self.address = store_address(walked.root)
        self.size = np.frombuffer(walked.size, np.int64)
        self.mtime_ns = np.frombuffer(walked.mtime_ns, np.int64)
        self.inode = np.frombuffer(walked.inode, np.int64)
        self.link = np.frombuffer(walked.through_link, np.bool_)
        self.status: NDArray[np.int8] = np.full(count, -1, np.int8)
        self.reason: NDArray[np.int8] = np.full(count, -1, np.int8)
        self.detail: dict[int, str] = {}
        self.content = np.zeros((count, BYTES), np.uint8)
        self.known: NDArray[np.bool_] = np.zeros(count, np.bool_)
        for row, decision in walked.decided.items():
            self.decide(row, *decision)

    def decide(self, row: int, status: FileStatus, reason: Reason | None = None, detail: str | None = None) -> None:
        self.status[row] = _STATUSES.index(status)
        if reason is not None:
            self.reason[row] = _REASONS.index(reason)
        if detail is not None:
            self.detail[row] = detail

    def refuse(self, row: int, problem: NotRead) -> None:
        self.decide(row, status_of(problem.reason), problem.reason, problem.detail)

    def unknown(self) -> NDArray[np.int64]:
        """Rows that nobody has decided on, and whose content is not known."""
        return np.flatnonzero((self.status < 0) & ~self.known)

    def believe(self, texts: pa.ChunkedArray, index: Iterable[pa.Table]) -> None:
        """Take from the index what has not changed since.

        Paths are found by a hash of 64 bits: of two with the same one, one is read again, and that is all.
        """
        if not len(texts):
            return
        keys = path_keys(texts)
        order = np.argsort(keys)
        keys = keys[order]
        for part in index:
            place = np.searchsorted(keys, path_keys(part["path"]))
            place = order[np.minimum(place, len(order) - 1)]
            same = pc.equal(texts.take(pa.array(place)), part["path"]).to_numpy() & (self.status[place] < 0)
            for name, mine in (("size", self.size), ("mtime_ns", self.mtime_ns), ("inode", self.inode)):
                same &= pc.fill_null(part[name], -2).to_numpy() == mine[place]
            not_images = pc.equal(part["status"], FileStatus.NOT_AN_IMAGE).to_numpy()
            self.status[place[same & not_images]] = _STATUSES.index(FileStatus.NOT_AN_IMAGE)
            same &= ~not_images
            self.known[place[same]] = True
            self.content[place[same]] = packed(part["content_id"].filter(pa.array(same)))

    def settle(self, texts: pa.ChunkedArray, clock: int, seconds: float, sleep: Callable[[float], None]) -> None:
        """Defer what is still being written."""
        rows = self.unknown()
        young = rows[clock - self.mtime_ns[rows] < seconds * 1e9] if self.address is None else rows[:0]
        if len(young):
            sleep(seconds)
            for row, text in self._with_texts(texts, young):
                self._look_again(row, text)
        for row, text in self._with_texts(texts, rows):
            if self.status[row] < 0 and _suffix(text) in UNFINISHED_SUFFIXES:
                self.decide(row, FileStatus.DEFERRED, Reason.STILL_GROWING, "the name of an unfinished file")

    def _look_again(self, row: int, text: str) -> None:
        path = real_path(self.walked.root, text, through_link=bool(self.link[row]))
        try:
            changed = path is None or Seen.of(os.lstat(path)) != self.walked.seen(row)
        except OSError as error:
            self.refuse(row, not_read(error))
            return
        if changed:
            self.decide(row, FileStatus.DEFERRED, Reason.STILL_GROWING)

    def identify(
        self, texts: pa.ChunkedArray, formats: frozenset[str], max_bytes: int, threads: int, patience: float
    ) -> None:
        """Read what nobody knows yet."""
        rows = self.unknown()

        def limit(item: tuple[int, str]) -> float:
            if self.address is not None:
                return math.inf  # a client of object stores has limits of its own, and tries again
            return patience + min(int(self.size[item[0]]), max_bytes) / _SLOWEST

        with closing(Readers(lambda item: self._identify(*item, formats, max_bytes), limit, threads)) as readers:
            for start in range(0, len(rows), _FILES_A_SLICE):
                work = list(self._with_texts(texts, rows[start : start + _FILES_A_SLICE]))
                for (row, text), found in readers.each(work):
                    if found is None:
                        self.refuse(row, NotRead(Reason.READ_ERROR, f"not read in {limit((row, text)):.0f} s"))
                        continue
                    content, problem = found
                    if content is not None:
                        self.known[row] = True
                        self.content[row] = np.frombuffer(bytes.fromhex(content), np.uint8)
                    if isinstance(problem, NotRead):
                        self.refuse(row, problem)
                    elif problem is not None:
                        self.decide(row, problem)

    def _identify(
        self, row: int, text: str, formats: frozenset[str], max_bytes: int
    ) -> tuple[str | None, NotRead | FileStatus | None]:
        """The content id where the file was read, and why it is not to be scored, if it is not."""
        seen = self.walked.seen(row)
        path = real_path(self.walked.root, text, through_link=bool(self.link[row]))
        if path is None:
            return None, NotRead(Reason.LINK_OUT_OF_FOLDER, "became a link out of the folder")
        return examined(
            path, seen, named_as_image=_suffix(text) in IMAGE_SUFFIXES, formats=formats, max_bytes=max_bytes
        )

    def tell_new(self, ledger: Ledger) -> None:
        """Scored before, to be scored, or a duplicate of what is to be scored."""
        rows = np.flatnonzero(self.status < 0)
        before = ledger.are_scored(self.content[rows])
        self.status[rows[before]] = _STATUSES.index(FileStatus.SCORED_BEFORE)
        rows = rows[~before]
        # Files before links, each in the order of the walk: the path that a person would name.
        order = np.lexsort((rows, self.link[rows]))
        ids = as_texts(self.content[rows], self.known[rows])
        codes = pc.index_in(ids, value_set=pc.unique(ids)).to_numpy()[order]
        first = np.unique(codes, return_index=True)[1]
        self.status[rows] = _STATUSES.index(FileStatus.DUPLICATE)
        self.status[rows[order][first]] = _STATUSES.index(FileStatus.SCORED)

    def table(self, texts: pa.ChunkedArray) -> pa.Table:
        unseen = self.size < 0
        columns = {
            "path": texts,
            "status": _words(_STATUSES, self.status),
            "content_id": as_texts(self.content, self.known),
            "reason": _words(_REASONS, self.reason),
            **{
                name: pa.array(values, mask=unseen)
                for name, values in (("size", self.size), ("mtime_ns", self.mtime_ns), ("inode", self.inode))
            },
            "detail": _sparse(self.detail, len(self.status)),
        }
        return pa.table(columns).cast(MANIFEST)

    def _with_texts(self, texts: pa.ChunkedArray, rows: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
        for start in range(0, len(rows), _FILES_A_SLICE):
            part = rows[start : start + _FILES_A_SLICE]
            yield from zip(part.tolist(), texts.take(pa.array(part)).to_pylist(), strict=True)


def examined(
    path: str | Path, seen: Seen, *, named_as_image: bool, formats: Collection[str], max_bytes: int
) -> tuple[str | None, NotRead | FileStatus | None]:
    """The content id of a file, where it was read, and why it is not to be scored, if it is not."""

    def may_be_image(first: bytes) -> bool:
        return named_as_image or sniff(first) is not None

    try:
        if store_address(path) is None:
            with opened(path, seen) as descriptor:
                first = first_bytes(descriptor)[:FIRST_BYTES]
                wanted = may_be_image(first) and seen.size <= max_bytes
                content = content_id(descriptor, seen.size) if wanted else None
        else:
            first, content = examine_object(str(path), seen, wanted=may_be_image, max_bytes=max_bytes)
    except NotRead as problem:
        return None, problem
    found = sniff(first)
    if not may_be_image(first):
        return None, FileStatus.NOT_AN_IMAGE
    if seen.size > max_bytes:
        return None, NotRead(Reason.TOO_LARGE_FILE, f"{seen.size} bytes; the limit is {max_bytes}")
    if seen.size == 0:
        return content, NotRead(Reason.EMPTY_FILE, "")
    if found is None:
        return content, NotRead(Reason.UNKNOWN_FORMAT, "")
    if found not in formats:
        return content, NotRead(Reason.FORMAT_NOT_ALLOWED, f"{found}; allowed: {', '.join(sorted(formats))}")
    return content, None


def path_keys(texts: pa.ChunkedArray) -> NDArray[np.int64]:
    """A number for each path, the same for equal ones within a process."""
    keys = np.empty(len(texts), np.int64)
    for start in range(0, len(texts), _FILES_A_SLICE):
        names = texts.slice(start, _FILES_A_SLICE).to_numpy()
        keys[start : start + len(names)] = np.fromiter(map(hash, names), np.int64, len(names))
    return keys


def _suffix(text: str) -> str:
    return PurePosixPath(text).suffix.lower()


def _words(words: list[FileStatus] | list[Reason], codes: NDArray[np.int8]) -> pa.Array:
    return pa.array([str(word) for word in words]).take(pa.array(codes, mask=codes < 0))


def _sparse(texts: Mapping[int, str], rows: int) -> pa.Array:
    """The texts of few rows, and null in all others."""
    place = np.full(rows, -1, np.int32)
    place[list(texts)] = np.arange(len(texts))
    return pa.array([text or None for text in texts.values()], pa.string()).take(pa.array(place, mask=place < 0))
