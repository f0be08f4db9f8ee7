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

from expectations.reference import DriftReference, MetricReference, read_sealed
from expectations.scores import Law
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
_DIRECTIONS: Final = 2  # a class, in which embeddings must differ
_IMAGES: Final = 3  # a direction, to know how they spread in it


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
    (d, d), or nothing. `alike` (p,) and `classes_alike`: images of a session count as so many fewer, for a property and
    for which classes come.
    """

    names: tuple[str, ...]
    images: tuple[int, ...]
    properties: tuple[tuple[float, ...], ...]
    embedded: tuple[int, ...]
    means: tuple[tuple[float, ...], ...]
    whitening: tuple[tuple[float, ...], ...]
    alike: tuple[float, ...]
    classes_alike: float

    @property
    def known(self) -> Floats:
        """Shares of the classes in the training data (k,)."""
        return np.asarray(self.images, np.float64) / sum(self.images)

    def split(self, sketch: Sketch, reference: DriftReference, displaced: Floats | None = None) -> Split:
        """Of a night with at least one image, whose embedding was `displaced` (d,) in all of them."""
        shares, unsure = self.known, np.zeros((len(self.images), len(self.images)))
        told: dict[str, float] = {}
        if self.means:
            rows = [row for row, one in enumerate(reference.metrics) if one.metric.family == "embedding"]
            night = sketch.sums[rows] / np.maximum(sketch.present[rows], 1)
            shares, unsure, told = self.among(
                night if displaced is None else night - displaced[: len(night)], sketch.rows
            )
        properties = np.asarray(self.properties)
        chance = np.asarray(self.alike) * (1 / sketch.rows + (shares**2 / np.maximum(self.images, 1)).sum())
        return Split(
            shares,
            shares @ properties,
            np.sqrt(chance + np.einsum("cp,cd,dp->p", properties, unsure, properties)),
            **told,
        )

    def among(self, night: Floats, n: int) -> tuple[Floats, Floats, dict[str, float]]:
        """Shares (k,) of an embedding's mean (d,) of n images, their covariance (k, k), and what Split tells of them.

        How far the mean may be off is known from `embedded` images: Hotelling's T² and not χ².
        """
        from scipy.optimize import nnls
        from scipy.special import fdtrc

        whitening, means = np.asarray(self.whitening), np.asarray(self.means)
        left = np.vstack([whitening @ means.T, np.full(len(means), _HEAVY)])
        shares, _ = nnls(left, np.append(whitening @ night, _HEAVY))
        shares /= shares.sum()
        off = whitening @ (night - shares @ means)
        effective = 1 / (1 / n + float((shares**2 / np.asarray(self.embedded)).sum()))
        free, m = len(off) - (int(np.count_nonzero(shares)) - 1), sum(self.embedded) - len(self.images)
        square = float(off @ off)
        # The last class makes the others' shares sum to 1.
        ends = np.vstack([np.eye(len(means) - 1), -np.ones(len(means) - 1)])
        apart = left[:-1] @ ends
        estimated = np.linalg.inv(apart.T @ apart) / effective
        known = self.known
        happened = (np.diag(known) - np.outer(known, known))[:-1, :-1] * self.classes_alike / n
        moved = (shares - known)[:-1]
        of_mix = float(moved @ np.linalg.solve(estimated + happened, moved))

        def p(square: float, free: int) -> float:
            return float(fdtrc(free, m - free + 1, square * (m - free + 1) / (m * free)))

        return (
            shares,
            ends @ estimated @ ends.T,
            {
                "mix_p": p(of_mix, len(moved)),
                "p": p(effective * square, free),
                "apart": float(np.sqrt(max(0.0, square * (m - free - 1) / m - free / effective))),
            },
        )

    def to_json(self) -> str:
        """For the bundle."""
        return TypeAdapter(ByClass).dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> ByClass:
        """The other way."""
        return read_sealed(cls, text, "What the bundle's classes are like", "by_class.json")


def learn_by_class(
    rows: pd.DataFrame, held: NDArray[np.bool_], groups: NDArray[Any], reference: DriftReference
) -> ByClass:
    """From the profile as rows of the predictions schema, with `label`; `held` (n,) says which were held out, `groups`
    (n,) which belong to one session.

    Means of the embedding are learned where each class has a few images, there are not too many classes, and enough
    images to know how their embeddings spread.
    """
    classes = reference.classes
    columns = columns_of(rows, classes)
    place = {name: number for number, name in enumerate(classes)}
    label = np.array([place[name] for name in rows["label"]])
    _, group = np.unique(groups, return_inverse=True)
    numeric = [one for one in reference.metrics if one.metric.family == "properties" and one.metric.numeric]
    moved = np.column_stack(
        [(_clipped(one, columns["properties", one.metric.name]) - one.clipped_mean) / one.unit for one in numeric]
    )
    components = [one.metric.name for one in reference.metrics if one.metric.family == "embedding"]
    embedding = np.zeros((len(rows), 0))
    if components:
        embedding = np.column_stack([columns["embedding", name].to_numpy(np.float64) for name in components])
    embedded = _embedded(embedding, label, held, group, len(classes))
    return ByClass(
        names=tuple(one.metric.name for one in numeric),
        images=tuple(np.bincount(label, minlength=len(classes)).tolist()),
        properties=_rows(_means(moved, label, len(classes))),
        **embedded,
        alike=tuple(_alike(reference, one.metric.name) for one in numeric),
        classes_alike=max(1.0, *(_design_effect((label == k).astype(float), group) for k in range(len(classes)))),
    )


def _embedded(
    embedding: Floats, label: NDArray[np.int64], held: NDArray[np.bool_], group: NDArray[np.int64], classes: int
) -> dict[str, Any]:
    """What ByClass holds of the embedding: of all images, or of the held-out ones where the training images differ from
    them; nothing where too little is known.
    """
    nothing: dict[str, Any] = {"embedded": (), "means": (), "whitening": ()}
    if not 2 <= classes <= _MOST_CLASSES:
        return nothing

    def learned(of: NDArray[np.bool_]) -> dict[str, Any] | None:
        images = np.bincount(label[of], minlength=classes)
        if images.min() < _FEWEST_OF_A_CLASS:
            return None
        means = _means(embedding[of], label[of], classes)
        whitening = _whitening(embedding[of] - means[label[of]], group[of], classes)
        if len(whitening) < _DIRECTIONS * classes or images.sum() - classes < _IMAGES * len(whitening):
            return None
        return {"embedded": tuple(images.tolist()), "means": _rows(means), "whitening": _rows(whitening)}

    of_held, of_training = learned(held), learned(~held)
    if of_training is not None:
        known = ByClass((), (1,) * classes, (), **of_training, alike=(), classes_alike=1.0)
        if known.among(embedding[held].mean(axis=0), int(held.sum()))[2]["p"] > _ALIKE:
            return learned(np.ones(len(held), np.bool_)) or nothing
    return of_held or nothing


def _alike(reference: DriftReference, name: str) -> float:
    """Kish's design effect of a property: 1 where no sessions are known. What hardly ever changes has none of its own:
    that of all properties stands for it.
    """
    laws = {one.metric.name: one.laws[0] for one in reference.metrics if one.metric.family == "properties" and one.laws}
    some = [laws[name]] if name in laws else list(laws.values())
    effects = [(law.within + law.between * law.session) / max(law.within + law.between, 1e-12) for law in some]
    return max(1.0, float(np.mean(effects))) if reference.knows_sessions and effects else 1.0


def _design_effect(values: Floats, group: NDArray[np.int64]) -> float:
    """Kish's, of values (n,): how many images count as one, because those of a session are alike."""
    law = Law.of(values - values.mean(), [group], spread=False)
    return max(1.0, (law.within + law.between * law.session) / max(law.within + law.between, 1e-12))


def _whitening(off: Floats, group: NDArray[np.int64], classes: int) -> Floats:
    """(d, d) that makes one the covariance inside a class of values (n, d) from their class's mean, and of sessions as
    if their images were so many fewer; directions without spread are left out.
    """
    covariance = off.T @ off / max(1, len(off) - classes)
    size, axes = np.linalg.eigh(covariance)
    kept = size > max(_SMALLEST_VARIANCE * size.max(initial=0.0), 1e-12)
    whitening = (axes[:, kept] / np.sqrt(size[kept])).T
    effects = [_design_effect(direction, group) for direction in (off @ whitening.T).T]
    return np.asarray(whitening / np.sqrt(effects).reshape(-1, 1))


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
