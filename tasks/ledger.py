"""What was scored already: derived from the commits, and from nothing that could disagree with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkroom.reasons import FileStatus
from darkroom.results import Commit, commits, read_part
from darkroom.storage import Storage, storage_at
from tasks.content_ids import Digests, Sought, packed

# A file that was written while, or just before, it was read may change again without its time changing: file systems
# tell time in ticks of up to two seconds. Such rows of the index are not believed (git calls this "racily clean").
_TICK = timedelta(seconds=2)
_ROWS_AT_ONCE = 262_144

# Their content id, if any, is that of the file with this size, time and inode.
_BELIEVED = [FileStatus.SCORED, FileStatus.SCORED_BEFORE, FileStatus.DUPLICATE, FileStatus.NOT_AN_IMAGE]
INDEX_COLUMNS = ("path", "size", "mtime_ns", "inode", "content_id", "status")


@dataclass(frozen=True)
class Ledger:
    """The commits of a bundle as they were at one moment."""

    storage: Storage
    bundle: str
    commits: tuple[Commit, ...]

    @property
    def newest(self) -> int:
        """Number of the last commit; 0: there is none."""
        return self.commits[-1].number if self.commits else 0

    def already_scored(self, content_ids: pa.Array | pa.ChunkedArray, since: int = 0) -> pa.Array:
        """Those of the given contents that commits after number `since` have scored, each once.

        Raises StorageError where a committed part cannot be read: nobody could say what is in it.
        """
        met = self.are_scored(packed(content_ids), since)
        return pc.unique(content_ids.filter(pa.array(met)))

    def are_scored(self, contents: Digests, since: int = 0) -> NDArray[np.bool_]:
        """For each of the given contents, whether commits after number `since` have scored it.

        Memory is some hundred bytes for each of them, and one committed part, however many were ever scored.
        Raises StorageError where a committed part cannot be read.
        """
        if not len(contents):
            return np.zeros(0, np.bool_)
        sought = Sought(contents)
        for scored in self._scored_ids(since):
            for start in range(0, len(scored), _ROWS_AT_ONCE):
                sought.meet(packed(scored.slice(start, _ROWS_AT_ONCE)))
        return sought.met()

    def index_of(self, inbox: str) -> pa.Table | None:
        """All parts of the index together; None: there are none."""
        parts = list(self.index_parts(inbox))
        return pa.concat_tables(parts) if parts else None

    def index_parts(self, inbox: str) -> Iterator[pa.Table]:
        """What the last commit of this inbox knew of its files, as far as it can be believed; columns INDEX_COLUMNS.

        It only spares reading: a path whose size, time and inode are still the same still has the same content.
        """
        last = next((commit for commit in reversed(self.commits) if commit.inbox == inbox), None)
        if last is None:
            return
        newest_believed = int((last.taken_in_at - _TICK).timestamp() * 1e9)
        for part in last.parts:
            if part.dataset == "files":
                rows = read_part(self.storage, part, INDEX_COLUMNS)
                believed = pc.and_(
                    pc.is_in(rows["status"], value_set=pa.array(_BELIEVED, pa.string())),
                    pc.less_equal(rows["mtime_ns"], newest_believed),
                )
                yield rows.filter(believed)

    def _scored_ids(self, since: int) -> Iterator[pa.ChunkedArray]:
        for commit in self.commits:
            if commit.number > since:
                for part in commit.parts:
                    if part.dataset == "predictions":
                        yield read_part(self.storage, part, ["content_id"])["content_id"]


def open_ledger(results: Storage | Path | str, bundle: str, since: int = 0) -> Ledger:
    """The commits of a bundle as they are now, those after number `since`."""
    storage = storage_at(results)
    return Ledger(storage, bundle, tuple(commits(storage, bundle, since)))
