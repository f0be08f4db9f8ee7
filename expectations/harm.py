"""What the drift of an image property costs: known from the corruption ladder, where it moved and accuracy fell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.summary import Harm

# Smaller shifts are not worth a sentence, and the ladder does not tell them from chance.
_SMALLEST: Final = 0.25
_CHANCE: Final = 3.0  # standard errors of a night's mean
_NEAR: Final = 0.5  # of the logarithm of a shift: half and double still tell of it
_FEWEST_KINDS: Final = 2
_SIDES: Final = (0.1, 0.9)
_LEAST_WEIGHT: Final = 0.05  # of the heaviest: a kind below it tells nothing
_NAMED: Final = 3


@dataclass(frozen=True)
class HarmCurves:
    """Conditions of the ladder: kinds (c,), by how many standard deviations each moves the properties `names`
    shifts (c, p), and the accuracy it costs, lost (c,), ≤ 0 where it does harm.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    shifts: tuple[tuple[float, ...], ...]
    lost: tuple[float, ...]

    def of(self, shifts: NDArray[np.floating[Any]], rows: int) -> tuple[Harm, ...]:
        """The properties that moved (p,) on a night of so many rows, the costliest first.

        A condition counts the more, the nearer its shift, and the more of all that it moves is this property: blur
        speaks for sharpness, and a dark photo, which loses some too, hardly. The interval is from the tenth to the
        ninetieth percentile of what these conditions cost. Nothing is said where fewer than two kinds tell of it.
        """
        told = [self._one(place, float(shift)) for place, shift in enumerate(shifts) if self._matters(shift, rows)]
        return tuple(sorted((one for one in told if one is not None), key=lambda one: one.value))

    @staticmethod
    def _matters(shift: float, rows: int) -> bool:
        return abs(shift) >= max(_SMALLEST, _CHANCE / math.sqrt(max(rows, 1)))

    def _one(self, place: int, shift: float) -> Harm | None:
        shifts, lost = np.asarray(self.shifts), np.asarray(self.lost)
        own = shifts[:, place]
        same = (np.sign(own) == np.sign(shift)) & (np.abs(own) > _SMALLEST / 2)
        if not same.any():
            return None
        apart = np.log(np.abs(own[same]) / abs(shift)) / _NEAR
        leading = np.abs(own[same]) / np.abs(shifts[same]).max(axis=1)
        weight = np.exp(-0.5 * apart**2) * leading**2
        kinds = np.asarray(self.kinds)[same]
        heavy = {str(kind): float(weight[kinds == kind].sum()) for kind in dict.fromkeys(kinds.tolist())}
        kept = [kind for kind in heavy if heavy[kind] >= _LEAST_WEIGHT * max(heavy.values())]
        # Where no condition moved the property nearly so far, the ladder does not know.
        if len(kept) < _FEWEST_KINDS or weight.max() < _LEAST_WEIGHT:
            return None
        low, high = weighted_quantiles(lost[same], weight, _SIDES)
        value = float(np.average(lost[same], weights=weight))
        return Harm(
            name=self.names[place],
            shift=shift,
            value=value,
            low=min(low, value),
            high=max(high, value),
            kinds=tuple(sorted(kept, key=lambda kind: -heavy[kind])[:_NAMED]),
        )


def weighted_quantiles(
    values: NDArray[np.floating[Any]], weights: NDArray[np.floating[Any]], quantiles: tuple[float, ...]
) -> tuple[float, ...]:
    """Of values (n,) with weights (n,) ≥ 0: the smallest value up to which the share of the weight is reached."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    return tuple(float(values[order][min(int(np.searchsorted(share, q)), len(values) - 1)]) for q in quantiles)
