"""Whether the budget is kept, measured when a bundle is sealed: nights that the reference had not seen.

Sessions are split in two at random; one half is the reference, nights are drawn from the other, whole sessions and none
twice, and held against it; then the other way round. Nights drawn from the images of the reference itself would certify
it whatever its own error, and sessions drawn with replacement would add an error that new nights do not have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from expectations.budget import Budget, Verification
from expectations.drift import Judged, judge
from expectations.reference import Columns, DriftReference
from expectations.sketch import BINS

SIZES: Final = (50, 100, 200, 500, 1000)
FEWEST_SESSIONS: Final = 30
_SPLITS: Final = 4
_NIGHTS: Final = 100
# Sessions beyond these say nothing new of a rate that some hundred nights are worth; with many classes their sketches
# would fill the memory before.
_MOST_SESSIONS: Final = 2000
_MOST_SKETCHES: Final = 1_000_000
# The shortest budget of which the rate is kept.
_SHORTEST: Final = Budget(7)


def learn_verified(
    rows: pd.DataFrame, held: NDArray[np.bool_], groups: NDArray[Any], classes: tuple[str, ...], *, seed: int
) -> DriftReference:
    """expectations.reference.learn_reference, with its verification."""
    _, group = np.unique(groups, return_inverse=True)
    columns = Columns.of(rows, held, classes)
    reference = columns.reference(group, classes)
    return replace(reference, verification=verify(columns, held, group, classes, seed=seed))


def verify(
    columns: Columns, held: NDArray[np.bool_], group: NDArray[np.int64], classes: tuple[str, ...], *, seed: int
) -> Verification:
    """Measure the false alarms of single nights; `held` (n,) images are those of predictions and embedding."""
    held_out = len(np.unique(group[held]))
    if held_out < FEWEST_SESSIONS:
        return Verification(
            sessions=held_out,
            refused=f"{held_out} sessions were held out, and at least {FEWEST_SESSIONS} are needed",
        )
    random = np.random.default_rng([seed, 3])
    most = min(_MOST_SESSIONS, _MOST_SKETCHES // len(columns.metrics))
    nights, sizes, lowest = 0, set(), []
    for _ in range(_SPLITS):
        halves = _halves(held, group, most, random)
        for ours, theirs in (halves, halves[::-1]):
            reference = columns.some(ours).reference(group[ours], classes)
            pools = [_Pool.of(columns.some(some), group[some]) for some in (theirs, theirs[held[theirs]])]
            for n in SIZES:
                # Half of the pool at most, or all nights would be one.
                if 2 * n > len(theirs):
                    break
                judged = _drawn(reference, pools, n, random)
                found = np.where(judged.alarms(reference, _SHORTEST), judged.corrected(reference, 1.0), 1.0).min(axis=1)
                lowest += found[found < 1].tolist()
                nights += len(found)
                sizes.add(n)
    if not nights:
        return Verification(sessions=held_out, refused=f"fewer than {4 * SIZES[0]} images")
    used = len(group) * min(1.0, most / len(np.unique(group)))
    worth = int(used * np.mean([1 / n for n in sizes]))
    return Verification(nights, max(1, worth), tuple(sorted(sizes)), tuple(sorted(lowest)), held_out)


@dataclass(frozen=True)
class _Pool:
    """Sketches of sessions: counts (g, m · BINS), clipped sums (g, m), images (g,)."""

    counts: NDArray[np.float32]
    clipped: NDArray[np.float64]
    size: NDArray[np.int64]

    @classmethod
    def of(cls, columns: Columns, group: NDArray[np.int64]) -> _Pool:
        names, session = np.unique(group, return_inverse=True)
        g, m = len(names), len(columns.metrics)
        counts, clipped = np.zeros((g, m, BINS), np.float32), np.zeros((g, m))
        for row in range(m):
            known = columns.codes[row] >= 0
            place = session[known] * BINS + columns.codes[row, known]
            counts[:, row] = np.bincount(place, minlength=g * BINS).reshape(g, BINS)
            clipped[:, row] = np.bincount(session[known], weights=columns.clipped[row, known], minlength=g)
        return cls(counts.reshape(g, -1), clipped, np.bincount(session, minlength=g))

    def draw(self, n: int, random: np.random.Generator) -> NDArray[np.float32]:
        """Nights (_NIGHTS, g) of about n images: whole sessions in a random order, until there are enough."""
        order = np.argsort(random.random((_NIGHTS, len(self.size))), axis=1)
        before = np.cumsum(self.size[order], axis=1) - self.size[order]
        chosen = np.zeros(order.shape, np.float32)
        np.put_along_axis(chosen, order, (before < n).astype(np.float32), axis=1)
        return chosen


def _halves(
    held: NDArray[np.bool_], group: NDArray[np.int64], most: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Images of two halves of at most so many sessions, of those that were held out and of the others alike."""
    sessions = random.permutation(np.unique(group))[:most]
    out = np.isin(sessions, group[held])
    ordered = np.concatenate([sessions[out], sessions[~out]])
    first, second = (np.flatnonzero(np.isin(group, ordered[start::2])) for start in (0, 1))
    return first, second


def _drawn(reference: DriftReference, pools: list[_Pool], n: int, random: np.random.Generator) -> Judged:
    """Nights of n images: properties from all sessions, predictions and embedding from as many held-out ones."""
    m = len(reference.metrics)
    ours = np.array([one.metric.family == "properties" for one in reference.metrics])
    counts, clipped = np.zeros((_NIGHTS, m, BINS), np.int64), np.zeros((_NIGHTS, m))
    for pool, rows in zip(pools, (ours, ~ours), strict=True):
        chosen = pool.draw(min(n, int(pool.size.sum()) // 2), random)
        drawn = np.rint(chosen @ pool.counts).astype(np.int64).reshape(_NIGHTS, m, BINS)
        counts[:, rows] = drawn[:, rows]
        clipped[:, rows] = (chosen @ pool.clipped)[:, rows]
    return judge(reference, counts, clipped, counts.sum(axis=2))
