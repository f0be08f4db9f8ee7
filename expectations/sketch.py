"""A night in constant memory: what drift needs of the rows, added up shard by shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.schemas import CATEGORICAL_PROPERTIES, EMBEDDING_COMPONENTS, NUMERIC_PROPERTIES
from expectations.packed import pack, unpack

# Of a numeric metric: bins of equal shares, finer ones in the tails and beyond what training showed, and one more
# beside each value that is a bin by itself.
QUANTILES: Final = 32
BINS: Final = 80
_TAILS: Final = (1 / 512, 1 / 128)
_BEYOND: Final = (1.0, 2.0)
SHOWN_BINS: Final = 24
OTHER: Final = "(other)"
# Of images like the held-out ones, one in twenty is this far from training.
FAR: Final = 0.05


@dataclass(frozen=True)
class Metric:
    """One thing that may drift.

    Numeric: `edges` inside the range, at equal shares of the reference and on both sides of every value that is common
    (a size, a zero); `shown` at equal widths. Categorical: the categories of the reference; others are one more.
    """

    family: str
    name: str
    edges: tuple[float, ...] = ()
    shown: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether it has a mean."""
        return not self.categories

    @cached_property
    def _edges(self) -> NDArray[np.float64]:
        return np.asarray(self.edges, np.float64)

    @cached_property
    def _inner_shown(self) -> NDArray[np.float64]:
        return np.asarray(self.shown[1:-1], np.float64)

    def codes(self, values: NDArray[Any] | pd.Series) -> NDArray[np.int64]:
        """The bin of each value, −1 where it is missing."""
        if self.numeric:
            numbers = np.asarray(values, np.float64)
            return np.where(np.isnan(numbers), -1, self._edges.searchsorted(numbers, side="right"))
        place = {name: number for number, name in enumerate(self.categories)}
        return np.array([-1 if pd.isna(value) else place.get(str(value), len(place)) for value in values], np.int64)

    def clip(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers inside the shown range: one odd image must not move the mean of a night."""
        return np.minimum(np.maximum(numbers, self.shown[0]), self.shown[-1])

    def in_shown(self, clipped: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many of the clipped numbers are in each of the shown bins (SHOWN_BINS): as np.histogram counts them,
        which takes ten times as long for a few.
        """
        return np.bincount(self._inner_shown.searchsorted(clipped, side="right"), minlength=SHOWN_BINS)

    @property
    def bins(self) -> int:
        """How many."""
        return len(self.edges) + 1 if self.numeric else len(self.categories) + 1


@dataclass(frozen=True)
class Sketch:
    """Counts and sums of some rows, a row of each array a metric; adding the sketches of two shards gives that of both.

    counts (m, BINS); sums, clipped (see Metric.clip), present (m,); shown (m, SHOWN_BINS); rows: how many.
    """

    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    clipped: NDArray[np.float64]
    present: NDArray[np.int64]
    shown: NDArray[np.int64]
    rows: int

    @classmethod
    def empty(cls, metrics: int) -> Sketch:
        """Of no rows."""
        return cls(
            np.zeros((metrics, BINS), np.int64),
            np.zeros(metrics),
            np.zeros(metrics),
            np.zeros(metrics, np.int64),
            np.zeros((metrics, SHOWN_BINS), np.int64),
            0,
        )

    def merge(self, other: Sketch) -> Sketch:
        """Of the rows of both."""
        return Sketch(
            self.counts + other.counts,
            self.sums + other.sums,
            self.clipped + other.clipped,
            self.present + other.present,
            self.shown + other.shown,
            self.rows + other.rows,
        )

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """By their names."""
        return {name: value for name, value in vars(self).items() if name != "rows"}

    def to_bytes(self) -> bytes:
        """For the shard's part in staging."""
        return pack(self.rows, self.arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Sketch:
        """The other way."""
        rows, arrays = unpack(data)
        return cls(**arrays, rows=rows)


def columns_of(rows: pd.DataFrame, classes: tuple[str, ...]) -> Mapping[tuple[str, str], pd.Series]:
    """(family, metric) → values, from rows of the predictions schema (or of a profile with the same columns)."""
    return {key: pd.Series(values) for key, values in _values_of(rows, classes).items()}


def _values_of(rows: pd.DataFrame, classes: tuple[str, ...]) -> Mapping[tuple[str, str], NDArray[Any] | pd.Series]:
    """The same; numbers as float64, because for a few rows a Series takes longer than what is done with it."""
    properties = rows[list(NUMERIC_PROPERTIES)].to_numpy(np.float64)
    probabilities = _matrix(rows["probabilities"], len(classes))
    embedding = _matrix(rows["embedding"], EMBEDDING_COMPONENTS)
    far = rows["out_of_distribution_p"].to_numpy(np.float64)
    return {
        **{("properties", name): properties[:, k] for k, name in enumerate(NUMERIC_PROPERTIES)},
        **{("properties", name): rows[name] for name in CATEGORICAL_PROPERTIES},
        **{("probabilities", name): probabilities[:, k] for k, name in enumerate(classes)},
        ("predicted_classes", "predicted_class"): rows["predicted_class"],
        **{("embedding", f"component_{k + 1:02d}"): embedding[:, k] for k in range(embedding.shape[1])},
        ("out_of_distribution", "share_far"): np.where(np.isnan(far), np.nan, far <= FAR),
    }


def sketch_rows(rows: pd.DataFrame, metrics: tuple[Metric, ...], classes: tuple[str, ...]) -> Sketch:
    """Sketch some rows of the predictions schema."""
    sketch = Sketch.empty(len(metrics))
    if rows.empty:
        return sketch
    values = _values_of(rows, classes)
    for row, metric in enumerate(metrics):
        column = values[metric.family, metric.name]
        codes = metric.codes(column)
        known = codes >= 0
        sketch.counts[row, : metric.bins] = np.bincount(codes[known], minlength=metric.bins)
        sketch.present[row] = known.sum()
        if metric.numeric:
            numbers = np.asarray(column, np.float64)[known]
            clipped = metric.clip(numbers)
            sketch.sums[row] = numbers.sum()
            sketch.clipped[row] = clipped.sum()
            sketch.shown[row] = metric.in_shown(clipped)
    return replace(sketch, rows=len(rows))


def learn_metrics(rows: pd.DataFrame, held: NDArray[np.bool_], classes: tuple[str, ...]) -> tuple[Metric, ...]:
    """The metrics of a bundle, from its profile as rows. Properties may use all rows (a model cannot overfit them);
    predictions and embedding only the held-out ones.
    """
    metrics = []
    for (family, name), column in columns_of(rows, classes).items():
        known = (column if family == "properties" else column[held]).dropna()
        if known.empty:
            continue
        if name in CATEGORICAL_PROPERTIES or family == "predicted_classes":
            names = tuple(sorted({str(value) for value in known} | (set(classes) if family != "properties" else set())))
            metrics.append(Metric(family, name, categories=names[: BINS - 1]))
            continue
        numbers = known.to_numpy(np.float64)
        edges = _edges(numbers)
        low, high = float(numbers.min()), float(numbers.max())
        room = 0.25 * (high - low) or max(abs(low) * 0.1, 1e-6)
        shown = np.linspace(low - room, high + room, SHOWN_BINS + 1)
        metrics.append(Metric(family, name, tuple(edges.tolist()), tuple(shown.tolist())))
    return tuple(metrics)


def _edges(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """A common value has a bin of its own, so that what lies above it is told from it; beyond the reference's range
    there are bins, too, one standard deviation wide, so that far is told from further.
    """
    values, counts = np.unique(numbers, return_counts=True)
    common = values[counts * QUANTILES >= len(numbers)]
    inner = np.linspace(0, 1, QUANTILES + 1)[1:-1]
    quantiles = np.quantile(numbers, [*_TAILS, *inner, *(1 - tail for tail in _TAILS)])
    low, high, unit = float(values[0]), float(values[-1]), float(numbers.std())
    beyond = [low, *(low - step * unit for step in _BEYOND), *(high + step * unit for step in _BEYOND)]
    edges = np.concatenate([common, np.nextafter(common, np.inf), np.setdiff1d(quantiles, common), beyond])
    return np.unique([*edges, np.nextafter(high, np.inf)])[: BINS - 1]


def _matrix(column: pd.Series, width: int) -> NDArray[np.float64]:
    return np.stack([np.asarray(row, np.float64) for row in column]) if len(column) else np.zeros((0, width))
