"""Every training image, decoded once: its pixels after geometry in one file on disk, its properties in a frame.

A record is written every few seconds, after the pixels that it speaks of are on disk; a run that was killed cuts off
what no record knows, and goes on with the next image.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.errors import DataFolderError
from darkroom.names import as_detail, from_text, to_text
from darkroom.progress import Progress
from darkroom.schemas import PROPERTY_FIELDS
from darkroom.storage import LocalStorage
from tasks.preprocessing import Preprocessing
from tasks.training.dataset import FEWEST_IMAGES, Dataset, LabelledFile
from tasks.training.rows import Rows
from tasks.workers import Arrived, DecodePool, Job, Refused, Wanted

RECORD_SECONDS = 5.0
_RECORDS = "decoded"
_RECORD = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # position in the dataset's files
        pa.field("content_id", pa.string()),
        pa.field("why", pa.string()),  # why it is left out; null: it is kept
        *PROPERTY_FIELDS,
    ]
)


@dataclass(frozen=True)
class LeftOut:
    """A file that is not trained on, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Pixels:
    """`resized` rows (h, w, 3), uint8 or float32, on disk; rows as in `files` and `properties`."""

    resized: Rows
    properties: pd.DataFrame
    files: tuple[LabelledFile, ...]
    content_ids: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def decode_all(dataset: Dataset, preprocessing: Preprocessing, work: Path, progress: Progress) -> Pixels:
    """Decode a dataset into `work`, from where an earlier process was stopped; pixels are never in memory together.

    Left out, and listed: what cannot be decoded; a content seen before; a content that has two labels.
    Raises: DataFolderError where a class keeps too few images; StorageError where the disk refuses.
    """
    records = _Records(LocalStorage(work.absolute()))
    known = records.read()
    dtype = np.dtype(np.float32 if preprocessing.geometry.rounding == "none" else np.uint8)
    kept = sum(why is None for why in known["why"].to_pylist())
    store = Rows(work / "resized.rows", preprocessing.input_shape, dtype, kept)
    label_of = {
        content_id: dataset.files[row].label
        for row, content_id, why in zip(
            *(known[name].to_pylist() for name in ("row", "content_id", "why")), strict=True
        )
        if why is None
    }
    total = len(dataset.files)
    jobs = (
        Job(key=row, path=dataset.folder / from_text(dataset.files[row].path)) for row in range(known.num_rows, total)
    )
    with DecodePool(preprocessing, Wanted(tensor=False, resized=True, properties=True)) as pool:
        for one in pool.run(jobs):
            row = int(one.key)
            found = _look(one, dataset.files[row], label_of)
            if found["why"] is None and isinstance(one, Arrived):
                store.append(np.asarray(one.resized)[np.newaxis])
            records.add(found | {"row": row}, store)
            progress("decode", row + 1, total, "images")
    records.write(store)
    return _pixels(dataset, store, records.read())


@dataclass
class _Records:
    """What is known of the images so far, in numbered Parquet files; and when the next one is due."""

    storage: LocalStorage
    rows: list[dict[str, Any]] = field(default_factory=list)
    written: float = field(default_factory=time.monotonic)

    def read(self) -> pa.Table:
        names = self.storage.list(_RECORDS)
        tables = [pq.read_table(io.BytesIO(self.storage.read(f"{_RECORDS}/{name}")), schema=_RECORD) for name in names]
        return pa.concat_tables([_RECORD.empty_table(), *tables])

    def add(self, row: dict[str, Any], store: Rows) -> None:
        self.rows.append(row)
        if time.monotonic() - self.written >= RECORD_SECONDS:
            self.write(store)

    def write(self, store: Rows) -> None:
        """First the pixels, then the record that they are there."""
        if self.rows:
            store.sync()
            file = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(self.rows, schema=_RECORD), file)
            self.storage.write(f"{_RECORDS}/{self.rows[0]['row']:09d}.parquet", file.getvalue())
        self.rows, self.written = [], time.monotonic()


def _look(one: Arrived | Refused, file: LabelledFile, label_of: dict[str, str]) -> dict[str, Any]:
    """The record of an image."""
    if isinstance(one, Refused):
        return {"content_id": one.content_id, "why": as_detail(f"{one.reason.sentence}: {one.detail}")}
    first = label_of.get(one.content_id)
    if first is not None:
        return {"content_id": one.content_id, "why": "a copy" if first == file.label else f"a copy of a {first}"}
    label_of[one.content_id] = file.label
    return {"content_id": one.content_id, "why": None, **(one.properties or {})}


def _pixels(dataset: Dataset, store: Rows, known: pa.Table) -> Pixels:
    rows, whys = known["row"].to_pylist(), known["why"].to_pylist()
    files = tuple(dataset.files[row] for row, why in zip(rows, whys, strict=True) if why is None)
    left_out = tuple(LeftOut(dataset.files[row].path, why) for row, why in zip(rows, whys, strict=True) if why)
    _require_enough(dataset, files, left_out)
    kept = known.filter(known["why"].is_null())
    return Pixels(
        resized=store,
        properties=kept.select([one.name for one in PROPERTY_FIELDS]).to_pandas(),
        files=files,
        content_ids=tuple(kept["content_id"].to_pylist()),
        left_out=left_out,
    )


def _require_enough(dataset: Dataset, kept: Sequence[LabelledFile], left_out: Sequence[LeftOut]) -> None:
    for name in dataset.classes:
        images = sum(file.label == name for file in kept)
        if images < FEWEST_IMAGES:
            of_class = [one for one in left_out if one.path.startswith(f"{to_text(name)}/")]
            raise DataFolderError(
                f"Too few images of the class {name!r} can be used.",
                file=dataset.folder / name,
                expected=f"at least {FEWEST_IMAGES}",
                found=f"{images}; left out: {', '.join(f'{one.path} ({one.why})' for one in of_class[:3])}"
                f"{' …' if len(of_class) > 3 else ''}",
                todo="replace the broken images and the copies",
            )
