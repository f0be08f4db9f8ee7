"""What each wrong preparation would cost: accuracy, answers that change, and how many images it takes to notice."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from expectations.measures import accuracy_interval

SHOWS: Final = 1e-3  # of a probability: ten times what another engine may differ by
CERTAINTY: Final = 0.95
_JEFFREYS: Final = 0.5
_MOST_IMAGES: Final = 10_000


@dataclass(frozen=True)
class Cost:
    """One variant on labelled images. Shares in [0, 1].

    accuracy: with its 95 % interval, images of a group counted together; a file that its decoder refuses is
    answered wrongly.
    flips: share of images whose top-1 is another, or that are refused. worst: the largest change of one probability.
    shows: share of images on which a probability changes by `SHOWS` or more, or that are refused.
    images_to_tell: how many new images tell the variant from the pinned preparation; None where none of these does.
    """

    variant: str
    what: str
    accuracy: float
    low: float
    high: float
    flips: float
    worst: float
    shows: float
    refused: int
    images_to_tell: int | None


@dataclass(frozen=True)
class Sensitivity:
    """All variants, the costliest first, against the accuracy of the pinned preparation on the same images.

    not_shown: variant → why neither accuracy nor anything else could be measured of it.
    """

    images: int
    accuracy: float
    low: float
    high: float
    costs: tuple[Cost, ...]
    not_shown: Mapping[str, str]

    def to_json(self) -> str:
        """For `sensitivity.json`."""
        told = asdict(self) | {"not_shown": dict(self.not_shown), "shows_from": SHOWS, "certainty": CERTAINTY}
        return json.dumps(told, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Sensitivity:
        """What `to_json` wrote."""
        told = json.loads(text)
        return cls(
            images=told["images"],
            accuracy=told["accuracy"],
            low=told["low"],
            high=told["high"],
            costs=tuple(Cost(**one) for one in told["costs"]),
            not_shown=told["not_shown"],
        )


def measure_sensitivity(
    variants: Sequence[tuple[str, str]],
    probabilities: NDArray[np.floating[Any]],
    pinned: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    groups: NDArray[Any],
    not_shown: Mapping[str, str] | None = None,
) -> Sensitivity:
    """The cost of `variants` (name, what went wrong) from their probabilities (v, n, k), NaN rows where refused.

    pinned (n, k), labels (n,) as positions of classes, groups (n,). ValueError: shapes that do not fit, or no image.
    """
    n = len(pinned)
    if not n or probabilities.shape != (len(variants), *pinned.shape) or not len(labels) == len(groups) == n:
        raise ValueError(
            f"{len(variants)} variants of {n} images need probabilities {(len(variants), *pinned.shape)}, "
            f"found {probabilities.shape} with {len(labels)} labels and {len(groups)} groups"
        )
    right = pinned.argmax(axis=1) == labels
    costs = [
        _cost(name, what, one, pinned, labels, groups)
        for (name, what), one in zip(variants, probabilities, strict=True)
    ]
    costs.sort(key=lambda cost: (cost.accuracy, -cost.flips, -cost.worst, cost.variant))
    low, high = accuracy_interval(right, groups)
    return Sensitivity(n, float(right.mean()), low, high, tuple(costs), dict(not_shown or {}))


def images_to_tell(showing: int, n: int) -> int | None:
    """How many new images hold, with 95 % certainty, one on which a variant shows that shows on `showing` of n.

    The smallest m for which the chance that it shows on none of m is at most 5 %, over what the share may be after n
    images (Jeffreys' prior, Beta(½, ½)): Γ-ratios of the beta-binomial. With n images of which all show, more than one
    may still be needed. None: it shows on none of the n, or takes more than 10,000.
    """
    if not 0 <= showing <= n:
        raise ValueError(f"{showing} of {n} images cannot show it")
    if showing == 0:
        return None
    hits, misses = showing + _JEFFREYS, n - showing + _JEFFREYS
    silent = 0.0  # log of the chance that it shows on none of m
    for m in range(1, _MOST_IMAGES + 1):
        silent += math.log((misses + m - 1) / (hits + misses + m - 1))
        if silent <= math.log(1 - CERTAINTY):
            return m
    return None


def _cost(
    name: str,
    what: str,
    found: NDArray[np.floating[Any]],
    pinned: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    groups: NDArray[Any],
) -> Cost:
    refused = np.isnan(found).any(axis=1)
    # Where it is refused nothing is answered: no class, and no probability to compare.
    answer = np.where(refused, -1, np.where(refused[:, None], 0.0, found).argmax(axis=1))
    change = np.where(refused, 0.0, np.abs(np.where(refused[:, None], 0.0, found - pinned)).max(axis=1))
    right = answer == labels
    shows = refused | (change >= SHOWS)
    low, high = accuracy_interval(right, groups)
    return Cost(
        variant=name,
        what=what,
        accuracy=float(right.mean()),
        low=low,
        high=high,
        flips=float((answer != pinned.argmax(axis=1)).mean()),
        worst=float(change.max()),
        shows=float(shows.mean()),
        refused=int(refused.sum()),
        images_to_tell=images_to_tell(int(shows.sum()), len(shows)),
    )
