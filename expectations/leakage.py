"""Which images are one photo twice: near-duplicates, inside a split and across it.

Candidates come from hashes and from the embedding's nearest neighbours; each is confirmed by how well the two small
grey pictures correlate once aligned, together with the cosine of the embeddings. How much is enough is learned:
different photos of one class show how alike such photos get by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from expectations.alignment import aligned_correlation
from expectations.neighbourhood import alike_by_hash, compact, cosines, nearest

# Re-encoded and resized copies of 1,030 real photos differed in at most 4 of 64 bits.
_HASH_BITS: Final = 6
_NEIGHBOURS: Final = 5
_LEARN_FROM: Final = 600
# Of the pairs found, so many may be wrong; in a small folder one pair.
_WRONG_SHARE: Final = 0.01
_MOST_COPIES: Final = 0.1
# Correlations beyond these are noise of the encoder.
_MOST_CORRELATION: Final = 0.9995
_MOST_COSINE: Final = 0.9999
_UPPER: Final = 0.8
_UPPER_IN_SD: Final = 0.8416


@dataclass(frozen=True)
class Spread:
    """Of different photos of one class: the middle, and a standard deviation's worth above it."""

    middle: float
    unit: float


@dataclass(frozen=True)
class Bar:
    """What a pair must reach: its correlation and its cosine, each as Fisher's z, standardised by its spread, and
    added.

    Learned from `pairs` pairs of different photos of one class: half of their sums are above `middle`, and beyond it
    sums get e times rarer with each `tail`.
    """

    correlation: Spread
    cosine: Spread
    middle: float
    tail: float
    pairs: int
    threshold: float | None = None  # None: nothing was learned, and no pair is called a copy

    def score(self, correlation: NDArray[np.float32], cosine: NDArray[np.float32]) -> NDArray[np.float64]:
        """(p,) sums; what is beyond an encoder's noise counts no more."""
        return self._standard(correlation, _MOST_CORRELATION, self.correlation) + self._standard(
            cosine, _MOST_COSINE, self.cosine
        )

    def most_by_correlation(self) -> float:
        """What the best correlation can add."""
        return float(self._standard(np.ones(1, np.float32), _MOST_CORRELATION, self.correlation)[0])

    def where(self, share: float) -> float:
        """The sum that this share of different photos exceeds."""
        return float(self.middle + self.tail * np.log(0.5 / share))

    @staticmethod
    def _standard(values: NDArray[np.float32], most: float, spread: Spread) -> NDArray[np.float64]:
        return (_fisher(values, most) - spread.middle) / spread.unit


@dataclass(frozen=True)
class Duplicates:
    """Pairs (p, 2) of positions, the surest first, with what confirmed them, each (p,)."""

    pairs: NDArray[np.int64]
    correlation: NDArray[np.float32]
    cosine: NDArray[np.float32]
    score: NDArray[np.float64]
    bar: Bar


def find_duplicates(
    hashes: NDArray[np.uint64],
    pictures: NDArray[np.uint8],
    features: NDArray[np.floating[Any]],
    labels: NDArray[Any],
    *,
    seed: int = 0,
) -> Duplicates:
    """Near-duplicates among n images: hashes (n,), grey pictures (n, s, s), embeddings or features (n, e), labels
    (n,).

    Of the pairs found about one in a hundred is wrong (one, where under a hundred are found), as far as the likeness
    of different photos of a class has an exponential tail beyond its upper fifth. Mirrored and turned copies are not
    looked for.
    """
    around = nearest(compact(features), _NEIGHBOURS)
    own = np.repeat(np.arange(len(around)), around.shape[1])
    by_features = np.sort(np.stack([own, around.ravel()], 1), axis=1)
    pairs = np.unique(np.concatenate([by_features, alike_by_hash(hashes, _HASH_BITS, _NEIGHBOURS)]), axis=0)
    candidates = len(pairs)
    cosine = cosines(features, pairs)
    bar = learn_bar(pictures, pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]], features, seed=seed)
    # No pair is aligned whose cosine could not be made up for, even if one candidate in ten were a copy.
    lowest = bar.where(min(0.5, max(1.0, _WRONG_SHARE * _MOST_COPIES * candidates) / max(candidates, 1)))
    hopeful = bar.score(np.ones_like(cosine), cosine) >= lowest
    pairs, cosine = pairs[hopeful], cosine[hopeful]
    correlation = aligned_correlation(pictures, pictures, pairs)
    score = bar.score(correlation, cosine)
    order = np.argsort(-score, kind="stable")
    if bar.pairs:
        bar = replace(bar, threshold=_threshold(bar, score[order], candidates, lowest))
    kept = order[score[order] >= bar.threshold] if bar.threshold is not None else order[:0]
    return Duplicates(pairs[kept], correlation[kept], cosine[kept], score[kept], bar)


def learn_bar(
    pictures: NDArray[np.uint8], pairs: NDArray[np.int64], features: NDArray[np.floating[Any]], *, seed: int = 0
) -> Bar:
    """Learn how alike neighbours of one class get without being copies, from `pairs` (p, 2) or a sample of them.

    Quantiles up to the upper fifth alone, so that a tenth of copies among the pairs hardly moves the bar.
    """
    if len(pairs) > _LEARN_FROM:
        pairs = pairs[np.sort(np.random.default_rng(seed).choice(len(pairs), _LEARN_FROM, replace=False))]
    if not len(pairs):
        return Bar(Spread(0.0, 1.0), Spread(0.0, 1.0), 0.0, 1.0, 0)
    correlation = aligned_correlation(pictures, pictures, pairs)
    cosine = cosines(features, pairs)
    first = Bar(_spread(correlation, _MOST_CORRELATION), _spread(cosine, _MOST_COSINE), 0.0, 1.0, len(pairs))
    middle, upper = np.quantile(first.score(correlation, cosine), [0.5, _UPPER])
    tail = (upper - middle) / np.log(0.5 / (1 - _UPPER))
    return replace(first, middle=float(middle), tail=float(max(tail, 1e-3)))


def one_photo(duplicates: Duplicates, n: int) -> NDArray[np.int64]:
    """(n,) a number for each image; copies of one photo, and copies of its copies, share it."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = duplicates.pairs.T
    return np.asarray(connected_components(coo_array((np.ones(len(first)), (first, second)), (n, n)))[1], np.int64)


def _threshold(bar: Bar, falling: NDArray[np.float64], candidates: int, lowest: float) -> float:
    """The lowest bar under which no more pairs are expected to be wrong than may be (Benjamini and Hochberg, 1995)."""
    found = np.arange(1, len(falling) + 1)
    wrong = candidates * 0.5 * np.exp(-(falling - bar.middle) / bar.tail)
    met = np.flatnonzero(wrong <= np.maximum(1.0, _WRONG_SHARE * found))
    strictest = bar.where(min(0.5, 1.0 / candidates))
    return max(lowest, min(strictest, float(falling[met[-1]]))) if len(met) else strictest


def _spread(values: NDArray[np.float32], most: float) -> Spread:
    middle, upper = np.quantile(_fisher(values, most), [0.5, _UPPER])
    return Spread(float(middle), float(max((upper - middle) / _UPPER_IN_SD, 1e-3)))


def _fisher(values: NDArray[np.float32], most: float) -> NDArray[np.float64]:
    return np.arctanh(np.clip(values.astype(np.float64), -most, most))
