"""How often preparations are right on the same images: shares and differences with intervals, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 0.95


@dataclass(frozen=True)
class Share:
    """A share or a difference of shares, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Better:
    """A candidate that is right more often than the user's own, on the same images; the interval allows for how many
    were compared with it.
    """

    name: str
    accuracy: float
    than: str
    than_accuracy: float
    difference: Share
    compared: int


def better_than(
    own: str,
    one_with: Mapping[str, Sequence[str]],
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    names: Sequence[str],
    *,
    groups: NDArray[Any] | None = None,
) -> Better | None:
    """The candidate that is right most often, against the user's `own`: paired, image by image (by session, where
    `groups` names them), Student's t with Bonferroni's correction for the groups of candidates that were compared. None
    where the interval of the difference holds zero. one_with: for each name, those that count as one with it.
    """
    from scipy.special import stdtrit

    right = correct(np.asarray(probabilities, np.float64), labels)
    mine = names.index(own)
    others = [c for c, name in enumerate(names) if name != own and name not in one_with[own]]
    if not others:
        return None
    compared = len({frozenset((names[c], *one_with[names[c]])) for c in others})
    difference = np.nan_to_num(right[others] - right[mine])
    best = max(
        range(len(others)),
        key=lambda c: (difference[c].mean(), names[others[c]]),
    )
    mean, spread, sessions = _mean_and_spread(difference[best], groups)
    reach = float(stdtrit(max(1, sessions - 1), 1 - (1 - LEVEL) / 2 / compared)) * spread
    if mean - reach <= 0:
        return None
    both = ~np.isnan(right[others[best]]) & ~np.isnan(right[mine])
    return Better(
        name=names[others[best]],
        accuracy=float(right[others[best]][both].mean()),
        than=own,
        than_accuracy=float(right[mine][both].mean()),
        difference=Share(mean, mean - reach, mean + reach),
        compared=compared,
    )


def correct(probabilities: NDArray[np.float64], labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """1 where the top class (candidates, n) is the label, 0 where not, NaN where the image was refused."""
    read = ~np.isnan(probabilities).any(axis=2)
    return np.where(read, np.nan_to_num(probabilities).argmax(axis=2) == labels, np.nan)


def accuracy_of(right: NDArray[np.float64], groups: NDArray[Any] | None) -> Share:
    """Share of `correct`, one candidate (n,), with Wilson's interval; of as many images as the sessions are worth."""
    from scipy.special import ndtri

    read = ~np.isnan(right)
    n = int(read.sum())
    if n == 0:
        return Share(float("nan"), 0.0, 1.0)
    share = float(right[read].mean())
    worth = independent(np.stack([right[read], np.full(n, share)]), None if groups is None else groups[read])
    z2 = float(ndtri(0.5 + LEVEL / 2)) ** 2
    centre = (share + z2 / (2 * worth)) / (1 + z2 / worth)
    reach = np.sqrt(z2 * (share * (1 - share) / worth + z2 / (4 * worth**2))) / (1 + z2 / worth)
    return Share(share, max(0.0, float(centre - reach)), min(1.0, float(centre + reach)))


def independent(evidence: NDArray[np.float64], groups: NDArray[Any] | None) -> float:
    """How many independent images the sample is worth: all, or fewer where images of a session err together."""
    n = evidence.shape[1]
    if groups is None or len(evidence) == 1:
        return float(n)
    off = evidence - evidence[evidence.mean(axis=1).argmax()]
    off = off - off.mean(axis=1, keepdims=True)
    numbers = np.unique(groups, return_inverse=True)[1]
    sums = np.stack([np.bincount(numbers, row) for row in off])
    alone = np.square(off).sum(axis=1)
    effects = np.square(sums).sum(axis=1)[alone > 0] / alone[alone > 0]
    return n / max(1.0, float(np.median(effects))) if len(effects) else float(n)


def _mean_and_spread(values: NDArray[np.float64], groups: NDArray[Any] | None) -> tuple[float, float, int]:
    """Mean, its standard error, and how many independent sums that is from."""
    numbers = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    mean = float(values.mean())
    sums = np.bincount(numbers, values - mean)
    sessions = len(sums)
    return mean, float(np.sqrt(np.square(sums).sum() * sessions / max(1, sessions - 1))) / len(values), sessions
