"""Signs of damage: noise, blur, compression, a part without a picture; each by how rare it is among training photos.

Only in the direction in which damage pushes: a photo that is sharper than any other is unusual, not damaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# Column → direction in which damage pushes, whether a ratio is what counts, and the words for it.
_SIGNS: Final[Mapping[str, tuple[int, bool, str]]] = {
    "grain": (1, True, "it is noisy"),
    "edge_strength": (-1, True, "it is not sharp"),
    "jpeg_quality": (-1, False, "it was saved with a low JPEG quality"),
    "missing_share": (1, False, "a part of it holds no picture"),
}
MEASURED: Final = ("grain", "edge_strength", "missing_share")  # on pixels; the other is a property
_TAIL: Final = 0.9
_LEAST_UNITS: Final = 0.1
_MOST_SCORES: Final = 2_000


@dataclass(frozen=True)
class Sign:
    """One sign of damage on one image: its p, and how it is said."""

    name: str
    words: str
    value: float
    usual: float
    p: float


@dataclass(frozen=True)
class DamageScale:
    """For each sign its median, and where its tail begins and how fast it thins out, on a scale that grows with damage;
    `scores`: the largest of each known image, sorted.

    Beyond the 90 % quantile a tail is taken for exponential (Pickands 1975, shape 0), so that signs can be compared;
    the p of their maximum is conformal, and no law is trusted for it.
    """

    names: tuple[str, ...]
    median: tuple[float, ...]
    start: tuple[float, ...]
    spread: tuple[float, ...]
    scores: tuple[float, ...]

    def signs(self, row: Mapping[str, Any]) -> list[Sign]:
        """Of one image, the gravest first. `row`: its properties and MEASURED; what is missing says nothing."""
        scores = self._scores(pd.DataFrame([{name: row.get(name) for name in self.names}]))[0]
        known = np.asarray(self.scores)
        found = []
        for column in np.argsort(-scores, kind="stable"):
            name = self.names[column]
            if np.isfinite(scores[column]):
                p = (1 + int((known >= scores[column]).sum())) / (len(known) + 1)
                found.append(Sign(name, _SIGNS[name][2], float(row[name]), self.median[column], p))
        return found

    def _scores(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """(n, signs); −inf where the value is missing."""
        grown = np.column_stack([_growing(rows[name], name) for name in self.names])
        scores = (grown - np.asarray(self.start)) / np.asarray(self.spread)
        return np.asarray(np.where(np.isnan(scores), -np.inf, scores))

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> DamageScale:
        """The other way."""
        return cls(**{name: tuple(values) for name, values in told.items()})


def learn_damage(rows: pd.DataFrame, *, seed: int = 0) -> DamageScale:
    """From the properties (darkroom.schemas.PROFILE) of training and held-out images, with columns for MEASURED.

    A network cannot overfit an image's properties, so that both count. At most 2,000 scores are kept, drawn by seed.
    """
    names = tuple(name for name in _SIGNS if rows[name].notna().any())
    median, start, spread = [], [], []
    for name in names:
        values = _growing(rows[name].dropna(), name)
        begins = float(np.quantile(values, _TAIL))
        beyond = values[values > begins] - begins
        usual = rows[name].median()
        # Where nearly all values are one and the same, a tenth of it is the unit.
        least = _LEAST_UNITS * (1.0 if _SIGNS[name][1] else max(abs(float(usual)), _LEAST_UNITS))
        median.append(float(usual))
        start.append(begins)
        spread.append(max(float(beyond.mean()) if len(beyond) else 0.0, least))
    scale = DamageScale(names, tuple(median), tuple(start), tuple(spread), ())
    scores = scale._scores(rows).max(axis=1)
    if len(scores) > _MOST_SCORES:
        scores = np.random.default_rng([seed, len(scores)]).choice(scores, _MOST_SCORES, replace=False)
    return DamageScale(names, scale.median, scale.start, scale.spread, tuple(np.sort(scores).tolist()))


def _growing(values: pd.Series, name: str) -> NDArray[np.float64]:
    """On a scale that grows with damage."""
    direction, ratio, _ = _SIGNS[name]
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    return direction * (np.log(np.maximum(numbers, 1e-2)) if ratio else numbers)
