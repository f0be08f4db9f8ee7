"""What moves and what does not: laws of the sketch, silence on unchanged nights, alarms on changed ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expectations.budget import FEWEST
from expectations.drift import night_drift
from expectations.reference import DriftReference, learn_reference
from expectations.sketch import Sketch
from expectations.verdict import NightEvidence, judge_night
from tests.normal_rows import CLASSES, rows_of_sessions


def learned(sessions: int, held: int, rho: float = 0.1, seed: int = 1) -> DriftReference:
    rows, session = rows_of_sessions(seed, sessions, rho=rho)
    return learn_reference(rows, session < held, session, CLASSES)


def drift_of(reference: DriftReference, rows: pd.DataFrame) -> pd.DataFrame:
    return night_drift(reference, reference.sketch(rows)).set_index("metric")


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    return learned(60, 20)


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(min_value=0, max_value=160))
def test_the_sketches_of_two_halves_are_the_sketch_of_the_whole(reference: DriftReference, cut: int) -> None:
    rows, _ = rows_of_sessions(5, 8)
    whole = reference.sketch(rows)
    both = reference.sketch(rows.iloc[:cut]).merge(reference.sketch(rows.iloc[cut:].reset_index(drop=True)))
    for name, value in vars(whole).items():
        np.testing.assert_allclose(vars(both)[name], value, rtol=1e-9, atol=1e-9)


def test_a_sketch_and_a_reference_survive_being_written(reference: DriftReference) -> None:
    rows, _ = rows_of_sessions(6, 8)
    again = DriftReference.from_json(reference.to_json())
    sketch = Sketch.from_bytes(again.sketch(rows).to_bytes())
    pd.testing.assert_frame_equal(night_drift(again, sketch), night_drift(reference, reference.sketch(rows)))


@pytest.mark.parametrize(
    ("sessions", "held", "rho"),
    [(32, 6, 0.05), (32, 6, 0.3), (32, 13, 0.3), (100, 30, 0.3)],
    ids=["six held out, alike", "six held out", "thirteen held out", "thirty held out"],
)
def test_unchanged_nights_are_no_alarms(sessions: int, held: int, rho: float) -> None:
    alarms = 0
    for bundle in range(2):
        known = learned(sessions, held, rho, seed=bundle)
        nights = (rows_of_sessions(1000 * bundle + 100 + night, 8, rho=rho)[0] for night in range(20))
        alarms += sum("alarm" in set(drift_of(known, rows)["verdict"]) for rows in nights)
    assert alarms == 0


def test_a_property_that_moved_is_an_alarm_and_the_others_are_not(reference: DriftReference) -> None:
    rows, _ = rows_of_sessions(7, 10, rho=0.1)
    found = drift_of(reference, rows.assign(luminance_mean=rows["luminance_mean"] + 2.5))
    assert found.loc["luminance_mean", "verdict"] == "alarm"
    assert found.loc["luminance_mean", "effect"] == pytest.approx(2.5, abs=0.6)
    assert (found.drop(index="luminance_mean")["verdict"] == "ok").all()


def test_a_category_that_training_hardly_knew_is_an_alarm(reference: DriftReference) -> None:
    rows, _ = rows_of_sessions(7, 10, rho=0.1)
    assert drift_of(reference, rows.assign(mode="CMYK")).loc["mode", "verdict"] == "alarm"


def test_far_images_alone_are_never_an_alarm(reference: DriftReference) -> None:
    rows, _ = rows_of_sessions(8, 10)
    found = drift_of(reference, rows.assign(out_of_distribution_p=0.001))
    assert found.loc["share_far", "verdict"] == "warn"


def test_a_night_of_a_few_images_is_too_few_to_say(reference: DriftReference) -> None:
    rows, _ = rows_of_sessions(9, 1, images=FEWEST - 1)
    assert set(drift_of(reference, rows)["verdict"]) == {"too_few"}


def test_no_drift_comes_with_the_smallest_effect_that_would_have_shown(reference: DriftReference) -> None:
    few, many = (drift_of(reference, rows_of_sessions(10, n)[0]) for n in (4, 50))
    for found in (few, many):
        numbers = found.loc["luminance_mean", "smallest_detectable_effect"]
        assert numbers >= 0.25
    assert (
        many.loc["luminance_mean", "smallest_detectable_effect"]
        < few.loc["luminance_mean", "smallest_detectable_effect"]
    )


def test_fewer_sessions_can_show_less() -> None:
    rows, _ = rows_of_sessions(11, 8)
    six, thirty = (drift_of(learned(60, held, 0.3), rows) for held in (6, 30))
    metric = "component_01"
    assert six.loc[metric, "smallest_detectable_effect"] > 2 * thirty.loc[metric, "smallest_detectable_effect"]


def test_components_of_the_embedding_are_one_finding() -> None:
    from darkroom.summary import Counts

    known = learned(60, 30)
    rows, _ = rows_of_sessions(12, 10, rho=0.1)
    moved = np.stack(rows["embedding"].tolist())
    moved[:, :5] += 3
    drift = night_drift(known, known.sketch(rows.assign(embedding=list(moved))))
    counts = Counts(seen=len(rows), scored=len(rows))
    judged = judge_night(NightEvidence(counts=counts, expectations=[], drift=drift))
    assert [finding.what for finding in judged.findings] == ["The embedding moved, in 5 of 32 components."]
