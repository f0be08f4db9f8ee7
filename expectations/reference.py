"""What the nights are compared with: each metric of the training images, learned once and sealed in the bundle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from darkroom.errors import BundleUnreadable
from expectations.budget import (
    FLOOR_CATEGORICAL,
    FLOOR_NUMERIC,
    NEVER_ALARMS,
    UNLUCKY_BUNDLES,
    Verification,
    weights_of,
)
from expectations.scores import TOGETHER, Law, Laws, rank_scores, width_of
from expectations.shares import Shares
from expectations.sketch import BINS, SHOWN_BINS, Metric, Sketch, columns_of, learn_metrics, sketch_rows

Floats = NDArray[np.float64]
Sealed = TypeVar("Sealed")

# Of a metric's share of the budget: where it lies, how widely it is spread.
PARTS: Final = (0.75, 0.25)
# Shifts, in training standard deviations, for which it is known how far the location moves.
EFFECTS: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
# A number whose most common bin holds so many images is judged by how often it is otherwise.
_USUAL: Final = 0.8
# Of fewer values a spread says nothing that the location does not.
_VARIED: Final = 12
# Differences of scores that are half the floor: location, and spread (a normal that is an eighth wider).
_HALF_FLOORS: Final = (FLOOR_NUMERIC / 2, FLOOR_NUMERIC / 2 / float(width_of(np.ones(()))))


def read_sealed(kind: type[Sealed], text: str, what: str, file: str) -> Sealed:
    """What a bundle knows, from its JSON. Raises BundleUnreadable where another darkroom wrote it otherwise."""
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise BundleUnreadable(
            f"{what} cannot be read: {error.errors()[0]['msg']}.",
            file=file,
            expected="as this version of darkroom seals it",
            todo="train the bundle again with this version",
        ) from error


@dataclass(frozen=True)
class MetricReference:
    """One metric of the training images.

    `unit` is the standard deviation, `groups` the number of sessions that all was learned from, `weight` its share of
    the budget. Either `scores` (location and spread of each bin), their `laws`, and the `response` of location to
    shifts of EFFECTS; or the `shares` of categories: of a number that hardly ever changes, those below, at and above
    its usual bin, `usual`.
    """

    metric: Metric
    counts: tuple[int, ...]
    shown: tuple[int, ...]
    n: int
    mean: float
    clipped_mean: float
    unit: float
    groups: int
    weight: float
    scores: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    laws: tuple[Law, Law] | None = None
    response: tuple[float, ...] = ()
    shares: Shares | None = None
    usual: int = -1

    @property
    def session(self) -> float:
        """Images of a session, weighed by size; 1 where nothing is known."""
        if self.laws is not None:
            return self.laws[0].session
        return self.shares.session if self.shares is not None else 1.0

    def categories(self, counts: NDArray[Any]) -> NDArray[Any]:
        """Counts of bins (…, BINS) as those of the categories (…, k) of `shares`."""
        if self.usual < 0:
            return counts[..., : self.metric.bins]
        parts = (counts[..., : self.usual], counts[..., self.usual : self.usual + 1], counts[..., self.usual + 1 :])
        return np.stack([part.sum(axis=-1) for part in parts], axis=-1)


@dataclass(frozen=True)
class DriftReference:
    """What the nights are compared with, and whether its false alarms were measured."""

    classes: tuple[str, ...]
    metrics: tuple[MetricReference, ...]
    verification: Verification | None = None

    def sketch(self, rows: pd.DataFrame) -> Sketch:
        """Sketch some rows of the predictions schema."""
        return sketch_rows(rows, tuple(one.metric for one in self.metrics), self.classes)

    def empty_sketch(self) -> Sketch:
        """Of no rows."""
        return Sketch.empty(len(self.metrics))

    def to_json(self) -> str:
        """For the bundle."""
        return TypeAdapter(DriftReference).dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> DriftReference:
        """The other way. Raises BundleUnreadable where it was written by a darkroom that compared otherwise."""
        return read_sealed(cls, text, "What the bundle's nights are compared with", "drift.json")

    @cached_property
    def scored(self) -> Scored:
        """The metrics that are judged by scores, stacked."""
        rows = [row for row, one in enumerate(self.metrics) if one.scores is not None]
        return Scored.of(np.array(rows, np.int64), [self.metrics[row] for row in rows])

    @cached_property
    def knows_sessions(self) -> bool:
        """Whether images of one session were seen together, so that it is known how much sessions differ."""
        return any(one.session >= TOGETHER for one in self.metrics)

    @cached_property
    def weights(self) -> Floats:
        """Share of the budget (m,)."""
        return np.array([one.weight for one in self.metrics])

    @cached_property
    def alarming(self) -> NDArray[np.bool_]:
        """Which metrics (m,) may be an alarm."""
        return np.array([one.metric.family not in NEVER_ALARMS for one in self.metrics])

    @cached_property
    def floors(self) -> Floats:
        """The smallest effect (m,) worth an alarm."""
        return np.array([FLOOR_NUMERIC if one.metric.numeric else FLOOR_CATEGORICAL for one in self.metrics])


@dataclass(frozen=True)
class Scored:
    """Metrics with scores: which rows (s,) they are, scores (s, bins), laws; location first, spread second. `spreads`
    (s,): which have so many different values that a spread says something.
    """

    rows: NDArray[np.int64]
    scores: tuple[Floats, Floats]
    laws: tuple[Laws, Laws]
    margins: tuple[Floats, Floats]
    spreads: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: NDArray[np.int64], known: list[MetricReference]) -> Scored:
        """Stacked, and the margin (s,) that the reference's own error and half the floor need."""
        weight = np.array([one.weight for one in known])
        scores, laws, margins = [], [], []
        for part in (0, 1):
            table = np.zeros((len(known), BINS))
            for row, one in enumerate(known):
                assert one.scores is not None
                table[row, : len(one.scores[part])] = one.scores[part]
            scores.append(table)
            laws.append(Laws.of([one.laws[part] for one in known if one.laws is not None], [one.n for one in known]))
            margins.append(np.maximum(laws[part].own_error(UNLUCKY_BUNDLES * weight * PARTS[part]), _HALF_FLOORS[part]))
        spreads = np.array([np.count_nonzero(one.counts) >= _VARIED for one in known], np.bool_)
        return cls(rows, (scores[0], scores[1]), (laws[0], laws[1]), (margins[0], margins[1]), spreads)


@dataclass(frozen=True)
class Columns:
    """The images of a profile as numbers: codes (m, n), −1 where missing or not to be used; clipped values (m, n), of
    categories zero; and the values as they are (m, n). `sliced` (k, n): the number of its camera and of its class,
    where they are known and differ.
    """

    metrics: tuple[Metric, ...]
    codes: NDArray[np.int64]
    clipped: Floats
    values: Floats
    sliced: NDArray[np.int64]

    @classmethod
    def of(cls, rows: pd.DataFrame, held: NDArray[np.bool_], classes: tuple[str, ...]) -> Columns:
        """From rows of the predictions schema; predictions and embedding of held-out ones only."""
        metrics = learn_metrics(rows, held, classes)
        found = columns_of(rows, classes)
        shape = (len(metrics), len(rows))
        codes, clipped, values = np.full(shape, -1, np.int64), np.zeros(shape), np.zeros(shape)
        for row, metric in enumerate(metrics):
            column = found[metric.family, metric.name]
            codes[row] = metric.codes(column)
            if metric.family != "properties":
                codes[row, ~held] = -1
            if metric.numeric:
                values[row] = column.to_numpy(np.float64)
                clipped[row] = metric.clip(values[row])
        known = [
            rows[name].astype(object).where(rows[name].notna(), "") for name in ("camera", "label") if name in rows
        ]
        sliced = [np.unique(one.astype(str), return_inverse=True)[1] for one in known]
        kept = [one for one in sliced if len(one) and one.max()]
        return cls(metrics, codes, clipped, values, np.array(kept, np.int64).reshape(len(kept), len(rows)))

    def some(self, chosen: NDArray[np.int64]) -> Columns:
        """Of these images."""
        codes, clipped, values, sliced = self.codes, self.clipped, self.values, self.sliced
        return Columns(self.metrics, codes[:, chosen], clipped[:, chosen], values[:, chosen], sliced[:, chosen])

    def reference(self, group: NDArray[np.int64], classes: tuple[str, ...]) -> DriftReference:
        """Learn from all of them; `group` (n,) is the number of each image's session. Metrics without any value in
        these images keep their place, and never say anything.
        """
        weights = weights_of([metric.family for metric in self.metrics])
        return DriftReference(
            classes, tuple(self._metric(row, group, weights[row]) for row in range(len(self.metrics)))
        )

    def _metric(self, row: int, group: NDArray[np.int64], weight: float) -> MetricReference:
        metric = self.metrics[row]
        known = self.codes[row] >= 0
        codes, inside, values = self.codes[row, known], self.clipped[row, known], self.values[row, known]
        _, session = np.unique(group[known], return_inverse=True)
        groupings = [session, *self.sliced[:, known]]
        counts = np.bincount(codes, minlength=metric.bins)
        shown = np.histogram(inside, metric.shown)[0] if metric.numeric and len(codes) else np.zeros(SHOWN_BINS, int)
        mean = float(inside.mean()) if len(codes) else 0.0
        facts: dict[str, Any] = {
            "metric": metric,
            "counts": tuple(counts.tolist()),
            "shown": tuple(shown.tolist()),
            "n": len(codes),
            "mean": float(values.mean()) if len(codes) else 0.0,
            "clipped_mean": mean,
            # A property that never changes has no spread: a hundredth of its value is the unit then.
            "unit": max(float(inside.std()), 0.01 * abs(mean), 1e-6) if metric.numeric and len(codes) else 1.0,
            "groups": int(session.max()) + 1 if len(codes) else 0,
            "weight": weight,
        }
        if not len(codes):
            return MetricReference(**facts)
        if not metric.numeric:
            return MetricReference(**facts, shares=Shares.of(codes, groupings, metric.bins))
        if counts.max() >= _USUAL * len(codes):
            usual = int(counts.argmax())
            return MetricReference(**facts, shares=Shares.of(1 + np.sign(codes - usual), groupings, 3), usual=usual)
        scores = rank_scores(counts)
        return MetricReference(
            **facts,
            scores=(tuple(scores[0].tolist()), tuple(scores[1].tolist())),
            laws=(Law.of(scores[0][codes], groupings, spread=False), Law.of(scores[1][codes], groupings, spread=True)),
            response=_response(metric, values, facts["unit"], scores[0]),
        )


def learn_reference(
    rows: pd.DataFrame, held: NDArray[np.bool_], groups: NDArray[Any], classes: tuple[str, ...]
) -> DriftReference:
    """Learn from the profile as rows of the predictions schema; `held` (n,) says which were held out, `groups` (n,)
    which belong to one session.

    Properties are compared with all images, as the model cannot overfit them; predictions and embedding with held-out
    ones only.
    """
    _, group = np.unique(groups, return_inverse=True)
    return Columns.of(rows, held, classes).reference(group, classes)


def _response(metric: Metric, values: Floats, unit: float, location: Floats) -> tuple[float, ...]:
    """How far the mean location moves where every image moves by EFFECTS, on the side where it moves less."""

    def moved(effect: float) -> float:
        where = np.searchsorted(metric.edges, values + effect * unit, side="right")
        return abs(float(location[where].mean()))

    told = [min(moved(effect), moved(-effect)) for effect in EFFECTS]
    return tuple(np.maximum.accumulate(told).tolist())
