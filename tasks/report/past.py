"""The nights that were committed, as pages show them: read from the results each time, and kept nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.errors import StorageError
from darkroom.reasons import NightVerdict
from darkroom.results import Commit, Part, commits, read_part
from darkroom.storage import Storage, storage_at
from darkroom.summary import AccuracyEstimate
from tasks.report.labelled import LabelledNight, labelled_nights

REPORTS: Final = "reports"
INDEX: Final = f"{REPORTS}/index.html"
MOST_NIGHTS: Final = 30
_GRAVEST: Final = ("too_few", "ok", "warn", "alarm")
_RANK: Final = {str(one): rank for rank, one in enumerate([NightVerdict.EMPTY, *list(NightVerdict)[:3]])}
# A results folder may be older than the column `slice`; what is missing reads as null.
_COLUMNS: Final = (
    "family", "metric", "slice", "statistic_name", "n", "effect", "reference_value", "night_value", "verdict",
)  # fmt: skip


class Series(NamedTuple):
    """One measure over nights, the oldest first; tonight, where it is there, is the last.

    `reference` is its value in training and `spread` a standard deviation there, in the same unit.
    """

    nights: tuple[date, ...]
    values: NDArray[np.float64]  # (nights,), NaN where it was not measured
    verdicts: tuple[str, ...]
    reference: float | None = None
    spread: float | None = None


@dataclass(frozen=True)
class PastNight:
    """One night of one bundle, all of its runs together; `page` is relative to the folder of reports, quoted as an
    address, and None where there is no page. `estimate` is that of the run with the most images,
    without classes and costs; `labelled` what labels said of all of its images.
    """

    bundle: str
    night: date
    verdict: str
    headline: str
    scored: int = 0
    suspect: int = 0
    quarantined: int = 0
    runs: int = 0
    page: str | None = None
    drift: tuple[Part, ...] = ()
    estimate: AccuracyEstimate | None = None
    labelled: LabelledNight | None = None

    @property
    def share_suspect(self) -> float:
        """Of the scored images; NaN where none was."""
        return self.suspect / self.scored if self.scored else float("nan")

    @property
    def share_quarantined(self) -> float:
        """Of the images that were scored or set aside; NaN where there was none."""
        looked_at = self.scored + self.quarantined
        return self.quarantined / looked_at if looked_at else float("nan")


def past_nights(
    results: Storage | Path | str, bundle: str, inbox: str | None = None, *, before: date | None = None
) -> list[PastNight]:
    """The nights of a bundle (and of an inbox; None: of all), the oldest first. Raises StorageError.

    A night that was run again counts each content once. Verdict, sentence and page are those of its gravest run: a few
    late files that are as ever do not undo an alarm. Of equals, those of the last one that scored something.
    """
    storage = storage_at(results)
    found: dict[date, PastNight] = {}
    for commit in commits(storage, bundle):
        if (inbox is None or commit.inbox == inbox) and (before is None or commit.night < before):
            found[commit.night] = _added(found.get(commit.night), commit, storage)
    # Labels are of all inboxes.
    labelled = labelled_nights(storage, bundle) if inbox is None else {}
    return [replace(found[night], labelled=labelled.get(night)) for night in sorted(found)]


def drift_of(results: Storage | Path | str, nights: Iterable[PastNight]) -> pd.DataFrame:
    """The committed drift rows of whole nights (not of their slices), with `night`; memory is that of these nights.

    A part that is lost or broken is left out: an old night must not keep tonight's page from being drawn.
    """
    storage = storage_at(results)
    frames = []
    for one in nights:
        for part in one.drift:
            with suppress(StorageError):
                rows = read_part(storage, part, _COLUMNS).to_pandas()
                frames.append(rows[rows["slice"].isna()].drop(columns="slice").assign(night=one.night))
    kept = [frame for frame in frames if len(frame)]
    columns = [name for name in _COLUMNS if name != "slice"]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=[*columns, "night"])


def with_tonight(past: pd.DataFrame, tonight: pd.DataFrame, night: date) -> pd.DataFrame:
    """Rows of `drift_of` and those of a night that is not committed yet; only of the columns that both need."""
    names = [name for name in past.columns if name != "night"]
    if tonight.empty:
        return past
    whole = tonight[tonight["slice"].isna()] if "slice" in tonight else tonight
    both = [frame for frame in (past.astype(object), whole[names].astype(object).assign(night=night)) if len(frame)]
    return pd.concat(both, ignore_index=True)


def series_of(rows: pd.DataFrame, family: str) -> dict[str, Series]:
    """Each metric of a family over nights: its mean where it has one, else how much its mix differs (Cramér's V).

    Several runs of a night are one: the mean of them weighed by images, and the gravest verdict.
    """
    found = {}
    some = rows[rows["family"] == family]
    for metric, own in some.groupby("metric", sort=False):
        reference = pd.to_numeric(own["reference_value"]).dropna()
        numeric = not reference.empty
        values = pd.to_numeric(own["night_value" if numeric else "effect"]).to_numpy(np.float64)
        weights = pd.to_numeric(own["n"]).to_numpy(np.float64)
        nights, place = np.unique(own["night"].to_numpy(object), return_inverse=True)
        known = ~np.isnan(values) & (weights > 0)
        total = np.bincount(place[known], weights[known], len(nights))
        summed = np.bincount(place[known], (values * weights)[known], len(nights))
        verdicts = [
            max(own["verdict"][place == k], key=lambda one: _GRAVEST.index(one) if one in _GRAVEST else 0)
            for k in range(len(nights))
        ]
        found[str(metric)] = Series(
            tuple(nights.tolist()),
            np.where(total > 0, summed / np.maximum(total, 1), np.nan),
            tuple(str(verdict) for verdict in verdicts),
            float(reference.iloc[-1]) if numeric else 0.0,
        )
    return found


def counted(nights: Sequence[PastNight], values: Sequence[float]) -> Series:
    """A measure of the nights themselves, one value each."""
    return Series(
        tuple(one.night for one in nights), np.asarray(values, np.float64), tuple(one.verdict for one in nights)
    )


def page_key(night: date, bundle: str, run: str) -> str:
    """Where a run's page is, in the folder of reports."""
    return f"{night}/{bundle}/{run}/index.html"


def page_address(storage: Storage, key: str) -> str | None:
    """`page_key` as an address relative to the folder of reports, if the page is there."""
    return quote(key) if storage.exists(f"{REPORTS}/{key}") else None


def _added(known: PastNight | None, commit: Commit, storage: Storage) -> PastNight:
    summary, counts = commit.summary, commit.counts
    this = PastNight(
        bundle=commit.bundle,
        night=commit.night,
        verdict=str(summary.verdict),
        headline=summary.headline,
        scored=counts.scored,
        suspect=summary.suspect,
        quarantined=counts.quarantined,
        runs=1,
        page=page_address(storage, page_key(commit.night, commit.bundle, commit.run)),
        drift=tuple(part for part in commit.parts if part.dataset == "drift"),
        estimate=_bare(summary.estimate),
    )
    if known is None:
        return this
    graver = _RANK[this.verdict] - _RANK[known.verdict]
    told = this if graver > 0 or (graver == 0 and (counts.scored or not known.scored)) else known
    return replace(
        told,
        scored=known.scored + this.scored,
        suspect=known.suspect + this.suspect,
        quarantined=known.quarantined + this.quarantined,
        runs=known.runs + 1,
        page=told.page or this.page or known.page,
        drift=known.drift + this.drift,
        estimate=max(this.estimate, known.estimate, key=lambda one: one.rows if one else 0),
    )


def _bare(estimate: AccuracyEstimate | None) -> AccuracyEstimate | None:
    """Hundreds of nights are in memory at once: without shares of classes and costs of properties."""
    if estimate is None or not estimate.rows:
        return None
    return estimate.model_copy(update={"class_mix": (), "harm": ()})
