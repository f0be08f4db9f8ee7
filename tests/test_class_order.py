"""Which output is which class: solved from labelled images, and said where they cannot say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expectations.class_order import solve_order


def answers(order: list[int], labels: np.ndarray, accuracy: float, seed: int) -> np.ndarray:
    """What a model of so much accuracy says whose output `o` is the class order[o]."""
    numbers = np.random.default_rng(seed)
    k = len(order)
    wrong = numbers.random(len(labels)) > accuracy
    called = np.where(wrong, numbers.integers(k, size=len(labels)), labels)
    output_of = np.argsort(order)
    probabilities = numbers.uniform(0, 0.1, (len(labels), k))
    probabilities[np.arange(len(labels)), output_of[called]] += 1
    return probabilities / probabilities.sum(axis=1, keepdims=True)


@settings(deadline=None)
@given(order=st.permutations(range(5)), accuracy=st.floats(0.7, 1.0), seed=st.integers(0, 1000))
def test_the_order_of_a_model_that_is_mostly_right_is_found(order: list[int], accuracy: float, seed: int) -> None:
    labels = np.arange(200) % 5
    found = solve_order(answers(order, labels, accuracy, seed), labels, list("abcde"))
    assert found.names == tuple("abcde"[place] for place in order)
    assert not found.unclear


@pytest.mark.parametrize(("classes", "each"), [(2, 10), (2, 20), (3, 10), (5, 20)])
def test_a_model_that_knows_nothing_of_the_photos_hardly_ever_names_its_outputs(classes: int, each: int) -> None:
    numbers = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), each)
    named = 0
    for _ in range(200):
        tries = [
            solve_order(numbers.random((len(labels), classes)), labels, list("abcde")[:classes], tried=5)
            for _ in range(5)
        ]
        named += not max(tries, key=lambda one: one.accuracy).unclear
    assert named <= 4


def test_a_hundred_classes_are_named_and_doubts_are_told_in_a_line() -> None:
    labels = np.repeat(np.arange(100), 20)
    names = [f"class {number}" for number in range(100)]
    assert not solve_order(np.eye(100)[labels], labels, names).unclear
    assert len(solve_order(np.eye(100)[labels % 7], labels, names).sentence()) < 3000


def test_two_classes_that_the_model_does_not_tell_apart_are_named() -> None:
    labels = np.arange(300) % 3
    guesses = np.where(labels == 2, 2, np.random.default_rng(0).integers(2, size=300))
    found = solve_order(np.eye(3)[guesses], labels, ["cat", "dog", "owl"])
    assert [set(pair) for pair in found.unclear] == [{"cat", "dog"}]
    assert "do not tell" in found.sentence()


@pytest.mark.parametrize("seen", [[0, 1], [0]], ids=["two of three", "one of three"])
def test_a_class_without_an_image_leaves_its_place_unclear(seen: list[int]) -> None:
    labels = np.tile(seen, 20)
    found = solve_order(np.eye(3)[labels], labels, ["cat", "dog", "owl"])
    assert sorted(found.names) == ["cat", "dog", "owl"]
    assert bool(found.unclear) == (len(seen) == 1)
