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

from expectations.outliers import FLAGGED, conformal

# Column → direction in which damage pushes, whether a ratio is what counts, and the words for it. Of two that are
# rare the first is named: a strong compression leaves flat parts, and not the other way round.
_SIGNS: Final[Mapping[str, tuple[int, bool, str]]] = {
    "jpeg_quality": (-1, False, "it was saved with a low JPEG quality"),
    "grain": (1, True, "it is noisy"),
    "edge_strength": (-1, True, "it is not sharp"),
    "missing_share": (1, False, "a part of it holds no picture"),
}
MEASURED: Final = ("grain", "edge_strength", "missing_share")  # on pixels; the other is a property
# Nearer than a tenth to what is known already is no worse: where all photos have one quality, 94 is not 95 damaged.
_SLACK: Final = 0.1
_MOST_KNOWN: Final = 2_000


@dataclass(frozen=True)
class Sign:
    """One sign of damage on one image: its conformal p, and how it is said; nan where too few photos are known."""

    name: str
    words: str
    value: float
    usual: float
    p: float


@dataclass(frozen=True)
class DamageScale:
    """For each sign its median, and the values of known photos on a scale that grows with damage, sorted."""

    names: tuple[str, ...]
    median: tuple[float, ...]
    known: tuple[tuple[float, ...], ...]

    def signs(self, row: Mapping[str, Any]) -> list[Sign]:
        """Of one image, the rare ones first. `row`: its properties and MEASURED; what is missing says nothing."""
        found = []
        for name, usual, known in zip(self.names, self.median, self.known, strict=True):
            value = row.get(name)
            if value is None or not np.isfinite(value):
                continue
            grown = float(_growing(np.array([value]), name)[0]) - _slack(name, usual)
            p = float(conformal(np.array([grown]), np.asarray(known))[0])
            found.append(Sign(name, _SIGNS[name][2], float(value), usual, p))
        return sorted(found, key=lambda sign: (not sign.p <= FLAGGED, list(_SIGNS).index(sign.name)))

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> DamageScale:
        """From what dataclasses.asdict made of it."""
        return cls(tuple(told["names"]), tuple(told["median"]), tuple(tuple(values) for values in told["known"]))


def learn_damage(rows: pd.DataFrame, *, seed: int = 0) -> DamageScale:
    """From the properties (darkroom.schemas.PROFILE) of training and held-out images, with columns for MEASURED.

    A network cannot overfit an image's properties, so that both count. At most 2,000 photos are kept, drawn by seed.
    """
    if len(rows) > _MOST_KNOWN:
        rows = rows.iloc[np.random.default_rng([seed, len(rows)]).choice(len(rows), _MOST_KNOWN, replace=False)]
    names = tuple(name for name in _SIGNS if rows[name].notna().any())
    known = [np.sort(_growing(rows[name].dropna().to_numpy(np.float64), name)) for name in names]
    return DamageScale(
        names,
        tuple(float(rows[name].median()) for name in names),
        tuple(tuple(float(f"{value:.6g}") for value in values) for values in known),
    )


def _growing(values: NDArray[np.floating[Any]], name: str) -> NDArray[np.float64]:
    """On a scale that grows with damage."""
    direction, ratio, _ = _SIGNS[name]
    numbers = np.asarray(values, np.float64)
    return direction * (np.log(np.maximum(numbers, 1e-2)) if ratio else numbers)


def _slack(name: str, usual: float) -> float:
    return _SLACK if _SIGNS[name][1] else _SLACK * max(abs(usual), _SLACK)
