"""What remedies are worth, and whether training and validation are alike: on numbers whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from expectations.remedies import Interval, Outcome, ladder_accuracy, outcome, worth
from expectations.splits import generalisation_gap


def tried(remedy: str, seed: int, ladder: float, accuracy: float = 0.8) -> Outcome:
    return Outcome(remedy, seed, accuracy, 0.1, 0.05, ladder, {"fog": ladder, "noise": ladder})


def test_seeds_that_share_a_split_are_compared_seed_by_seed() -> None:
    # Splits differ by 20 points, the remedy by 3 in each: told apart, although the intervals of the two overlap.
    plain = [tried("plain", seed, ladder) for seed, ladder in enumerate((0.50, 0.60, 0.70))]
    better = [tried("noise", seed, ladder) for seed, ladder in enumerate((0.531, 0.63, 0.729))]
    first, second = worth([*plain, *better], "plain")
    assert first.ladder.high > second.ladder.low
    assert second.difference.mean == pytest.approx(0.03)
    assert (first.told, second.told) == ("not told", "better")
    assert [one.told for one in worth([*plain, *better], "noise")] == ["worse", "not told"]


def test_one_seed_tells_nothing() -> None:
    assert Interval.of([0.4]) == Interval(0.4, -np.inf, np.inf)
    assert worth([tried("plain", 0, 0.1), tried("noise", 0, 0.9)], "plain")[1].told == "not told"


def test_an_outcome_is_measured_on_held_out_images_only() -> None:
    labels = np.array([0, 1, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])
    held = np.array([False, False, True, True])
    # Two kinds of five strengths on the two held-out images: right on both under the first, on none under the second.
    ladder = np.zeros((2, 5, 2, 2))
    ladder[0, :, [0, 1], [0, 1]] = 1.0
    ladder[1, :, [0, 1], [1, 0]] = 1.0
    found = outcome("plain", 3, probabilities, labels, held, ladder, ["fog", "noise"])
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
