"""How well a classifier does: accuracy with an interval, per class, confusion, calibration error."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expectations.accuracy import calibration_error

_RESAMPLES = 2000
_FEWEST_GROUPS = 10


@dataclass(frozen=True)
class Measures:
    """Of one split. `interval`: 95 %, groups resampled whole. `confusion`: rows true, columns predicted."""

    n: int
    groups: int
    accuracy: float
    interval: tuple[float, float]
    recall: dict[str, float]
    precision: dict[str, float]
    confusion: list[list[int]]
    calibration_error: float
    log_loss: float

    def as_dict(self) -> dict[str, Any]:
        """For the bundle's metrics."""
        return asdict(self)


def measure_predictions(
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    groups: NDArray[Any],
    classes: tuple[str, ...],
) -> Measures:
    """Measure probabilities (n, k) against labels (n,), positions in `classes`; groups (n,) are resampled whole."""
    predicted = probabilities.argmax(axis=1)
    right = predicted == labels
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    hits = confusion.diagonal()
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.nan_to_num(hits / confusion.sum(axis=1))
        precision = np.nan_to_num(hits / confusion.sum(axis=0))
    return Measures(
        n=len(labels),
        groups=len(np.unique(groups)),
        accuracy=float(right.mean()),
        interval=accuracy_interval(right, groups),
        recall={name: float(value) for name, value in zip(classes, recall, strict=True)},
        precision={name: float(value) for name, value in zip(classes, precision, strict=True)},
        confusion=confusion.tolist(),
        calibration_error=calibration_error(probabilities.max(axis=1), right),
        log_loss=float(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1)).mean()),
    )


def accuracy_interval(right: NDArray[np.bool_], groups: NDArray[Any]) -> tuple[float, float]:
    """95 % interval of the accuracy.

    Where every image is a group of its own: Wilson's (1927). Else a bootstrap of whole groups with a fixed seed: images
    of one session are right and wrong together, and an interval that treats them as independent is too narrow. A
    bootstrap of few groups is too narrow itself: under ten of them Student's t on what they differ by (the ratio
    estimator of cluster sampling, Cochran 1977); of one group nothing can be said.
    """
    n = len(right)
    if n == 0:
        return 0.0, 1.0
    if len(np.unique(groups)) == n:
        z, share = 1.959964, right.mean()
        centre = (share + z * z / (2 * n)) / (1 + z * z / n)
        reach = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return float(centre - reach), float(centre + reach)
    _, group = np.unique(groups, return_inverse=True)
    size, hits = np.bincount(group), np.bincount(group, weights=right).astype(np.float64)
    if len(size) < _FEWEST_GROUPS:
        return _of_few_groups(size, hits)
    low, high = np.quantile(_resampled(size, hits, np.random.default_rng(0)), [0.025, 0.975])
    return float(low), float(high)


def _of_few_groups(size: NDArray[np.int64], hits: NDArray[np.float64]) -> tuple[float, float]:
    from scipy.special import stdtrit

    g = len(size)
    if g < 2:
        return 0.0, 1.0
    share = hits.sum() / size.sum()
    # Groups that happen to agree do not make the images certain: never narrower than independent images would be.
    between = float(np.sqrt(g / (g - 1) * ((hits - share * size) ** 2).sum())) / size.sum()
    independent = float(np.sqrt((share * (1 - share) + 1 / size.sum()) / size.sum()))
    reach = float(stdtrit(g - 1, 0.975)) * max(between, independent)
    return max(0.0, float(share - reach)), min(1.0, float(share + reach))


def _resampled(size: NDArray[np.int64], hits: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Bootstrap of whole groups, of which so many images were right: what the accuracy might as well have been."""
    # One resample at a time: all at once would be gigabytes for many groups.
    drawn = (random.integers(len(size), size=len(size)) for _ in range(_RESAMPLES))
    return np.array([hits[chosen].sum() / size[chosen].sum() for chosen in drawn])
