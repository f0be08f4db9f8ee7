"""An accuracy told again, without the images that flatter it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from expectations.linear_head import FOLDS, fit_head, folds_of, head_probabilities
from expectations.measures import accuracy_interval

# Fewer images, or fewer sessions, and what is left over says nothing.
FEWEST_IMAGES: Final = 30
FEWEST_SESSIONS: Final = 5
_RESAMPLES: Final = 2000


@dataclass(frozen=True)
class Restated:
    """Accuracy on n validation images of so many groups, with its 95 % interval, after `removed` were left out; `how`
    says what it is.
    """

    accuracy: float
    low: float
    high: float
    n: int
    groups: int
    removed: int
    how: str

    def __str__(self) -> str:
        return f"{self.accuracy:.2f} ({self.low:.2f} – {self.high:.2f}, n {self.n:,})"


def restate(right: NDArray[np.bool_], groups: NDArray[Any], kept: NDArray[np.bool_], how: str) -> Restated | None:
    """Accuracy of the rows kept; None where too few are left. right, groups, kept (n,): validation rows."""
    n = int(kept.sum())
    if n < min(FEWEST_IMAGES, len(right)) or n == 0:
        return None
    low, high = accuracy_interval(right[kept], groups[kept])
    return Restated(float(right[kept].mean()), low, high, n, len(np.unique(groups[kept])), int(len(right) - n), how)


def refit_by_session(
    x: NDArray[np.float32],
    labels: NDArray[np.int64],
    sessions: NDArray[Any],
    held: NDArray[np.bool_],
    kept: NDArray[np.bool_],
    right: NDArray[np.bool_],
    classes: int,
    *,
    seed: int = 0,
) -> Restated | None:
    """What the accuracy would be had no session straddled the split, where removal leaves nothing: an estimate.

    For each validation row two linear heads on features x (n, e) predict it: one fitted on training rows without its
    session (whole sessions in folds), one on as many training rows of each class, drawn without regard to sessions.
    Their difference is what sisters among the training images are worth, and is added to the model's own answers
    `right` (n,). The interval is a bootstrap of whole sessions. The features themselves were not learned anew: where
    the network that made them was trained on those sessions, the true price is higher. held, kept (n,): validation
    rows, and those to count.
    """
    counted = held & kept
    if counted.sum() < FEWEST_IMAGES or len(np.unique(sessions[counted])) < FEWEST_SESSIONS:
        return None
    rng = np.random.default_rng(seed)
    fold = folds_of(sessions, labels, seed, FOLDS)
    worth = np.zeros(len(labels))
    for number in range(FOLDS):
        rows = np.flatnonzero(counted & (fold == number))
        apart = np.flatnonzero(~held & (fold != number))
        if not len(rows) or not len(apart):
            continue
        mixed = _as_many(labels, np.flatnonzero(~held), apart, rng)
        found = [
            head_probabilities(x[rows], fit_head(x[fitted], labels[fitted], classes, seed=seed)).argmax(axis=1)
            for fitted in (apart, mixed)
        ]
        worth[rows] = (found[0] == labels[rows]).astype(float) - (found[1] == labels[rows])
    value = (right + worth)[counted]
    names, session = np.unique(sessions[counted], return_inverse=True)
    size, total = np.bincount(session), np.bincount(session, weights=value)
    drawn = np.random.default_rng(0).integers(len(names), size=(_RESAMPLES, len(names)))
    low, high = np.quantile(total[drawn].sum(axis=1) / size[drawn].sum(axis=1), [0.025, 0.975])
    return Restated(
        float(np.clip(value.mean(), 0, 1)),
        float(np.clip(low, 0, 1)),
        float(np.clip(high, 0, 1)),
        int(counted.sum()),
        len(names),
        int((held & ~kept).sum()),
        "an estimate, from linear heads refitted with whole sessions held out against image by image; no image was "
        "removed for its session, and the network itself was not trained again",
    )


def _as_many(
    labels: NDArray[np.int64], pool: NDArray[np.int64], like: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """From `pool`, as many rows of each class as `like` has."""
    return np.sort(
        np.concatenate(
            [
                rng.choice(pool[labels[pool] == label], int((labels[like] == label).sum()), replace=False)
                for label in np.unique(labels[like])
            ]
        )
    )
