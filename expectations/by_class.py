"""What images of each class are like on average: a night's mean is split into classes, and what is left is no class.

A night with another mix of known classes lies among the class means, whatever the mix. New classes lie beside them;
so do images that look otherwise, whose properties tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter

from expectations.reference import DriftReference, MetricReference
from expectations.sketch import Sketch, columns_of

Floats = NDArray[np.float64]

# With more classes than half of the components nearly every mean lies among those of the classes.
_MOST_CLASSES: Final = 16
_FEWEST_OF_A_CLASS: Final = 5
# Training images stand beside the held-out ones where these are not further off than chance explains: a network that
# was fitted as a whole shows them otherwise.
_ALIKE: Final = 0.01
_SMALLEST_VARIANCE: Final = 1e-3  # of the largest: a direction in which hardly anything differs is no direction
_HEAVY: Final = 1e3


@dataclass(frozen=True)
class Split:
    """A night's mean, split into classes: their shares (k,), those of training where it cannot be. `expected` (p,) are
    the properties of such a mix, in standard deviations of training from its mean, with their standard `error` (p,).
    `mix_p`: of the shares being those of training. `p`, `apart`: of the embedding's mean lying among those of the
    classes, and how far it is off, in standard deviations inside a class. All three are nan where not told.
    """

    shares: Floats
    expected: Floats
    error: Floats
    mix_p: float = float("nan")
    p: float = float("nan")
    apart: float = float("nan")


@dataclass(frozen=True)
class ByClass:
    """Of k classes: images of each, and the mean of numeric image properties `names` (k, p) in standard deviations of
    training; for the embedding `embedded` (k,) images, means (k, d), and what makes their spread inside a class one
    (d, d), or nothing. `alike` (p,) and `embedded_alike`: images of a session count as so many fewer.
    """

    names: tuple[str, ...]
    images: tuple[int, ...]
    properties: tuple[tuple[float, ...], ...]
    embedded: tuple[int, ...]
    means: tuple[tuple[float, ...], ...]
    whitening: tuple[tuple[float, ...], ...]
    alike: tuple[float, ...]
    embedded_alike: float

    @property
    def known(self) -> Floats:
        """Shares of the classes in the training data (k,)."""
        return np.asarray(self.images, np.float64) / sum(self.images)

    def split(self, sketch: Sketch, reference: DriftReference, displaced: Floats | None = None) -> Split:
        """Of a night with at least one image, whose embedding was `displaced` (d,) in all of them."""
        shares = self.known
        told: dict[str, float] = {}
        if self.means:
            rows = [row for row, one in enumerate(reference.metrics) if one.metric.family == "embedding"]
            night = sketch.sums[rows] / np.maximum(sketch.present[rows], 1)
            shares, told = self._among(night if displaced is None else night - displaced[: len(night)], sketch.rows)
        error = np.sqrt(np.asarray(self.alike) * (1 / sketch.rows + (shares**2 / np.maximum(self.images, 1)).sum()))
        return Split(shares, shares @ np.asarray(self.properties), error, **told)

    def _among(self, night: Floats, images: int) -> tuple[Floats, dict[str, float]]:
        """Shares of an embedding's mean (d,) of so many images, and what Split tells of them."""
        from scipy.optimize import nnls
        from scipy.special import chdtrc

        whitening, means = np.asarray(self.whitening), np.asarray(self.means)
        left = np.vstack([whitening @ means.T, np.full(len(means), _HEAVY)])
        shares, _ = nnls(left, np.append(whitening @ night, _HEAVY))
        shares /= shares.sum()
        off = whitening @ (night - shares @ means)
        n = images / self.embedded_alike
        effective = 1 / (1 / n + self.embedded_alike * float((shares**2 / np.asarray(self.embedded)).sum()))
        free = len(off) - (np.count_nonzero(shares) - 1)
        square = float(off @ off)
        # How far the shares may be off: by what images of a class differ, and by which classes happened to come.
        apart = left[:-1, :-1] - left[:-1, -1:]
        known = self.known
        happened = (np.diag(known) - np.outer(known, known))[:-1, :-1] / n
        covariance = np.linalg.pinv(apart.T @ apart) / effective + happened
        moved = (shares - known)[:-1]
        return shares, {
            "mix_p": float(chdtrc(len(moved), moved @ np.linalg.pinv(covariance) @ moved)),
            "p": float(chdtrc(free, effective * square)),
            "apart": float(np.sqrt(max(0.0, square - free / effective))),
        }

    def to_json(self) -> str:
        """For the bundle."""
        return TypeAdapter(ByClass).dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> ByClass:
        """The other way."""
        return TypeAdapter(cls).validate_json(text)


def learn_by_class(rows: pd.DataFrame, held: NDArray[np.bool_], reference: DriftReference) -> ByClass:
    """From the profile as rows of the predictions schema, with `label`; `held` (n,) says which were held out.

    Means of the embedding are learned where each class has a few images and there are not too many classes.
    """
    classes = reference.classes
    columns = columns_of(rows, classes)
    place = {name: number for number, name in enumerate(classes)}
    label = np.array([place[name] for name in rows["label"]])
    numeric = [one for one in reference.metrics if one.metric.family == "properties" and one.metric.numeric]
    moved = np.column_stack(
        [(_clipped(one, columns["properties", one.metric.name]) - one.clipped_mean) / one.unit for one in numeric]
    )
    components = [one.metric.name for one in reference.metrics if one.metric.family == "embedding"]
    embedding = np.column_stack([columns["embedding", name].to_numpy(np.float64) for name in components])
    told = _embedded(embedding, label, held, len(classes))
    return ByClass(
        names=tuple(one.metric.name for one in numeric),
        images=tuple(np.bincount(label, minlength=len(classes)).tolist()),
        properties=_rows(_means(moved, label, len(classes))),
        embedded=tuple(np.bincount(label[told], minlength=len(classes)).tolist()),
        means=_rows(_means(embedding[told], label[told], len(classes))) if told.any() else (),
        whitening=_rows(_whitening(embedding[told], label[told], len(classes))) if told.any() else (),
        alike=tuple(_alike(reference, one.metric.name) for one in numeric),
        embedded_alike=_alike(reference),
    )


def _embedded(embedding: Floats, label: NDArray[np.int64], held: NDArray[np.bool_], classes: int) -> NDArray[np.bool_]:
    """Whose embedding counts: all images', or the held-out ones', or nobody's."""
    fits = 2 <= classes <= _MOST_CLASSES
    both = [np.bincount(label[one], minlength=classes).min() >= _FEWEST_OF_A_CLASS for one in (held, ~held)]
    if fits and all(both):
        of_training = ByClass(
            (),
            (1,) * classes,
            (),
            tuple(np.bincount(label[~held], minlength=classes).tolist()),
            _rows(_means(embedding[~held], label[~held], classes)),
            _rows(_whitening(embedding[~held], label[~held], classes)),
            (),
            1.0,
        )
        _, found = of_training._among(embedding[held].mean(axis=0), int(held.sum()))
        return np.ones(len(held), np.bool_) if found["p"] > _ALIKE else held
    return held if fits and both[0] else np.zeros(len(held), np.bool_)


def _alike(reference: DriftReference, name: str | None = None) -> float:
    """Kish's design effect of a property, or of the embedding on average: 1 where no sessions are known.

    What hardly ever changes has none of its own: that of all properties stands for it.
    """
    family = "embedding" if name is None else "properties"
    of = {one.metric.name: one.laws[0] for one in reference.metrics if one.metric.family == family and one.laws}
    laws = [of[name]] if name in of else list(of.values())
    effects = [(law.within + law.between * law.session) / max(law.within + law.between, 1e-12) for law in laws]
    return max(1.0, float(np.mean(effects))) if reference.knows_sessions and effects else 1.0


def _whitening(values: Floats, label: NDArray[np.int64], classes: int) -> Floats:
    """(d, d) that makes the covariance inside a class the identity; directions without spread are left out."""
    off = values - _means(values, label, classes)[label]
    covariance = off.T @ off / max(1, len(off) - classes)
    size, axes = np.linalg.eigh(covariance)
    kept = size > _SMALLEST_VARIANCE * size.max()
    return np.asarray((axes[:, kept] / np.sqrt(size[kept])).T)


def _means(values: Floats, label: NDArray[np.int64], classes: int) -> Floats:
    """(k, d); a class without images lies at zero, the mean of all where values are told from it."""
    sums = np.zeros((classes, values.shape[1]))
    np.add.at(sums, label, values)
    return sums / np.maximum(np.bincount(label, minlength=classes), 1)[:, None]


def _clipped(known: MetricReference, values: pd.Series) -> Floats:
    numbers = known.metric.clip(values.to_numpy(np.float64))
    return np.where(np.isnan(numbers), known.clipped_mean, numbers)


def _rows(values: Sequence[Any] | NDArray[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in values)
