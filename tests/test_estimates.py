"""Accuracy without labels: how wrong it may be, when it is refused, and what a drift costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.schemas import EMBEDDING_COMPONENTS, ESTIMATES
from darkroom.summary import AccuracyEstimate
from expectations.backtest import METHODS
from expectations.class_mix import ClassMix, solved
from expectations.estimates import Estimator, learn_estimator, read_ladder
from expectations.harm import HarmCurves
from expectations.signs import NAMES, PROPERTIES, Signs, learn_reading
from expectations.smoothing import Smooth
from flows.evaluation import estimate_rows
from tasks.properties import measure_pixels
from tasks.training.ladder import properties_of
from tests import ladders


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return ladders.learned()


def test_what_the_ladder_measures_stands_under_its_own_name() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8) // np.array([1, 2, 4], np.uint8)
    (measured,) = properties_of(photo[None])
    assert dict(zip(PROPERTIES, measured.tolist(), strict=True)) == pytest.approx(measure_pixels(photo))


def test_nights_of_a_kind_that_was_never_seen_are_estimated_within_their_interval() -> None:
    off, held = [], []
    for kind in ladders.KINDS:
        known = ladders.learned(without=kind)
        for strength in (1, 3, 5):
            for seed in range(3):
                seen = ladders.outputs(100 + seed, 300, [(kind, strength)])
                told = known.estimate(ladders.night(known.reading, seen))
                assert told.value is not None
                assert told.low is not None
                assert told.high is not None
                off.append(abs(told.value - seen.right[0].mean()))
                held.append(told.low <= seen.right[0].mean() <= told.high)
    assert np.mean(off) < 0.05
    assert np.mean(held) >= 0.85


def test_the_estimator_knows_its_own_error_on_every_kind(estimator: Estimator) -> None:
    assert [one.kind for one in estimator.errors] == list(ladders.KINDS)
    assert all(set(one.error) == set(METHODS) for one in estimator.errors)
    assert estimator.error == min(np.mean([one.error[method] for one in estimator.errors]) for method in METHODS)
    assert 0 < estimator.error < 0.1


def test_it_comes_back_from_the_bundle_as_it_was(estimator: Estimator) -> None:
    seen = ladders.night(estimator.reading, ladders.outputs(7, 120, [("blur", 2)]))
    again = Estimator.from_json(estimator.to_json())
    assert again == estimator
    assert again.estimate(seen) == estimator.estimate(seen)


@pytest.mark.parametrize("images", [3, 39], ids=["three", "one too few"])
def test_a_short_ladder_teaches_nothing(images: int) -> None:
    from expectations.estimates import read_ladder

    seen = ladders.outputs(0, images, [("", 0), *((kind, 1) for kind in ladders.KINDS)])
    reading, ladder = read_ladder(seen, 1.0, np.zeros((5, len(PROPERTIES))))
    assert learn_estimator(ladder, reading, ClassMix(("a", "b"), ((1, 0), (0, 1))), 0.9, images, seed=0) is None


def test_too_few_images_are_refused(estimator: Estimator) -> None:
    told = estimator.estimate(ladders.night(estimator.reading, ladders.outputs(1, 24, [("", 0)])))
    assert told.value is None
    assert "too few" in told.sentence


def test_new_classes_are_refused_because_no_property_moved(estimator: Estimator) -> None:
    seen = ladders.outputs(2, 200, [("", 0)])
    strange = seen.far.copy()
    strange[0, :80] = 0.005
    told = estimator.estimate(ladders.night(estimator.reading, replace(seen, far=strange)))
    assert told.value is None
    assert told.refused is not None
    assert "new classes may have come" in told.refused


def test_as_many_far_images_are_no_new_class_where_the_properties_explain_them(estimator: Estimator) -> None:
    told = estimator.estimate(ladders.night(estimator.reading, ladders.outputs(3, 200, [("blur", 5)])))
    assert told.refused is None or "new classes" not in told.refused


def test_another_mix_of_classes_is_estimated_from_recall_by_class(estimator: Estimator) -> None:
    seen = ladders.outputs(4, 400, [("", 0)], mix=(0.05, 0.05, 0.9))
    told = estimator.estimate(ladders.night(estimator.reading, seen))
    assert told.method == "class mix"
    assert told.value == pytest.approx(seen.right[0].mean(), abs=0.08)
    shares = {one.name: one for one in told.class_mix}
    assert shares["cedar"].low <= 0.9 <= shares["cedar"].high
    assert shares["cedar"].reference < 0.5


def test_the_harm_of_a_shift_is_told_with_its_sign_and_kinds(estimator: Estimator) -> None:
    told = estimator.estimate(ladders.night(estimator.reading, ladders.outputs(5, 300, [("smear", 3)])))
    (harm,) = [one for one in told.harm if one.name == "sharpness"]
    assert harm.shift == pytest.approx(-2.1, abs=0.3)
    assert harm.low <= harm.value <= harm.high
    assert harm.value < -0.05
    assert {"blur", "smear"} <= set(harm.kinds)
    assert harm.sentence.startswith(f"Sharpness is {-harm.shift:.1f} sd lower: about -")


@pytest.mark.parametrize(
    ("shift", "rows"), [(0.1, 10_000), (1.0, 4), (0.0, 300)], ids=["too small to matter", "chance", "none"]
)
def test_a_shift_that_is_small_or_chance_costs_nothing(shift: float, rows: int) -> None:
    curves = HarmCurves(("sharpness",), ("a", "b"), ((1.0,), (1.0,)), (-0.1, -0.2))
    assert curves.of(np.array([shift]), rows) == ()


def test_one_kind_alone_does_not_speak_for_a_property() -> None:
    curves = HarmCurves(("sharpness",), ("a", "a", "b"), ((1.0,), (2.0,), (-1.0,)), (-0.1, -0.2, -0.3))
    assert curves.of(np.array([1.0]), 300) == ()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=2, max_size=60),
    st.integers(1, 59),
)
def test_the_signs_of_shards_add_up_to_those_of_the_night(labels: list[int], cut: int) -> None:
    n = len(labels)
    rng = np.random.default_rng(n)
    rows = pd.DataFrame(rng.normal(size=(n, len(PROPERTIES))), columns=list(PROPERTIES))
    rows["probabilities"] = [np.eye(3, dtype=np.float32)[one] * 0.7 + 0.1 for one in labels]
    rows["embedding"] = list(rng.normal(size=(n, EMBEDDING_COMPONENTS)))
    rows["out_of_distribution_p"] = rng.random(n)
    probabilities = np.stack(rows["probabilities"].tolist())
    reading = learn_reading(
        probabilities,
        np.stack(rows["embedding"].tolist()),
        np.arange(n) % 2 == 0,
        1.3,
        rows[list(PROPERTIES)].to_numpy(),
    )
    whole = reading.rows(rows, 3)
    parts = [Signs.from_bytes(reading.rows(part, 3).to_bytes()) for part in (rows[:cut], rows[cut:])]
    merged = parts[0].merge(parts[1]).merge(Signs.empty(3))
    np.testing.assert_allclose(merged.sums, whole.sums, atol=1e-9)
    np.testing.assert_allclose(merged.moved, whole.moved, atol=1e-9)
    assert merged.predicted.tolist() == whole.predicted.tolist()
    assert merged.rows == n
    assert whole.means.shape == (len(NAMES),)


def test_without_a_distance_every_image_counts_as_near(estimator: Estimator) -> None:
    seen = ladders.outputs(6, 50, [("", 0)])
    signs = estimator.reading.images(seen.probabilities[0], seen.embedding[0], np.full(50, np.nan))
    assert np.isfinite(signs).all()
    assert not signs[:, [number for number, name in enumerate(NAMES) if name.startswith("far_")]].any()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.floats(0.5, 0.95))
def test_shares_are_found_again_where_the_confusion_is_exact(shares: list[float], recall: float) -> None:
    true = np.array(shares) / sum(shares)
    rates = np.full((3, 3), (1 - recall) / 2) + np.eye(3) * (recall - (1 - recall) / 2)
    np.testing.assert_allclose(solved(rates, true @ rates), true, atol=1e-6)


def test_a_mix_of_very_many_classes_is_not_solved() -> None:
    names = tuple(f"class {number}" for number in range(201))
    mix = ClassMix(names, tuple(tuple(int(a == b) for b in range(201)) for a in range(201)))
    assert mix.shares(np.ones(201, np.int64)) == ()
    assert mix.moved(np.arange(201)) == 1.0


def test_a_smooth_function_is_sure_near_its_points_and_unsure_far_from_them() -> None:
    x = np.linspace(0, 1, 12)[:, None]
    smooth = Smooth(x, np.sin(3 * x[:, 0]), np.full(12, 1e-4))
    value, sd = smooth.at(np.array([[0.52], [9.0]]))
    assert value[0] == pytest.approx(np.sin(3 * 0.52), abs=0.05)
    assert sd[1] > 10 * sd[0]


@pytest.mark.parametrize(
    ("estimate", "told"),
    [
        (AccuracyEstimate(rows=9, refused="new classes may have come"), "not estimated: new classes may have come."),
        (
            AccuracyEstimate(rows=300, value=0.71, low=0.6, high=0.8, validation=0.9, backtest_error=0.042),
            "71% (60% to 80%); on validation 90%. The estimator's own error on corruptions it did not know: 4.2",
        ),
    ],
    ids=["refused", "told"],
)
def test_an_estimate_is_one_sentence_and_rows_of_the_schema(estimate: AccuracyEstimate, told: str) -> None:
    assert told in estimate.sentence
    assert estimate_rows(estimate.model_copy(update={"rows": 0})).empty
    rows = estimate_rows(estimate)
    assert list(rows.columns) == ESTIMATES.names
    assert rows["refused"].tolist() == [estimate.refused]


def test_a_model_that_was_always_right_on_the_ladder_is_not_certain_of_a_night() -> None:
    conditions = [("", 0), *((kind, step) for kind in ladders.KINDS for step in range(1, 6))]
    seen = ladders.outputs(0, 200, conditions)
    sure = np.eye(len(ladders.CLASSES))[seen.labels] * 0.9 + 0.1 / len(ladders.CLASSES)
    always = replace(seen, probabilities=np.broadcast_to(sure, seen.probabilities.shape).copy())
    reading, ladder = read_ladder(always, 1.0, np.random.default_rng(0).normal(0, 1, (400, len(PROPERTIES))))
    mix = ClassMix(ladders.CLASSES, ((100, 0, 0), (0, 60, 0), (0, 0, 40)))
    found = learn_estimator(ladder, reading, mix, 1.0, 200, seed=0)
    assert found is not None
    told = found.estimate(ladders.night(reading, always))
    assert told.low is not None
    assert told.low < 1
