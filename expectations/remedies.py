"""What a remedy is worth: the same training with and without it, over seeds, held against the plain one.

A seed is a split, initial weights and an order. Trainings of one seed share these, so differences are taken seed by
seed: the split moves accuracy more than most remedies do.
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
    held_to_train: float


@dataclass(frozen=True)
class Interval:
    """Mean over seeds with its 95 % interval; one seed has none."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float], held_to_train: float) -> Interval:
        """Of one value a seed: Student's t, widened because all seeds split the same images (Nadeau & Bengio,
        "Inference for the Generalization Error", 2003); `held_to_train` is how many held-out images there are for one
        that was learned from.
        """
        from scipy.special import stdtrit

        numbers = np.asarray(values, np.float64)
        mean, n = float(numbers.mean()), len(numbers)
        if n < 2:
            return cls(mean, None, None)
        spread = float(numbers.std(ddof=1)) * float(np.sqrt(1 / n + held_to_train))
        reach = float(stdtrit(n - 1, 0.975)) * spread
        return cls(mean, mean - reach, mean + reach)


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


def outcome(
    remedy: str,
    seed: int,
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    held: NDArray[np.bool_],
    ladder: NDArray[np.floating[Any]],
    ladder_labels: NDArray[np.integer[Any]],
    kinds: Sequence[str],
) -> Outcome:
    """Measure one training: probabilities (n, k) of the images it learned from and of held-out ones, labels (n,) as
    positions, which were held out (n,); `ladder` (kinds, strengths, images, k) of some held-out images, with labels.
    """
    right = probabilities.argmax(axis=1) == labels
    under = ladder_accuracy(ladder, ladder_labels).mean(axis=1)
    return Outcome(
        remedy=remedy,
        seed=seed,
        accuracy=float(right[held].mean()),
        gap=float(right[~held].mean() - right[held].mean()),
        calibration_error=calibration_error(probabilities[held].max(axis=1), right[held]),
        ladder=float(under.mean()),
        by_kind=dict(zip(kinds, under.tolist(), strict=True)),
        held_to_train=float(held.sum() / (~held).sum()),
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
        ratio = max(one.held_to_train for one in tried)
        found.append(
            Worth(
                remedy=remedy,
                against=plain,
                seeds=len(tried),
                accuracy=Interval.of([one.accuracy for one in tried], ratio),
                gap=Interval.of([one.gap for one in tried], ratio),
                calibration_error=Interval.of([one.calibration_error for one in tried], ratio),
                ladder=Interval.of([one.ladder for one in tried], ratio),
                by_kind={kind: float(np.mean([one.by_kind[kind] for one in tried])) for kind in tried[0].by_kind},
                difference=Interval.of([one.ladder - other.ladder for one, other in paired], ratio),
                accuracy_difference=Interval.of([one.accuracy - other.accuracy for one, other in paired], ratio),
            )
        )
    return found
