"""What a bin is worth, and how the mean worth of unchanged nights spreads: scores, laws, tails.

A numeric metric is judged by two linear rank scores of its bins, both of mean 0 and variance 1 on the training images:
where the night lies (normal scores: van der Waerden, 1952) and how widely it is spread (their absolute values).
Scores are bounded, so that one odd image moves little and a mean is close to normal from a few dozen images on.

Images of a session are alike, so the variance comes from whole sessions (between and within, one-way analysis of
variance), and the tail is Student's: the spread between sessions is learned from those that training has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Sessions of fewer images, on average, are images alone; what their likeness in one session is then taken to be.
TOGETHER: Final = 1.5
ASSUMED_ALIKE: Final = 0.3
# A bin beyond what training showed is worth one more than the bin before it, up to this.
_OUTERMOST: Final = 6.0
# Of where a few sessions lie: what two standard errors explain is chance.
_DISBELIEF: Final = 2.0
_SKEWNESS_OF_SQUARE: Final = float(np.sqrt(8))
_SKEWNESS_OF_HALF_NORMAL: Final = 0.995
_HALVINGS: Final = 24
_MEAN_OF_HALF_NORMAL: Final = float(np.sqrt(2 / np.pi))
_SD_OF_HALF_NORMAL: Final = float(np.sqrt(1 - 2 / np.pi))


@dataclass(frozen=True)
class Law:
    """How the mean of a score spreads over unchanged nights.

    `within` and `between` are the variances inside sessions and of their means, `among` that of the means of whatever
    a slice may be (a session, a camera, a class), `session` the images of a session (weighted by size), `skewness` that
    of a session's mean as far as it is believed, `degrees` of freedom.
    """

    within: float
    between: float
    among: float
    session: float
    skewness: float
    degrees: float

    @classmethod
    def of(cls, score: Floats, groupings: Sequence[NDArray[np.int64]], *, spread: bool) -> Law:
        """From a score (n,) and numbers of groups (n,): of each image's session first, then of what else it may be
        sliced by; a location, or a spread.
        """
        law = cls._of(score, groupings[0], spread=spread)
        others = [cls._of(score, group, spread=spread).between for group in groupings[1:]]
        return replace(law, among=max([law.between, *others]))

    @classmethod
    def _of(cls, score: Floats, group: NDArray[np.int64], *, spread: bool) -> Law:
        sizes = np.bincount(group).astype(np.float64)
        sums = np.bincount(group, weights=score)[sizes > 0]
        sizes = sizes[sizes > 0]
        n, g = float(sizes.sum()), len(sizes)
        off = sums - sizes * float(score.mean())
        session = float((sizes**2).sum() / n)
        inside = float((score**2).sum() - (sums**2 / sizes).sum())
        whole = float((off**2).sum() / n) * g / max(g - 1, 1)
        within = max(0.0, inside) / (n - g) if n > g else whole
        between = max(0.0, whole - within) / session if n > g else 0.0
        skewness = float((off**3).mean() / max(float((off**2).mean()), 1e-12) ** 1.5) if g > 1 else 0.0
        if spread:
            # At least that of normals: a session that lies elsewhere is wider (χ²), and each image's score is folded.
            third = _SKEWNESS_OF_SQUARE * between**1.5 + _SKEWNESS_OF_HALF_NORMAL * within**1.5 / session**2
            believed = max(skewness, third / max(between + within / session, 1e-12) ** 1.5)
        else:
            believed = np.sign(skewness) * max(0.0, abs(skewness) - _DISBELIEF * float(np.sqrt(6 / g)))
        degrees = float((sizes**2).sum() ** 2 / (sizes**4).sum()) - 1
        return cls(within, between, between, session, float(believed), degrees)


@dataclass(frozen=True)
class Laws:
    """Several laws as arrays (k,), beside the images (k,) that each was learned from."""

    within: Floats
    between: Floats
    among: Floats
    session: Floats
    skewness: Floats
    degrees: Floats
    n: Floats

    @classmethod
    def of(cls, laws: list[Law], n: list[int]) -> Laws:
        """Stacked."""
        told = [(one.within, one.between, one.among, one.session, one.skewness, one.degrees) for one in laws]
        within, between, among, session, skewness, degrees = np.array(told).reshape(-1, 6).T
        return cls(within, between, among, session, skewness, degrees, np.array(n, np.float64))

    def of_night(self, n: Floats, *, one_session: bool) -> Floats:
        """Variance of the mean of n (…, k) images: of as many sessions as they make, or all of one session."""
        if not one_session:
            share = np.minimum(1.0, self.session / np.maximum(n, 1))
            return np.asarray(self.within / np.maximum(n, 1) + self.between * share)
        # Who knows no sessions does not know how much they differ.
        assumed = np.where(self.session < TOGETHER, ASSUMED_ALIKE * self.within, 0.0)
        return np.asarray(self.within / np.maximum(n, 1) + np.maximum(self.among, assumed))

    def of_reference(self) -> Floats:
        """Variance of the reference's own mean (k,): its error, which all nights share."""
        return np.asarray((self.within + self.between * self.session) / self.n)

    def tail(self, difference: Floats, n: Floats, *, one_session: bool = False) -> Floats:
        """Two-sided p of night minus reference (…, k), for nights of n (…, k) images."""
        night = self.of_night(n, one_session=one_session)
        variance = night + self.of_reference()
        z = np.abs(difference) / np.sqrt(np.maximum(variance, 1e-12))
        skewness = self._skewness(difference, n, one_session) * (night / np.maximum(variance, 1e-12)) ** 1.5
        return np.minimum(1.0, 2 * _student(_one_sided(z, skewness), self.degrees))

    def tail_beyond(self, difference: Floats, n: Floats, margin: Floats, *, one_session: bool = False) -> Floats:
        """P of the difference (…, k) where the truth may be as far off as `margin` (k,), on either side."""
        night = self.of_night(n, one_session=one_session)
        z = (np.abs(difference) - margin) / np.sqrt(np.maximum(night, 1e-12))
        p = _student(_one_sided(np.maximum(z, 0), self._skewness(difference, n, one_session)), self.degrees)
        return np.where(z > 0, np.minimum(1.0, 2 * p), 1.0)

    def own_error(self, chance: Floats) -> Floats:
        """How far the reference's mean is from the truth at most (k,), but for this chance (k,)."""
        from scipy.special import stdtrit

        degrees = np.maximum(self.degrees, 1)
        return np.asarray(-stdtrit(degrees, chance / 2) * np.sqrt(self.of_reference()))

    def _skewness(self, difference: Floats, n: Floats, one_session: bool) -> Floats:
        """Of the night's mean, on the side of the difference."""
        sessions = 1.0 if one_session else np.maximum(1.0, n / self.session)
        return np.sign(difference) * self.skewness / np.sqrt(sessions)


def _one_sided(z: Floats, skewness: Floats) -> Floats:
    """P(mean ≥ z), z ≥ 0: the normal's, or where it is larger that of the gamma law of this skewness (Pearson III)."""
    from scipy.special import gammaincc, ndtr

    normal = ndtr(-z)
    shape = 4 / np.maximum(skewness, 1e-3) ** 2
    skewed = gammaincc(shape, shape + z * np.sqrt(shape))
    return np.asarray(np.maximum(np.where(skewness > 0.05, np.maximum(normal, skewed), normal), 1e-300))


def _student(p: Floats, degrees: Floats) -> Floats:
    """The normal's p, put on Student's scale: the variance was learned."""
    from scipy.special import ndtri, stdtr

    told = stdtr(np.maximum(degrees, 1), ndtri(p))
    # One session says nothing of how much sessions differ.
    return np.asarray(np.where(degrees < 1, 1.0, np.maximum(told, 1e-300)))


def rank_scores(counts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Location and spread of each bin (b,), from the reference's counts (b,) in order; zero where nothing varies."""
    from scipy.special import ndtri

    n = float(counts.sum())
    upper = np.cumsum(counts) / n
    lower = np.concatenate([[0.0], upper[:-1]])
    # A normal's mean inside the bin; a bin that nobody fell in is worth its edge, and outside of all others more.
    inside = (_density(lower) - _density(upper)) / np.maximum(upper - lower, 1e-300)
    edge = ndtri(np.clip((lower + upper) / 2, 0.5 / (n + 1), 1 - 0.5 / (n + 1)))
    seen = np.flatnonzero(counts)
    place = np.arange(len(counts))
    further = np.maximum(0, place - seen[-1] - 1) - np.maximum(0, seen[0] - place - 1)
    score = np.clip(np.where(counts > 0, inside, edge + further), -_OUTERMOST, _OUTERMOST)
    location = _standard(score, counts)
    return location, _standard(np.abs(location), counts)


def spread_of_shifted(location: Floats) -> Floats:
    """The spread score of a night (…) that lies at `location` (…), as wide as training: a folded normal's mean."""
    from scipy.special import ndtr

    size = np.abs(location)
    folded = _MEAN_OF_HALF_NORMAL * np.exp(-(size**2) / 2) + size * (1 - 2 * ndtr(-size))
    return np.asarray((folded - _MEAN_OF_HALF_NORMAL) / _SD_OF_HALF_NORMAL)


def width_of(spread: Floats) -> Floats:
    """Relative change of the standard deviation (…) of a normal with this spread score (…)."""
    return np.asarray(spread) * (_SD_OF_HALF_NORMAL / _MEAN_OF_HALF_NORMAL)


def _density(quantile: Floats) -> Floats:
    from scipy.special import ndtri

    z = ndtri(np.clip(quantile, 0, 1))
    return np.asarray(np.exp(-np.minimum(z**2, 700) / 2) / np.sqrt(2 * np.pi))


def _standard(score: Floats, counts: NDArray[np.int64]) -> Floats:
    n = float(counts.sum())
    centred = score - float((score * counts).sum() / n)
    sd = float(np.sqrt((centred**2 * counts).sum() / n))
    return centred / sd if sd > 1e-9 else np.zeros_like(centred)


def smallest(p_of: object, target: Floats, most: Floats) -> Floats:
    """The smallest difference (k,) from 0 to `most` (k,) whose p, by `p_of`, is at most `target`; NaN where none is."""
    assert callable(p_of)
    low, high = np.zeros_like(most), most.copy()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reached = p_of(middle) <= target
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.where(p_of(most) <= target, high, np.nan)
