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

from collections.abc import Mapping, Sequence
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
_MOST: Final = 1e100  # more says no more, and some such nights would be infinite


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
        since = None
        for night, found in zip(self.nights, self.sums, strict=True):
            since = None if found < budget.sum_alarm else since or night
        return since


def evidence(p: Floats) -> Floats:
    """The e-value of a p; NaN, where nothing could be said, stays."""
    return np.asarray(_KAPPA * np.maximum(p, 1e-300) ** (_KAPPA - 1))


def added(sums: Floats, e: Floats) -> Floats:
    """The sums after one more night; where it says nothing it changes nothing."""
    return np.asarray(np.where(np.isnan(e), sums, np.minimum((1 + sums) * np.minimum(e, _MOST), _MOST)))


def accumulate(
    rows: pd.DataFrame, reference: DriftReference, *, until: date | None = None, acknowledged: Sequence[date] = ()
) -> Accumulated:
    """Sum up committed drift rows (darkroom.schemas.DRIFT, with `night`) of one bundle and inbox.

    Nights later than `until` are left out, and those up to the last acknowledged one that is earlier than it. Several
    runs of one night are one: the mean of their e-values, weighed by images.
    """
    since = max((night for night in acknowledged if until is None or night <= until), default=None)
    places = {
        (one.metric.family, one.metric.name): row
        for row, one in enumerate(reference.metrics)
        if reference.alarming[row]
    }
    nights, table = _by_night(rows, places, len(reference.metrics), since, until)
    sums, path = np.zeros(len(reference.metrics)), []
    weights = np.where(reference.alarming, reference.weights, 0.0)
    for e in table:
        sums = added(sums, e)
        path.append(float((weights * sums).sum()))
    if not path:
        return Accumulated((), (), since=since)
    most = int((weights * sums).argmax())
    named = reference.metrics[most].metric
    share = float(weights[most] * sums[most]) / max(path[-1], 1e-300)
    return Accumulated(nights, tuple(path), named.family, named.name, share, since)


def _by_night(
    rows: pd.DataFrame, places: Mapping[tuple[str, str], int], metrics: int, since: date | None, until: date | None
) -> tuple[tuple[date, ...], Floats]:
    """The nights (t,) in order, and the e-value of each metric (t, metrics); NaN where a night says nothing of it."""
    whole = rows[rows["slice"].isna() & rows["p_beyond"].notna()]
    days = pd.to_datetime(whole["night"]).dt.date
    place = np.array([places.get(key, -1) for key in zip(whole["family"], whole["metric"], strict=True)], np.int64)
    used = place >= 0
    used &= np.array([(until is None or day <= until) and (since is None or day > since) for day in days], np.bool_)
    nights, night = np.unique(days[used].to_numpy(object), return_inverse=True)
    images, p = (whole.loc[used, name].to_numpy(np.float64) for name in ("n", "p_beyond"))
    weighed, whole_of = np.zeros((len(nights), metrics)), np.zeros((len(nights), metrics))
    np.add.at(weighed, (night, place[used]), images * evidence(p))
    np.add.at(whole_of, (night, place[used]), images)
    return tuple(nights), np.where(whole_of > 0, weighed / np.maximum(whole_of, 1), np.nan)
