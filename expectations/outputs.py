"""Mistakes that are made after the model: class order, order of rows, and numbers taken for probabilities.

Each is computed from the replay's probabilities alone, so it costs no forward pass and combines with every variant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, minimize_scalar
from scipy.spatial import cKDTree
from scipy.special import expit, log_softmax, logit, softmax

from expectations.answers import Answers, distances, undecided

Replay = NDArray[np.floating[Any]]

_SMALLEST: Final = 1e-12  # a probability of float32 that underflowed has some logit, and nobody can see which
_LARGEST_SHIFT: Final = 256  # rows; batches are seldom larger
_MOST_SHUFFLED: Final = 3000  # rows whose partners are looked for at once
_FEWEST_FITTED: Final = 3  # rows that are not certain: one number that is fitted explains one or two of them by itself
_LUCK: Final = 0.3  # of the rows that may find a partner by chance


@dataclass(frozen=True)
class Outcome:
    """Answers and replay as one mistake makes them comparable; `rows`, those of which that can be said; the value of
    the knob, where it was found rather than assumed.
    """

    theirs: Answers
    replay: Replay
    value: str
    rows: NDArray[np.bool_]


@dataclass(frozen=True)
class OutputMistake:
    """A mistake behind the model: `knob=value`; `undo` compares (None: it cannot be this mistake)."""

    knob: str
    undo: Callable[[Answers, Replay], Outcome | None]


def output_mistakes(theirs: Answers, classes: Sequence[str]) -> tuple[OutputMistake, ...]:
    """The mistakes that answers like these could come from, the most plausible first."""
    found: list[OutputMistake] = []
    if theirs.probabilities is not None and not theirs.shares:
        found += [OutputMistake("outputs", undo) for undo in (_log_probabilities, _logits, _sigmoids)]
    else:
        for value, order in _orders(classes).items():
            found.append(OutputMistake("class_order", _reordered(value, order)))
        found.append(OutputMistake("class_order", _solved(classes)))
        if theirs.probabilities is not None:
            found += [OutputMistake("outputs", undo) for undo in (_softmax_twice, _temperature)]
    if theirs.confidence is not None:
        found.append(OutputMistake("outputs", _complement))
    if len(classes) == 2 and theirs.kind != "probabilities" and not theirs.predicted.any():
        found.append(OutputMistake("outputs", _argmax_of_one_unit))
    if theirs.kind != "labels" and theirs.shares:
        found += [OutputMistake("order", undo) for undo in (_shifted, _shuffled)]
    return tuple(found)


def _all_rows(theirs: Answers, replay: Replay, value: str) -> Outcome:
    return Outcome(theirs, replay, value, np.ones(len(theirs), np.bool_))


def _logits(theirs: Answers, replay: Replay) -> Outcome | None:
    """The softmax is missing: answers are logits (from_logits=True in training, and nothing after it)."""
    assert theirs.probabilities is not None
    return _all_rows(replace(theirs, probabilities=softmax(theirs.probabilities, axis=1)), replay, "logits")


def _log_probabilities(theirs: Answers, replay: Replay) -> Outcome | None:
    assert theirs.probabilities is not None
    if theirs.probabilities.max() > 0:
        return None
    return _all_rows(replace(theirs, probabilities=np.exp(theirs.probabilities)), replay, "log_softmax")


def _sigmoids(theirs: Answers, replay: Replay) -> Outcome | None:
    """One sigmoid a class: the softmax fixes logits up to a constant a row, which the answer nearest to ½ gives."""
    shares = theirs.probabilities
    if shares is None or shares.min() < 0 or shares.max() > 1:
        return None
    logits = _logits_of(replay)
    middle = np.abs(shares - 0.5).argmin(axis=1)[:, None]
    known = logit(np.take_along_axis(shares, middle, 1).clip(_SMALLEST, 1 - _SMALLEST))
    constant = known - np.take_along_axis(logits, middle, 1)
    return _all_rows(theirs, expit(logits + constant), "sigmoid")


def _softmax_twice(theirs: Answers, replay: Replay) -> Outcome | None:
    return _all_rows(theirs, softmax(np.asarray(replay, np.float64), axis=1), "softmax_twice")


def _temperature(theirs: Answers, replay: Replay) -> Outcome | None:
    """A temperature that was forgotten or is another one."""
    assert theirs.probabilities is not None
    logits = _logits_of(replay)
    usable = np.isfinite(logits).all(axis=1)
    if (usable & undecided(theirs)).sum() < _FEWEST_FITTED:
        return None
    stated = theirs.probabilities[usable]

    def off(log_temperature: float) -> float:
        return float(np.abs(softmax(logits[usable] / np.exp(log_temperature), axis=1) - stated).mean())

    fitted = minimize_scalar(off, bounds=(-2.5, 2.5), method="bounded", options={"xatol": 1e-7})
    temperature = float(np.exp(fitted.x))
    if abs(temperature - 1) < 0.01:
        return None
    return _all_rows(theirs, softmax(logits / temperature, axis=1), f"temperature_{temperature:.3g}")


def _complement(theirs: Answers, replay: Replay) -> Outcome | None:
    """The confidence is that of the other classes together."""
    assert theirs.confidence is not None
    return _all_rows(replace(theirs, confidence=1 - theirs.confidence), replay, "complement")


def _argmax_of_one_unit(theirs: Answers, replay: Replay) -> Outcome | None:
    """`argmax` of an output (n, 1) is 0 for every image."""
    if (np.nan_to_num(replay).argmax(axis=1) == 1).mean() < 0.1:
        return None
    ours = np.array(replay, np.float64)
    if theirs.confidence is None:
        ours[np.isfinite(ours).all(axis=1)] = (1.0, 0.0)
    else:
        ours = np.column_stack([ours[:, 1], 0 * ours[:, 1]])
    return _all_rows(theirs, ours, "argmax_of_one_unit")


def _orders(classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Lists of names that people take for the model's order: word → for each class, where such a list puts it."""

    def natural(name: str) -> list[tuple[int, float, str]]:
        parts = re.split(r"(\d+)", name.casefold())
        return [(0, float(part), "") if part.isdigit() else (1, 0.0, part) for part in parts if part]

    lists = {
        "alphabetical": sorted(classes),
        "numeric": sorted(classes, key=natural),
        "ignoring_case": sorted(classes, key=str.casefold),
        "reversed": list(reversed(classes)),
    }
    found: dict[str, tuple[int, ...]] = {}
    for word, names in lists.items():
        order = tuple(names.index(name) for name in classes)
        if order != tuple(range(len(classes))) and order not in found.values():
            found[word] = order
    return found


def _reordered(value: str, order: tuple[int, ...]) -> Callable[[Answers, Replay], Outcome | None]:
    return lambda theirs, replay: _all_rows(theirs, np.asarray(replay)[:, list(order)], value)


def _solved(classes: Sequence[str]) -> Callable[[Answers, Replay], Outcome | None]:
    """The class order that fits best; named by the list that they must have used."""
    known = set(_orders(classes).values())

    def undo(theirs: Answers, replay: Replay) -> Outcome | None:
        usable = np.isfinite(replay).all(axis=1)
        ours = np.asarray(replay, np.float64)[usable]
        if not len(ours):
            return None
        cost = np.empty((len(classes), len(classes)))
        stated = theirs.rows(np.flatnonzero(usable))
        for column in range(len(classes)):
            if stated.probabilities is not None:
                cost[column] = np.abs(stated.probabilities[:, [column]] - ours).sum(axis=0)
            else:
                rows = stated.predicted == column
                cost[column] = (ours[rows].max(axis=1, keepdims=True) - ours[rows]).sum(axis=0)
        order = tuple(int(one) for one in linear_sum_assignment(cost)[1])
        if order == tuple(range(len(classes))) or order in known:
            return None
        theirs_list = [classes[order.index(place)] for place in range(len(classes))]
        return _all_rows(theirs, np.asarray(replay)[:, list(order)], ",".join(theirs_list))

    return undo


def _shifted(theirs: Answers, replay: Replay) -> Outcome | None:
    """Rows that are late or early by some: the first batch is lost, or a header was taken for a row."""
    n = len(theirs)
    fewest = max(5, n // 3)
    best: tuple[float, int] | None = None
    ours = np.asarray(replay, np.float64)
    for by in range(-min(n - fewest, _LARGEST_SHIFT), min(n - fewest, _LARGEST_SHIFT) + 1):
        if by == 0:
            continue
        here = slice(max(0, -by), n - max(0, by))
        there = slice(max(0, by), n - max(0, -by))
        share = float((distances(theirs.rows(np.arange(n)[here]), ours[there]) <= theirs.tolerance).mean())
        if best is None or share > best[0]:
            best = share, by
    if best is None:
        return None
    by = best[1]
    moved = np.full_like(ours, np.nan)
    rows = np.zeros(n, np.bool_)
    here = slice(max(0, -by), n - max(0, by))
    moved[here] = ours[max(0, by) : n - max(0, -by)]
    rows[here] = True
    return Outcome(theirs, moved, f"shifted_by_{by}", rows)


def _shuffled(theirs: Answers, replay: Replay) -> Outcome | None:
    """The generator shuffled, the list of names did not: each answer belongs to some other image (keras#4225, #6234).

    Every answer is given an image of its own, so that the sum of differences is smallest. Where answers are so coarse
    that many would find a partner by luck (measured on a replay that is slightly off) nothing is said.
    """
    n = len(theirs)
    usable = np.flatnonzero(np.isfinite(replay).all(axis=1))
    if not 5 <= n <= _MOST_SHUFFLED or len(usable) < n:
        return None
    ours, stated = _as_points(theirs, np.asarray(replay, np.float64))
    off = np.zeros(ours.shape[1])
    off[0], off[-1] = 6 * theirs.tolerance, -6 * theirs.tolerance
    undecided = np.abs(stated).max(axis=1) < 1 - 20 * theirs.tolerance
    if undecided.sum() < 5:
        return None
    near = 2 * theirs.tolerance
    luck = (cKDTree(ours + off).query(stated[undecided], p=np.inf)[0] <= near).mean()
    found = (cKDTree(ours).query(stated[undecided], p=np.inf)[0] <= near).mean()
    if luck > _LUCK or found < 0.5:
        return None
    cost = np.abs(stated[:, None, :] - ours[None, :, :]).max(axis=2)
    partner = linear_sum_assignment(np.minimum(cost, 50 * theirs.tolerance))[1]
    if (partner == np.arange(n)).mean() > 0.9:
        return None
    moved = np.asarray(replay)[partner]
    if theirs.probabilities is None:  # the class is part of the answer: it must be that of the partner, too
        moved = np.where((moved.argmax(axis=1) == theirs.predicted)[:, None], moved, np.nan)
    return _all_rows(theirs, moved, "shuffled")


def _as_points(theirs: Answers, ours: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if theirs.probabilities is not None:
        return ours, theirs.probabilities
    assert theirs.confidence is not None
    k = ours.shape[1]
    one_hot = np.eye(k)
    return (
        one_hot[ours.argmax(axis=1)] * ours.max(axis=1, keepdims=True),
        one_hot[theirs.predicted] * theirs.confidence[:, None],
    )


def _logits_of(replay: Replay) -> NDArray[np.float64]:
    """Centred logits of probabilities."""
    return np.asarray(log_softmax(np.log(np.asarray(replay, np.float64).clip(_SMALLEST)), axis=1))
