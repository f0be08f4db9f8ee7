"""Which preparation a model was trained with, from what it says of labelled images under each candidate; and how sure.

The evidence is the likelihood of the labels. Probabilities are tempered first (one temperature for all candidates, by
likelihood, arXiv 1706.04599) and mixed with the uniform guess: one overconfident miss must not decide.

A candidate's weight is how often it would be the likeliest, had other images been drawn (Rubin, "The Bayesian
bootstrap", 1981), beside how common it is among people. So the differences between candidates count, image by image:
two that answer nearly alike are told apart by little, two that answer otherwise need much. A posterior by the
likelihood itself, with a learning rate because the model is misspecified, knows nothing of that: for the same coverage
its sets were half as large again. The stated set is the smallest one with 95 % of the weight. A model confidence set
(Hansen, Lunde & Nason, "The Model Confidence Set", 2011) asks less, whether one is *worse*, and is larger still.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import WrongUse
from expectations.accuracy import tempered
from expectations.paired import LEVEL, Share, accuracy_of, correct

# Preparations that change the answer for fewer images than this are one: nobody could tell them apart, or need to.
SAME: Final = 0.03
_DRAWS: Final = 4000
# Images after which more of them say no more: a head can by chance be better under a preparation that it never saw.
_ENOUGH: Final = 400
# A family of knobs is certain when its value wins in this share of the draws, and is the only one in the stated set.
_CERTAIN: Final = 0.99
_FLOOR: Final = 0.1
_FEWEST: Final = 10


@dataclass(frozen=True)
class Candidate:
    """A preparation by its name, and its value in each family of knobs (scaling, channel_order, fit, …). `common`: how
    many people train with it, against the most common one.
    """

    name: str
    families: Mapping[str, str]
    common: float = 1.0


@dataclass(frozen=True)
class Ranked:
    """A candidate on the sample. `log_likelihood`: mean, of tempered probabilities; `weight`: that of all that count as
    one with it; `one_with`: their names; `refused`: images that its decoder does not read.
    """

    name: str
    accuracy: Share
    log_likelihood: float
    weight: float
    in_set: bool
    one_with: tuple[str, ...]
    refused: int


@dataclass(frozen=True)
class Certainty:
    """What is known of a family of knobs. `value`: of the most likely; `weight`: how often that value would win;
    `possible`: the values inside the stated set. Certain: only one is possible, it wins nearly always, and another was
    tried.
    """

    family: str
    value: str
    weight: float
    possible: tuple[str, ...]
    certain: bool


@dataclass(frozen=True)
class Inferred:
    """The ranking, most likely first; the families; `groups`: how many preparations the set holds, those that flip
    fewer than SAME of the sample counted as one.
    """

    n: int
    temperature: float
    ranking: tuple[Ranked, ...]
    certainties: tuple[Certainty, ...]
    groups: int

    @property
    def plausible(self) -> tuple[str, ...]:
        """Names of the stated set, most likely first."""
        return tuple(row.name for row in self.ranking if row.in_set)

    def certainty(self, family: str) -> Certainty:
        """Of one family. KeyError: no candidate names it."""
        return {one.family: one for one in self.certainties}[family]


def infer(
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    candidates: Sequence[Candidate],
    *,
    provable: Collection[str] | None = None,
    groups: NDArray[Any] | None = None,
) -> Inferred:
    """Rank candidates by probabilities (candidates, n, k), rows of NaN where a decoder refused, and labels (n,).

    provable: the families that may be certain at all (None: every one). Photos that are not those of the training may
    suit another geometry than that of the training: it wins then, and is not the truth.
    groups (n,): images of one session, which count for less than as many of different ones. The order of the candidates
    does not matter; one that is there twice does not count twice. WrongUse: shapes that do not fit, a name twice, fewer
    than ten images, an image that no candidate reads.
    """
    _check(probabilities, labels, candidates)
    # Ties and the clustering see the candidates in the order of their names, whatever the caller's.
    order = sorted(range(len(candidates)), key=lambda c: candidates[c].name)
    p = np.asarray(probabilities, np.float64)[order]
    candidates = [candidates[c] for c in order]
    temperature = _temperature(p, labels)
    evidence = likelihoods(p, labels, temperature)
    same = merged(p)
    scores = drawn_again(evidence, np.array([one.common for one in candidates]), groups)
    weight_of = _wins(scores, same)
    kept = _stated(weight_of)
    means = evidence.mean(axis=1)
    best_of = np.array([means[same == number].max() for number in range(len(weight_of))])
    right = correct(p, labels)
    ranking = tuple(
        Ranked(
            name=candidates[c].name,
            accuracy=accuracy_of(right[c], groups),
            log_likelihood=float(means[c]),
            weight=float(weight_of[same[c]]),
            in_set=bool(kept[same[c]]),
            one_with=tuple(candidates[d].name for d in np.flatnonzero(same == same[c]) if d != c),
            refused=int(np.isnan(right[c]).sum()),
        )
        for c in sorted(
            range(len(candidates)), key=lambda c: (-weight_of[same[c]], -best_of[same[c]], same[c], -means[c])
        )
    )
    certainties = _certainties(candidates, ranking[0].name, scores, kept[same], provable)
    return Inferred(len(labels), temperature, ranking, certainties, int(kept.sum()))


def likelihoods(
    probabilities: NDArray[np.float64], labels: NDArray[np.integer[Any]], temperature: float
) -> NDArray[np.float64]:
    """Log-likelihood (candidates, n) of each label, tempered, never under that of a share of the uniform guess.

    An image that a candidate's decoder refuses says nothing for or against it: it gets the mean of the others.
    """
    own = np.full(probabilities.shape[:2], np.nan)
    k = probabilities.shape[2]
    for c, rows in enumerate(probabilities):
        read = ~np.isnan(rows).any(axis=1)
        scaled = tempered(rows[read], temperature)[np.arange(int(read.sum())), labels[read]].astype(np.float64)
        own[c, read] = np.log((1 - _FLOOR) * scaled + _FLOOR / k)
    return np.where(np.isnan(own), np.nanmean(own, axis=0), own)


def merged(probabilities: NDArray[np.float64]) -> NDArray[np.intp]:
    """A number (candidates,) for each: equal where all of a group flip fewer than SAME of the images against each other
    (complete linkage: no chain of small steps joins what differs).
    """
    if len(probabilities) == 1:
        return np.zeros(1, np.intp)
    from scipy.cluster.hierarchy import fcluster, linkage

    read = np.asarray(~np.isnan(probabilities).any(axis=2), np.bool_)
    top: NDArray[np.intp] = np.where(read, np.nan_to_num(probabilities).argmax(axis=2), -1)
    first, second = np.triu_indices(len(top), 1)
    both = read[first] & read[second]
    flips = (np.not_equal(top[first], top[second]) & both).sum(axis=1) / np.maximum(1, both.sum(axis=1))
    numbers = fcluster(linkage(flips, "complete"), np.nextafter(SAME, 0), "distance")
    found: NDArray[np.intp] = np.unique(numbers, return_inverse=True)[1]
    return found


def drawn_again(
    evidence: NDArray[np.float64], common: NDArray[np.float64], groups: NDArray[Any] | None
) -> NDArray[np.float64]:
    """Scores (_DRAWS, candidates): the mean log-likelihood, from log-likelihoods (candidates, n), of the images weighed
    by chance, with the logarithm of `common` (candidates,) once beside all of them. Images of a group have one weight.
    """
    n = evidence.shape[1]
    numbers = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.stack([np.bincount(numbers, row) for row in evidence])
    sizes = np.bincount(numbers).astype(np.float64)
    order = np.lexsort(sums)  # whatever the order of the images
    worth = min(len(sizes), _ENOUGH)
    weights = np.random.default_rng(0).gamma(worth / len(sizes), size=(_DRAWS, len(sizes)))
    drawn = (weights @ sums[:, order].T) / (weights @ sizes[order])[:, None]
    return np.asarray(drawn + np.log(common) / worth)


def _wins(scores: NDArray[np.float64], numbers: NDArray[np.intp]) -> NDArray[np.float64]:
    """How often (k,) the best candidate of each number 0 … k − 1 (candidates,) is the best of all; a tie is shared."""
    best = np.stack([scores[:, numbers == number].max(axis=1) for number in range(int(numbers.max()) + 1)], axis=1)
    first = best >= best.max(axis=1, keepdims=True) - 1e-12
    return np.asarray((first / first.sum(axis=1, keepdims=True)).mean(axis=0))


def _check(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], candidates: Sequence[Candidate]
) -> None:
    names = [one.name for one in candidates]
    if probabilities.ndim != 3 or probabilities.shape[:2] != (len(names), len(labels)) or not names:
        raise WrongUse(
            "Probabilities, labels and candidates do not fit each other.",
            expected=f"probabilities ({len(names)} candidates, {len(labels)} images, classes)",
            found=f"an array {probabilities.shape}",
        )
    if len(set(names)) != len(names):
        raise WrongUse("Two candidates have one name.", found=sorted({name for name in names if names.count(name) > 1}))
    if len(labels) < _FEWEST:
        raise WrongUse(
            "There are too few labelled images to infer a preparation from.",
            expected=f"at least {_FEWEST}; with 150, most preparations can be told apart",
            found=len(labels),
        )
    if labels.min() < 0 or labels.max() >= probabilities.shape[2]:
        raise WrongUse(
            "A label is no class of the model.",
            expected=f"positions 0 … {probabilities.shape[2] - 1}",
            found=f"{labels.min()} … {labels.max()}",
        )
    unread = np.isnan(probabilities).any(axis=2).all(axis=0)
    if unread.any():
        raise WrongUse("There are images that no candidate reads.", found=f"{int(unread.sum())} of {len(labels)}")


def _temperature(probabilities: NDArray[np.float64], labels: NDArray[np.integer[Any]]) -> float:
    """That of the candidate with the highest likelihood at its own temperature: one for all, because a temperature of
    its own would forgive a wrong preparation its overconfidence.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float, rows: NDArray[np.float64], own: NDArray[np.integer[Any]]) -> float:
        scaled = tempered(rows, float(np.exp(log_temperature)))[np.arange(len(own)), own]
        return float(-np.log(np.maximum(scaled, 1e-12)).mean())

    found = []
    for rows in probabilities:
        read = ~np.isnan(rows).any(axis=1)
        if read.sum() >= _FEWEST:
            fitted = minimize_scalar(loss, bounds=(-1.5, 3.0), args=(rows[read], labels[read]), method="bounded")
            found.append((float(fitted.fun), float(np.exp(fitted.x))))
    return min(found)[1] if found else 1.0


def _stated(weight: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The smallest set of groups with LEVEL of the weight; equals of the last one stay with it."""
    ordered = np.sort(weight)[::-1]
    last = ordered[min(int(np.searchsorted(np.cumsum(ordered), LEVEL)), len(ordered) - 1)]
    return np.asarray(weight >= last * (1 - 1e-9), np.bool_)


def _certainties(
    candidates: Sequence[Candidate],
    first: str,
    scores: NDArray[np.float64],
    kept: NDArray[np.bool_],
    provable: Collection[str] | None,
) -> tuple[Certainty, ...]:
    top = next(one for one in candidates if one.name == first)
    found = []
    for family, value in top.families.items():
        values = np.array([one.families.get(family, "") for one in candidates])
        possible = tuple(dict.fromkeys([value, *sorted(set(values[kept].tolist()))]))
        names, numbers = np.unique(values, return_inverse=True)
        share = _wins(scores, numbers)[names.tolist().index(value)]
        tried = len(names) > 1 and (provable is None or family in provable)
        certain = tried and len(possible) == 1 and share >= _CERTAIN
        found.append(Certainty(family, value, float(share), possible, bool(certain)))
    return tuple(found)
