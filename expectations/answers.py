"""What somebody's model answered, and how far a replay is from it, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["probabilities", "top-1 with confidence", "labels"]

# Another engine or machine type may differ by this much, and a label flip where its margin is below twice as much.
SAME: Final = 1e-4
# Below it a row is as good as certain: many models say the same of such an image.
CERTAIN: Final = 1e-3
_NO_SHARES: Final = 0.02


@dataclass(frozen=True)
class Answers:
    """Answers of a model about n images, in the bundle's class order.

    probabilities: (n, k) float64, or None. predicted: (n,) class positions. confidence: (n,) of the predicted class, or
    None. rounding: half a unit of the last digit in which they were written; 0 where they were not rounded.
    """

    kind: Kind
    probabilities: NDArray[np.float64] | None
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64] | None
    rounding: float = 0.0

    def __len__(self) -> int:
        return len(self.predicted)

    @property
    def tolerance(self) -> float:
        """How far the answer to one image may be from a replay that reproduces it."""
        return 2 * SAME if self.kind == "labels" else SAME + self.rounding

    @property
    def shares(self) -> bool:
        """Whether the numbers can be probabilities of exclusive classes."""
        if self.probabilities is None:
            return True
        sums = self.probabilities.sum(axis=1)
        slack = _NO_SHARES + self.rounding * self.probabilities.shape[1]
        return bool(self.probabilities.min(initial=0.0) >= 0 and np.abs(sums - 1).max(initial=0.0) <= slack)

    def rows(self, rows: Sequence[int] | NDArray[Any]) -> Answers:
        """Some of the images."""
        chosen = np.asarray(rows)
        return replace(
            self,
            probabilities=None if self.probabilities is None else self.probabilities[chosen],
            predicted=self.predicted[chosen],
            confidence=None if self.confidence is None else self.confidence[chosen],
        )


def distances(theirs: Answers, replay: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """How far the replay (n, k) is from each answer, in probability: (n,) float64, 1 where the replay has no answer.

    Probabilities: the largest difference of one class. Top-1 with confidence: the difference of that class, or how far
    the class is from being the first, whichever is larger. Labels: how far the class is from being the first.
    """
    ours = np.asarray(replay, np.float64)
    if theirs.probabilities is not None:
        far = np.abs(theirs.probabilities - ours).max(axis=1)
    else:
        chosen = np.take_along_axis(ours, theirs.predicted[:, None], axis=1)[:, 0]
        far = ours.max(axis=1) - chosen
        if theirs.confidence is not None:
            far = np.maximum(far, np.abs(theirs.confidence - chosen))
    return np.where(np.isfinite(far), far, 1.0)


def undecided(theirs: Answers) -> NDArray[np.bool_]:
    """(n,) images of which the model was not certain: these tell a replay from another; labels tell all alike."""
    if theirs.probabilities is not None and theirs.shares:
        top = theirs.probabilities.max(axis=1)
    elif theirs.confidence is not None:
        top = theirs.confidence
    else:
        return np.ones(len(theirs), np.bool_)
    return np.asarray(top < 1 - CERTAIN - theirs.rounding)


def largest_change(kind: Kind, one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(n,) how far two replays (n, k) differ in what answers of this kind show; 1 where only one has an answer."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    here, there = np.isfinite(a).all(axis=1), np.isfinite(b).all(axis=1)
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    if kind == "probabilities":
        change = np.abs(a - b).max(axis=1)
    else:
        flipped = a.argmax(axis=1) != b.argmax(axis=1)
        moved = np.abs(a.max(axis=1) - b.max(axis=1)) if kind == "top-1 with confidence" else np.zeros(len(a))
        change = np.where(flipped, 1.0, moved)
    return np.where(here == there, np.where(here, change, 0.0), 1.0)
