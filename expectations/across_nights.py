"""What no single night shows and many nights together do: evidence of each night, summed up until a person resets it.

A night's p becomes an e-value, κ p^(κ − 1) with κ = ½ (Vovk & Wang, "E-values", 2021), and e-values a Shiryaev–Roberts
sum, R ← (1 + R) e ("e-detectors", arXiv 2203.03532), one for each metric, weighed by its share of the budget. On
unchanged nights the weighed sum grows by no more than one a night on average, so it takes at least as many nights as
the threshold says to reach it by chance.

All nights share one reference, and its error would add up like a shift: p is that of a difference larger than the
reference's own error and half the floor (`p_beyond` of darkroom.schemas.DRIFT). Nothing is stored: the sum is a
function of the rows that were committed, in the order of nights and not of runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from expectations.budget import Budget
from expectations.reference import DriftReference

Floats = NDArray[np.float64]

_KAPPA: Final = 0.5


@dataclass(frozen=True)
class Accumulated:
    """The sums after each night: `nights` (t,) in order, `sums` (t,); and the metric that adds most to the last one.

    `since` is the night that was acknowledged last: it and all before it no longer count.
    """

    nights: tuple[date, ...]
    sums: tuple[float, ...]
    family: str = ""
    metric: str = ""
    share: float = 0.0
    since: date | None = None

    @property
    def now(self) -> float:
        """After the last night; 0 where there is none."""
        return self.sums[-1] if self.sums else 0.0

    def alarms(self, budget: Budget) -> bool:
        """Whether the last night's sum is an alarm."""
        return self.now >= budget.sum_alarm

    def first_alarm(self, budget: Budget) -> date | None:
        """The night since which it has been one."""
        over = [night for night, found in zip(self.nights, self.sums, strict=True) if found >= budget.sum_alarm]
        return over[0] if over and self.alarms(budget) else None


def evidence(p: Floats) -> Floats:
    """The e-value of a p; NaN, where nothing could be said, stays."""
    return np.asarray(_KAPPA * np.maximum(p, 1e-300) ** (_KAPPA - 1))


def added(sums: Floats, e: Floats) -> Floats:
    """The sums after one more night; where it says nothing it changes nothing."""
    return np.asarray(np.where(np.isnan(e), sums, (1 + sums) * e))


def accumulate(
    rows: pd.DataFrame, reference: DriftReference, *, until: date | None = None, acknowledged: Sequence[date] = ()
) -> Accumulated:
    """Sum up committed drift rows (darkroom.schemas.DRIFT, with `night`) of one bundle and inbox.

    Nights later than `until` are left out, and those up to the last acknowledged one that is earlier than it. Several
    runs of one night are one: the mean of their e-values, weighed by images.
    """
    since = max((night for night in acknowledged if until is None or night <= until), default=None)
    places = {
        (one.metric.family, one.metric.name): row for row, one in enumerate(reference.metrics) if reference.alarming[row]
    }
    whole = rows[rows["slice"].isna() & rows["p_beyond"].notna()] if len(rows) else rows
    by_night: dict[date, tuple[Floats, Floats]] = {}
    for family, metric, night, n, p in zip(
        *(whole[name] for name in ("family", "metric", "night", "n", "p_beyond")), strict=True
    ):
        day = pd.Timestamp(night).date()
        row = places.get((str(family), str(metric)))
        if row is None or (until is not None and day > until) or (since is not None and day <= since):
            continue
        nothing = np.zeros(len(reference.metrics))
        weighed, images = by_night.setdefault(day, (nothing, nothing.copy()))
        weighed[row] += n * float(evidence(np.array(p, np.float64)))
        images[row] += n
    sums, path = np.zeros(len(reference.metrics)), []
    weights = np.where(reference.alarming, reference.weights, 0.0)
    for day in sorted(by_night):
        weighed, images = by_night[day]
        sums = added(sums, np.where(images > 0, weighed / np.maximum(images, 1), np.nan))
        path.append(float((weights * sums).sum()))
    if not path:
        return Accumulated((), (), since=since)
    most = int((weights * sums).argmax())
    named = reference.metrics[most].metric
    share = float(weights[most] * sums[most]) / max(path[-1], 1e-300)
    return Accumulated(tuple(sorted(by_night)), tuple(path), named.family, named.name, share, since)
