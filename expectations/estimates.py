"""Accuracy of a night without a label: learned on the corruption ladder when the bundle is made, with its own error.

The ladder says how often the model is right on images that are worse and worse in many ways, and what can be seen of it
without labels: confidence, distance to training, where the embedding lies. A night is read in the same signs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from darkroom.summary import AccuracyEstimate
from expectations.backtest import Error, Points, ReadLadder, backtest, chance, estimated
from expectations.class_mix import ClassMix
from expectations.displaced import LIGHT, Displaced
from expectations.harm import HarmCurves
from expectations.signs import PROPERTIES, SHARE_FAR, Reading, Signs, in_spreads, learn_reading, spreads

FEWEST_IMAGES: Final = 40  # on the ladder: halves of fewer tell nothing
FEWEST_KINDS: Final = 4
FEWEST_ROWS: Final = 25
LEVEL: Final = 0.9  # what an interval is to hold, under a kind of corruption that was left out
# An interval wider than this on each side is no estimate.
_WIDEST: Final = 0.3
# New classes: more images are far from training than under any corruption that moves the properties as little.
_MOVED_FACTOR: Final = 1.25
_MOVED_ROOM: Final = 0.02
_FAR_ROOM: Final = 0.04
_FAR_ERRORS: Final = 2.5
# Another class mix: unlikely by chance, on a night on which nothing else moved.
_MIX_P: Final = 1e-3
_STILL: Final = 0.35
_NORMAL: Final = 1.645  # 90 % of a normal


@dataclass(frozen=True)
class Estimator:
    """What a bundle knows of its accuracy elsewhere. Of the ladder's conditions, the first as they are: kinds (c,),
    signs (c, d), accuracy (c,), far (c,) share of images far from training, moved (c,) root mean square shift of the
    properties; `images` on the ladder; `validation` and `held_out`, accuracy and number of all held-out images.
    """

    reading: Reading
    mix: ClassMix
    harm: HarmCurves
    kinds: tuple[str, ...]
    signs: tuple[tuple[float, ...], ...]
    accuracy: tuple[float, ...]
    far: tuple[float, ...]
    moved: tuple[float, ...]
    images: int
    validation: float
    held_out: int
    method: str
    errors: tuple[Error, ...]
    spread: Mapping[str, float]
    scale: Mapping[str, float]
    # None: sealed by a darkroom that did not tell causes apart.
    displaced: Displaced | None = None

    def estimate(self, night: Signs) -> AccuracyEstimate:
        """Of a night, from its signs; with the class mix and the harm of each property that moved."""
        told = AccuracyEstimate(rows=night.rows, validation=self.validation)
        if night.rows < FEWEST_ROWS:
            return told.model_copy(update={"refused": f"{night.rows:,} images are too few, {FEWEST_ROWS} are needed"})
        shifts = night.shifts
        told = told.model_copy(
            update={"class_mix": self.mix.shares(night.predicted), "harm": self.harm.of(shifts, night.rows)}
        )
        refused = self._new_classes(night, shifts)
        if refused is not None:
            return told.model_copy(update={"refused": refused})
        if self._only_the_mix(night, shifts):
            value, half = self._of_the_mix(night)
            return _valued(told, value, half, "class mix", None)
        points = Points(np.asarray(self.signs), np.asarray(self.accuracy), self.images)
        values, own = estimated(self.method, points, night.means[None])
        value = float(values[0])
        variance = float(own[0]) ** 2 + self.spread[self.method] ** 2 + float(chance(value, night.rows))
        half = self.scale[self.method] * float(np.sqrt(variance))
        if half > _WIDEST:
            low, high = max(0.0, value - half), min(1.0, value + half)
            why = (
                f"no corruption of the ladder looks like this night; anything from {low:.0%} to {high:.0%} is possible"
            )
            return told.model_copy(update={"refused": why})
        return _valued(told, value, half, self.method, self.error)

    @property
    def error(self) -> float:
        """Mean absolute error of the method, over the kinds that were left out."""
        return float(np.mean([one.error[self.method] for one in self.errors]))

    def _new_classes(self, night: Signs, shifts: NDArray[np.float64]) -> str | None:
        """A corruption that puts images far from training moves their properties, too; a new class does not."""
        moved = _moved(shifts, night.rows)
        alike = np.asarray(self.moved) <= _MOVED_FACTOR * moved + _MOVED_ROOM
        allowed = float(np.asarray(self.far)[alike].max(initial=self.far[0]))
        share = float(night.means[SHARE_FAR])
        error = float(np.sqrt(chance(allowed, night.rows) + chance(allowed, self.images)))
        if share <= allowed + max(_FAR_ROOM, _FAR_ERRORS * error):
            return None
        return (
            f"new classes may have come: {share:.0%} of the images are unlike training, and their properties moved too "
            f"little to explain more than {allowed:.0%}"
        )

    def _only_the_mix(self, night: Signs, shifts: NDArray[np.float64]) -> bool:
        """Whether predictions come in another mix although the images are as they were."""
        error = _FAR_ERRORS * float(np.sqrt(chance(self.far[0], night.rows)))
        as_they_were = _moved(shifts, night.rows) <= _STILL and night.means[SHARE_FAR] <= self.far[0] + error
        return bool(as_they_were and self.mix.moved(night.predicted) <= _MIX_P)

    def _of_the_mix(self, night: Signs) -> tuple[float, float]:
        """Accuracy and half of its interval where only the mix differs: what recall by class and what the fall of
        confidence say, each by its precision; how far they are apart counts as error.
        """
        by_class, sd = self.mix.accuracy(night.predicted)
        points = Points(np.asarray(self.signs), np.asarray(self.accuracy), self.images)
        by_confidence = float(estimated("difference", points, night.means[None])[0][0])
        variances = np.array([sd**2, float(chance(self.accuracy[0], self.images))])
        weights = 1 / np.maximum(variances, 1e-6)
        value = float(np.average([by_class, by_confidence], weights=weights))
        apart = (by_class - by_confidence) / 2
        variance = 1 / weights.sum() + apart**2 + float(chance(value, night.rows))
        return value, _NORMAL * float(np.sqrt(variance))

    def to_json(self) -> str:
        """For the bundle."""
        return TypeAdapter(Estimator).dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> Estimator:
        """The other way."""
        return TypeAdapter(cls).validate_json(text)


@dataclass(frozen=True)
class LadderOutputs:
    """What was seen of n held-out images under c conditions, as they are first: kinds (c,) with "" for as they are;
    probabilities (c, n, k), embedding (c, n, EMBEDDING_COMPONENTS), far (c, n) conformal p of the distance to training,
    properties (c, n, len(PROPERTIES)) at the model's own size; labels (n,) as positions. `mistakes`: the embedding of
    the images prepared wrongly, name → (n, EMBEDDING_COMPONENTS).
    """

    kinds: tuple[str, ...]
    probabilities: NDArray[np.floating[Any]]
    embedding: NDArray[np.floating[Any]]
    far: NDArray[np.floating[Any]]
    properties: NDArray[np.floating[Any]]
    labels: NDArray[np.integer[Any]]
    mistakes: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)

    @property
    def right(self) -> NDArray[np.bool_]:
        """(c, n)."""
        return np.asarray(self.probabilities.argmax(axis=-1) == self.labels)


def read_ladder(
    outputs: LadderOutputs, temperature: float, training: NDArray[np.floating[Any]]
) -> tuple[Reading, ReadLadder]:
    """How rows are to be read, and the ladder read so; `training` (m, len(PROPERTIES)) are properties of the photos."""
    plain, right = 0, outputs.right
    reading = learn_reading(outputs.probabilities[plain], outputs.embedding[plain], right[plain], temperature, training)
    seen = zip(outputs.probabilities, outputs.embedding, outputs.far, strict=True)
    # At the model's size sharpness and noise have another unit than on the photos: shifts are told in their own.
    centre, spread = spreads(np.asarray(outputs.properties[plain], np.float64))
    moved = in_spreads(np.asarray(outputs.properties, np.float64), centre, spread)
    return reading, ReadLadder(outputs.kinds, np.stack([reading.images(*one) for one in seen]), moved, right)


def learn_displaced(outputs: LadderOutputs) -> Displaced:
    """How far each condition, and each mistake, moves light and embedding of the same images."""
    plain = 0
    properties = np.asarray(outputs.properties, np.float64)
    centre, spread = spreads(properties[plain])
    columns = [PROPERTIES.index(name) for name in LIGHT]
    light = in_spreads(properties, centre, spread).mean(axis=1)[:, columns]
    embedding = np.asarray(outputs.embedding, np.float64).mean(axis=1)
    return Displaced(
        light=_rows(light[1:] - light[plain]),
        embedding=_rows(embedding[1:] - embedding[plain]),
        mistakes={
            name: _plain(np.asarray(one, np.float64).mean(axis=0) - embedding[plain])
            for name, one in outputs.mistakes.items()
        },
    )


def learn_estimator(
    ladder: ReadLadder, reading: Reading, mix: ClassMix, validation: float, held_out: int, *, seed: int
) -> Estimator | None:
    """From held-out images under the ladder; `validation` is the accuracy on all `held_out` images.

    None where the ladder has too few images or kinds to say how wrong an estimate is.
    """
    kinds = {kind for kind in ladder.kinds if kind}
    n = ladder.right.shape[1]
    if n < FEWEST_IMAGES or len(kinds) < FEWEST_KINDS:
        return None
    tried = backtest(ladder, seed, LEVEL)
    signs, accuracy = ladder.signs.mean(axis=1), ladder.right.mean(axis=1)
    shifts = ladder.moved.mean(axis=1)
    return Estimator(
        reading=reading,
        mix=mix,
        harm=HarmCurves(PROPERTIES, ladder.kinds, _rows(shifts), _plain(accuracy - accuracy[0])),
        kinds=ladder.kinds,
        signs=_rows(signs),
        accuracy=_plain(accuracy),
        far=_plain(signs[:, SHARE_FAR]),
        # The same images as they are and corrupted: no chance to take off.
        moved=_plain(np.sqrt((shifts**2).mean(axis=1))),
        images=n,
        validation=validation,
        held_out=held_out,
        method=tried.best,
        errors=tried.errors,
        spread=tried.spread,
        scale=tried.scale,
    )


def _moved(shifts: NDArray[np.float64], rows: int) -> float:
    """Root mean square shift, without what chance adds to it on so many images."""
    return float(np.sqrt(max(0.0, float((shifts**2).mean()) - 1 / max(rows, 1))))


def _valued(told: AccuracyEstimate, value: float, half: float, method: str, error: float | None) -> AccuracyEstimate:
    return told.model_copy(
        update={
            "value": value,
            "low": max(0.0, value - half),
            "high": min(1.0, value + half),
            "method": method,
            "backtest_error": error,
        }
    )


def _plain(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _rows(values: NDArray[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(_plain(row) for row in values)
