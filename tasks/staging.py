"""What a run has finished so far, outside of what anybody reads: its manifest, its shards, its lock.

    staging/<run>/run.json           what the run is
                  manifest.parquet   every path (frozen at the first attempt), manifest.json last
                  to_score.parquet   one row group a shard
                  shards/…           immutable parts under names of their own; <shard>.json, written once, says which
                  publish/…          made from the above: what is renamed into place
                  intent.json        from here on the run will be committed, by itself or by whoever comes next
                  held.json          complete, and kept back until a person releases it

Everything is written whole, so that what is there can be used; a shard that two workers finish counts once.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from darkroom.errors import CommitConflict, StorageError
from darkroom.results import Commit, Part, parquet_blocks, parquet_bytes, part_bytes
from darkroom.schemas import RESULTS_SCHEMA_VERSION
from darkroom.storage import Lock, Storage
from darkroom.summary import NightSummary
from tasks.intake import TO_SCORE, Manifest
from tasks.quarantine import Refusal, refusals_table

ROWS_A_FILES_PART = 262_144
# A run that hangs while it holds the bundle's lock must not stop the others: after this they go on without.
LOCK_PATIENCE_SECONDS: Final = 1800.0

# Names of folders on every storage, and never taken for numbers by readers of Hive datasets.
_ID = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


_R = TypeVar("_R", bound=_Record)


class RunRecord(_Record):
    """What a run is: who may resume it."""

    schema_version: int = RESULTS_SCHEMA_VERSION
    run: str
    bundle: str
    night: date
    inbox: str
    begun_at: datetime


class ManifestRecord(_Record):
    """What the manifest's tables do not say."""

    inbox: str
    taken_in_at: datetime
    base: int
    shards: int
    to_score: int


class ShardRecord(_Record):
    """A finished shard: which files count, and what is in them."""

    shard: int
    predictions: str | None
    rows: int
    bytes: int
    sha256: str
    verdicts: dict[str, int]
    classes: dict[str, int]
    refused: str | None
    refused_rows: int
    sketch: str | None


class Intent(_Record):
    """The commit as it will be, but for its number; `base` is the commit up to which its rows are known to be new."""

    base: int
    bundle: str
    night: date
    run: str
    inbox: str
    parts: tuple[Part, ...]
    summary: NightSummary
    taken_in_at: datetime


def valid_id(name: str) -> bool:
    """Whether this can be the id of a run or a bundle: letters, digits, `.`, `_`, `-`, and a letter among them."""
    return _ID.fullmatch(name) is not None


def run_lock(run: str) -> str:
    """Name of the lock that a run holds while it is alive."""
    return f"run-{run}"


def bundle_lock_name(bundle: str) -> str:
    """Name of the lock under which runs of one bundle settle and commit in turn."""
    return f"bundle-{bundle}"


def bundle_lock(storage: Storage, bundle: str) -> Lock | None:
    """That lock; None: it was not to be had in good time."""
    return storage.try_lock(bundle_lock_name(bundle), LOCK_PATIENCE_SECONDS)


@dataclass(frozen=True)
class Staging:
    """The staging of one run. Has no state and no lock: a worker makes its own from the results and the run's id."""

    storage: Storage
    run: str

    def key(self, *names: str) -> str:
        """A key below the run's folder."""
        return "/".join(("staging", self.run, *names))

    def record(self) -> RunRecord | None:
        """What the run is; None: there is no such run (any more)."""
        return self.peek(RunRecord, "run.json")

    def intent(self) -> Intent | None:
        """What will be committed, once that is decided."""
        return self.peek(Intent, "intent.json")

    def held(self) -> Intent | None:
        """What would be committed, if a person released it."""
        found = self.peek(Intent, "held.json")
        return None if found is None or self.record() is None else found

    def remove(self) -> None:
        """Remove all of it, and what the run is first: where a folder goes file by file, a rest of it is no run."""
        self.storage.remove(self.key("run.json"))
        self.storage.remove_folder(self.key())

    # -- the manifest

    def freeze(self, manifest: Manifest, shard_size: int) -> None:
        """Keep the manifest for this attempt and every later one, and cut it into shards."""
        to_score = manifest.to_score
        record = ManifestRecord(
            inbox=manifest.inbox,
            taken_in_at=manifest.taken_in_at,
            base=manifest.base,
            shards=-(-len(to_score) // shard_size),
            to_score=len(to_score),
        )
        self.storage.write(self.key("manifest.parquet"), parquet_blocks(manifest.files, ROWS_A_FILES_PART))
        self.storage.write(self.key("to_score.parquet"), parquet_bytes(to_score, shard_size))
        self.storage.write(self.key("manifest.json"), record.model_dump_json().encode())
        _footer.cache_clear()
        _shard.cache_clear()

    def frozen(self) -> ManifestRecord | None:
        """What was frozen; None: the run has not come that far."""
        return self.peek(ManifestRecord, "manifest.json")

    def manifest(self) -> Manifest:
        """The frozen manifest. Raises StorageError where there is none."""
        record = self._frozen()
        files = pa.concat_tables(self.manifest_files()).combine_chunks()
        return Manifest(files, record.inbox, record.taken_in_at, record.base)

    def manifest_files(self) -> Iterator[pa.Table]:
        """The manifest's paths, some hundred thousand at a time; at least one table."""
        with self._parquet(self.key("manifest.parquet")) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)
            if not file.num_row_groups:
                yield file.schema_arrow.empty_table()

    # -- the shards

    def shard(self, shard: int) -> pa.Table:
        """What one shard is to score: path (relative to the inbox, as text), content_id, size."""
        return _shard(self, shard)

    def finished(self, known: Collection[int] = ()) -> dict[int, ShardRecord]:
        """The finished shards, without reading those that are `known`: a run that resumes leaves them out."""
        read = {f"{shard:05d}.json" for shard in known}
        names = [name for name in self.storage.list(self.key("shards")) if name.endswith(".json") and name not in read]
        records = [self.peek(ShardRecord, "shards", name) for name in names]
        return {record.shard: record for record in records if record is not None}

    def is_finished(self, shard: int) -> bool:
        """Whether somebody has finished this shard."""
        return self.storage.exists(self.key("shards", f"{shard:05d}.json"))

    def unfinished(self) -> list[int]:
        """The shards that are still to be done."""
        done = self.finished()
        return [shard for shard in range(self._frozen().shards) if shard not in done]

    def refused(self, record: ShardRecord) -> pa.Table:
        """What a shard could not score: quarantine columns, those that are only deferred among them."""
        return refusals_table([]) if record.refused is None else self.read_table(self.key("shards", record.refused))

    def sketch(self, record: ShardRecord) -> bytes | None:
        """What the shard left for the evaluation of the night."""
        return None if record.sketch is None else self.storage.read(self.key("shards", record.sketch))

    def read_table(self, key: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet file of the run."""
        with self._parquet(key) as file:
            return file.read(columns=None if columns is None else list(columns))

    def peek(self, model: type[_R], *names: str) -> _R | None:
        """One of the run's small files; None: it is not there."""
        data = self.storage.peek(self.key(*names))
        try:
            return None if data is None else model.model_validate_json(data)
        except ValidationError as error:
            raise self._unreadable(self.key(*names), error.errors()[0]["msg"]) from error

    def _frozen(self) -> ManifestRecord:
        record = self.frozen()
        if record is None:
            raise self._unreadable(self.key("manifest.json"), "it is not there")
        return record

    @contextmanager
    def _parquet(self, key: str, footer: Any = None) -> Iterator[Any]:
        try:
            with self.storage.open(key) as source, pq.ParquetFile(source, metadata=footer) as file:
                yield file
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(key, str(error)) from error

    def _unreadable(self, key: str, why: str) -> StorageError:
        return StorageError(
            f"A file of an unfinished run cannot be read: {why}.",
            file=self.storage.describe(key),
            todo=f"remove {self.storage.describe(self.key())}; the night is then scored from its start",
        )


@lru_cache(maxsize=2)
def _footer(staging: Staging) -> Any:
    """Where the shards of a run lie in their file. Of ten thousand it takes as long to read as some shards to score."""
    with staging._parquet(staging.key("to_score.parquet")) as file:
        return file.metadata


@lru_cache(maxsize=4)
def _shard(staging: Staging, shard: int) -> pa.Table:
    """Asked for twice: by who looks at the shard, and by who finishes it."""
    with staging._parquet(staging.key("to_score.parquet"), _footer(staging)) as file:
        return file.read_row_group(shard).cast(TO_SCORE)


@dataclass
class Run:
    """A run that is alive in this process; close it, or use it in a `with`.

    `resumed`: an earlier attempt of the same night died, and this run goes on with its manifest and finished shards.
    `rolled_forward`: commits that dead runs had decided on, and that this one completed when it began.
    """

    staging: Staging
    bundle: str
    night: date
    inbox: str
    resumed: bool
    rolled_forward: tuple[Commit, ...]
    _lock: Lock
    _bundle_lock: Lock | None = field(default=None)
    _inbox_lock: Lock | None = field(default=None)

    @property
    def id(self) -> str:
        """Of the run: `run=<id>` in the results."""
        return self.staging.run

    def close(self) -> None:
        """Let go of the run: from now on another process may resume it."""
        self.unlock_bundle()
        self._lock.release(forget=not self.staging.storage.exists(self.staging.key()))
        if self._inbox_lock is not None:
            self._inbox_lock.release(forget=True)

    def hold_bundle(self, lock: Lock | None) -> None:
        """Keep the lock under which runs of one bundle settle and commit one after another."""
        self.unlock_bundle()
        self._bundle_lock = lock

    def hold_inbox(self, lock: Lock | None) -> None:
        """Keep the lock that tells others to wait, if they want to, until this run of the inbox has ended."""
        self._inbox_lock = lock

    def unlock_bundle(self) -> None:
        """Let the next run of the bundle settle."""
        if self._bundle_lock is not None:
            self._bundle_lock.release()
        self._bundle_lock = None

    @property
    def holds_bundle(self) -> bool:
        """Whether this run is between settling and committing."""
        return self._bundle_lock is not None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stage_part(
    staging: Staging,
    shard: int,
    predictions: pa.Table | pd.DataFrame | None,
    refused: Sequence[Refusal] = (),
    sketch: bytes | None = None,
) -> ShardRecord:
    """Finish a shard: its predictions (schema PREDICTIONS), what it refused, and bytes for the evaluation of the night.

    Of two workers that finish the same shard the first counts; the other's files are never looked at. Every content of
    the shard must be predicted or refused, exactly once: anything else raises StorageError, and nothing counts.
    """
    if staging.record() is None:
        raise StorageError("The run of this shard is over.", file=staging.storage.describe(staging.key()))
    expected = staging.shard(shard)
    refused_rows = refusals_table(refused)
    data, rows, checksum = b"", None, ""
    if predictions is not None and len(predictions):
        data, rows = part_bytes("predictions", predictions)
        checksum = hashlib.sha256(data).hexdigest()
    _require_all(staging, shard, expected, rows, refused_rows)

    name = f"{shard:05d}-{uuid.uuid4().hex[:12]}"
    storage = staging.storage
    record = ShardRecord(
        shard=shard,
        predictions=None if rows is None else f"{name}.parquet",
        rows=0 if rows is None else len(rows),
        bytes=len(data),
        sha256=checksum,
        verdicts={} if rows is None else tally(rows["verdict"]),
        classes={} if rows is None else tally(rows["predicted_class"]),
        refused=f"{name}.refused.parquet" if len(refused_rows) else None,
        refused_rows=len(refused_rows),
        sketch=None if sketch is None else f"{name}.sketch",
    )
    if record.predictions is not None:
        storage.write(staging.key("shards", record.predictions), data)
    if record.refused is not None:
        storage.write(staging.key("shards", record.refused), parquet_bytes(refused_rows))
    if sketch is not None and record.sketch is not None:
        storage.write(staging.key("shards", record.sketch), sketch)
    try:
        storage.write_new(staging.key("shards", f"{shard:05d}.json"), record.model_dump_json().encode())
    except CommitConflict:
        # The one that was first; it may have been committed and removed since.
        return staging.peek(ShardRecord, "shards", f"{shard:05d}.json") or record
    return record


def tally(values: pa.ChunkedArray) -> dict[str, int]:
    """How often each value is there."""
    return {item["values"]: item["counts"] for item in pc.value_counts(values).to_pylist()}


def _require_all(staging: Staging, shard: int, expected: pa.Table, rows: pa.Table | None, refused: pa.Table) -> None:
    predicted = pa.chunked_array([[]], pa.string()) if rows is None else rows["content_id"]
    refused_ids = expected["content_id"].filter(pc.is_in(expected["path"], value_set=refused["path"]))
    both = pa.chunked_array([*predicted.chunks, *refused_ids.chunks], pa.string())
    strangers = len(refused) - len(refused_ids)
    same = len(both) == len(expected) and pc.all(pc.is_in(expected["content_id"], value_set=both)).as_py() is not False
    if not same or strangers:
        raise StorageError(
            f"Shard {shard} does not account for every image, exactly once.",
            file=staging.storage.describe(staging.key()),
            expected=f"{len(expected)} images predicted or refused",
            found=f"{len(predicted)} predicted, {len(refused)} refused, {strangers} of them not in the shard",
            todo="this is a mistake of the program, not of the images; nothing of the shard was kept",
        )
