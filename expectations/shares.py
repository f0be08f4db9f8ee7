"""How often a category may come on an unchanged night: beta-binomial tails of shares, in whole sessions.

The reference's share is known up to its own sampling error (a beta law), the night draws from it; both count as many
images as they are worth when images of a session are alike (design effect: Kish, 1965). A category that training never
showed is unlikely, not impossible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from expectations.scores import ASSUMED_ALIKE, TOGETHER

Floats = NDArray[np.float64]

# Jeffreys' prior.
_PRIOR: Final = 0.5
_POINTS: Final = 128
# Below so many standard deviations nothing is decided, and the normal's tail is good enough.
_CLEAR: Final = 1.5
_TINY: Final = 1e-300


@dataclass(frozen=True)
class Shares:
    """The categories (k,) of one metric: their share in the reference, how alike images of a session are in each (ρ),
    and those of whatever a slice may be, images and sessions of the reference, images of a session (weighted by size).
    """

    share: tuple[float, ...]
    alike: tuple[float, ...]
    alike_among: tuple[float, ...]
    n: int
    session: float
    groups: int

    @classmethod
    def of(cls, codes: NDArray[np.int64], groupings: Sequence[NDArray[np.int64]], categories: int) -> Shares:
        """From the category of each image (n,) and numbers of groups (n,): of its session first, then of what else it
        may be sliced by.
        """
        shares = cls._of(codes, groupings[0], categories)
        others = [cls._of(codes, group, categories).alike for group in groupings[1:]]
        return replace(shares, alike_among=tuple(np.max([shares.alike, *others], axis=0).tolist()))

    @classmethod
    def _of(cls, codes: NDArray[np.int64], group: NDArray[np.int64], categories: int) -> Shares:
        sizes = np.bincount(group).astype(np.float64)
        n, g = len(codes), int((sizes > 0).sum())
        session = float((sizes**2).sum() / n)
        share, alike = [], []
        for category in range(categories):
            sums = np.bincount(group, weights=codes == category, minlength=len(sizes))
            found = float(sums.sum())
            off = sums - sizes * found / n
            # Half a session of nothing else beside what was seen: few sessions say little of how they come.
            p = (found + session / 2) / (n + session)
            variance = float((off**2).sum() * g / max(g - 1, 1) + session**2 / 2) / n
            effect = min(max(1.0, variance / max(p * (1 - p), 1e-12)), session)
            share.append(found / n)
            alike.append((effect - 1) / (session - 1) if session > 1 else 0.0)
        return cls(tuple(share), tuple(alike), tuple(alike), n, session, g)

    def effect(self, n: Floats, *, one_session: bool) -> Floats:
        """Design effect (…, k) of a night of n (…, 1) images: how many of them count as one."""
        alike = np.asarray(self.alike_among if one_session else self.alike)
        if one_session and self.session < TOGETHER:
            alike = np.maximum(alike, ASSUMED_ALIKE)
        together = n if one_session else np.minimum(n, self.session)
        return np.asarray(1 + (np.maximum(together, 1) - 1) * alike)

    def some(self, categories: NDArray[np.int64]) -> Shares:
        """Of these categories."""
        share, alike, among = (
            tuple(np.asarray(one)[categories].tolist()) for one in (self.share, self.alike, self.alike_among)
        )
        return replace(self, share=share, alike=alike, alike_among=among)

    def tail(self, counts: Floats, total: Floats, *, one_session: bool = False) -> Floats:
        """Two-sided p of each category (…, k), of which a night of `total` (…, 1) images has `counts` (…, k)."""
        n, k = self._worth(counts, total, one_session)
        a, b = self._beta()
        a, b = np.broadcast_to(a, k.shape), np.broadcast_to(b, k.shape)
        mean = a / (a + b)
        sd = np.sqrt(np.maximum(mean * (1 - mean) * (1 / n + 1 / (a + b)), 1e-12))
        z = np.abs(k / n - mean) / sd
        p = np.minimum(1.0, 2 * _normal(z))
        clear = z > _CLEAR
        if clear.any():
            p[clear] = np.minimum(1.0, 2 * _predictive(k[clear], n[clear], a[clear], b[clear]))
        return p

    def tail_beyond(self, counts: Floats, total: Floats, chance: float, *, one_session: bool = False) -> Floats:
        """P (…, k) where the truth may be as far off as the reference's own error, but for this chance."""
        from scipy.special import betainc, betaincinv

        n, k = self._worth(counts, total, one_session)
        a, b = self._beta()
        high, low = betaincinv(a, b, 1 - chance / 2), betaincinv(a, b, chance / 2)
        above = betainc(np.maximum(k, 1e-9), n - k + 1, high)
        below = 1 - betainc(k + 1, np.maximum(n - k, 1e-9), low)
        more, fewer = k / n > high, k / n < low
        p = np.where(more, above, np.where(fewer, below, 1.0))
        return np.asarray(np.clip(2 * p, _TINY, 1.0))

    def seen(self) -> NDArray[np.bool_]:
        """Which categories (k,) the reference has."""
        return np.asarray(self.share) > 0

    def _worth(self, counts: Floats, total: Floats, one_session: bool) -> tuple[Floats, Floats]:
        """Images of the night and of the category (…, k), as many as they are worth."""
        effect = self.effect(total, one_session=one_session)
        return np.maximum(total / effect, 1.0), np.asarray(counts / effect)

    def _beta(self) -> tuple[Floats, Floats]:
        worth = self.n / (1 + (self.session - 1) * np.asarray(self.alike))
        share = np.asarray(self.share)
        return share * worth + _PRIOR, (1 - share) * worth + _PRIOR


def _normal(z: Floats) -> Floats:
    from scipy.special import ndtr

    return np.asarray(ndtr(-z))


def _predictive(k: Floats, n: Floats, a: Floats, b: Floats) -> Floats:
    """One-sided beta-binomial tail (m,), on the side of k; fractions of images interpolate between whole ones."""
    from scipy.special import betainc, betaln

    upper = k / n > a / (a + b)
    # The mirror image: few of a category are many of the others.
    k, a, b = np.where(upper, k, n - k), np.where(upper, a, b), np.where(upper, b, a)
    k = np.clip(k, 1e-9, n)
    # P(K ≥ k) = E[I_p(k, n − k + 1)] over the reference's beta law of p, integrated on the scale of log-odds.
    middle, width = np.log(a / b), 1 / np.sqrt(1 / a + 1 / b)
    reach = np.maximum(np.log((k + 1) / (n - k + 1)), middle) + 4
    low = middle - 9 / width
    odds = low[:, None] + (reach + 9 / width - low)[:, None] * np.linspace(0, 1, _POINTS)
    p = 1 / (1 + np.exp(-odds))
    log_density = a[:, None] * -np.logaddexp(0, -odds) + b[:, None] * -np.logaddexp(0, odds) - betaln(a, b)[:, None]
    step = (odds[:, 1] - odds[:, 0])[:, None]
    tail = (np.exp(log_density) * betainc(k[:, None], (n - k + 1)[:, None], p) * step).sum(axis=1)
    return np.asarray(np.clip(tail, _TINY, 1.0))
