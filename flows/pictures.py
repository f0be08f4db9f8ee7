"""What a night's page shows: a bounded sample of rows, and small pictures of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from darkroom.names import from_text
from darkroom.reasons import Verdict
from darkroom.schemas import PREDICTIONS, QUARANTINE
from darkroom.summary import NightSummary
from expectations.reference import DriftReference
from expectations.sketch import Sketch
from flows.evaluation import Evaluated
from flows.labels_shown import labels_known
from flows.looking import Instruments
from flows.nearest import nearest_photos_of
from flows.shown_beside import mixes, property_history, sealed
from flows.shown_further import across_shown, estimate_shown, slices_shown
from tasks import publish
from tasks.object_inbox import file_at
from tasks.preprocessing import Preprocessing
from tasks.report.night_page import Histogram, NearPhoto, NightPage
from tasks.report.past import MOST_NIGHTS, past_nights
from tasks.staging import Run
from tasks.thumbnails import THUMBNAILS, read_thumbnails
from tasks.workers import Arrived, DecodePool, Job, Wanted

SUSPECT, TYPICAL, QUARANTINED = 24, 12, 60
_SIDE = 144
# From the page of a run (reports/<night>/<bundle>/<run>/index.html) to that over all nights.
_INDEX = "../../../index.html"


def draw_night(
    attempt: Run,
    summary: NightSummary,
    evaluated: Evaluated,
    instruments: Instruments,
    *,
    thumbnails: bool,
    inbox: str | None = None,
) -> NightPage:
    """The page of a settled night; the nights before are those of `inbox`, as commits name it, or of all."""
    predictions = pick(publish.settled_rows(attempt))
    quarantine = pick_quarantined(publish.settled_quarantine(attempt))
    folder = Path(from_text(attempt.inbox))
    pictures = Pictures()
    if thumbnails:
        of_slice = pd.DataFrame(evaluated.compared.slices.images, columns=["content_id", "path"])
        pictured = pd.concat([frame[["path", "content_id"]] for frame in (predictions, quarantine, of_slice)])
        pictured = pictured.drop_duplicates("content_id")
        pictures = pictures_of(pictured, folder, instruments, set(predictions["content_id"]))
    before = past_nights(attempt.staging.storage, attempt.bundle, inbox, before=attempt.night)[-MOST_NIGHTS:]
    return NightPage(
        summary=summary,
        drift=evaluated.compared.whole,
        predictions=predictions,
        quarantine=quarantine,
        thumbnails=pictures.thumbnails,
        histograms=histograms(evaluated.sketch, instruments.knowledge.drift),
        mixes=mixes(evaluated.sketch, instruments),
        training_classes=instruments.bundle.class_counts(),
        past=property_history(attempt.staging.storage, before, evaluated.drift, attempt.night, instruments),
        recent=tuple(reversed(before)),
        near=pictures.near,
        estimate=estimate_shown(summary.estimate),
        labelled=labels_known(
            attempt.staging.storage, publish.settled_rows(attempt), instruments.bundle.classes, summary.counts.scored
        ),
        slices=slices_shown(evaluated.compared),
        across=across_shown(evaluated.compared),
        budget=evaluated.compared.budget_sentence,
        sealed=sealed(instruments),
        index=_INDEX,
    )


def histograms(sketch: Sketch, reference: DriftReference) -> dict[str, Histogram]:
    """Every numeric property, tonight beside training."""
    return {
        known.metric.name: Histogram(np.asarray(known.metric.shown), sketch.shown[row], np.asarray(known.shown))
        for row, known in enumerate(reference.metrics)
        if known.metric.family == "properties" and known.metric.numeric
    }


def pick(shards: Iterable[pa.Table]) -> pd.DataFrame:
    """The most suspect rows of a night, and a few that nothing speaks against; memory is that of one shard."""
    suspect: pa.Table | None = None
    typical: pa.Table | None = None
    for rows in shards:
        doubtful = rows.filter(pc.equal(rows["verdict"], Verdict.SUSPECT))
        suspect = _best(suspect, doubtful, SUSPECT, [("doubt", "ascending"), ("confidence", "ascending")])
        trusted = rows.filter(pc.equal(rows["verdict"], Verdict.TRUSTED))
        typical = _best(typical, trusted, TYPICAL, [("order", "ascending")])
    kept = [table for table in (suspect, typical) if table is not None]
    if not kept:
        kept = [PREDICTIONS.empty_table()]
    sample: pd.DataFrame = pa.concat_tables(kept).select(PREDICTIONS.names).to_pandas()
    return sample


def pick_quarantined(parts: Iterable[pa.Table]) -> pd.DataFrame:
    """Files that were set aside, about QUARANTINED in all, each reason with its fair part; memory is that of one part
    and of so many rows a reason.
    """
    kept: dict[str, pa.Table] = {}
    for rows in parts:
        for reason in pc.unique(rows["reason"]).to_pylist():
            both = [kept[reason]] if reason in kept else []
            both.append(rows.filter(pc.equal(rows["reason"], reason)))
            kept[reason] = pa.concat_tables(both).slice(0, QUARANTINED).combine_chunks()
    each = max(1, QUARANTINED // max(1, len(kept)))
    sample: pd.DataFrame = pa.concat_tables(
        [QUARANTINE.empty_table(), *(table.slice(0, each) for table in kept.values())]
    ).to_pandas()
    return sample


@dataclass(frozen=True)
class Pictures:
    """Content id → JPEG, of training photos too; and the training photos nearest to each of the night's."""

    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    near: Mapping[str, tuple[NearPhoto, ...]] = field(default_factory=dict)


def pictures_of(rows: pd.DataFrame, inbox: Path, instruments: Instruments, scored: Set[str]) -> Pictures:
    """Small pictures of the rows whose file is still there; beside those that are `scored` (content ids) the training
    photos that the model sees as nearest.

    A few dozen images go through the network once more: the results keep 32 components of an embedding, and what is
    near is defined on all of them.
    """
    preprocessing = instruments.bundle.preprocessing
    looked_at = rows["content_id"].isin(scored)
    arrived = _decoded(rows[looked_at], inbox, preprocessing, tensor=True)
    thumbnails = {str(one.key): one.thumbnail for one in arrived if one.thumbnail is not None}
    thumbnails |= thumbnails_of(rows[~looked_at], inbox, preprocessing)
    tensors = {str(one.key): one.tensor for one in arrived if one.tensor is not None}
    near = nearest_photos_of(tensors, instruments)
    ids = sorted({photo.content_id for photos in near.values() for photo in photos})
    if ids and instruments.bundle.has(THUMBNAILS):
        thumbnails |= read_thumbnails(instruments.bundle.read_bytes(THUMBNAILS), ids)
    return Pictures(thumbnails, near)


def thumbnails_of(rows: pd.DataFrame, inbox: Path, preprocessing: Preprocessing) -> dict[str, bytes]:
    """Content id → JPEG, for the rows whose file is still there."""
    arrived = _decoded(rows, inbox, preprocessing, tensor=False)
    return {str(one.key): one.thumbnail for one in arrived if one.thumbnail is not None}


def _decoded(rows: pd.DataFrame, inbox: Path, preprocessing: Preprocessing, *, tensor: bool) -> list[Arrived]:
    """Decoded where it can be killed, like any image; keys are content ids."""
    jobs = [
        Job(key=content, path=file_at(inbox, path), content_id=content)
        for path, content in zip(rows["path"], rows["content_id"], strict=True)
        if isinstance(content, str)
    ]
    if not jobs:
        return []
    with DecodePool(preprocessing, Wanted(tensor=tensor, properties=False, thumbnail=_SIDE)) as pool:
        return [one for one in pool.run(jobs) if isinstance(one, Arrived)]


def _best(kept: pa.Table | None, rows: pa.Table, most: int, order: list[tuple[str, str]]) -> pa.Table:
    """The first rows of those kept so far and these; content ids are random, so their order draws a fair sample."""
    doubt = pc.min_element_wise(rows["unusual_p"], rows["out_of_distribution_p"])
    rows = rows.append_column("doubt", pc.fill_null(doubt, 1.0)).append_column("order", rows["content_id"])
    both = rows if kept is None else pa.concat_tables([kept, rows])
    return both.sort_by(order).slice(0, most)
