"""What was committed: the numbered commits of a bundle, and the rows that they list."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field

from darkroom.errors import StorageError, WrongUse
from darkroom.reasons import NightVerdict
from darkroom.schemas import DATASETS, RESULTS_SCHEMA_VERSION
from darkroom.storage import Storage, storage_at
from darkroom.summary import Counts, NightSummary

Dataset = Literal["predictions", "files", "quarantine", "drift", "estimates"]
RUN_COLUMNS: Final = ("bundle", "night", "run")

_COMMIT = re.compile(r"(\d{8})\.json")
_RUN_OF_PART = re.compile(r"[a-z]+/bundle=(?P<bundle>[^/]+)/night=[^/]+/run=(?P<run>[^/]+)/")
_NIGHTS_REMEMBERED: Final = 28
_NIGHTS_NEEDED: Final = 3
_ONCE_IN: Final = 1000.0


class Stored(BaseModel):
    """What a file holds."""

    model_config = ConfigDict(frozen=True)

    rows: int
    bytes: int
    sha256: str


class Part(BaseModel):
    """One Parquet file of a commit."""

    model_config = ConfigDict(frozen=True)

    dataset: Dataset
    path: str = Field(description="Relative to the results.")
    rows: int
    bytes: int
    sha256: str
    forgotten: int = Field(default=0, description="Rows that were in it at the commit, and have been forgotten since.")
    instead_of: Stored | None = Field(
        default=None, description="What the file holds until it is replaced: only while rows are being forgotten."
    )


class Commit(BaseModel):
    """What one run of one night added, for good."""

    # Fields of a later minor version are ignored; a version that changes the meaning has another schema_version.
    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = RESULTS_SCHEMA_VERSION
    number: int
    bundle: str
    night: date
    run: str
    inbox: str = Field(description="The folder, absolute, as names.to_text writes it.")
    parts: tuple[Part, ...]
    summary: NightSummary
    taken_in_at: datetime = Field(description="When the walk through the inbox began.")
    committed_at: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def counts(self) -> Counts:
        """Every path seen, by what became of it."""
        return self.summary.counts

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> NightVerdict:
        """Of the night."""
        return self.summary.verdict

    @computed_field  # type: ignore[prop-decorator]
    @property
    def parameters(self) -> dict[str, Any]:
        """Of the run."""
        return dict(self.summary.parameters)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def versions(self) -> dict[str, str]:
        """Of the libraries."""
        return self.summary.versions


def commit_key(bundle: str, number: int) -> str:
    """Where the commit with this number is, or would be."""
    return f"commits/{bundle}/{number:08d}.json"


def rewrite_commit(storage: Storage, commit: Commit) -> None:
    """Replace a commit in one step: for rows that are forgotten, and for nothing else."""
    storage.write(commit_key(commit.bundle, commit.number), commit.model_dump_json(indent=1).encode())


def bundles(results: Storage | Path | str) -> list[str]:
    """Ids of the bundles that have commits."""
    return storage_at(results).list("commits")


def commits(results: Storage | Path | str, bundle: str, since: int = 0) -> list[Commit]:
    """The commits of a bundle after number `since`, in order.

    Raises StorageError where one is missing, broken or of a newer schema: without it nobody can know what was scored.
    """
    storage = storage_at(results)
    numbers = sorted(int(found[1]) for name in storage.list(f"commits/{bundle}") if (found := _COMMIT.fullmatch(name)))
    if numbers != list(range(1, len(numbers) + 1)):
        lost = min(set(range(1, numbers[-1])) - set(numbers))
        raise StorageError(
            "A commit is missing, so nobody can know what was scored.",
            file=storage.describe(commit_key(bundle, lost)),
            expected=f"commits 1 to {numbers[-1]}",
            todo="restore the file from a backup",
        )
    return [_read_commit(storage, bundle, number) for number in numbers if number > since]


def find_commit(results: Storage | Path | str, bundle: str, run: str) -> Commit | None:
    """The commit of a run, if it has committed."""
    return next((commit for commit in reversed(commits(results, bundle)) if commit.run == run), None)


def read(
    results: Storage | Path | str,
    dataset: str = "predictions",
    *,
    bundle: str | None = None,
    night: date | None = None,
    since: date | None = None,
    until: date | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Committed rows, and no others, with their `bundle`, `night` (a timestamp at midnight) and `run`.

    `since` and `until` are nights and both included. Without `bundle`: every bundle. Columns: darkroom.schemas.
    Raises WrongUse for a dataset, column or folder that is not there, StorageError where a listed file is missing,
    broken or of another size than when it was committed.
    """
    storage = storage_at(results)
    wanted = _wanted_columns(dataset, columns)
    if not storage.exists("commits"):
        raise WrongUse(
            "There are no results in this folder.",
            file=storage.name,
            expected="a folder with commits in it",
            todo="name the results folder of a scored night",
        )
    stored = [name for name in wanted if name not in RUN_COLUMNS]
    tables = []
    for name in [bundle] if bundle is not None else bundles(storage):
        for commit in commits(storage, name):
            if not _within(commit.night, night, since, until):
                continue
            for part in commit.parts:
                if part.dataset == dataset:
                    tables.append(_with_run(read_part(storage, part, stored), commit).select(wanted))
    if not tables:
        fields = [*DATASETS[dataset], *_RUN_FIELDS]
        tables = [pa.schema(fields).empty_table().select(wanted)]
    frame: pd.DataFrame = pa.concat_tables(tables, promote_options="default").to_pandas()
    return frame


def read_part(storage: Storage, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of one part. Raises StorageError where it is missing, broken or not as committed.

    Where rows were forgotten since `part` was read from its commit, they are those that the commit lists now.
    """
    while True:
        try:
            return _read_part(storage, part, columns)
        except StorageError:
            listed = _listed_now(storage, part)
            if listed is None or listed == part:
                raise
            part = listed


def _listed_now(storage: Storage, part: Part) -> Part | None:
    """The part as its commit lists it at this moment."""
    found = _RUN_OF_PART.match(part.path)
    with suppress(StorageError):
        commit = None if found is None else find_commit(storage, found["bundle"], found["run"])
        return next((one for one in commit.parts if one.path == part.path), None) if commit is not None else None
    return None


def _read_part(storage: Storage, part: Part, columns: Sequence[str] | None) -> pa.Table:
    todo = "restore the file from a backup; its rows cannot be known otherwise"
    if not storage.exists(part.path):
        raise StorageError("A committed file is missing.", file=storage.describe(part.path), todo=todo)
    either = (part, part.instead_of or part)
    try:
        if storage.size(part.path) not in {one.bytes for one in either}:
            raise StorageError(
                "A committed file has another size than when it was committed.",
                file=storage.describe(part.path),
                expected=f"{part.bytes} bytes",
                found=f"{storage.size(part.path)} bytes",
                todo=todo,
            )
        # Columns that an older schema did not have come back as missing.
        with storage.open(part.path) as source, pq.ParquetFile(source) as file:
            known = set(file.schema_arrow.names)
            table = file.read(columns=None if columns is None else [name for name in columns if name in known])
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"A committed file cannot be read: {error}.", file=storage.describe(part.path), todo=todo
        ) from error
    if table.num_rows not in {one.rows for one in either}:
        raise StorageError(
            "A committed file has other rows than when it was committed.",
            file=storage.describe(part.path),
            expected=f"{part.rows} rows",
            found=f"{table.num_rows} rows",
            todo=todo,
        )
    for name in columns or ():
        if name not in known:
            table = table.append_column(name, pa.nulls(table.num_rows))
    return table


def part_bytes(dataset: Dataset, rows: pa.Table | pd.DataFrame) -> tuple[bytes, pa.Table]:
    """Rows as a Parquet file in the dataset's schema, and as they were written.

    Raises StorageError where a column is missing, unknown, of a type that cannot become the schema's, or null where
    the schema forbids it.
    """
    schema = DATASETS[dataset]
    try:
        if isinstance(rows, pd.DataFrame):
            rows = pa.Table.from_pandas(rows, preserve_index=False)
        if set(rows.column_names) != set(schema.names):
            raise pa.ArrowInvalid(f"columns that differ: {sorted(set(rows.column_names) ^ set(schema.names))}")
        table = rows.select(schema.names).cast(schema)
        table.validate(full=True)
        for field in schema:
            if not field.nullable and table[field.name].null_count:
                raise pa.ArrowInvalid(f"{field.name} is missing in {table[field.name].null_count} rows")
    except (pa.ArrowException, ValueError) as error:
        raise StorageError(
            f"Rows do not fit the schema of {dataset}: {error}.",
            todo="this is a mistake of the program that made the rows, not of the images",
        ) from error
    return parquet_bytes(table), table


def parquet_bytes(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """A table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def parquet_blocks(table: pa.Table, row_group_size: int) -> Iterator[bytes]:
    """The same, a row group at a time: for tables that are large beside the memory that there is."""
    sink = _Blocks()
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        for start in range(0, len(table), row_group_size):
            writer.write_table(table.slice(start, row_group_size), row_group_size)
            yield from sink.take()
    yield from sink.take()


class _Blocks(io.RawIOBase):
    """A file that keeps only what nobody has taken yet."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        self._blocks.append(bytes(data))
        self._written += len(self._blocks[-1])
        return len(self._blocks[-1])

    def take(self) -> list[bytes]:
        taken, self._blocks = self._blocks, []
        return taken


def history(results: Storage | Path | str, bundle: str, inbox: str | None = None) -> pd.DataFrame:
    """One row a night, in the order of nights: `night`, `runs`, `seen`, `scored`, … summed over its runs.

    `scored` counts every content once, however often a night was run.
    """
    nights: dict[date, dict[str, Any]] = {}
    for commit in commits(results, bundle):
        if inbox is not None and commit.inbox != inbox:
            continue
        counts = commit.counts.model_dump()
        row = nights.setdefault(commit.night, {"night": commit.night, "runs": 0, **dict.fromkeys(counts, 0)})
        row["runs"] += 1
        for name, number in counts.items():
            row[name] += number
    columns = ["night", "runs", *Counts.model_fields]
    return pd.DataFrame([nights[night] for night in sorted(nights)], columns=columns)


def learned_minimum(past_counts: Sequence[int]) -> int | None:
    """The fewest images that a night like the past ones brings; None: fewer than three nights are known.

    Of the last 28 nights that had images: the lower end of the prediction interval for one more night on the logarithm
    of the counts (Student's t, which is wide while nights are few), that one night in a thousand falls under; the
    spread is never taken as smaller than that of pure counting (Poisson). And at most half of their median: however
    steady the nights, fewer means *far* fewer.
    """
    counts = [count for count in past_counts if count > 0][-_NIGHTS_REMEMBERED:]
    n = len(counts)
    if n < _NIGHTS_NEEDED:
        return None
    from scipy.special import stdtrit

    median = sorted(counts)[n // 2] if n % 2 else sum(sorted(counts)[n // 2 - 1 : n // 2 + 1]) / 2
    logs = [math.log(count) for count in counts]
    mean = math.fsum(logs) / n
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in logs) / (n - 1))
    spread = max(spread, 1.0 / math.sqrt(median))
    reach = -float(stdtrit(n - 1, 1.0 / _ONCE_IN)) * spread * math.sqrt(1.0 + 1.0 / n)
    return max(1, math.floor(min(math.exp(mean - reach), median / 2)))


_RUN_FIELDS = (pa.field("bundle", pa.string()), pa.field("night", pa.timestamp("s")), pa.field("run", pa.string()))


def _with_run(table: pa.Table, commit: Commit) -> pa.Table:
    midnight = datetime(commit.night.year, commit.night.month, commit.night.day)
    for field, value in zip(_RUN_FIELDS, (commit.bundle, midnight, commit.run), strict=True):
        table = table.append_column(field, pa.repeat(pa.scalar(value, field.type), table.num_rows))
    return table


def _wanted_columns(dataset: str, columns: Sequence[str] | None) -> list[str]:
    if dataset not in DATASETS:
        raise WrongUse("There is no such dataset.", expected=", ".join(DATASETS), found=dataset)
    known = [*DATASETS[dataset].names, *RUN_COLUMNS]
    unknown = [name for name in columns or () if name not in known]
    if unknown:
        raise WrongUse(f"No such column in {dataset}.", expected=", ".join(known), found=", ".join(unknown))
    return known if columns is None else list(columns)


def _within(found: date, night: date | None, since: date | None, until: date | None) -> bool:
    if night is not None and found != night:
        return False
    return (since is None or found >= since) and (until is None or found <= until)


def _read_commit(storage: Storage, bundle: str, number: int) -> Commit:
    key = commit_key(bundle, number)
    data = storage.read(key)
    # Before anything else of it is read: a newer one may have any form.
    version = _schema_version(data)
    if version is not None and version > RESULTS_SCHEMA_VERSION:
        raise StorageError(
            "A commit was written by a newer darkroom.",
            file=storage.describe(key),
            expected=f"schema version {RESULTS_SCHEMA_VERSION} or older",
            found=version,
            todo="upgrade darkroom",
        )
    try:
        commit = Commit.model_validate_json(data)
    except ValidationError as error:
        raise StorageError(
            f"A commit cannot be read: {error.errors()[0]['msg']}.",
            file=storage.describe(key),
            todo="restore the file from a backup; without it nobody can know what was scored",
        ) from error
    if (commit.bundle, commit.number) != (bundle, number):
        raise StorageError(
            "A commit is not what its name says.",
            file=storage.describe(key),
            expected=f"commit {number} of {bundle}",
            found=f"commit {commit.number} of {commit.bundle}",
            todo="restore the file from a backup",
        )
    return commit


def _schema_version(data: bytes) -> int | None:
    found = re.search(rb'"schema_version"\s*:\s*(\d+)', data)
    return int(found[1]) if found else None


def now() -> datetime:
    """For stamps that a person reads; nothing is decided by it."""
    return datetime.now(UTC)
