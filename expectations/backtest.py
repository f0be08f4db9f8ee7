"""How wrong an estimate of accuracy is on corruptions that it never saw: the ladder, kind by kind and image by image.

A kind is left out, and half of the images: estimators learn from the other half under the other kinds, and are asked
about the images and the kind that they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from expectations.signs import ABOVE_THRESHOLD, CONFIDENCE
from expectations.smoothing import Smooth

_HALVES: Final = 8
_LEAST_VARIANCE: Final = 0.05  # of right or wrong, p(1 − p): no accuracy is known for certain
# By what is known of an estimate beforehand: where two err alike, the first is taken.
METHODS: Final = ("ladder", "threshold", "difference", "confidence")


@dataclass(frozen=True)
class ReadLadder:
    """Held-out images under the corruption ladder, as they are first: kinds (c,) with "" for as they are; signs
    (c, n, d), see expectations.signs; moved (c, n, p), properties in standard deviations of the images as they
    are, from their mean; right (c, n).
    """

    kinds: tuple[str, ...]
    signs: NDArray[np.float64]
    moved: NDArray[np.float64]
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class Points:
    """Nights on which accuracy is known: signs (c, d), accuracy (c,), and how many images each had. The first is of
    images as they are.
    """

    signs: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    images: int


@dataclass(frozen=True)
class Error:
    """One kind that was left out. `error`: mean absolute, of each method, on nights of so many `images`."""

    kind: str
    error: Mapping[str, float]
    images: int


@dataclass(frozen=True)
class Backtest:
    """By method: errors by kind; `spread`, the standard deviation of the method itself (0 where it says its own), and
    `scale`, by which the whole standard deviation is multiplied to hold 90 % of what happened.
    """

    errors: tuple[Error, ...]
    spread: Mapping[str, float]
    scale: Mapping[str, float]

    def mean(self, method: str) -> float:
        """Over all kinds."""
        return float(np.mean([one.error[method] for one in self.errors]))

    @property
    def best(self) -> str:
        """The method with the smallest error."""
        return min(METHODS, key=lambda method: (round(self.mean(method), 4), METHODS.index(method)))


def estimated(
    method: str, known: Points, signs: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy of nights with signs (m, d), and the method's own standard deviation where it knows one.

    threshold: the share of images above ATC's threshold (arXiv 2201.04234). difference: validation accuracy less the
    fall of the mean confidence (DoC, arXiv 2107.03315). confidence: the mean calibrated confidence. ladder: a smooth
    function of all signs through the conditions of the ladder.
    """
    own = np.zeros(len(signs))
    if method == "threshold":
        value = signs[:, ABOVE_THRESHOLD]
    elif method == "difference":
        value = known.accuracy[0] - (known.signs[0, CONFIDENCE] - signs[:, CONFIDENCE])
    elif method == "confidence":
        value = signs[:, CONFIDENCE]
    else:
        noise = chance(known.accuracy, known.images)
        value, own = Smooth(known.signs, known.accuracy, noise).at(signs)
    return np.clip(value, 0, 1), own


def chance(accuracy: NDArray[np.floating[Any]] | float, images: int) -> NDArray[np.float64]:
    """Variance of a share of right answers among so many images."""
    share = np.asarray(accuracy, np.float64)
    return np.asarray(np.maximum(share * (1 - share), _LEAST_VARIANCE) / images)


def backtest(ladder: ReadLadder, seed: int, level: float) -> Backtest:
    """Every kind left out in turn, on several halves of the images; `level` is what an interval is to hold."""
    kinds = np.asarray(ladder.kinds)
    names = [kind for kind in dict.fromkeys(ladder.kinds) if kind]
    off: dict[str, dict[str, list[float]]] = {method: {kind: [] for kind in names} for method in METHODS}
    own: dict[str, list[float]] = {method: [] for method in METHODS}
    by_chance: dict[str, list[float]] = {method: [] for method in METHODS}
    n = ladder.right.shape[1]
    for half in range(_HALVES):
        order = np.random.default_rng([seed, half]).permutation(n)
        learn, ask = order[: n // 2], order[n // 2 :]
        signs, accuracy = ladder.signs[:, learn].mean(axis=1), ladder.right[:, learn].mean(axis=1)
        asked, real = ladder.signs[:, ask].mean(axis=1), ladder.right[:, ask].mean(axis=1)
        for kind in names:
            known, out = kinds != kind, kinds == kind
            points = Points(signs[known], accuracy[known], len(learn))
            for method in METHODS:
                value, sd = estimated(method, points, asked[out])
                off[method][kind] += (value - real[out]).tolist()
                own[method] += sd.tolist()
                by_chance[method] += chance(value, len(ask)).tolist()
    errors = tuple(
        Error(kind, {method: float(np.abs(off[method][kind]).mean()) for method in METHODS}, n - n // 2)
        for kind in names
    )
    spread, scale = {}, {}
    for method in METHODS:
        every = np.concatenate([off[method][kind] for kind in names])
        noise = np.asarray(by_chance[method])
        itself = np.asarray(own[method])
        known_spread = 0.0 if itself.any() else float(np.sqrt(max(0.0, float((every**2 - noise).mean()))))
        spread[method] = known_spread
        # The values were collected half by half, the errors kind by kind: both in one order again.
        noise, itself = _by_kind(noise, names, _HALVES), _by_kind(itself, names, _HALVES)
        standard = np.abs(every) / np.sqrt(noise + itself**2 + known_spread**2)
        # Never under its own uncertainty: a ladder on which the model is always right has no errors to learn from.
        scale[method] = max(1.0, float(np.quantile(standard, level)))
    return Backtest(errors, spread, scale)


def _by_kind(values: NDArray[np.float64], names: list[str], halves: int) -> NDArray[np.float64]:
    return np.asarray(values.reshape(halves, len(names), -1).transpose(1, 0, 2).ravel())
