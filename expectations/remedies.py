"""What a remedy is worth: the same training with and without it, over seeds, held against the plain one.

A seed is a split, initial weights and an augmentation. Trainings of one seed share these, so differences are taken seed
by seed: the split moves accuracy more than most remedies do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expectations.accuracy import calibration_error


@dataclass(frozen=True)
class Outcome:
    """One training, measured on its own held-out images. `by_kind`: accuracy under each kind of corruption, mean of its
    strengths; `ladder` their mean. Shares, not percent.
    """

    remedy: str
    seed: int
    accuracy: float
    gap: float
    calibration_error: float
    ladder: float
    by_kind: Mapping[str, float]


@dataclass(frozen=True)
class Interval:
    """Mean over seeds, with the 95 % interval of Student's t; as wide as can be where there is one seed."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Of one value a seed."""
        from scipy.special import stdtrit

        numbers = np.asarray(values, np.float64)
        if len(numbers) < 2:
            return cls(float(numbers.mean()), -np.inf, np.inf)
        reach = float(stdtrit(len(numbers) - 1, 0.975)) * float(numbers.std(ddof=1)) / np.sqrt(len(numbers))
        return cls(float(numbers.mean()), float(numbers.mean() - reach), float(numbers.mean() + reach))


@dataclass(frozen=True)
class Worth:
    """A remedy over all seeds. `difference`: its ladder accuracy minus that of `against`, seed by seed."""

    remedy: str
    against: str
    seeds: int
    accuracy: Interval
    gap: Interval
    calibration_error: Interval
    ladder: Interval
    by_kind: Mapping[str, float]
    difference: Interval
    accuracy_difference: Interval

    @property
    def told(self) -> str:
        """Whether the difference on the ladder can be told from chance: `better`, `worse`, `not told`."""
        return "better" if self.difference.low > 0 else "worse" if self.difference.high < 0 else "not told"


def outcome(
    remedy: str,
    seed: int,
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    held: NDArray[np.bool_],
    ladder: NDArray[np.floating[Any]],
    kinds: Sequence[str],
) -> Outcome:
    """Measure one training: probabilities (n, k) of all its images, labels (n,) as positions, which were held out (n,);
    `ladder` (kinds, strengths, images, k), of the held-out images in their order.
    """
    right = probabilities.argmax(axis=1) == labels
    under = ladder_accuracy(ladder, labels[held]).mean(axis=1)
    return Outcome(
        remedy=remedy,
        seed=seed,
        accuracy=float(right[held].mean()),
        gap=float(right[~held].mean() - right[held].mean()),
        calibration_error=calibration_error(probabilities[held].max(axis=1), right[held]),
        ladder=float(under.mean()),
        by_kind=dict(zip(kinds, under.tolist(), strict=True)),
    )


def ladder_accuracy(ladder: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Accuracy (kinds, strengths) from probabilities (kinds, strengths, images, k) and labels (images,)."""
    return np.asarray((ladder.argmax(axis=-1) == labels).mean(axis=-1))


def worth(outcomes: Sequence[Outcome], plain: str) -> list[Worth]:
    """Every remedy against the plain training, in the order in which they were tried."""
    found = []
    base = {one.seed: one for one in outcomes if one.remedy == plain}
    for remedy in dict.fromkeys(one.remedy for one in outcomes):
        tried = [one for one in outcomes if one.remedy == remedy]
        paired = [(one, base[one.seed]) for one in tried if one.seed in base]
        found.append(
            Worth(
                remedy=remedy,
                against=plain,
                seeds=len(tried),
                accuracy=Interval.of([one.accuracy for one in tried]),
                gap=Interval.of([one.gap for one in tried]),
                calibration_error=Interval.of([one.calibration_error for one in tried]),
                ladder=Interval.of([one.ladder for one in tried]),
                by_kind={kind: float(np.mean([one.by_kind[kind] for one in tried])) for kind in tried[0].by_kind},
                difference=Interval.of([one.ladder - other.ladder for one, other in paired]),
                accuracy_difference=Interval.of([one.accuracy - other.accuracy for one, other in paired]),
            )
        )
    return found
