"""What labels say, on the pages: of each run on its own page, of each night on the page over all nights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from darkroom.errors import StorageError
from darkroom.labels import newest, recorded_labels
from darkroom.results import commits
from darkroom.storage import Storage, storage_at
from expectations.class_mix import confusion_of
from expectations.labelling import realised
from flows.evaluation_words import Evaluation
from tasks.report.further import LabelledShown
from tasks.report.index_page import write_index
from tasks.report.labelled import LabelledNight, labelled_nights, write_labelled
from tasks.report.labels_place import redraw_labels
from tasks.report.past import REPORTS, page_key

LABEL_COLUMNS: Final = ["content_id", "label", "stratum", "stratum_rows"]
_LOCK: Final = "labels-shown"
_PATIENCE_SECONDS: Final = 20.0


@contextmanager
def one_at_a_time(results: Storage | Path) -> Iterator[None]:
    """Of evaluations at the same time, the last to write the pages has read the newest labels, and the same labels are
    recorded once.

    A lock that cannot be had costs only that, and what counts is the same: results that may not be written to can be
    evaluated all the same.
    """
    try:
        lock = storage_at(results).try_lock(_LOCK, _PATIENCE_SECONDS)
    except StorageError:
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def show_labels(results: Path, told: Evaluation, rows: pd.DataFrame) -> list[str]:
    """Draw labels into every page that has labelled images, or had; what could not be shown, a sentence each.

    `rows`: predicted_class, label, stratum, stratum_rows, night and run of each labelled image.
    """
    storage = storage_at(results)
    before = labelled_nights(storage, told.bundle_id)
    runs = {str(run): own for run, own in rows.groupby("run")}
    once = {run for one in before.values() for run in one.runs}
    problems = []
    for commit in commits(storage, told.bundle_id):
        if commit.run not in runs and commit.run not in once:
            continue
        own = runs.get(commit.run)
        labelled = None if own is None else labelled_shown(own, told.classes, commit.counts.scored)
        key = f"{REPORTS}/{page_key(commit.night, commit.bundle, commit.run)}"
        try:
            left = redraw_labels(storage, key, commit.summary, labelled)
        except StorageError as error:
            left = str(error)
        if left is not None:
            problems.append(f"Labels are not shown in {storage.describe(key)}: {left}.")
    if told.nights or before:
        try:
            write_labelled(storage, told.bundle_id, _nights(told, rows))
            write_index(storage)
        except StorageError as error:
            problems.append(f"The page over all nights does not show the labels: {error}")
    return problems


def labelled_shown(rows: pd.DataFrame, classes: Sequence[str], scored: int) -> LabelledShown:
    """Of the labelled images of one run that scored so many; weighed by how they were chosen where the choice was made
    from just the images of this run.
    """
    right = (rows["label"] == rows["predicted_class"]).to_numpy()
    found = realised(right, rows["stratum"], rows["stratum_rows"], scored)
    if found.design == "strata" and found.of != scored:
        nothing = pd.Series(np.nan, rows.index, dtype=object)
        found = realised(right, nothing, nothing, scored)
    counts = np.asarray(confusion_of(rows["label"], rows["predicted_class"], tuple(classes)), np.int64)
    weighed = found.accuracy if found.design == "strata" else None
    return LabelledShown(tuple(classes), counts, found.low, found.high, weighed)


def labels_known(
    results: Storage | Path | str, shards: Iterable[pa.Table], classes: Sequence[str], scored: int
) -> LabelledShown | None:
    """Of a run that is just being scored: labels that its contents were given before, such as under another bundle."""
    try:
        labels = newest(recorded_labels(results))
    except StorageError:  # `evaluate` says so; a night is scored without labels
        return None
    labels = labels.loc[labels["label"].isin(classes), LABEL_COLUMNS]
    if labels.empty:
        return None
    found = [
        shard.select(["content_id", "predicted_class"]).to_pandas().merge(labels, on="content_id") for shard in shards
    ]
    rows = pd.concat(found) if found else pd.DataFrame()
    return labelled_shown(rows.reset_index(drop=True), classes, scored) if len(rows) else None


def _nights(told: Evaluation, rows: pd.DataFrame) -> tuple[LabelledNight, ...]:
    runs: dict[date, set[str]] = {}
    for night, run in rows[["night", "run"]].drop_duplicates().itertuples(index=False):
        runs.setdefault(night.date(), set()).add(str(run))
    return tuple(
        LabelledNight(
            night=one.night,
            labelled=one.labelled,
            accuracy=one.accuracy,
            low=one.low,
            high=one.high,
            design=one.design,
            runs=tuple(sorted(runs[one.night])),
        )
        for one in told.nights
    )
