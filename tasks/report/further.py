"""What a night's page shows beyond its rows where it is known: causes, accuracy, labels, slices, nights together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EstimateShown:
    """Accuracy without labels beside that on held-out images, shares with an interval. Refused: `value` is None, and
    the sentence says why. `notes` are further sentences, such as what each shift costs.
    """

    sentence: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    validation: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelledShown:
    """Tonight's images that have a label: `counts` (k, k) by label (rows) and prediction (columns), in the order of
    `classes`; `low` and `high` are the interval of the accuracy. `weighed`: the accuracy of all images, where how the
    labelled ones were chosen is known; otherwise it is that of the labelled ones alone.
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    low: float | None = None
    high: float | None = None
    weighed: float | None = None

    @property
    def images(self) -> int:
        """How many have a label."""
        return int(self.counts.sum())

    @property
    def share(self) -> float | None:
        """The accuracy."""
        if self.weighed is not None or not self.images:
            return self.weighed
        return self.right / self.images

    @property
    def right(self) -> int:
        """How many were predicted as labelled."""
        return int(np.trace(self.counts))

    def confusions(self) -> list[tuple[str, str, int]]:
        """(label, prediction, images) of what was wrong, the commonest first."""
        rows, columns = np.nonzero(self.counts)
        found = [
            (self.classes[row], self.classes[column], int(self.counts[row, column]))
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            if row != column
        ]
        return sorted(found, key=lambda one: (-one[2], one[0], one[1]))


@dataclass(frozen=True)
class SliceShown:
    """One sub-folder or camera that differs: the measure and its effect in words, and (content id, path) of a few."""

    name: str
    images: int
    verdict: str
    metric: str
    effect: str
    p_corrected: float | None = None
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class SlicesShown:
    """The slices that differ, the gravest first, and how many were compared and how many not; empty: there is none."""

    moved: tuple[SliceShown, ...] = ()
    sentence: str = ""


@dataclass(frozen=True)
class AcrossShown:
    """Evidence that was summed up across nights, the oldest first; from `alarm_from` on it is an alarm."""

    nights: Sequence[date]
    sums: Sequence[float]
    alarm_from: float
    sentence: str
