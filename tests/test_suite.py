"""The learned suite and a team's own, through Great Expectations: every failing row is marked, not only counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from darkroom.errors import WrongUse
from darkroom.summary import Severity
from expectations.accuracy import calibration_error, learn_calibration
from expectations.outliers import conformal, learn_outliers
from expectations.suite import LearnedSuite, learn_suite
from expectations.validation import RowOutcome, TeamSuite, finish_rows, run_night, run_rows
from tests.normal_rows import CLASSES, rows_of_sessions


def profile_of(seed: int = 1) -> pd.DataFrame:
    rows, session = rows_of_sessions(seed, 40)
    rows = rows.assign(width=640.0, height=480.0, mode="RGB")
    rng = np.random.default_rng(seed)
    label = np.where(rng.random(len(rows)) < 0.8, rows["predicted_class"], rng.choice(CLASSES, len(rows)))
    return rows.assign(group=session.astype(str), split=np.where(session < 15, "validation", "train"), label=label)


@pytest.fixture(scope="module")
def profile() -> pd.DataFrame:
    return profile_of()


@pytest.fixture(scope="module")
def suite(profile: pd.DataFrame) -> LearnedSuite:
    return learn_suite(profile, suspect=10, refused=2)


def failed(results: list) -> dict[str, Severity]:  # type: ignore[type-arg]
    return {result.column: result.severity for result in results if result.status != "passed"}


def test_the_training_images_themselves_meet_what_was_learned_from_them(
    suite: LearnedSuite, profile: pd.DataFrame
) -> None:
    assert failed(finish_rows(suite, run_rows(suite, profile))) == {}


@pytest.mark.parametrize(
    ("column", "value", "severity"),
    [("mode", "CMYK", Severity.CRITICAL), ("width", 256.0, Severity.CRITICAL), ("noise", 99.0, Severity.WARNING)],
)
def test_every_row_that_fails_is_marked(suite: LearnedSuite, column: str, value: object, severity: Severity) -> None:
    rows = profile_of(seed=2).head(200)
    bad = [3, 5, 8, *range(60, 190)]
    rows[column] = [value if number in bad else kept for number, kept in enumerate(rows[column])]
    outcome = run_rows(suite, rows)
    marked = [
        number for number, why in enumerate(outcome.reasons(len(rows))) if f"expectation:{column}:unexpected" in why
    ]
    assert marked == bad
    assert failed(finish_rows(suite, outcome)) == {column: severity}


def test_a_missing_value_is_critical_and_named(suite: LearnedSuite) -> None:
    rows = profile_of(seed=3).head(100)
    rows.loc[7, "sharpness"] = None
    outcome = run_rows(suite, rows)
    assert "expectation:sharpness:missing" in outcome.reasons(len(rows))[7]
    assert failed(finish_rows(suite, outcome)) == {"sharpness": Severity.CRITICAL}


def test_a_few_odd_images_are_marked_and_yet_no_failure_of_the_night(suite: LearnedSuite) -> None:
    rows = profile_of(seed=4).head(400)
    rows.loc[11, "noise"] = 99.0
    outcome = run_rows(suite, rows)
    assert outcome.reasons(len(rows))[11] == ["expectation:noise:unexpected"]
    assert failed(finish_rows(suite, outcome)) == {}


def test_shards_together_are_judged_as_the_night_that_they_are(suite: LearnedSuite) -> None:
    rows = profile_of(seed=5).assign(mode="L")
    parts = [rows.iloc[start : start + 250].reset_index(drop=True) for start in range(0, len(rows), 250)]
    merged = RowOutcome()
    for part in parts:
        merged = merged.merge(RowOutcome.from_json(run_rows(suite, part).to_json()))
    assert finish_rows(suite, merged) == finish_rows(suite, RowOutcome().merge(run_rows(suite, rows)))


def test_more_refused_files_than_training_makes_likely_are_critical(suite: LearnedSuite) -> None:
    night = {"images": 100, "share_suspect": 0.02}
    for share, expected in ((0.0, {}), (0.3, {"share_quarantined": Severity.CRITICAL})):
        metrics = pd.DataFrame([{**night, "share_quarantined": share}])
        assert failed(run_night(suite, metrics, suite.limits(100))) == expected


def test_a_suite_survives_being_written(suite: LearnedSuite) -> None:
    again = LearnedSuite.from_json(suite.to_json())
    assert again.to_json() == suite.to_json()
    assert again.limits(300) == suite.limits(300)


def between(stored: Any) -> Any:
    """An expectation of a row that has bounds."""
    return next(one for one in stored["suite"]["expectations"] if "min_value" in one["kwargs"])


NEVER_LEARNED: dict[str, Callable[[Any], object]] = {
    "no size of a night": lambda stored: stored["mostly"].clear(),
    "no share for one of them": lambda stored: stored["mostly"]["50"].popitem(),
    "a share of two": lambda stored: stored["mostly"]["50"].update(dict.fromkeys(stored["mostly"]["50"], 2)),
    "a level of its own": lambda stored: between(stored)["meta"].update(level="column"),
    "a sentence that is none": lambda stored: between(stored)["meta"].update(sentence=["a"]),
    "no name": lambda stored: between(stored)["meta"].pop("id"),
    "a severity of its own": lambda stored: between(stored).update(severity="deadly"),
    "a bound that is a word": lambda stored: between(stored)["kwargs"].update(max_value="high"),
    "a bound without end": lambda stored: between(stored)["kwargs"].update(max_value=float("inf")),
    "a parameter of the night for a row": lambda stored: between(stored)["kwargs"].update(
        mostly={"$PARAMETER": "most_suspect"}
    ),
    "a set that is a word": lambda stored: between(stored).update(
        type="expect_column_values_to_be_in_set", kwargs={"column": "mode", "value_set": "RGB"}
    ),
    "nothing to expect": lambda stored: between(stored).update(kwargs={"column": "mode"}),
    "a rate of another thing": lambda stored: stored["usual"].update(happy=stored["usual"]["suspect"]),
    "a rate that divides by nothing": lambda stored: stored["usual"]["suspect"].update(effect=0),
    "more than all": lambda stored: stored["usual"]["suspect"].update(n=0),
    "no rates": lambda stored: stored.update(usual=3),
}


@pytest.mark.parametrize("change", NEVER_LEARNED.values(), ids=NEVER_LEARNED.keys())
def test_a_suite_that_would_stop_a_night_is_refused_when_it_is_read(
    suite: LearnedSuite, change: Callable[[Any], object]
) -> None:
    stored = json.loads(suite.to_json())
    change(stored)
    with pytest.raises((ValueError, KeyError, AttributeError)):
        LearnedSuite.from_json(json.dumps(stored))


TEAM = {
    "expectations": [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "width", "min_value": 1000}},
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "images", "min_value": 500},
            "meta": {"level": "table"},
            "severity": "critical",
        },
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "no_such_column"}},
    ]
}


def test_a_team_s_own_suite_marks_rows_judges_nights_and_says_what_it_cannot_evaluate(suite: LearnedSuite) -> None:
    team = TeamSuite.parse("ours", json.dumps(TEAM))
    rows = profile_of(seed=6).head(50)
    outcome = team.run(rows, "row")
    assert all("expectation:ours:0" in why for why in outcome.reasons(50))
    results = {result.column: result for result in finish_rows(suite, outcome)}
    assert results["width"].status == "failed"
    assert results["no_such_column"].status == "errored"
    night = finish_rows(suite, team.run(pd.DataFrame([{"images": 50}]), "table"))
    assert [(result.column, result.status, result.severity) for result in night] == [
        ("images", "failed", Severity.CRITICAL)
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"expectations": [{"type": "x"}]}', '{"expectations": 3}'])
def test_what_is_no_suite_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(WrongUse, match="'ours' cannot be read"):
        TeamSuite.parse("ours", text)


def test_conformal_p_is_uniform_where_images_are_like_the_held_out_ones() -> None:
    rng = np.random.default_rng(1)
    p = conformal(rng.normal(size=20_000), np.sort(rng.normal(size=2000)))
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.015)
    assert p.min() >= 1 / 2001


def test_the_property_that_makes_an_image_unusual_is_named(profile: pd.DataFrame) -> None:
    rows = profile_of(seed=7).head(30)
    rows.loc[4, "saturation"] = 40.0
    unusual = learn_outliers(profile).score(rows)
    assert unusual.named[4] == "saturation"
    assert unusual.p[4] == min(unusual.p)


def test_calibration_makes_confidence_more_honest_and_moves_no_answer(profile: pd.DataFrame) -> None:
    sharp = profile.copy()
    honest = np.stack(sharp["probabilities"].tolist())
    drawn = np.random.default_rng(2).random((len(honest), 1))
    sharp["label"] = np.array(CLASSES)[(honest.cumsum(axis=1) < drawn).sum(axis=1).clip(max=len(CLASSES) - 1)]
    logits = 4 * np.log(honest + 1e-6)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    sharp["probabilities"] = list(probabilities)
    calibration = learn_calibration(sharp, CLASSES)
    after = calibration.calibrated(probabilities)
    right = np.array(CLASSES)[probabilities.argmax(axis=1)] == sharp["label"].to_numpy()
    assert calibration.temperature > 1
    assert (after.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert calibration_error(after.max(axis=1), right) < calibration_error(probabilities.max(axis=1), right)
