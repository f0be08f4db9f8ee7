"""What remedies are worth, and whether training and validation are alike: on numbers whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from expectations.measures import accuracy_interval
from expectations.remedies import Interval, Outcome, ladder_accuracy, outcome, worth
from expectations.splits import generalisation_gap


def tried(remedy: str, seed: int, ladder: float, accuracy: float = 0.8) -> Outcome:
    return Outcome(remedy, seed, accuracy, 0.1, 0.05, ladder, {"fog": ladder, "noise": ladder}, held_to_train=0.25)


def test_seeds_that_share_a_split_are_compared_seed_by_seed() -> None:
    # Splits differ by 20 points, the remedy by 3 in each: told apart, although the intervals of the two overlap.
    plain = [tried("plain", seed, ladder) for seed, ladder in enumerate((0.50, 0.60, 0.70))]
    better = [tried("noise", seed, ladder) for seed, ladder in enumerate((0.531, 0.63, 0.729))]
    first, second = worth([*plain, *better], "plain")
    assert first.ladder.high is not None
    assert second.ladder.low is not None
    assert first.ladder.high > second.ladder.low
    assert second.difference.mean == pytest.approx(0.03)
    assert second.difference.low is not None
    assert second.difference.low > 0
    assert (first.difference.low, first.difference.high) == (0, 0)


def test_one_seed_has_no_interval() -> None:
    assert Interval.of([0.4], 0.25) == Interval(0.4, None, None)


def test_an_interval_over_seeds_is_wider_than_that_of_independent_trainings() -> None:
    values = [0.50, 0.52, 0.54, 0.51, 0.53]
    shared, independent = (Interval.of(values, ratio) for ratio in (0.25, 0.0))
    assert shared.mean == independent.mean
    assert None not in (shared.low, independent.low)
    # Nadeau & Bengio: the root of (1/5 + 1/4) against the root of 1/5
    assert (shared.mean - (shared.low or 0)) / (independent.mean - (independent.low or 0)) == pytest.approx(1.5)


def test_an_outcome_is_measured_on_held_out_images_only() -> None:
    labels = np.array([0, 1, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])
    held = np.array([False, False, True, True])
    # Two kinds of five strengths on the two held-out images: right on both under the first, on none under the second.
    ladder = np.zeros((2, 5, 2, 2))
    ladder[0, :, [0, 1], [0, 1]] = 1.0
    ladder[1, :, [0, 1], [1, 0]] = 1.0
    found = outcome("plain", 3, probabilities, labels, held, ladder, labels[held], ["fog", "noise"])
    assert (found.accuracy, found.gap) == (0.5, 0.5)
    assert found.by_kind == {"fog": 1.0, "noise": 0.0}
    assert found.ladder == 0.5
    assert ladder_accuracy(ladder, labels[held]).shape == (2, 5)


@pytest.mark.parametrize(
    ("sessions", "wider"), [(None, False), (4, True)], ids=["images of their own", "four sessions"]
)
def test_the_gap_is_between_training_and_validation_and_sessions_make_it_less_certain(
    sessions: int | None, wider: bool
) -> None:
    n = 200
    held = np.arange(n) >= n // 2
    rank = np.arange(n) % (n // 2)
    # Training is right on 90 %, validation on 60 %; with sessions the wrong ones lie together.
    right = rank >= np.where(held, 40, 10)
    groups = np.arange(n) if sessions is None else held * sessions + rank * sessions // (n // 2)
    gap = generalisation_gap(right, held, groups)
    assert gap.value == pytest.approx(0.3)
    assert gap.low <= gap.value <= gap.high
    assert (gap.high - gap.low > 0.4) is wider


@pytest.mark.parametrize(
    ("groups", "right", "least", "most"),
    [
        ([0] * 20, 18, 1.0, 1.0),
        ([0] * 10 + [1] * 10, 18, 0.3, 1.0),
        ([k // 4 for k in range(20)], 20, 0.1, 0.5),
    ],
    ids=["one session: nothing can be said", "two sessions", "five sessions, all right"],
)
def test_few_sessions_make_a_wide_interval(groups: list[int], right: int, least: float, most: float) -> None:
    low, high = accuracy_interval(np.arange(20) < right, np.array(groups))
    assert 0 <= low <= right / 20 <= high <= 1
    assert least <= high - low <= most


@pytest.mark.parametrize(("sessions", "accuracy", "alike"), [(6, 0.8, 0.1), (6, 0.93, 0.1), (12, 0.93, 0.05)])
def test_the_interval_of_grouped_images_holds_the_truth(sessions: int, accuracy: float, alike: float) -> None:
    numbers = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        each = numbers.beta(accuracy * (1 / alike - 1), (1 - accuracy) * (1 / alike - 1), sessions)
        right = np.concatenate([numbers.random(20) < share for share in each])
        low, high = accuracy_interval(right, np.repeat(np.arange(sessions), 20))
        held += low <= accuracy <= high
    assert held / 400 > 0.92
