"""A file of labels as somebody wrote it → rows with a known class each, and what could not be taken, in sentences."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from darkroom.errors import WrongUse
from tasks.predictions_table import Columns, read_columns

_PATHS: Final = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path")
_CONTENTS: Final = ("content_id", "content", "sha256")
_LABELS: Final = ("label", "true_label", "true_class", "class", "truth", "ground_truth")
_DATES: Final = ("labelled_at", "labeled_at", "date", "time", "timestamp")
_NIGHTS: Final = ("night",)
_SOURCES: Final = ("source", "by", "labelled_by", "labeler", "annotator")
_DIGEST: Final = re.compile(r"(?:sha-?256:)?([0-9a-f]+)", re.IGNORECASE)
_SHOWN: Final = 5
_MOST_ROWS: Final = 10**9


@dataclass(frozen=True)
class StatedLabels:
    """rows of darkroom.schemas.LABELS (content_id only where the file states it; labelled_at is received_at where it
    states no date). `empty`: rows without a label, left out.
    """

    rows: pd.DataFrame
    empty: int
    findings: tuple[str, ...]


def read_labels(file: Path, classes: Sequence[str], received: datetime) -> StatedLabels:
    """Read CSV, Parquet, JSON or JSON lines: a column `label`, and `path` or `content_id`; maybe `labelled_at` (empty:
    `received`), `source` (empty: the file's name), `night`, and what `darkroom suspects` writes.

    Raises: WrongUse for what cannot be read, has no such columns, a date that is none, or a class that the model does
    not know: each is named with the nearest known one, and nothing is taken.
    """
    table = read_columns(file)
    names = {name.strip().casefold().replace(" ", "_"): name for name in table.cells}
    columns = {
        key: next((names[one] for one in words if one in names), None)
        for key, words in (
            ("path", _PATHS),
            ("content_id", _CONTENTS),
            ("label", _LABELS),
            ("labelled_at", _DATES),
            ("night", _NIGHTS),
            ("source", _SOURCES),
            ("stratum", ("stratum",)),
            ("stratum_rows", ("stratum_rows",)),
        )
    }
    if columns["label"] is None or (columns["path"] is None and columns["content_id"] is None):
        raise WrongUse(
            "These labels do not say which image has which class.",
            file=file,
            expected="columns label, and path or content_id",
            found=f"columns {', '.join(table.cells)[:300]}",
        )
    cells = {key: _cells(table, name) for key, name in columns.items()}
    kept = [row for row, label in enumerate(cells["label"]) if label is not None]
    if not kept:
        raise WrongUse("There is no label in this file.", file=file, found=f"{table.rows:,} rows without a label")
    labels = [_class_of(str(cells["label"][row]), classes) for row in kept]
    _require_known([str(cells["label"][row]) for row in kept], labels, classes, file)
    chosen = {key: [column[row] for row in kept] for key, column in cells.items()}
    rows = pd.DataFrame(
        {
            "content_id": [_content(value) for value in chosen["content_id"]],
            "path": [_text(value) for value in chosen["path"]],
            "night": [_date(value, file) for value in chosen["night"]],
            "label": labels,
            "labelled_at": [_labelled_at(value, received, file) for value in chosen["labelled_at"]],
            "received_at": received,
            "source": [_text(value) or file.name for value in chosen["source"]],
            "stratum": [_text(value) for value in chosen["stratum"]],
            "stratum_rows": pd.array([_whole(value, file) for value in chosen["stratum_rows"]], dtype="Int64"),
        }
    )
    nameless = rows["content_id"].isna() & rows["path"].isna()
    if nameless.any():
        raise WrongUse(
            "A label does not say which image it is for.",
            file=file,
            expected="a path or a content id in every row that has a label",
            found=f"{int(nameless.sum()):,} rows with neither",
        )
    return StatedLabels(rows, table.rows - len(kept), table.findings)


def _cells(table: Columns, name: str | None) -> list[Any]:
    if name is None:
        return [None] * table.rows
    return [None if _missing(value) else value for value in table.cells[name]]


def _missing(value: object) -> bool:
    if value is None or value is pd.NaT or (isinstance(value, str) and not value.strip()):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def _text(value: object) -> str | None:
    return None if value is None else str(value).strip()


def _content(value: object) -> str | None:
    """A content id as the results have it, whichever way a digest is written elsewhere."""
    text = _text(value)
    found = None if text is None else _DIGEST.fullmatch(text)
    return text if found is None else found[1].lower()


def _class_of(label: str, classes: Sequence[str]) -> str | None:
    """The class as it is written; or, where only one differs in case and space at the ends, that one."""
    if label in classes:
        return label
    alike = [name for name in classes if name.strip().casefold() == label.strip().casefold()]
    return alike[0] if len(alike) == 1 else None


def _require_known(stated: Sequence[str], found: Sequence[str | None], classes: Sequence[str], file: Path) -> None:
    counts: dict[str, int] = {}
    for text, known in zip(stated, found, strict=True):
        if known is None:
            counts[text] = counts.get(text, 0) + 1
    if counts:
        raise WrongUse(
            "These labels name classes that the model does not know; none of them was taken.",
            file=file,
            expected=f"one of {', '.join(classes)}",
            found="; ".join(_nearest(text, counts, classes) for text in list(counts)[:_SHOWN])
            + (f"; and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""),
            todo="correct the names and bring the whole file again: labels that are known already change nothing",
        )


def _nearest(text: str, counts: Mapping[str, int], classes: Sequence[str]) -> str:
    by_name = {name.casefold(): name for name in classes}
    near = difflib.get_close_matches(text.casefold(), list(by_name), n=1, cutoff=0.5)
    meant = f", meant is maybe {by_name[near[0]]!r}" if near else ""
    return f"{text!r} in {counts[text]:,} rows{meant}"


def _labelled_at(value: object, received: datetime, file: Path) -> datetime:
    moment = _moment(value, file)
    if moment is None:
        return received
    if moment > received:
        raise WrongUse(
            "A label is from the future.",
            file=file,
            expected=f"a date up to {received:%Y-%m-%d}",
            found=value,
            todo="correct the date: later corrections would not count",
        )
    return moment


def _moment(value: object, file: Path) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(str(value).strip())
    except ValueError as error:
        raise WrongUse(
            "The date of a label is not understood.",
            file=file,
            expected="such as 2026-11-23 or 2026-11-23T07:30",
            found=value,
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _date(value: object, file: Path) -> date | None:
    moment = _moment(value, file)
    return None if moment is None else moment.date()


def _whole(value: Any, file: Path) -> int | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if not 1 <= number <= _MOST_ROWS or number != int(number):
        raise WrongUse(
            "The number of rows of a stratum is none.",
            file=file,
            expected="a whole number, as `darkroom suspects` wrote it",
            found=value,
        )
    return int(number)
