"""Two Dask workers of one thread each, beside one process with both: the same night, as fast, with the same rows.

Images a second are those of the last three quarters of a night: what it takes to start workers counts in neither.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.harness import Measured, Row
from darkroom.settings import IntakeOptions, NightOptions, RunnerName, RunOptions
from tasks.bundle import Bundle

TRIALS: Final = 3
# Small enough that both workers have something to do until the end.
IMAGES_A_SHARD: Final = 64
# What differs between two runs of the same work.
OF_THE_RUN: Final = ["run", "scored_at"]
RUNNERS: Final[tuple[RunnerName, ...]] = ("threads", "dask")


def dask_workers() -> Mapping[str, Measured]:
    """In turns, the ratio of each turn; and the rows of both, compared."""
    from benchmarks.speed import bundle, photos, work
    from darkroom.orchestrator import api

    photos()
    sealed = bundle(0.35, "load_img")
    speeds: dict[str, list[float]] = {runner: [] for runner in RUNNERS}
    results: dict[str, Path] = {}
    with api():
        for trial in range(TRIALS):
            for runner in RUNNERS:
                results[runner] = work() / f"{runner}-{trial}"
                night(sealed, work() / "large", results[runner], 1, runner)
                speeds[runner].append(speed_of(results[runner], sealed))
    ratios = [dask / threads for threads, dask in zip(*speeds.values(), strict=True)]
    told = ", ".join(f"{runner} {statistics.median(found):.0f}" for runner, found in speeds.items())
    spread = f"{min(ratios):.2f} – {max(ratios):.2f}; images a second: {told}"
    different, note = rows_that_differ(*(rows_of(results[runner], sealed) for runner in RUNNERS))
    return {
        "dask_workers": Measured(statistics.median(ratios), spread, [speeds]),
        "dask_rows_different": Measured(different, note),
    }


def night(sealed: Bundle, inbox: Path, results: Path, number: int, runner: RunnerName) -> None:
    from benchmarks.speed import FIRST
    from flows.score import score

    score(
        bundle=sealed.path,
        inbox=str(inbox),
        results=results,
        night=NightOptions(night=FIRST + timedelta(days=number)),
        intake=IntakeOptions(settle_seconds=0),
        run=RunOptions(runner=runner, workers=2, shard_size=IMAGES_A_SHARD),
    )


def speed_of(results: Path, sealed: Bundle) -> float:
    """Images a second, from when a quarter of the shards was finished: all rows of a shard are scored at one moment."""
    import darkroom

    finished = darkroom.read(results, bundle=sealed.id)["scored_at"].value_counts().sort_index()
    first = len(finished) // 4
    return float(finished.iloc[first + 1 :].sum() / (finished.index[-1] - finished.index[first]).total_seconds())


def rows_of(results: Path, sealed: Bundle) -> pd.DataFrame:
    import darkroom

    rows = darkroom.read(results, bundle=sealed.id).drop(columns=OF_THE_RUN)
    return rows.sort_values("content_id", ignore_index=True)


def rows_that_differ(one: pd.DataFrame, other: pd.DataFrame) -> tuple[int, str]:
    """How many, where a probability may differ as far as between two processes of one engine, and all else not at all
    (numbers that follow from probabilities and embeddings as far as they).
    """
    if one["content_id"].tolist() != other["content_id"].tolist():
        return max(len(one), len(other)), "other contents"
    differ = np.zeros(len(one), bool)
    largest = 0.0
    for column in one:
        first, second = one[column], other[column]
        if isinstance(first.iloc[0], np.ndarray):
            gaps = np.abs(np.stack(first.to_list()) - np.stack(second.to_list())) if column != "reasons" else None
            far = [list(a) != list(b) for a, b in zip(first, second, strict=True)] if gaps is None else None
        elif pd.api.types.is_float_dtype(first):
            gaps, far = np.abs(first.to_numpy(float) - second.to_numpy(float))[:, None], None
        else:
            gaps, far = None, ~((first == second) | (first.isna() & second.isna()))
        if gaps is not None:
            gaps = np.nan_to_num(gaps)
            largest = max(largest, float(gaps.max()))
            far = gaps.max(axis=1) > 1e-5
        differ |= np.asarray(far)
    return int(differ.sum()), f"{len(one):,} rows; no number differs by more than {largest:.1e}"


ROWS: Mapping[str, Row] = {"dask_workers": dask_workers}
