"""Labels that arrive after scoring: a record in the results that only grows; of several for an image the newest counts.

labels/00000001.parquet …    one file each time that labels came, with the columns of darkroom.schemas.LABELS
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.errors import CommitConflict, StorageError
from darkroom.results import parquet_bytes
from darkroom.schemas import LABELS
from darkroom.storage import Storage, storage_at

_FOLDER: Final = "labels"
_FILE: Final = re.compile(r"(\d{8})\.parquet")


def record_labels(results: Storage | Path | str, rows: pd.DataFrame) -> str:
    """Add rows (darkroom.schemas.LABELS) to the record, for good; the place where they are. Nothing is replaced."""
    storage = storage_at(results)
    data = parquet_bytes(pa.Table.from_pandas(rows[LABELS.names], schema=LABELS, preserve_index=False))
    while True:
        key = f"{_FOLDER}/{max(_numbers(storage), default=0) + 1:08d}.parquet"
        try:
            storage.write_new(key, data)
        except CommitConflict:  # somebody else brought labels at this moment
            continue
        return storage.describe(key)


def recorded_labels(results: Storage | Path | str) -> pd.DataFrame:
    """Every label ever recorded, in the order in which they came. Raises StorageError where a file cannot be read."""
    storage = storage_at(results)
    tables = [LABELS.empty_table()]
    for number in _numbers(storage):
        try:
            with storage.open(f"{_FOLDER}/{number:08d}.parquet") as source:
                tables.append(pq.read_table(source).select(LABELS.names).cast(LABELS))
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise StorageError(
                f"Recorded labels cannot be read: {error}.",
                file=storage.describe(f"{_FOLDER}/{number:08d}.parquet"),
                todo="restore the file from a backup; a correction is a new label, never a change of this file",
            ) from error
    found: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return found


def label_files(storage: Storage) -> list[str]:
    """Keys of the record's files, in the order in which they came."""
    return [f"{_FOLDER}/{number:08d}.parquet" for number in _numbers(storage)]


def newest(labels: pd.DataFrame) -> pd.DataFrame:
    """One row a content: by the date of the label, and of two with one date the one that came later.

    How an image was chosen stays with it: a correction that does not say it again changes the label alone.
    """
    known = labels[labels["content_id"].notna()]
    given, came = (pd.to_datetime(known[name], utc=True) for name in ("labelled_at", "received_at"))
    # A bare date that is the day on which the label came says no more than that: it is not the first moment of the day.
    bare = (given == given.dt.normalize()) & (given == came.dt.normalize())
    known = known.assign(given=given.where(~bare, came)).sort_values("given", kind="stable").drop(columns="given")
    latest = known.drop_duplicates("content_id", keep="last")
    chosen = known[known["stratum"].notna()].drop_duplicates("content_id", keep="last").set_index("content_id")
    strata = ["stratum", "stratum_rows"]
    return latest.assign(**{name: latest["content_id"].map(chosen[name]) for name in strata})


def _numbers(storage: Storage) -> list[int]:
    return sorted(int(found[1]) for name in storage.list(_FOLDER) if (found := _FILE.fullmatch(name)))
