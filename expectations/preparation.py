"""Which preparation a model was trained with, from what it says of labelled images under each candidate; and how sure.

The evidence is the likelihood of the labels. Probabilities are tempered first (one temperature for all candidates, by
likelihood, arXiv 1706.04599) and mixed with a little of the uniform guess: one overconfident miss must not decide.
A posterior over the candidates follows, with a learning rate under 1: the model is not calibrated, errors of one image
under two preparations are not independent, and a head can by chance be better under a preparation that it never saw
(Bissiri, Holmes & Walker, "A general framework for updating belief distributions", 2016; Grünwald & van Ommen,
"Inconsistency of Bayesian inference for misspecified linear models", 2017). The rate was chosen on trained heads whose
preparation was known.

The stated set is the smallest one with 95 % of the posterior. A model confidence set (Hansen, Lunde & Nason, "The Model
Confidence Set", 2011) asks less, whether one is *worse*, and is about twice as large for the same images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import WrongUse
from expectations.accuracy import tempered

LEVEL: Final = 0.95
# Preparations that change the answer for fewer images than this are one: nobody could tell them apart, or need to.
SAME: Final = 0.03
# The share of the log-likelihood that counts as evidence.
_LEARNING_RATE: Final = 0.35
# Images after which more of them say no more: by then a chance advantage of the head outweighs the sampling error.
_ENOUGH: Final = 400
# A family of knobs is certain when its value holds this much of the posterior, over the whole stated set.
_CERTAIN: Final = 0.99
_FLOOR: Final = 0.02
_FEWEST: Final = 10


@dataclass(frozen=True)
class Candidate:
    """A preparation by its name, and its value in each family of knobs (scaling, channel_order, fit, …)."""

    name: str
    families: Mapping[str, str]


@dataclass(frozen=True)
class Share:
    """A share or a difference of shares, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ranked:
    """A candidate on the sample. `log_likelihood`: mean, of tempered probabilities; `weight`: of the posterior, that of
    all that count as one with it; `one_with`: their names; `refused`: images that its decoder does not read.
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
    """What is known of a family of knobs. `value`: of the most likely; `weight`: that value's share of the posterior;
    `possible`: the values inside the stated set. Certain: only one is possible, it has nearly all of the posterior, and
    another was tried.
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


@dataclass(frozen=True)
class Better:
    """A candidate that is right more often than the user's own, on the same images; the interval allows for how many
    were compared with it.
    """

    name: str
    accuracy: float
    than: str
    than_accuracy: float
    difference: Share
    compared: int


def infer(
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    candidates: Sequence[Candidate],
    *,
    mirrored: NDArray[np.floating[Any]] | None = None,
    groups: NDArray[Any] | None = None,
) -> Inferred:
    """Rank candidates by probabilities (candidates, n, k), rows of NaN where a decoder refused, and labels (n,).

    mirrored: the same of the images' mirror images, which only the likelihood sees; a second look at each image.

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
    if mirrored is not None:
        other = likelihoods(np.asarray(mirrored, np.float64)[order], labels, temperature)
        evidence = (evidence + other) / 2
    same = merged(p)
    weight_of = posterior(evidence, same, _independent(evidence, groups))
    kept = _stated(weight_of)
    within = _within(evidence, same)
    means = evidence.mean(axis=1)
    right = correct(p, labels)
    ranking = tuple(
        Ranked(
            name=candidates[c].name,
            accuracy=_accuracy(right[c], groups),
            log_likelihood=float(means[c]),
            weight=float(weight_of[same[c]]),
            in_set=bool(kept[same[c]]),
            one_with=tuple(candidates[d].name for d in np.flatnonzero(same == same[c]) if d != c),
            refused=int(np.isnan(right[c]).sum()),
        )
        for c in sorted(range(len(candidates)), key=lambda c: (-weight_of[same[c]], same[c], -means[c]))
    )
    weight = weight_of[same] * within
    certainties = _certainties(candidates, ranking[0].name, weight, kept[same])
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

    read = ~np.isnan(probabilities).any(axis=2)
    top = np.where(read, np.nan_to_num(probabilities).argmax(axis=2), -1)
    first, second = np.triu_indices(len(top), 1)
    both = read[first] & read[second]
    flips = ((top[first] != top[second]) & both).sum(axis=1) / np.maximum(1, both.sum(axis=1))
    numbers = fcluster(linkage(flips, "complete"), np.nextafter(SAME, 0), "distance")
    return np.asarray(np.unique(numbers, return_inverse=True)[1], np.intp)


def posterior(evidence: NDArray[np.float64], same: NDArray[np.intp], independent: float) -> NDArray[np.float64]:
    """Weight (groups,) of each number of `same`, from log-likelihoods (candidates, n): every group as likely as any
    other beforehand, however many names it has. `independent`: how many independent images the n are worth.
    """
    worth = 1 / (1 / independent + 1 / _ENOUGH)
    log_weight = _LEARNING_RATE * worth * evidence.mean(axis=1)
    found = np.zeros(int(same.max()) + 1)
    for number in range(len(found)):
        own = log_weight[same == number]
        found[number] = own.max() + np.log(np.exp(own - own.max()).mean())
    grown = np.exp(found - found.max())
    return np.asarray(grown / grown.sum())


def better_than(
    own: str,
    inferred: Inferred,
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    names: Sequence[str],
    *,
    groups: NDArray[Any] | None = None,
) -> Better | None:
    """The candidate that is right most often, against the user's `own`: paired, image by image (by session, where
    `groups` names them), Student's t with Bonferroni's correction for the groups of candidates that were compared. None
    where the interval of the difference holds zero.
    """
    from scipy.special import stdtrit

    right = correct(np.asarray(probabilities, np.float64), labels)
    mine = names.index(own)
    row = {one.name: one for one in inferred.ranking}
    others = [c for c, name in enumerate(names) if name != own and name not in row[own].one_with]
    if not others:
        return None
    compared = len({frozenset((names[c], *row[names[c]].one_with)) for c in others})
    difference = np.nan_to_num(right[others] - right[mine])
    best = max(
        range(len(others)),
        key=lambda c: (difference[c].mean(), row[names[others[c]]].log_likelihood, names[others[c]]),
    )
    mean, spread, sessions = _mean_and_spread(difference[best], groups)
    reach = float(stdtrit(max(1, sessions - 1), 1 - (1 - LEVEL) / 2 / compared)) * spread
    if mean - reach <= 0:
        return None
    both = ~np.isnan(right[others[best]]) & ~np.isnan(right[mine])
    return Better(
        name=names[others[best]],
        accuracy=float(right[others[best]][both].mean()),
        than=own,
        than_accuracy=float(right[mine][both].mean()),
        difference=Share(mean, mean - reach, mean + reach),
        compared=compared,
    )


def correct(probabilities: NDArray[np.float64], labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """1 where the top class (candidates, n) is the label, 0 where not, NaN where the image was refused."""
    read = ~np.isnan(probabilities).any(axis=2)
    return np.where(read, np.nan_to_num(probabilities).argmax(axis=2) == labels, np.nan)


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


def _independent(evidence: NDArray[np.float64], groups: NDArray[Any] | None) -> float:
    """How many independent images the sample is worth: all, or fewer where images of a session err together."""
    n = evidence.shape[1]
    if groups is None or len(evidence) == 1:
        return float(n)
    off = evidence - evidence[evidence.mean(axis=1).argmax()]
    off = off - off.mean(axis=1, keepdims=True)
    numbers = np.unique(groups, return_inverse=True)[1]
    sums = np.stack([np.bincount(numbers, row) for row in off])
    alone = np.square(off).sum(axis=1)
    effects = np.square(sums).sum(axis=1)[alone > 0] / alone[alone > 0]
    return n / max(1.0, float(np.median(effects))) if len(effects) else float(n)


def _stated(weight: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The smallest set of groups with LEVEL of the posterior; equals of the last one stay with it."""
    ordered = np.sort(weight)[::-1]
    last = ordered[min(int(np.searchsorted(np.cumsum(ordered), LEVEL)), len(ordered) - 1)]
    return np.asarray(weight >= last * (1 - 1e-9), np.bool_)


def _within(evidence: NDArray[np.float64], same: NDArray[np.intp]) -> NDArray[np.float64]:
    """What part (candidates,) of its group's weight each has."""
    total = evidence.sum(axis=1) * _LEARNING_RATE
    found = np.zeros(len(same))
    for number in range(int(same.max()) + 1):
        own = np.exp(total[same == number] - total[same == number].max())
        found[same == number] = own / own.sum()
    return found


def _certainties(
    candidates: Sequence[Candidate], first: str, weight: NDArray[np.float64], kept: NDArray[np.bool_]
) -> tuple[Certainty, ...]:
    top = next(one for one in candidates if one.name == first)
    found = []
    for family, value in top.families.items():
        values = np.array([one.families.get(family, "") for one in candidates])
        possible = tuple(dict.fromkeys([value, *sorted(set(values[kept].tolist()))]))
        share = float(weight[values == value].sum())
        tried = len(set(values.tolist())) > 1
        certain = tried and len(possible) == 1 and share >= _CERTAIN
        found.append(Certainty(family, value, share, possible, certain))
    return tuple(found)


def _accuracy(right: NDArray[np.float64], groups: NDArray[Any] | None) -> Share:
    """Wilson's interval; of as many images as the sessions are worth."""
    from scipy.special import ndtri

    read = ~np.isnan(right)
    n = int(read.sum())
    if n == 0:
        return Share(float("nan"), 0.0, 1.0)
    share = float(right[read].mean())
    worth = _independent(np.stack([right[read], np.full(n, share)]), None if groups is None else groups[read])
    z2 = float(ndtri(0.5 + LEVEL / 2)) ** 2
    centre = (share + z2 / (2 * worth)) / (1 + z2 / worth)
    reach = np.sqrt(z2 * (share * (1 - share) / worth + z2 / (4 * worth**2))) / (1 + z2 / worth)
    return Share(share, max(0.0, float(centre - reach)), min(1.0, float(centre + reach)))


def _mean_and_spread(values: NDArray[np.float64], groups: NDArray[Any] | None) -> tuple[float, float, int]:
    """Mean, its standard error, and how many independent sums that is from."""
    numbers = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    mean = float(values.mean())
    sums = np.bincount(numbers, values - mean)
    sessions = len(sums)
    return mean, float(np.sqrt(np.square(sums).sum() * sessions / max(1, sessions - 1))) / len(values), sessions
