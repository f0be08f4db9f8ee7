"""Which replay reproduces predictions; and that unrelated ones are not explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from expectations.answers import Answers, distances
from expectations.reproduction import Names, Reproduction, conclude, weigh, weigh_outputs

K = 4
CLASSES = ("nut", "bolt", "gear", "10 mm")
NAMES: tuple[Names, ...] = ((), ("fit=crop",), ("interpolation=nearest",), ("scaling=unit",), ("icc=to_srgb",))
SPREAD = (0.0, 0.6, 0.3, 2.5, 0.0)  # of the logits: icc shows nothing


def logits(n: int, seed: int = 0) -> np.ndarray:
    """(variants, n, K): a model's logits under every preparation."""
    rng = np.random.default_rng(seed)
    pinned = rng.normal(0, 3, (n, K))
    return np.stack([pinned + rng.normal(0, 1, (n, K)) * spread for spread in SPREAD])


def replays(n: int, seed: int = 0) -> np.ndarray:
    return softmax(logits(n, seed), axis=2)


def probabilities(shares: np.ndarray, digits: int | None = None) -> Answers:
    if digits is None:
        return Answers("probabilities", shares, shares.argmax(axis=1), None)
    return Answers("probabilities", shares.round(digits), shares.argmax(axis=1), None, 0.5 * 10.0**-digits)


def top_1(shares: np.ndarray) -> Answers:
    return Answers("top-1 with confidence", None, shares.argmax(axis=1), shares.max(axis=1))


def labels(shares: np.ndarray) -> Answers:
    return Answers("labels", None, shares.argmax(axis=1), None)


def explain(theirs: Answers, ours: np.ndarray, names: tuple[Names, ...] = NAMES) -> Reproduction:
    """As the flow does: preparations first, then what comes behind the model."""
    evidence = weigh(theirs, names, ours)
    found = conclude(evidence, nearly=False)
    return found if found.explained else conclude(evidence + weigh_outputs(theirs, names, ours, CLASSES))


@pytest.mark.parametrize("made", [probabilities, top_1], ids=["probabilities", "top-1"])
@pytest.mark.parametrize("variant", [1, 2, 3], ids=lambda one: NAMES[one][0])
@pytest.mark.parametrize("n", [5, 50])
def test_the_variant_that_made_the_predictions_is_named(
    made: Callable[[np.ndarray], Answers], variant: int, n: int
) -> None:
    ours = replays(n)
    found = explain(made(ours[variant]), ours)
    assert (found.level, found.variants) == ("reproduced", NAMES[variant])
    assert found.best.share == 1
    assert found.margin is not None
    assert found.margin > 0.5


@pytest.mark.parametrize("digits", [2, 3, 6])
def test_rounded_predictions_are_reproduced_as_far_as_their_digits_go(digits: int) -> None:
    ours = replays(40)
    found = explain(probabilities(ours[2], digits), ours)
    assert found.variants == NAMES[2]
    assert found.tolerance == pytest.approx(0.5 * 10.0**-digits + 1e-4)


def test_labels_name_the_variant_that_no_label_contradicts() -> None:
    ours = replays(300)
    found = explain(labels(ours[1]), ours)
    assert (found.level, found.variants, found.best.share) == ("reproduced", NAMES[1], 1.0)


def test_a_few_labels_name_no_cause_because_luck_could_explain_them() -> None:
    ours = replays(300)
    assert explain(labels(ours[3][:20]), ours[:, :20]).level == "unexplained"
    assert explain(labels(ours[3][:60]), ours[:, :60]).variants == NAMES[3]
    one_flip = ours[0].argmax(axis=1)
    row = int(np.flatnonzero(one_flip != ours[3].argmax(axis=1))[0])
    one_flip[row] = ours[3][row].argmax()
    ours[3] = ours[0]
    ours[3][row] = np.eye(K)[one_flip[row]]
    assert explain(Answers("labels", None, one_flip, None), ours).variants == ()


@pytest.mark.parametrize("made", [probabilities, top_1, labels])
def test_the_pinned_preparation_is_no_difference_and_what_cannot_be_shown_is_listed(
    made: Callable[[np.ndarray], Answers],
) -> None:
    ours = replays(60)
    found = explain(made(ours[0]), ours)
    assert (found.level, found.variants) == ("same", ())
    assert found.not_shown == ("icc=to_srgb",)


def test_variants_that_these_files_cannot_tell_apart_are_named_together() -> None:
    ours = replays(20)
    ours[2] = ours[1]
    ours[2, 3] += np.array([9e-5, -9e-5, 0, 0])
    found = explain(probabilities(ours[1]), ours)
    assert {found.best.names, *found.alike} == {NAMES[1], NAMES[2]}
    assert found.runner_up is not None
    assert found.runner_up.names not in (NAMES[1], NAMES[2])


def test_a_variant_that_cannot_read_a_file_does_not_explain_its_answer() -> None:
    ours = replays(10)
    ours[1, :3] = np.nan
    assert not explain(probabilities(replays(10)[1]), ours).explained
    assert (distances(probabilities(ours[0]), ours[1])[:3] == 1).all()


@pytest.mark.parametrize(
    "unrelated",
    [
        pytest.param(lambda n, rng: softmax(rng.normal(0, 3, (n, K)), axis=1), id="another model"),
        pytest.param(lambda n, rng: rng.dirichlet(np.ones(K), n), id="noise"),
        pytest.param(lambda n, rng: softmax(logits(n)[0] + rng.normal(0, 1, (n, K)), axis=1), id="a sister model"),
        pytest.param(lambda n, rng: np.full((n, K), 0.25), id="a constant"),
        pytest.param(lambda n, rng: np.eye(K)[rng.integers(0, K, n)], id="ones and zeros"),
    ],
)
@pytest.mark.parametrize("made", [probabilities, top_1, labels])
@pytest.mark.parametrize("seed", range(4))
def test_unrelated_predictions_are_not_explained(
    made: Callable[[np.ndarray], Answers], unrelated: Callable[..., np.ndarray], seed: int
) -> None:
    theirs = unrelated(60, np.random.default_rng(100 + seed))
    found = explain(made(theirs), replays(60))
    assert (found.level, found.variants) == ("unexplained", ())


@given(seed=st.integers(0, 10_000), n=st.integers(30, 90), digits=st.sampled_from([2, 4, 6]))
@settings(max_examples=40, deadline=None)
def test_noise_is_never_explained_however_it_is_rounded(seed: int, n: int, digits: int) -> None:
    theirs = np.random.default_rng(seed).dirichlet(np.full(K, 0.5), n)
    assert not explain(probabilities(theirs, digits), replays(n)).explained


@given(st.permutations(range(60)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_rows_of_both_changes_nothing(order: list[int]) -> None:
    ours = replays(60)
    first, second = (explain(probabilities(ours[1][rows]), ours[:, rows]) for rows in (range(60), order))
    assert first.variants == second.variants
    assert first.best.score == pytest.approx(second.best.score)


def _shuffled(shares: np.ndarray) -> np.ndarray:
    return shares[np.random.default_rng(3).permutation(len(shares))]


def _listed(order: list[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Their column of a class holds what stands at its place in their list."""
    return lambda shares: shares[:, [order.index(name) for name in CLASSES]]


BEHIND = {
    "class_order=alphabetical": _listed(sorted(CLASSES)),
    "class_order=reversed": _listed(list(reversed(CLASSES))),
    "class_order=gear,nut,10 mm,bolt": _listed(["gear", "nut", "10 mm", "bolt"]),
    "order=shuffled": _shuffled,
    "order=shifted_by_8": lambda shares: np.roll(shares, -8, axis=0),
    "order=shifted_by_-1": lambda shares: np.roll(shares, 1, axis=0),
    "outputs=logits": lambda shares: np.log(shares) + 2.5,
    "outputs=log_softmax": np.log,
    "outputs=sigmoid": lambda shares: expit(np.log(shares) + 1.5),
    "outputs=softmax_twice": lambda shares: softmax(shares, axis=1),
    "outputs=temperature_2": lambda shares: softmax(np.log(shares) / 2, axis=1),
}


@pytest.mark.parametrize("mistake", BEHIND)
@pytest.mark.parametrize("variant", [0, 2], ids=["alone", "with another filter"])
def test_a_mistake_behind_the_model_is_named_with_and_without_one_before_it(mistake: str, variant: int) -> None:
    ours = replays(60)
    found = explain(probabilities(BEHIND[mistake](ours[variant])), ours)
    assert (found.level, found.variants) == ("reproduced", (*NAMES[variant], mistake))


def test_numbers_in_class_names_are_not_ordered_as_people_count() -> None:
    classes = ("1", "10", "2", "3")
    ours = replays(40)
    theirs = ours[0][:, [["1", "2", "3", "10"].index(name) for name in classes]]
    evidence = weigh(probabilities(theirs), NAMES, ours) + weigh_outputs(probabilities(theirs), NAMES, ours, classes)
    assert conclude(evidence).variants == ("class_order=numeric",)


@pytest.mark.parametrize("mistake", ["class_order=alphabetical", "class_order=gear,nut,10 mm,bolt"])
def test_a_class_order_shows_in_labels_and_in_top_1(mistake: str) -> None:
    ours = replays(200)
    for made in (labels, top_1):
        assert explain(made(BEHIND[mistake](ours[0])), ours).variants == (mistake,)


def test_shuffled_rows_show_in_top_1_too() -> None:
    ours = replays(60)
    assert explain(top_1(_shuffled(ours[0])), ours).variants == ("order=shuffled",)


def test_the_confidence_of_all_other_classes_is_recognised() -> None:
    ours = replays(60)
    theirs = top_1(ours[0])
    assert theirs.confidence is not None
    swapped = replace(theirs, confidence=1 - theirs.confidence)
    assert explain(swapped, ours).variants == ("outputs=complement",)


def test_argmax_of_one_unit_is_always_the_first_class() -> None:
    ours = replays(60)[:, :, :2]
    ours = ours / ours.sum(axis=2, keepdims=True)
    theirs = Answers("labels", None, np.zeros(60, np.int64), None)
    evidence = weigh(theirs, NAMES, ours) + weigh_outputs(theirs, NAMES, ours, ("no", "yes"))
    assert conclude(evidence).variants == ("outputs=argmax_of_one_unit",)


def test_a_mistake_on_another_version_of_a_library_is_nearly_reproduced() -> None:
    ours = replays(60)
    rng = np.random.default_rng(1)
    theirs = softmax(logits(60)[3] + rng.normal(0, 0.01, (60, K)), axis=1)
    found = explain(probabilities(theirs), ours)
    assert (found.level, found.variants) == ("nearly", ("scaling=unit",))
    assert conclude(weigh(probabilities(theirs), NAMES, ours), nearly=False).level == "unexplained"


def test_nearly_everything_certain_tells_little_and_says_so() -> None:
    shares = np.tile(np.array([1 - 3e-5, 1e-5, 1e-5, 1e-5]), (20, 1))
    found = explain(probabilities(shares), np.stack([shares] * len(NAMES)))
    assert (found.level, found.undecided) == ("same", 0)
    assert set(found.not_shown) == {names[0] for names in NAMES if names}


def test_a_difference_too_small_to_be_named_is_not_called_none() -> None:
    ours = replays(60)
    theirs = ours[0].copy()
    theirs[:, 0] += 6e-4
    theirs[:, 1] -= 6e-4
    ours[4] = theirs
    found = explain(probabilities(theirs), ours)
    assert (found.level, found.variants) == ("nearly", ())
    assert found.best.share < 0.5
