"""From what a run has staged to what will be committed: each row once, and every path with what became of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from darkroom.errors import StorageError
from darkroom.reasons import FileStatus, Reason, Verdict
from darkroom.results import Dataset, Part, part_bytes
from darkroom.schemas import FILES, QUARANTINE
from darkroom.summary import Counts
from tasks.intake import TO_SCORE
from tasks.quarantine import status_of
from tasks.staging import ManifestRecord, ShardRecord, Staging, tally

_DEFERRING = pa.array([str(reason) for reason in Reason if status_of(reason) is FileStatus.DEFERRED])
_RETRYABLE = pa.array([str(reason) for reason in Reason if reason.retryable])


@dataclass(frozen=True)
class Arranged:
    """What a run has to commit. `lost` contents were scored by somebody else since this run's intake; they are out."""

    base: int
    counts: Counts
    lost: int
    trusted: int
    suspect: int
    classes: dict[str, int]
    quarantine_reasons: dict[str, int]
    parts: tuple[Part, ...]


@dataclass
class _Tally:
    verdicts: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    parts: list[Part] = field(default_factory=list)


def final_folder(bundle: str, night: object, run: str, dataset: str) -> str:
    """Where a run's rows of one dataset lie: the levels of a Hive dataset."""
    return f"{dataset}/bundle={bundle}/night={night}/run={run}"


def published(staging: Staging, dataset: Dataset) -> list[str]:
    """Keys of the arranged parts that are not yet in place."""
    return [staging.key("publish", dataset, name) for name in staging.storage.list(staging.key("publish", dataset))]


def arrange(
    staging: Staging, bundle: str, night: object, lost: pa.Array, base: int, *, whole_night: Sequence[Dataset] = ()
) -> Arranged:
    """Make `publish/` anew from the manifest and the finished shards, without the lost contents.

    Nothing that it is made from is changed, so it can be made again after a crash or another loss. `whole_night`: what
    add_night_rows has staged.
    """
    frozen, shards = _complete(staging)
    staging.storage.remove_folder(staging.key("publish"))
    tally_ = _Tally()
    builder = _Builder(staging, bundle, night, tally_)
    for shard in sorted(shards):
        builder.predictions(shards[shard], lost)
    refused = pa.concat_tables([QUARANTINE.empty_table(), *map(staging.refused, shards.values())])
    files = 0
    for files, rows in enumerate(_files(staging, refused, lost)):
        builder.add("files", files, rows.select(FILES.names))
        tally_.statuses.update(tally(rows["status"]))
        quarantined = rows.filter(pc.equal(rows["status"], FileStatus.QUARANTINED))
        if len(quarantined):
            retryable = pc.is_in(quarantined["reason"], value_set=_RETRYABLE)
            builder.add("quarantine", files, quarantined.append_column("retryable", retryable).select(QUARANTINE.names))
            tally_.reasons.update(tally(quarantined["reason"]))
    for dataset in whole_night:
        builder.night_rows(dataset)
    counts = Counts.of(dict(tally_.statuses))
    scored = sum(part.rows for part in tally_.parts if part.dataset == "predictions")
    if not counts.balanced or counts.scored != scored:
        raise StorageError(
            "The rows of this run do not account for every path.",
            file=staging.storage.describe(staging.key()),
            expected=f"{counts.scored} predictions for {counts.scored} scored paths",
            found=f"{scored} predictions",
            todo=f"remove {staging.storage.describe(staging.key())}; the night is then scored from its start",
        )
    return Arranged(
        base=base,
        counts=counts,
        lost=frozen.to_score - scored - len(refused),
        trusted=tally_.verdicts[Verdict.TRUSTED],
        suspect=tally_.verdicts[Verdict.SUSPECT],
        classes=dict(sorted(tally_.classes.items())),
        quarantine_reasons=dict(sorted(tally_.reasons.items())),
        parts=tuple(tally_.parts),
    )


def add_night_rows(
    staging: Staging, bundle: str, night: object, tables: Mapping[Dataset, pa.Table | Any | None]
) -> tuple[Part, ...]:
    """Stage rows about the night as a whole (drift, estimates) and put them beside what is arranged; none: no part."""
    tally_ = _Tally()
    for dataset, rows in tables.items():
        if rows is None or not len(rows):
            continue
        staging.storage.write(staging.key(_night_file(dataset)), part_bytes(dataset, rows)[0])
        staging.storage.remove_folder(staging.key("publish", dataset))
        _Builder(staging, bundle, night, tally_).night_rows(dataset)
    return tuple(tally_.parts)


def scored_ids(staging: Staging) -> pa.ChunkedArray:
    """The contents that this run set out to score."""
    return staging.read_table(staging.key("to_score.parquet"), ["content_id"]).cast(
        pa.schema([TO_SCORE.field("content_id")])
    )["content_id"]


@dataclass
class _Builder:
    staging: Staging
    bundle: str
    night: object
    tally: _Tally

    def predictions(self, record: ShardRecord, lost: pa.Array) -> None:
        if record.predictions is None:
            return
        source = self.staging.key("shards", record.predictions)
        if len(lost):
            rows = self.staging.read_table(source)
            kept = rows.filter(pc.invert(pc.is_in(rows["content_id"], value_set=lost)))
            if len(kept) < len(rows):
                if len(kept):
                    self.add("predictions", record.shard, kept)
                self.tally.verdicts.update(tally(kept["verdict"]))
                self.tally.classes.update(tally(kept["predicted_class"]))
                return
        self.staging.storage.copy(source, self._key("predictions", record.shard))
        self._part("predictions", record.shard, record.rows, record.bytes, record.sha256)
        self.tally.verdicts.update(record.verdicts)
        self.tally.classes.update(record.classes)

    def add(self, dataset: Dataset, number: int, rows: pa.Table) -> None:
        data, table = part_bytes(dataset, rows)
        self.staging.storage.write(self._key(dataset, number), data)
        self._part(dataset, number, len(table), len(data), hashlib.sha256(data).hexdigest())

    def night_rows(self, dataset: Dataset) -> None:
        self.add(dataset, 0, self.staging.read_table(self.staging.key(_night_file(dataset))))

    def _key(self, dataset: Dataset, number: int) -> str:
        return self.staging.key("publish", dataset, _part_name(number))

    def _part(self, dataset: Dataset, number: int, rows: int, size: int, sha256: str) -> None:
        folder = final_folder(self.bundle, self.night, self.staging.run, dataset)
        path = f"{folder}/{_part_name(number)}"
        self.tally.parts.append(Part(dataset=dataset, path=path, rows=rows, bytes=size, sha256=sha256))


def _night_file(dataset: Dataset) -> str:
    return f"{dataset}.parquet"


def _part_name(number: int) -> str:
    return f"part-{number:05d}.parquet"


def _complete(staging: Staging) -> tuple[ManifestRecord, dict[int, ShardRecord]]:
    frozen = staging.frozen()
    shards = staging.finished()
    if frozen is None or set(shards) != set(range(frozen.shards)):
        missing = "its manifest" if frozen is None else f"shards {sorted(set(range(frozen.shards)) - set(shards))}"
        raise StorageError(
            "This run is not complete, and cannot be committed.",
            file=staging.storage.describe(staging.key()),
            expected="a frozen manifest and every shard finished",
            found=f"{missing} missing",
            todo="run the night again: finished shards are kept",
        )
    return frozen, shards


def _files(staging: Staging, refused: pa.Table, lost: pa.Array) -> Iterator[pa.Table]:
    """The manifest's paths as they turned out."""
    became = pc.if_else(
        pc.is_in(refused["reason"], value_set=_DEFERRING), str(FileStatus.DEFERRED), str(FileStatus.QUARANTINED)
    )
    ours = pa.array([str(FileStatus.SCORED), str(FileStatus.DUPLICATE)])
    for rows in staging.manifest_files():
        place = pc.index_in(rows["path"], value_set=refused["path"])
        status = pc.coalesce(became.take(place), rows["status"])
        theirs = pc.and_(pc.is_in(rows["content_id"], value_set=lost), pc.is_in(status, value_set=ours))
        values = {
            "status": pc.if_else(theirs, str(FileStatus.SCORED_BEFORE), status),
            "reason": pc.coalesce(refused["reason"].take(place), rows["reason"]),
            "detail": pc.coalesce(refused["detail"].take(place), rows["detail"]),
        }
        for name, column in values.items():
            rows = rows.set_column(rows.column_names.index(name), name, column)
        yield rows
