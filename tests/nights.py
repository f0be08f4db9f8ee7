"""Committed nights without a run: real commits and real drift parts, as many as a test wants, in a moment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from darkroom.reasons import NightVerdict
from darkroom.results import Commit, Part, commit_key, commits, part_bytes
from darkroom.schemas import DRIFT
from darkroom.storage import LocalStorage
from darkroom.summary import AccuracyEstimate, Counts, NightSummary
from tasks.report.past import REPORTS, page_key

BUNDLE = "parts-1-0123456789ab"
MOMENT = datetime(2026, 3, 2, 2, tzinfo=UTC)


def drift_row(**changes: object) -> dict[str, object]:
    """One row of the drift dataset; columns that it does not name are null."""
    row: dict[str, object] = {
        "family": "properties", "metric": "sharpness", "statistic_name": "ks", "statistic": 0.1, "effect": 0.0,
        "p_value": 0.5, "p_corrected": 1.0, "n": 200, "n_reference": 1000, "reference_value": 10.0,
        "night_value": 10.0, "smallest_detectable_effect": 0.31, "verdict": "ok",
    }  # fmt: skip
    return row | changes


def night_summary(**changes: Any) -> NightSummary:
    """A night of 42 files, 40 of them scored in 20 seconds; an alarm, unless it is stated otherwise."""
    stated = {
        "bundle_id": BUNDLE, "night": date(2026, 3, 2), "run_id": "run-1", "inbox": "/srv/inbox",
        "verdict": NightVerdict.ALARM, "headline": "It is dark.", "counts": Counts(seen=42, scored=40, quarantined=2),
        "trusted": 37, "suspect": 3, "started_at": MOMENT, "finished_at": MOMENT + timedelta(seconds=20), "commit": 1,
    }  # fmt: skip
    return NightSummary.model_validate(stated | changes)


def commit_night(
    results: Path,
    night: date,
    verdict: NightVerdict = NightVerdict.OK,
    *,
    drift: Sequence[Mapping[str, object]] = ({},),
    bundle: str = BUNDLE,
    run: str | None = None,
    inbox: str = "/srv/inbox",
    headline: str = "All is well.",
    page: bool = True,
    estimate: AccuracyEstimate | None = None,
    **counts: Any,
) -> Commit:
    """Commit a night with these drift rows (see `drift_row`) and counts; `page`: a page lies where it should."""
    storage = LocalStorage(results.absolute())
    number = len(commits(storage, bundle)) + 1
    run = run or f"run-{number}"
    suspect = counts.pop("suspect", 3)
    counted = Counts.model_validate({"scored": 40, "quarantined": 2, **counts})
    parts = []
    if drift:
        data, table = part_bytes("drift", pd.DataFrame([drift_row(**row) for row in drift], columns=DRIFT.names))
        path = f"drift/bundle={bundle}/night={night}/run={run}/part-00000.parquet"
        storage.write(path, data)
        parts.append(
            Part(dataset="drift", path=path, rows=len(table), bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        )
    summary = NightSummary(
        bundle_id=bundle,
        night=night,
        run_id=run,
        inbox=inbox,
        verdict=verdict,
        headline=headline,
        counts=counted.model_copy(update={"seen": counted.scored + counted.quarantined}),
        trusted=counted.scored - suspect,
        suspect=suspect,
        estimate=estimate,
        started_at=MOMENT,
        finished_at=MOMENT,
        commit=number,
    )
    commit = Commit(
        number=number, bundle=bundle, night=night, run=run, inbox=inbox, parts=tuple(parts), summary=summary,
        taken_in_at=MOMENT, committed_at=MOMENT,
    )  # fmt: skip
    storage.write_new(commit_key(bundle, number), commit.model_dump_json().encode())
    if page:
        storage.write(f"{REPORTS}/{page_key(night, bundle, run)}", b"<!DOCTYPE html>")
    return commit
