"""Where one image stands among training photos, property by property."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from darkroom.schemas import CATEGORICAL_PROPERTIES, NUMERIC_PROPERTIES
from expectations.outliers import FEWEST_HELD_OUT

# What a file is, as far as it may matter to a picture; a colour profile or an orientation that nobody applies does not.
_FACTS: Final = ("format", "mode", "channels", "animated")
_SIZES: Final = ("width", "height", "aspect_ratio", "bit_depth")


@dataclass(frozen=True)
class Place:
    """One property of one image. Numeric: `quantile`, the share of training photos below it (half of those equal), and
    five values of training: the least, 5 %, the median, 95 %, the largest. Categorical: `share` of training photos that
    are alike.
    """

    name: str
    value: float | str
    quantile: float | None = None
    training: tuple[float, float, float, float, float] | None = None
    share: float | None = None

    @property
    def off(self) -> float:
        """How unusual, 0 (in the middle) … 1 (beyond every training photo, or alone of its kind)."""
        if self.quantile is not None:
            return abs(2 * self.quantile - 1)
        return 0.0 if self.share is None else 1 - self.share


def place_among(training: pd.DataFrame, row: Mapping[str, Any]) -> tuple[Place, ...]:
    """Every property that the image has, the most unusual first; rows of darkroom.schemas.PROFILE."""
    found = []
    for name in NUMERIC_PROPERTIES:
        known = np.sort(training[name].dropna().to_numpy(np.float64))
        value = row.get(name)
        if value is None or pd.isna(value) or not len(known):
            continue
        below, up_to = np.searchsorted(known, value, "left"), np.searchsorted(known, value, "right")
        low, median, high = np.quantile(known, [0.05, 0.5, 0.95])
        five = (float(known[0]), float(low), float(median), float(high), float(known[-1]))
        found.append(Place(name, float(value), float(below + up_to) / 2 / len(known), five))
    for name in CATEGORICAL_PROPERTIES:
        value = row.get(name)
        if isinstance(value, str) and len(training):
            found.append(Place(name, value, share=float((training[name] == value).mean())))
    return tuple(sorted(found, key=lambda place: -place.off))


def foreign_facts(known: pd.DataFrame, row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Facts of the file (name, value) that none of the known images has; none where too few are known to say."""
    if len(known) < FEWEST_HELD_OUT:
        return ()
    return tuple(
        (name, str(row[name])) for name in _FACTS if row.get(name) is not None and row[name] not in set(known[name])
    )


def odd_sizes(known: pd.DataFrame, row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Sizes of the file (name, value) beyond every known image; none where too few are known to say."""
    if len(known) < FEWEST_HELD_OUT:
        return ()
    return tuple(
        (name, f"{row[name]:.4g}") for name in _SIZES if not known[name].min() <= row[name] <= known[name].max()
    )
