"""The mix of classes that a night holds, from predictions alone: black box shift estimation (arXiv 1802.03916)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.summary import Share

_DRAWS: Final = 300
# Solving grows with the cube of the classes; and with many there are too few held-out images of each to solve with.
_MOST_CLASSES: Final = 200
_SIDES: Final = (0.05, 0.95)
# A class that was held out a few times only must not look as if it were never confused.
_PRIOR: Final = 0.5


@dataclass(frozen=True)
class ClassMix:
    """What is needed of the held-out images: `confusion` (label, predicted) counts, in the order of `classes`."""

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]

    def shares(self, predicted: NDArray[np.integer[Any]], seed: int = 0) -> tuple[Share, ...]:
        """Share of each class with its 90 % interval, from the predicted classes (k,) of a night.

        Lipton et al.: predicted shares = confusionᵀ × shares, as long as images of a class look as they did. Solved
        with shares that are ≥ 0 and sum to 1; the interval is from draws of the confusion and of the night. Nothing
        with more than 200 classes.
        """
        if len(self.classes) > _MOST_CLASSES:
            return ()
        _, drawn = self._drawn(predicted, seed)
        low, high = np.quantile(drawn, _SIDES, axis=0)
        known = self._counts.sum(axis=1)
        found = solved(self._rates(self._counts), predicted / max(predicted.sum(), 1))
        return tuple(
            Share(name=name, value=float(v), low=float(min(a, v)), high=float(max(b, v)), reference=float(r))
            for name, v, a, b, r in zip(self.classes, found, low, high, known / max(known.sum(), 1), strict=True)
        )

    def accuracy(self, predicted: NDArray[np.integer[Any]], seed: int = 0) -> tuple[float, float]:
        """Accuracy of a night in which nothing but the mix differs, and its standard deviation: Σ share × recall."""
        rates = self._rates(self._counts)
        value = float(solved(rates, predicted / max(predicted.sum(), 1)) @ np.diag(rates))
        drawn_rates, drawn_shares = self._drawn(predicted, seed)
        return value, float((drawn_shares * np.diagonal(drawn_rates, axis1=1, axis2=2)).sum(axis=1).std())

    def moved(self, predicted: NDArray[np.integer[Any]]) -> float:
        """P of the predicted classes on a night with the known mix: a chi-square test of two samples; 1 where the mix
        is not solved.
        """
        if len(self.classes) > _MOST_CLASSES:
            return 1.0
        from scipy.special import chdtrc

        counts = np.stack([self._counts.sum(axis=0), np.asarray(predicted, np.float64)]) + _PRIOR
        expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
        return float(chdtrc(counts.shape[1] - 1, ((counts - expected) ** 2 / expected).sum()))

    @property
    def _counts(self) -> NDArray[np.float64]:
        return np.asarray(self.confusion, np.float64)

    @staticmethod
    def _rates(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(predicted | label); a class without held-out images is taken as never confused."""
        rows = counts.sum(axis=1, keepdims=True)
        return np.where(rows > 0, counts / np.maximum(rows, 1), np.eye(len(counts)))

    def _drawn(self, predicted: NDArray[np.integer[Any]], seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rates (draws, k, k) and shares (draws, k) as they might be, after what was counted."""
        random = np.random.default_rng(seed)
        k = len(self.classes)
        rates = np.stack([random.dirichlet(row + _PRIOR / k, size=_DRAWS) for row in self._counts], axis=1)
        seen = random.dirichlet(np.asarray(predicted, np.float64) + _PRIOR / k, size=_DRAWS)
        return rates, np.stack([solved(one, night) for one, night in zip(rates, seen, strict=True)])


def solved(rates: NDArray[np.floating[Any]], predicted: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Shares (k,) ≥ 0 with sum 1 that best explain predicted shares (k,), given P(predicted | label) (k, k)."""
    from scipy.optimize import nnls

    # One more equation, weighed up, makes the shares sum to 1.
    heavy = 10.0
    left = np.vstack([np.asarray(rates, np.float64).T, np.full(len(rates), heavy)])
    found, _ = nnls(left, np.append(predicted, heavy))
    whole = found.sum()
    return np.asarray(found / whole if whole > 0 else np.full(len(rates), 1 / len(rates)))


def confusion_of(
    labels: Iterable[str], predicted: Iterable[str], classes: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """Counts (label, predicted) in the order of `classes`."""
    place = {name: number for number, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, ([place[one] for one in labels], [place[one] for one in predicted]), 1)
    return tuple(tuple(row) for row in counts.tolist())
