"""What gives a class away without its being looked at: properties of the file and of the light that go with a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.schemas import CATEGORICAL_PROPERTIES, NUMERIC_PROPERTIES
from expectations.linear_head import cross_fitted
from expectations.measures import accuracy_interval
from expectations.neighbourhood import compact

# An AUC nearer to ½, and a Cramér's V under it, is how classes differ anyway.
FLOOR_AUC: Final = 0.75
FLOOR_V: Final = 0.3
_P: Final = 0.01
_FEWEST_GROUPS: Final = 5
_MOST_LEVELS: Final = 8
_MOST_ROWS: Final = 20_000
_MOST_NAMED: Final = 12


@dataclass(frozen=True)
class Shortcut:
    """A property that goes with a class. `effect` is an AUC (numeric; over ½: higher in the class) or Cramér's V (then
    `label` is empty: it is about all classes). `p` is corrected for all tests (Holm); None where too few groups tell.
    `in_class`, `elsewhere`: medians.
    """

    name: str
    label: str
    effect: float
    p: float | None
    in_class: float | None = None
    elsewhere: float | None = None

    @property
    def strength(self) -> float:
        """0 … 1, comparable between the two kinds."""
        return self.effect if not self.label else 2 * abs(self.effect - 0.5)

    def sentence(self) -> str:
        """For a person."""
        words = self.name.replace("_", " ")
        told = "too few groups for a p" if self.p is None else f"p {self.p:.2g}"
        if not self.label:
            return f"{words} and class go together (Cramér's V {self.effect:.2f}, {told})"
        side = "higher" if self.effect > 0.5 else "lower"
        clear = max(self.effect, 1 - self.effect)
        return f"{words} is {side} in {self.label} than elsewhere in {clear:.0%} of pairs of images ({told})"


@dataclass(frozen=True)
class Shortcuts:
    """Named shortcuts, the strongest first, and how often the properties alone name the class right."""

    named: tuple[Shortcut, ...]
    more: int
    accuracy: float
    interval: tuple[float, float]
    guessing: float
    n: int

    @property
    def tell(self) -> bool:
        """Whether the properties alone beat guessing beyond chance."""
        return self.interval[0] > self.guessing

    def sentence(self) -> str:
        """How much the class can be told without the picture."""
        told = (
            f"The properties alone, without the picture, name the class right in {self.accuracy:.0%} "
            f"({self.interval[0]:.0%} – {self.interval[1]:.0%}); guessing would be right in {self.guessing:.0%}."
        )
        return f"{told} Strongest: {self.named[0].sentence()}." if self.named else told


def find_shortcuts(
    profile: pd.DataFrame, labels: NDArray[np.int64], classes: tuple[str, ...], groups: NDArray[Any], *, seed: int = 0
) -> Shortcuts:
    """Look for image properties that go with a class, among rows of darkroom.schemas.PROFILE (20,000 of them at most).

    Numeric: the AUC of each property for each class against the rest, its standard error from whole groups (Obuchowski,
    Biometrics 53, 1997). Categorical: Cramér's V, with the p of the level that tells most of a class. Holm's correction
    over all tests. A shortcut may be the class's own nature (cardboard is brown): whether it is, a person knows.
    """
    if len(profile) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(profile), _MOST_ROWS, replace=False))
        profile, labels, groups = profile.iloc[rows], labels[rows], groups[rows]
    group = np.unique(groups, return_inverse=True)[1]
    tests = [*_numeric(profile, labels, classes, group), *_categorical(profile, labels, classes, group)]
    named = sorted((one for one in _corrected(tests) if _stands(one)), key=lambda one: -one.strength)
    x = property_numbers(profile)
    right = cross_fitted(compact(x), labels, groups, len(classes), seed=seed).argmax(axis=1) == labels
    return Shortcuts(
        named=tuple(named[:_MOST_NAMED]),
        more=max(0, len(named) - _MOST_NAMED),
        accuracy=float(right.mean()),
        interval=accuracy_interval(right, groups),
        guessing=float(np.bincount(labels).max() / len(labels)),
        n=len(labels),
    )


def _numeric(
    profile: pd.DataFrame, labels: NDArray[np.int64], classes: tuple[str, ...], group: NDArray[np.int64]
) -> Iterator[Shortcut]:
    for name in NUMERIC_PROPERTIES:
        values = profile[name].to_numpy(np.float64)
        known = np.isfinite(values)
        if len(np.unique(values[known])) < 2:
            continue
        for position, label in enumerate(classes):
            inside = labels[known] == position
            if inside.any() and not inside.all():
                effect, p = _area(values[known], inside, group[known])
                medians = (float(np.median(values[known][side])) for side in (inside, ~inside))
                yield Shortcut(name, label, effect, p, *medians)


def _categorical(
    profile: pd.DataFrame, labels: NDArray[np.int64], classes: tuple[str, ...], group: NDArray[np.int64]
) -> Iterator[Shortcut]:
    for name in CATEGORICAL_PROPERTIES:
        levels, level = np.unique(profile[name].fillna("none").astype(str).to_numpy(), return_inverse=True)
        if len(levels) < 2:
            continue
        counts = np.zeros((len(levels), len(classes)))
        np.add.at(counts, (level, labels), 1)
        often = np.argsort(-counts.sum(axis=1))[:_MOST_LEVELS]
        present = np.flatnonzero(counts.sum(axis=0))
        tested = [_area((level == one).astype(float), labels == label, group)[1] for one in often for label in present]
        known = [p for p in tested if p is not None]
        yield Shortcut(name, "", _cramers_v(counts), min(1.0, min(known) * len(known)) if known else None)


def _area(
    values: NDArray[np.float64], inside: NDArray[np.bool_], group: NDArray[np.int64]
) -> tuple[float, float | None]:
    """AUC of values (n,) for rows inside a class, and p against ½ with whole groups (n,) as what is drawn."""
    from scipy.stats import rankdata, t

    m, n = int(inside.sum()), int((~inside).sum())
    ranks = rankdata(values)
    above = (ranks[inside] - rankdata(values[inside])) / n  # of those outside, the share below each inside
    below = 1 - (ranks[~inside] - rankdata(values[~inside])) / m
    area = float(above.mean())
    off = np.zeros(len(values))
    off[inside], off[~inside] = (above - area) / m, (below - area) / n
    groups_in, groups_out = np.unique(group[inside]), np.unique(group[~inside])
    fewest = min(len(groups_in), len(groups_out))
    if fewest < _FEWEST_GROUPS:
        return area, None
    number = len(np.unique(group))
    variance = np.square(np.bincount(group, weights=off)).sum() * number / (number - 1)
    # A property that parts the classes wholly has no variance left: then that of an area of ½ counts, between groups
    # where a group has one class, else between images.
    a, b = (m, n) if number < len(groups_in) + len(groups_out) else (len(groups_in), len(groups_out))
    error = np.sqrt(max(variance, (a + b + 1) / (12 * a * b)))
    return area, float(2 * t.sf(abs(area - 0.5) / error, fewest - 1))


def _cramers_v(counts: NDArray[np.float64]) -> float:
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    chi2 = (np.square(counts - expected) / expected).sum()
    return float(np.sqrt(chi2 / (counts.sum() * max(1, min(counts.shape) - 1))))


def _corrected(tests: Iterable[Shortcut]) -> list[Shortcut]:
    """Holm's, over those that have a p."""
    kept = list(tests)
    tested = sorted((one.p, at) for at, one in enumerate(kept) if one.p is not None)
    largest = 0.0
    for place, (p, at) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - place)))
        kept[at] = replace(kept[at], p=largest)
    return kept


def _stands(one: Shortcut) -> bool:
    """Effect above the floor, and beyond chance; a class that too few groups know cannot be told from its groups."""
    effect = max(one.effect, 1 - one.effect) if one.label else one.effect
    return effect >= (FLOOR_AUC if one.label else FLOOR_V) and (one.p is None or one.p <= _P)


def property_numbers(profile: pd.DataFrame) -> NDArray[np.float32]:
    """Each numeric property as its rank, −1 … 1, and the square of that; each level of a categorical one as 0 or 1."""
    columns: list[NDArray[Any]] = [np.zeros(len(profile))]
    for name in NUMERIC_PROPERTIES:
        rank = profile[name].rank(pct=True).fillna(0.5).to_numpy(np.float64) * 2 - 1
        columns += [rank, rank * rank]
    for name in CATEGORICAL_PROPERTIES:
        values = profile[name].fillna("none").astype(str)
        columns += [(values == level).to_numpy(np.float64) for level in values.value_counts().index[:_MOST_LEVELS]]
    return np.stack(columns, axis=1).astype(np.float32)
