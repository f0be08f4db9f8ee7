"""How steady an answer is: what slight changes of an image do to it, beside what they do to held-out images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expectations.outliers import conformal


@dataclass(frozen=True)
class Moved:
    """Of one image: the share of slight changes that give another class, and the largest loss of probability that the
    answer suffers from one of them.
    """

    flips: float
    drop: float


@dataclass(frozen=True)
class Steadiness:
    """`drops`: of held-out images, the largest loss, sorted; `flipped`: how many of them gave another class at all."""

    drops: tuple[float, ...]
    flipped: int

    @property
    def n(self) -> int:
        """Held-out images that were changed."""
        return len(self.drops)

    def p(self, moved: Moved) -> float:
        """Conformal p of a loss as large; nan where too few images were held out."""
        return float(conformal(np.array([moved.drop]), np.asarray(self.drops))[0])

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Steadiness:
        """The other way."""
        return cls(tuple(told["drops"]), int(told["flipped"]))


def moved(pinned: NDArray[np.floating[Any]], changed: NDArray[np.floating[Any]]) -> Moved:
    """Probabilities (k,) of an image as it is, and (changes, k) of it slightly changed."""
    answer = int(pinned.argmax())
    return Moved(
        flips=float((changed.argmax(axis=1) != answer).mean()),
        drop=float(max(0.0, (pinned[answer] - changed[:, answer]).max())),
    )


def learn_steadiness(pinned: NDArray[np.floating[Any]], changed: NDArray[np.floating[Any]]) -> Steadiness:
    """From held-out images: probabilities (n, k) as they are, and (n, changes, k) slightly changed; calibrated."""
    found = [moved(one, others) for one, others in zip(pinned, changed, strict=True)]
    return Steadiness(tuple(sorted(one.drop for one in found)), sum(one.flips > 0 for one in found))
