"""What a night's page shows: a bounded sample of rows, and small pictures of them."""

from __future__ import annotations

from collections.abc import Iterable
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
from flows.looking import Instruments
from tasks import publish
from tasks.preprocessing import Preprocessing
from tasks.report.night_page import Histogram, NightPage
from tasks.staging import Run
from tasks.workers import Arrived, DecodePool, Job, Wanted

SUSPECT, TYPICAL, QUARANTINED = 24, 12, 60
_SIDE = 144


def draw_night(
    attempt: Run, summary: NightSummary, evaluated: Evaluated, instruments: Instruments, *, thumbnails: bool
) -> NightPage:
    """The page of a settled night."""
    predictions = pick(publish.settled_rows(attempt))
    quarantine = pa.concat_tables([QUARANTINE.empty_table(), *publish.settled_quarantine(attempt)]).to_pandas()
    inbox = Path(from_text(attempt.inbox))
    pictured = pd.concat([frame[["path", "content_id"]] for frame in (predictions, quarantine.head(QUARANTINED))])
    return NightPage(
        summary=summary,
        drift=evaluated.compared.whole,
        predictions=predictions,
        quarantine=quarantine,
        thumbnails=thumbnails_of(pictured, inbox, instruments.bundle.preprocessing) if thumbnails else {},
        histograms=histograms(evaluated.sketch, instruments.knowledge.drift),
        training_classes=instruments.bundle.class_counts(),
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


def thumbnails_of(rows: pd.DataFrame, inbox: Path, preprocessing: Preprocessing) -> dict[str, bytes]:
    """Content id → JPEG, for the rows whose file is still there; decoded where it can be killed, like any image."""
    jobs = [
        Job(key=content, path=inbox / from_text(path), content_id=content)
        for path, content in zip(rows["path"], rows["content_id"], strict=True)
        if content is not None
    ]
    if not jobs:
        return {}
    wanted = Wanted(tensor=False, properties=False, thumbnail=_SIDE)
    with DecodePool(preprocessing, wanted) as pool:
        return {
            str(one.key): one.thumbnail
            for one in pool.run(jobs)
            if isinstance(one, Arrived) and one.thumbnail is not None
        }


def _best(kept: pa.Table | None, rows: pa.Table, most: int, order: list[tuple[str, str]]) -> pa.Table:
    """The first rows of those kept so far and these; content ids are random, so their order draws a fair sample."""
    doubt = pc.min_element_wise(rows["unusual_p"], rows["out_of_distribution_p"])
    rows = rows.append_column("doubt", pc.fill_null(doubt, 1.0)).append_column("order", rows["content_id"])
    both = rows if kept is None else pa.concat_tables([kept, rows])
    return both.sort_by(order).slice(0, most)
