"""How tonight's images differ from the training images: statistics, calibration, verdicts.

Every metric has one standardised statistic; the largest of a family is what the night is judged by, against what the
largest was when sessions were drawn from the bundle's own images as a night *and* as a reference ("Failing Loudly",
arXiv 1810.11953, for what is tested; whole sessions, because images of a session are alike). Both a small p and an
effect above a floor are needed: p alone fires on everything at 10,000 images, an effect alone on everything at 50.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter

from darkroom.schemas import DRIFT
from expectations.sketch import BINS, Metric, Sketch, columns_of, learn_metrics, sketch_rows

# One false alarm of all families together in so many unchanged nights; a warning in a month.
ALARM_P: Final = 1 / 730
WARN_P: Final = 1 / 30
# Smaller differences are not worth waking somebody for: training standard deviations, and Cramér's V.
FLOOR_NUMERIC: Final = 0.25
FLOOR_CATEGORICAL: Final = 0.2
FEWEST: Final = 25
# Images far from training are also blurred ones of known classes: never an alarm by themselves.
_NEVER_ALARMS: Final = frozenset({"out_of_distribution"})

_GRID: Final = (25, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_RESAMPLES: Final = 400
_MOST_GROUPS: Final = 2000
_EULER: Final = 0.5772156649
_POWER: Final = 1.645  # 95 % of nights with the smallest detectable effect are seen
# |mean shift| of an unchanged night is half a normal.
_MEAN_OF_HALF_NORMAL: Final = float(np.sqrt(2 / np.pi))
_SD_OF_HALF_NORMAL: Final = float(np.sqrt(1 - 2 / np.pi))


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of a statistic on unchanged nights, for each size of `_GRID`."""

    mean: tuple[float, ...]
    sd: tuple[float, ...]

    def at(self, n: int) -> tuple[float, float]:
        """Interpolated in the logarithm of n; a larger night is taken as the largest that was tried."""
        where = np.log(n)
        sizes = np.log(_GRID)
        return float(np.interp(where, sizes, self.mean)), float(np.interp(where, sizes, self.sd))

    def tail(self, statistic: float, n: int) -> float:
        """Share of unchanged nights with a statistic at least as large: Gumbel's law, that of a maximum."""
        mean, sd = self.at(n)
        scale = max(sd, 1e-9) * np.sqrt(6) / np.pi
        where = np.clip((statistic - mean + _EULER * scale) / scale, -700, 700)
        return float(-np.expm1(-np.exp(-where)))

    def quantile(self, tail: float, n: int) -> float:
        """The statistic with this tail."""
        mean, sd = self.at(n)
        scale = max(sd, 1e-9) * np.sqrt(6) / np.pi
        return float(mean - _EULER * scale - scale * np.log(-np.log1p(-tail)))


@dataclass(frozen=True)
class MetricReference:
    """One metric of the training images. `unit` is the standard deviation, `shift` and `shape` the moments of its two
    raw statistics on unchanged nights (mean shift and KS; for categories √G alone, as `shape`), `joint` those of the
    larger of the two once standardised. `groups` is the number of sessions that all of them were learned from.
    """

    metric: Metric
    counts: tuple[int, ...]
    shown: tuple[int, ...]
    n: int
    mean: float
    clipped_mean: float
    unit: float
    shift: Moments
    shape: Moments
    joint: Moments
    groups: int


@dataclass(frozen=True)
class DriftReference:
    """What the nights are compared with."""

    classes: tuple[str, ...]
    metrics: tuple[MetricReference, ...]
    families: Mapping[str, Moments]

    def sketch(self, rows: pd.DataFrame) -> Sketch:
        """Sketch some rows of the predictions schema."""
        return sketch_rows(rows, tuple(one.metric for one in self.metrics), self.classes)

    def empty_sketch(self) -> Sketch:
        """Of no rows."""
        return Sketch.empty(len(self.metrics))

    def to_json(self) -> str:
        """For the bundle."""
        return TypeAdapter(DriftReference).dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> DriftReference:
        """The other way."""
        return TypeAdapter(cls).validate_json(text)


def learn_reference(
    rows: pd.DataFrame, held: NDArray[np.bool_], groups: NDArray[Any], classes: tuple[str, ...], *, seed: int
) -> DriftReference:
    """Learn from the profile as rows of the predictions schema; `held` (n,) says which were held out, `groups` (n,)
    which belong to one session.

    Properties are compared with all images, as the model cannot overfit them; predictions and embedding with held-out
    ones only.
    """
    metrics = learn_metrics(rows, held, classes)
    learned: dict[int, MetricReference] = {}
    families: dict[str, Moments] = {}
    for everything in (True, False):
        numbers = [k for k, metric in enumerate(metrics) if (metric.family == "properties") is everything]
        chosen = tuple(metrics[k] for k in numbers)
        pool = _Pool.of(rows if everything else rows[held], groups if everything else groups[held], chosen, classes)
        references, maxima = pool.calibrate(chosen, np.random.default_rng([seed, everything]))
        learned |= dict(zip(numbers, references, strict=True))
        families |= maxima
    return DriftReference(classes, tuple(learned[k] for k in range(len(metrics))), families)


def night_drift(reference: DriftReference, sketch: Sketch) -> pd.DataFrame:
    """One row a metric, darkroom.schemas.DRIFT."""
    found = [_judged(reference, one, sketch, row) for row, one in enumerate(reference.metrics)]
    frame = pd.DataFrame(found, columns=DRIFT.names)
    return frame.astype({"n": "int64", "n_reference": "int64"})


def _judged(reference: DriftReference, known: MetricReference, sketch: Sketch, row: int) -> dict[str, Any]:
    metric, n = known.metric, int(sketch.present[row])
    facts: dict[str, Any] = {
        "family": metric.family,
        "metric": metric.name,
        "statistic_name": "max(mean shift, KS)" if metric.numeric else "G",
        "n": n,
        "n_reference": known.n,
        "reference_value": known.mean if metric.numeric else None,
        "night_value": float(sketch.sums[row]) / n if metric.numeric and n else None,
        "verdict": "too_few",
    }
    if n < FEWEST:
        return facts
    counts = sketch.counts[row : row + 1, None, :]
    shift, shape = _raw(
        metric,
        counts,
        np.array([[sketch.clipped[row] / n]]),
        np.asarray(known.counts)[None, None],
        np.array([[known.clipped_mean]]),
        known.unit,
    )
    statistic = _discounted(float(_standardised(known, shift, shape, n)[0, 0]), known.groups)
    family = reference.families[metric.family]
    corrected = min(1.0, family.tail(statistic, n) * len(reference.families))
    effect = _effect(metric, float(shift[0, 0]), float(shape[0, 0]), n, _categories(known, sketch.counts[row]))
    floor = FLOOR_NUMERIC if metric.numeric else FLOOR_CATEGORICAL
    verdict = "ok"
    if corrected <= WARN_P and effect >= floor / 2:
        verdict = "warn"
    if corrected <= ALARM_P and effect >= floor and metric.family not in _NEVER_ALARMS:
        verdict = "alarm"
    return facts | {
        "statistic": statistic,
        "effect": effect,
        "p_value": known.joint.tail(statistic, n),
        "p_corrected": corrected,
        "smallest_detectable_effect": _detectable(reference, known, n, _categories(known, sketch.counts[row])),
        "verdict": verdict,
    }


def _raw(
    metric: Metric,
    night: NDArray[Any],
    night_mean: NDArray[np.float64],
    reference: NDArray[Any],
    reference_mean: NDArray[np.float64],
    unit: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Raw statistics (…): standardised mean shift and KS, or nothing and √G. Histograms are (…, bins)."""
    if metric.numeric:
        shares = [np.cumsum(h, axis=-1) / np.maximum(h.sum(axis=-1, keepdims=True), 1) for h in (night, reference)]
        return np.abs(night_mean - reference_mean) / unit, np.abs(shares[0] - shares[1]).max(axis=-1)
    # Half an image more in each category: one that the reference never showed is unlikely, not impossible.
    smoothed = reference[..., : metric.bins] + 0.5
    seen = night[..., : metric.bins]
    expected = smoothed / smoothed.sum(axis=-1, keepdims=True) * seen.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(seen > 0, seen * np.log(seen / expected), 0.0)
    g = np.sqrt(np.maximum(0.0, 2 * terms.sum(axis=-1)))
    return np.zeros_like(g), g


def _standardised(
    known: MetricReference, shift: NDArray[np.float64], shape: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    mean, sd = known.shape.at(n)
    best = (shape - mean) / sd
    if known.metric.numeric:
        mean, sd = known.shift.at(n)
        best = np.maximum(best, (shift - mean) / sd)
    return np.asarray(best)


def _discounted(statistic: float, groups: int) -> float:
    """The statistic that would be as unlikely, were the spread between sessions known and not learned from `groups` of
    them: Student's law on groups − 1 degrees of freedom, put back on the normal's scale. Without it six sessions that
    happen to be alike make an alarm of every seventh.
    """
    from scipy.special import ndtri, stdtr

    deviations = _MEAN_OF_HALF_NORMAL + _SD_OF_HALF_NORMAL * statistic
    if deviations <= 0 or groups < 2:
        return statistic if deviations <= 0 else -_MEAN_OF_HALF_NORMAL / _SD_OF_HALF_NORMAL
    tail = max(float(stdtr(groups - 1, -deviations)), 1e-300)
    return float((-ndtri(tail) - _MEAN_OF_HALF_NORMAL) / _SD_OF_HALF_NORMAL)


def _undiscounted(statistic: float, groups: int) -> float:
    """The other way."""
    from scipy.special import ndtr, stdtrit

    deviations = _MEAN_OF_HALF_NORMAL + _SD_OF_HALF_NORMAL * statistic
    if deviations <= 0:
        return statistic
    if groups < 2:
        return np.inf
    return float((-stdtrit(groups - 1, ndtr(-deviations)) - _MEAN_OF_HALF_NORMAL) / _SD_OF_HALF_NORMAL)


def _effect(metric: Metric, shift: float, shape: float, n: int, categories: int) -> float:
    """In standard deviations: the mean shift, or the shift of a normal that would show the same KS; Cramér's V."""
    if not metric.numeric:
        return float(shape / np.sqrt(n * (categories - 1)))
    from scipy.special import ndtri

    return float(max(shift, 2 * ndtri((1 + min(shape, 0.999)) / 2)))


def _categories(known: MetricReference, night: NDArray[np.int64]) -> int:
    return max(2, int(((np.asarray(known.counts) > 0) | (night > 0)).sum()))


def _detectable(reference: DriftReference, known: MetricReference, n: int, categories: int) -> float | None:
    """The smallest effect that 95 of 100 nights of this size would have shown as an alarm; None where no effect is
    large enough, because the bundle has seen too few sessions.
    """
    family = reference.families[known.metric.family]
    needed = _undiscounted(family.quantile(ALARM_P / len(reference.families), n), known.groups)
    mean, sd = (known.shift if known.metric.numeric else known.shape).at(n)
    effect = mean + sd * needed + _POWER * sd / _SD_OF_HALF_NORMAL
    if known.metric.numeric:
        return float(max(effect, FLOOR_NUMERIC)) if np.isfinite(effect) else None
    cramers_v = float(max(effect / np.sqrt(n * (categories - 1)), FLOOR_CATEGORICAL))
    return cramers_v if cramers_v <= 1 else None


@dataclass(frozen=True)
class _Pool:
    """Sketches of sessions, from which nights and references are drawn: counts (m, g, BINS), clipped sums (m, g),
    images with a value (m, g), images (g,); and the sketch of all of them.
    """

    counts: NDArray[np.float32]
    clipped: NDArray[np.float64]
    present: NDArray[np.float64]
    size: NDArray[np.int64]
    whole: Sketch
    units: NDArray[np.float64]

    @classmethod
    def of(
        cls, rows: pd.DataFrame, groups: NDArray[Any], metrics: tuple[Metric, ...], classes: tuple[str, ...]
    ) -> _Pool:
        """Sketch each session; more than some thousand are put together, which changes nothing when they are many."""
        names, group = np.unique(groups, return_inverse=True)
        group = group % _MOST_GROUPS if len(names) > _MOST_GROUPS else group
        g = int(group.max()) + 1
        counts = np.zeros((len(metrics), g, BINS), np.float32)
        clipped = np.zeros((len(metrics), g))
        present = np.zeros((len(metrics), g))
        units = np.ones(len(metrics))
        values = columns_of(rows, classes)
        for m, metric in enumerate(metrics):
            column = values[metric.family, metric.name]
            codes = metric.codes(column)
            seen = codes >= 0
            np.add.at(counts[m], (group[seen], codes[seen]), 1)
            present[m] = np.bincount(group[seen], minlength=g)
            if metric.numeric:
                numbers = metric.clip(column.to_numpy(np.float64)[seen])
                clipped[m] = np.bincount(group[seen], weights=numbers, minlength=g)
                # A property that never changes has no spread: a hundredth of its value is the unit then.
                units[m] = max(float(numbers.std()), 0.01 * abs(float(numbers.mean())), 1e-6)
        return cls(
            counts, clipped, present, np.bincount(group, minlength=g), sketch_rows(rows, metrics, classes), units
        )

    def calibrate(
        self, metrics: tuple[Metric, ...], random: np.random.Generator
    ) -> tuple[list[MetricReference], dict[str, Moments]]:
        """What the statistics are on unchanged nights of every size."""
        g = len(self.size)
        reference = random.multinomial(g, np.full(g, 1 / g), size=_RESAMPLES).astype(np.float32)
        nights = {}
        for n in _GRID:
            sessions = max(1, round(n / self.size.mean()))
            nights[n] = random.multinomial(sessions, np.full(g, 1 / g), size=_RESAMPLES).astype(np.float32)
        learned = []
        # statistics[family][n] are the largest of the family so far, for each drawn night
        largest: dict[str, NDArray[np.float64]] = {}
        for m, metric in enumerate(metrics):
            raw = [self._statistics(m, metric, nights[n], reference) for n in _GRID]
            shift, shape = (_moments([one[k] for one in raw], [_least_sd(metric, n) for n in _GRID]) for k in (0, 1))
            draft = self._reference(m, metric, shift, shape)
            standard = np.stack([_standardised(draft, one[0], one[1], n) for n, one in zip(_GRID, raw, strict=True)])
            learned.append(self._reference(m, metric, shift, shape, _moments(list(standard), [0.0] * len(_GRID))))
            before = largest.get(metric.family)
            largest[metric.family] = standard if before is None else np.maximum(before, standard)
        # A family of constants has no spread of its own; the law of one standardised statistic is then the least.
        families = {name: _moments(list(values), [0.5] * len(_GRID)) for name, values in largest.items()}
        return learned, families

    def _statistics(
        self, m: int, metric: Metric, nights: NDArray[np.float32], reference: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        def mean(weights: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.asarray((weights @ self.clipped[m]) / np.maximum(weights @ self.present[m], 1))

        counts = self.counts[m]
        unit = float(self.units[m])
        shift, shape = _raw(metric, nights @ counts, mean(nights), reference @ counts, mean(reference), unit)
        # Sessions drawn again from g of them differ less than new ones would.
        g = len(self.size)
        wider = np.sqrt(g / max(g - 1, 1))
        return shift * wider, shape * wider

    def _reference(
        self, m: int, metric: Metric, shift: Moments, shape: Moments, joint: Moments | None = None
    ) -> MetricReference:
        n = int(self.whole.present[m])
        return MetricReference(
            metric=metric,
            counts=tuple(self.whole.counts[m].tolist()),
            shown=tuple(self.whole.shown[m].tolist()),
            n=n,
            mean=float(self.whole.sums[m]) / max(n, 1),
            clipped_mean=float(self.whole.clipped[m]) / max(n, 1),
            unit=float(self.units[m]),
            shift=shift,
            shape=shape,
            joint=joint or shape,
            groups=len(self.size),
        )


def _least_sd(metric: Metric, n: int) -> float:
    """Of a raw statistic: a metric that never changed in training has no spread, and yet one odd image is no drift."""
    return 0.25 / float(np.sqrt(n)) if metric.numeric else 0.5


def _moments(draws: Sequence[NDArray[np.float64]], least: Sequence[float]) -> Moments:
    return Moments(
        tuple(float(one.mean()) for one in draws),
        tuple(max(float(one.std()), lower, 1e-9) for one, lower in zip(draws, least, strict=True)),
    )
