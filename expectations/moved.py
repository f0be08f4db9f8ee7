"""What moved tonight that the mix of classes does not explain: image properties, how far, and in how many images.

Other light is on every image, a new class on its own ones: what is left where training used to be tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from expectations.budget import FEWEST, FLOOR_NUMERIC
from expectations.by_class import ByClass, Split
from expectations.prepared_before import Mistake, Usual
from expectations.reference import DriftReference, MetricReference
from expectations.sketch import Sketch

# A property is moved beyond what class mix and chance explain, in standard errors.
_ERRORS: Final = 5.0
# Of the third of training that is furthest from where a property moved to, less than so much is left tonight where all
# images moved.
_LEFT: Final = 1 / 3
_THIRD: Final = 0.34
# Damage pushes these so; what follows from it says nothing of its own.
_DAMAGE: Final[Mapping[str, int]] = {
    "noise": 1,
    "edge_density": 1,
    "blockiness": 1,
    "sharpness": -1,
    "jpeg_quality": -1,
}
_FOLLOWS: Final = frozenset({"entropy", "bytes_per_pixel", "noise", "edge_density", "sharpness", "blockiness"})
# What an image is that has less, and more, of a property than those of training.
_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("luminance_mean", "luminance_p01", "luminance_p99"), ("darker", "brighter")),
    **dict.fromkeys(("luminance_std", "contrast"), ("flatter", "richer in contrast")),
    "saturation": ("paler in colour", "stronger in colour"),
    "red_share": ("less red", "redder"),
    "green_share": ("less green", "greener"),
    "blue_share": ("less blue", "bluer"),
    **dict.fromkeys(("width", "height"), ("smaller", "larger")),
    "aspect_ratio": ("narrower", "wider"),
    "noise": ("smoother", "noisier"),
    "sharpness": ("softer", "sharper"),
    "edge_density": ("plainer", "fuller of edges"),
    "entropy": ("plainer", "richer"),
    "bytes_per_pixel": ("smaller as files", "larger as files"),
    "blockiness": ("less blocky", "blockier"),
    "jpeg_quality": ("compressed more", "compressed less"),
}
# Seldom anything but zero, so that a few images move their mean by many standard deviations.
_NEVER_LEADS: Final = frozenset({"clipped_black", "clipped_white"})


@dataclass(frozen=True)
class Moved:
    """Numeric image properties in standard deviations from what the class mix explains: `every` one, and `off`, those
    that are worth telling, with the expected and tonight's `values`. `everywhere`: which of these moved in all images,
    or are damage, and further off than a class lies from the others in any of them.
    """

    every: Mapping[str, float]
    off: Mapping[str, float]
    values: Mapping[str, tuple[float, float]]
    everywhere: frozenset[str]

    @classmethod
    def of(
        cls, sketch: Sketch, reference: DriftReference, by_class: ByClass, split: Split, mistake: Mistake | None
    ) -> Moved:
        """Of a night, beside what a mistake of preparation, if one was found, moved."""
        every, off, values, everywhere = {}, {}, {}, set()
        least = dict(zip(by_class.names, np.maximum(FLOOR_NUMERIC, _ERRORS * split.error), strict=True))
        ordinary = [place for place, name in enumerate(by_class.names) if name not in _NEVER_LEADS]
        by_property = np.asarray(by_class.properties)[:, ordinary]
        furthest = float(np.abs(by_property - by_class.known @ by_property).max())
        expected = dict(zip(by_class.names, split.expected, strict=True))
        for row, one in enumerate(reference.metrics):
            name = one.metric.name
            if one.metric.family != "properties" or name not in expected or sketch.present[row] < FEWEST:
                continue
            tonight = float(sketch.clipped[row] / sketch.present[row])
            moved = (tonight - one.clipped_mean) / one.unit - expected[name]
            every[name] = moved
            if abs(moved) < least[name] * np.sqrt(sketch.rows / sketch.present[row]) or _touched(mistake, name, moved):
                continue
            # Told are the means as they are: judged is what one odd image does not move.
            mean = float(sketch.sums[row] / sketch.present[row])
            off[name], values[name] = moved, (one.mean + expected[name] * one.unit, mean)
            damaged = moved * _DAMAGE.get(name, 0) > furthest
            if damaged or left_behind(one, sketch.counts[row], moved) < _LEFT:
                everywhere.add(name)
        return cls(every, off, values, frozenset(everywhere - _NEVER_LEADS))

    @property
    def damage(self) -> tuple[str, float]:
        """The sign of damage that stands out most, and how far; 0 where none does."""
        signs = {name: way * self.off.get(name, 0.0) for name, way in _DAMAGE.items()}
        # Edges without noise are another scene.
        signs["edge_density"] = min(signs["edge_density"], 3 * max(0.0, signs["noise"]))
        name = max(signs, key=lambda one: signs[one])
        return name, signs[name]

    @property
    def damaged(self) -> bool:
        """Whether all images show damage."""
        sign, far = self.damage
        return far > 0 and sign in self.everywhere

    def others(self, *, damaged: bool) -> list[str]:
        """The other properties, those of all images first, then the furthest; where there is damage without what
        follows from it.
        """
        of = [name for name in self.off if name not in _NEVER_LEADS and not (damaged and name in _FOLLOWS)]
        return sorted(of, key=lambda name: (name not in self.everywhere, -abs(self.off[name])))

    def told(self, name: str) -> str:
        """`saturation from 0.21 to 0.35 (+1.2 sd)`."""
        before, tonight = self.values[name]
        off = f"{self.off[name]:+.1f}".replace("-", "−")
        return f"{name.replace('_', ' ')} from {before:.3g} to {tonight:.3g} ({off} sd)"

    def words(self, name: str) -> str:
        """`darker`: what it is for a person."""
        lower, higher = _WORDS.get(name, ("otherwise", "otherwise"))
        return higher if self.off[name] > 0 else lower


def _touched(mistake: Mistake | None, name: str, moved: float) -> bool:
    return mistake is not None and name in mistake.touched and mistake.touched[name] in (0, np.sign(moved))


def usual_of(
    sketch: Sketch, reference: DriftReference, by_class: ByClass, split: Split, size: tuple[int, int]
) -> Usual:
    """Properties of a night, beside those that its mix of classes has."""
    place = {name: number for number, name in enumerate(by_class.names)}
    known = {
        one.metric.name: (row, one)
        for row, one in enumerate(reference.metrics)
        if one.metric.family == "properties" and one.metric.name in place and sketch.present[row] >= FEWEST
    }

    def as_values(told: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
        return {name: one.mean + one.unit * float(told[place[name]]) for name, (_, one) in known.items()}

    return Usual(
        tonight={name: float(sketch.sums[row] / sketch.present[row]) for name, (row, _) in known.items()},
        expected=as_values(split.expected),
        unit={name: one.unit for name, (_, one) in known.items()},
        error={name: float(split.error[place[name]]) for name in known},
        classes=[as_values(one) for one, images in zip(by_class.properties, by_class.images, strict=True) if images],
        size=size,
    )


def left_behind(known: MetricReference, counts: NDArray[np.int64], moved: float) -> float:
    """Of the third of training that is furthest from where a property `moved` to (of what hardly ever changes: of the
    usual), how much is left tonight; counts (BINS,) of the night.
    """
    reference = np.asarray(known.counts, np.float64)
    tonight = counts[: len(reference)]
    if known.usual >= 0:
        side = np.arange(len(reference)) == known.usual
    else:
        up_to = np.cumsum(reference) / reference.sum()
        side = up_to <= _THIRD if moved > 0 else np.append(0.0, up_to[:-1]) >= 1 - _THIRD
    before = reference[side].sum() / reference.sum()
    return float(tonight[side].sum() / max(tonight.sum(), 1) / before) if before else 1.0
