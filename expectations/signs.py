"""What unlabelled rows say of how often a model is right: a few numbers a row, added up in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.schemas import NUMERIC_PROPERTIES
from expectations.accuracy import tempered
from expectations.packed import pack, unpack

COMPONENTS: Final = 8
CONFIDENT: Final = (0.5, 0.7, 0.9)
FAR: Final = (0.01, 0.05, 0.2, 0.5)
NAMES: Final = (
    "confidence",
    "above_threshold",
    "entropy",
    "log_odds",
    *(f"confidence_{level:.0%}" for level in CONFIDENT),
    *(f"far_{level:.0%}" for level in FAR),
    *(f"component_{number + 1:02d}" for number in range(COMPONENTS)),
)
CONFIDENCE: Final = NAMES.index("confidence")
ABOVE_THRESHOLD: Final = NAMES.index("above_threshold")
SHARE_FAR: Final = NAMES.index("far_5%")
# Measured on pixels, and not on the file: what a corruption at the model's own size can move.
PROPERTIES: Final = NUMERIC_PROPERTIES[NUMERIC_PROPERTIES.index("luminance_mean") :]
# Beyond so many standard deviations an image is odd, not shifted: one must not move the mean of a night.
_WIDEST: Final = 6.0


@dataclass(frozen=True)
class Signs:
    """Sums over some rows; those of two shards add up. sums (len(NAMES),); moved (len(PROPERTIES),): image properties
    in training standard deviations from the training mean; predicted (k,): rows by predicted class.
    """

    sums: NDArray[np.float64]
    moved: NDArray[np.float64]
    predicted: NDArray[np.int64]
    rows: int

    @classmethod
    def empty(cls, classes: int) -> Signs:
        """Of no rows."""
        return cls(np.zeros(len(NAMES)), np.zeros(len(PROPERTIES)), np.zeros(classes, np.int64), 0)

    @property
    def means(self) -> NDArray[np.float64]:
        """The signs of the whole: (len(NAMES),)."""
        return self.sums / max(self.rows, 1)

    @property
    def shifts(self) -> NDArray[np.float64]:
        """Mean shift of each property: (len(PROPERTIES),)."""
        return self.moved / max(self.rows, 1)

    def merge(self, other: Signs) -> Signs:
        """Of the rows of both."""
        return Signs(
            self.sums + other.sums,
            self.moved + other.moved,
            self.predicted + other.predicted,
            self.rows + other.rows,
        )

    def to_bytes(self) -> bytes:
        """For the shard's part in staging."""
        return pack(self.rows, {"sums": self.sums, "moved": self.moved, "predicted": self.predicted})

    @classmethod
    def from_bytes(cls, data: bytes) -> Signs:
        """The other way."""
        rows, arrays = unpack(data)
        return cls(**arrays, rows=rows)


@dataclass(frozen=True)
class Reading:
    """How a row is read. `threshold`: held-out images are right as often as their calibrated confidence reaches it
    (ATC, Garg et al., arXiv 2201.04234); `centre`, `spread` (COMPONENTS,): of the embedding's first principal
    components on held-out images; `property_centre`, `property_spread` (len(PROPERTIES),): of the training images.
    """

    temperature: float
    threshold: float
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    property_centre: tuple[float, ...]
    property_spread: tuple[float, ...]

    def rows(self, rows: pd.DataFrame, classes: int) -> Signs:
        """Of rows of the predictions schema."""
        if rows.empty:
            return Signs.empty(classes)
        probabilities = np.stack([np.asarray(row, np.float64) for row in rows["probabilities"]])
        embedding = np.stack([np.asarray(row, np.float64) for row in rows["embedding"]])
        signs = self.images(probabilities, embedding, rows["out_of_distribution_p"].to_numpy(np.float64))
        predicted = np.bincount(probabilities.argmax(axis=1), minlength=classes)
        moved = in_spreads(rows[list(PROPERTIES)].to_numpy(np.float64), self.property_centre, self.property_spread)
        return Signs(signs.sum(axis=0), moved.sum(axis=0), predicted, len(rows))

    def images(
        self,
        probabilities: NDArray[np.floating[Any]],
        embedding: NDArray[np.floating[Any]],
        far: NDArray[np.floating[Any]],
    ) -> NDArray[np.float64]:
        """(n, len(NAMES)) from probabilities (n, k), components (n, ≥ COMPONENTS) and conformal p of the distance (n,).

        Where too few images were held out to say how far is far (nan), every image counts as near.
        """
        calibrated = tempered(probabilities, self.temperature).astype(np.float64)
        ordered = np.sort(calibrated, axis=1)
        best, second = ordered[:, -1], ordered[:, -2]
        entropy = -(calibrated * np.log(np.clip(calibrated, 1e-12, 1))).sum(axis=1)
        near = np.where(np.isnan(far), 1.0, far)
        components = (np.asarray(embedding, np.float64)[:, :COMPONENTS] - self.centre) / self.spread
        return np.column_stack(
            [
                best,
                best >= self.threshold,
                entropy,
                np.log(np.clip(best, 1e-9, 1)) - np.log(np.clip(second, 1e-9, 1)),
                *(best >= level for level in CONFIDENT),
                *(near <= level for level in FAR),
                components,
            ]
        ).astype(np.float64)


def learn_reading(
    probabilities: NDArray[np.floating[Any]],
    embedding: NDArray[np.floating[Any]],
    right: NDArray[np.bool_],
    temperature: float,
    properties: NDArray[np.floating[Any]],
) -> Reading:
    """From held-out images as they are: probabilities (n, k), components (n, ≥ COMPONENTS), right or wrong (n,); and
    from the properties (m, len(PROPERTIES)) of training images.
    """
    confidence = tempered(probabilities, temperature).max(axis=1)
    first = np.asarray(embedding, np.float64)[:, :COMPONENTS]
    centre, spread = spreads(np.asarray(properties, np.float64))
    return Reading(
        temperature=temperature,
        threshold=float(np.quantile(confidence, 1 - right.mean())),
        centre=_plain(first.mean(axis=0)),
        # An embedding with fewer components has zeros there: a unit that changes nothing.
        spread=_plain(np.where(first.std(axis=0) > 1e-9, first.std(axis=0), 1.0)),
        property_centre=_plain(centre),
        property_spread=_plain(spread),
    )


def spreads(properties: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column; a hundredth of the value where it never changes."""
    centre = properties.mean(axis=0)
    return centre, np.maximum(properties.std(axis=0), np.maximum(0.01 * np.abs(centre), 1e-3))


def in_spreads(
    properties: NDArray[np.float64], centre: Sequence[float] | NDArray[Any], spread: Sequence[float] | NDArray[Any]
) -> NDArray[np.float64]:
    """(…, p) in standard deviations from the centre, at most six; 0 where nothing was measured."""
    off = (properties - np.asarray(centre)) / np.asarray(spread)
    return np.asarray(np.clip(np.nan_to_num(off), -_WIDEST, _WIDEST))


def _plain(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
