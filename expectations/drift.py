"""How tonight's images differ from the training images: what is known of each metric, and the verdicts of a night.

Numeric metrics are judged by rank scores (expectations.scores), categories by their shares (expectations.shares); what
is tested follows "Failing Loudly" (arXiv 1810.11953). A small p, an effect above a floor, and a difference that the
reference's own sampling error does not explain are needed, all three: p alone fires on everything at 10,000 images, an
effect alone on everything at 50, and the error of one reference is the same every night.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.schemas import DRIFT
from expectations.budget import (
    A_YEAR,
    FEWEST,
    FEWEST_TO_ADD,
    FLOOR_CATEGORICAL,
    FLOOR_NUMERIC,
    UNLUCKY_ALARM_P,
    UNLUCKY_BUNDLES,
    UNLUCKY_WARN_P,
    Budget,
)
from expectations.reference import EFFECTS, PARTS, DriftReference, MetricReference
from expectations.scores import smallest, spread_of_shifted, width_of
from expectations.shares import Shares
from expectations.sketch import Sketch

Floats = NDArray[np.float64]

_POWER: Final = 1.645  # 95 % of nights with the smallest detectable effect are seen
_FURTHEST: Final = 6.0


@dataclass(frozen=True)
class Judged:
    """Nights held against the reference: each (nights, metrics).

    `p` for each metric by itself; `p_beyond` where the truth may be as far off as the reference's own error and half
    the floor; `effect` in training standard deviations (of a changed spread: its relative change) or Cramér's V;
    `spread` says that the spread, not the location, is what is told.
    """

    n: NDArray[np.int64]
    p: Floats
    p_beyond: Floats
    statistic: Floats
    effect: Floats
    spread: NDArray[np.bool_]

    def corrected(self, reference: DriftReference, share: float) -> Floats:
        """The p for every test of the night, of whose budget `share` is for these."""
        return np.minimum(1.0, self.p / (reference.weights * share))

    def alarms(self, reference: DriftReference, budget: Budget, share: float = 1.0) -> NDArray[np.bool_]:
        """Which are an alarm."""
        return np.asarray(
            (self.corrected(reference, share) <= budget.alarm_p)
            & (self.effect >= reference.floors)
            & (self.p_beyond <= UNLUCKY_ALARM_P)
            & (self.n >= FEWEST)
            & reference.alarming
        )

    def warns(self, reference: DriftReference, budget: Budget, share: float = 1.0) -> NDArray[np.bool_]:
        """Which are a warning, or more."""
        return np.asarray(
            (self.corrected(reference, share) <= budget.warn_p)
            & (self.effect >= reference.floors / 2)
            & (self.p_beyond <= UNLUCKY_WARN_P)
            & (self.n >= FEWEST)
        )


def judge(
    reference: DriftReference,
    counts: NDArray[np.int64],
    clipped: Floats,
    present: NDArray[np.int64],
    *,
    one_session: bool = False,
) -> Judged:
    """Hold nights against the reference: counts (nights, m, BINS), clipped sums and images with a value (nights, m).

    `one_session`: all images of each night may be of one session, as those of a slice may.
    """
    shape = present.shape
    n = np.maximum(present, 1).astype(np.float64)
    p, beyond, statistic = np.ones(shape), np.ones(shape), np.zeros(shape)
    spread = np.zeros(shape, np.bool_)
    means = np.array([one.clipped_mean for one in reference.metrics])
    units = np.array([one.unit for one in reference.metrics])
    effect = np.where(present > 0, np.abs(clipped / n - means) / units, 0.0)

    known = reference.scored
    rows = known.rows
    if len(rows):
        some, size = counts[:, rows].astype(np.float64), n[:, rows]
        location, spread_score = (np.einsum("kmb,mb->km", some, table) / size for table in known.scores)
        noise = [
            np.sqrt(np.maximum(law.of_night(size, one_session=one_session) + law.of_reference(), 1e-12))
            for law in known.laws
        ]
        # About the night's own location: what only moved is not wider.
        found = [location, spread_score - spread_of_shifted(location)]
        tails = [
            law.tail(one, size, one_session=one_session) / part
            for law, one, part in zip(known.laws, found, PARTS, strict=True)
        ]
        far = [
            law.tail_beyond(one, size, margin, one_session=one_session) / part
            for law, one, margin, part in zip(known.laws, found, known.margins, PARTS, strict=True)
        ]
        # A part of the night is more alike than all of it: of a slice the spread is not told.
        told = known.spreads & (not one_session)
        tails[1], far[1] = (np.where(told, one, np.inf) for one in (tails[1], far[1]))
        wider = tails[1] < tails[0]
        p[:, rows] = np.minimum(1.0, np.minimum(*tails))
        beyond[:, rows] = np.minimum(1.0, np.minimum(*far))
        spread[:, rows] = wider
        statistic[:, rows] = np.where(wider, np.abs(found[1]) / noise[1], np.abs(found[0]) / noise[0])
        effect[:, rows] = np.where(wider, np.abs(width_of(found[1])), np.maximum(effect[:, rows], np.abs(found[0])))

    for row, one in enumerate(reference.metrics):
        if one.shares is None:
            continue
        of = one.categories(counts[:, row]).astype(np.float64)
        possible = max(2, int(one.shares.seen().sum()) + 1)
        total = np.maximum(of.sum(axis=-1, keepdims=True), 1)
        p[:, row] = np.minimum(1.0, one.shares.tail(of, total, one_session=one_session).min(axis=-1) * possible)
        chance = UNLUCKY_BUNDLES * one.weight / possible
        far_off = one.shares.tail_beyond(of, total, chance, one_session=one_session).min(axis=-1) * possible
        beyond[:, row] = np.minimum(1.0, far_off)
        chi = _chi(one, of)
        statistic[:, row] = chi
        if not one.metric.numeric:
            effect[:, row] = chi / np.sqrt(n[:, row] * (_varieties(one, of) - 1))
    nothing = present == 0
    return Judged(present, np.where(nothing, 1.0, p), np.where(nothing, 1.0, beyond), statistic, effect, spread)


def night_drift(
    reference: DriftReference, sketch: Sketch, budget: Budget = A_YEAR, *, share: float = 1.0
) -> pd.DataFrame:
    """One row a metric, darkroom.schemas.DRIFT; `share` is the night's own share of its budget, beside its slices."""
    judged = judge(reference, sketch.counts[None], sketch.clipped[None], sketch.present[None])
    alarms, warns = judged.alarms(reference, budget, share)[0], judged.warns(reference, budget, share)[0]
    corrected = judged.corrected(reference, share)[0]
    detectable = smallest_effects(reference, sketch.present, budget, share=share)
    found = []
    for row, known in enumerate(reference.metrics):
        metric, n = known.metric, int(sketch.present[row])
        facts: dict[str, Any] = {
            "family": metric.family,
            "metric": metric.name,
            "slice": None,
            "statistic_name": statistic_name(known, bool(judged.spread[0, row])),
            "n": n,
            "n_reference": known.n,
            "reference_value": known.mean if metric.numeric else None,
            "night_value": float(sketch.sums[row]) / n if metric.numeric and n else None,
            "p_beyond": float(judged.p_beyond[0, row]) if n >= FEWEST_TO_ADD else None,
            "smallest_detectable_effect": None if np.isnan(detectable[row]) else float(detectable[row]),
            "verdict": "too_few",
        }
        if n >= FEWEST:
            facts |= {
                "statistic": float(judged.statistic[0, row]),
                "effect": float(judged.effect[0, row]),
                "p_value": float(judged.p[0, row]),
                "p_corrected": float(corrected[row]),
                "verdict": "alarm" if alarms[row] else "warn" if warns[row] else "ok",
            }
        found.append(facts)
    frame = pd.DataFrame(found, columns=DRIFT.names)
    return frame.astype({"n": "int64", "n_reference": "int64"})


def smallest_effects(reference: DriftReference, n: NDArray[np.int64], budget: Budget, *, share: float = 1.0) -> Floats:
    """The smallest effect (m,) that 95 of 100 nights of n (m,) images would have shown as an alarm; NaN where none is
    large enough, because there are too few images, or the bundle has seen too few sessions.
    """
    found = np.full(len(reference.metrics), np.nan)
    known = reference.scored
    if len(known.rows):
        law, margin = known.laws[0], known.margins[0]
        size = np.maximum(n[known.rows], 1).astype(np.float64)
        limit = reference.weights[known.rows] * share * budget.alarm_p

        def worst(difference: Floats) -> Floats:
            p, beyond = (
                np.maximum(*(one(sign * difference, size, *more) for sign in (-1, 1))) / PARTS[0]
                for one, more in ((law.tail, ()), (law.tail_beyond, (margin,)))
            )
            return np.maximum(p / limit, beyond / UNLUCKY_ALARM_P)

        needed = smallest(worst, np.ones(len(size)), np.full(len(size), _FURTHEST))
        noise = _POWER * np.sqrt(law.of_night(size, one_session=False) + law.of_reference())
        needed = np.maximum(needed, FLOOR_NUMERIC) + noise
        for place, row in enumerate(known.rows):
            response = np.asarray(reference.metrics[row].response)
            if n[row] and needed[place] <= response[-1]:
                found[row] = np.interp(needed[place], response, EFFECTS)
    for row, one in enumerate(reference.metrics):
        if one.shares is not None and n[row]:
            found[row] = _smallest_share(one, one.shares, float(n[row]), budget.alarm_p * one.weight * share)
    return found


def _smallest_share(known: MetricReference, shares: Shares, n: float, limit: float) -> float:
    """Cramér's V (for a number: standard deviations of "not as usual") of the category that is hardest to see."""
    share = np.asarray(shares.share)
    possible = max(2, int(shares.seen().sum()) + 1)
    # What is usual can only become less, which the others show; where there is no other, one that never came.
    rare = shares.seen() & (np.arange(len(share)) != share.argmax())
    chosen = np.flatnonzero(rare) if rare.any() else np.array([int(share.argmin())])
    some, share, total = shares.some(chosen), share[chosen], np.array([n])
    chance = UNLUCKY_BUNDLES * known.weight / possible

    def worst(more: Floats) -> Floats:
        counts = n * (share + more)
        p, beyond = some.tail(counts, total), some.tail_beyond(counts, total, chance)
        return np.asarray(possible * np.maximum(p / limit, beyond / UNLUCKY_ALARM_P))

    needed = smallest(worst, np.ones(len(share)), 1 - share)
    reached = np.clip(share + needed, 0, 1)
    needed = needed + _POWER * np.sqrt(reached * (1 - reached) * some.effect(total, one_session=False) / n)
    needed = needed[needed <= 1 - share] / np.sqrt(np.maximum(share * (1 - share), 0.5 / shares.n))[needed <= 1 - share]
    if not len(needed):
        return float("nan")
    if known.metric.numeric:
        return max(float(needed.max()), FLOOR_NUMERIC)
    varieties = max(2, int(shares.seen().sum()))
    return max(float(needed.max() / np.sqrt(varieties - 1)), FLOOR_CATEGORICAL)


def _chi(known: MetricReference, counts: Floats) -> Floats:
    """√G of a night's categories (nights, k): Wilks', with half an image more in each category of the reference."""
    reference = known.categories(np.asarray(known.counts, np.float64)) + 0.5
    expected = reference / reference.sum() * counts.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(counts > 0, counts * np.log(counts / expected), 0.0)
    return np.asarray(np.sqrt(np.maximum(0.0, 2 * terms.sum(axis=-1))))


def _varieties(known: MetricReference, counts: Floats) -> Floats:
    reference = known.categories(np.asarray(known.counts)) > 0
    return np.asarray(np.maximum(2, (reference | (counts > 0)).sum(axis=-1)), np.float64)


def statistic_name(known: MetricReference, spread: bool) -> str:
    """What is told of a metric: location, spread, or share."""
    if known.shares is not None:
        return "share"
    return "spread" if spread else "location"
