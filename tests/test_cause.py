"""From the evidence of one image to a cause and a sentence."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expectations.cause import Cause, Evidence, Theirs, explain_image
from expectations.damage import Sign, learn_damage
from expectations.placing import foreign_facts, odd_sizes, place_among
from expectations.standard import Standard, Track, learn_plausible, track_of
from expectations.steadiness import Moved, Steadiness, learn_steadiness, moved
from tests.normal_rows import rows_of_sessions

TRACK = Track(accuracy=0.83, n=200, clear=120, clear_wrong=6)
CLEAR = Evidence(
    classes=(("ash", 0.95), ("birch", 0.04), ("cedar", 0.01)),
    unusual_p=0.4,
    far_p=0.5,
    moved=Moved(0.0, 0.01),
    steady_p=0.8,
    plausible_from=0.15,
)
NOISY = (Sign("grain", "it is noisy", 20.0, 0.5, 0.002), Sign("edge_strength", "it is not sharp", 1.3, 1.3, 0.5))
THEIRS = Theirs("birch with 0.91", True, ("channel_order=bgr",), "with blue first", 60, True)
CLOSE = (("ash", 0.48), ("birch", 0.44), ("cedar", 0.08))


@pytest.mark.parametrize(
    ("evidence", "cause", "says"),
    [
        pytest.param(CLEAR, Cause.NOTHING_FOUND, "ordinary", id="nothing speaks against it"),
        pytest.param(replace(CLEAR, theirs=THEIRS), Cause.PREPARATION, "with blue first", id="a variant gives theirs"),
        pytest.param(replace(CLEAR, signs=NOISY), Cause.NOISE, "noisy", id="a sign of damage"),
        pytest.param(replace(CLEAR, incomplete=True), Cause.NOISE, "ends before", id="filled in"),
        pytest.param(Evidence(refused=("it ends", True)), Cause.NOISE, "it ends", id="a broken file"),
        pytest.param(Evidence(refused=("a PDF", False)), Cause.OTHER_DISTRIBUTION, "a PDF", id="no such image"),
        pytest.param(replace(CLEAR, far_p=0.005), Cause.OTHER_DISTRIBUTION, "farther", id="far from training"),
        pytest.param(
            replace(CLEAR, unusual_p=0.01, unusual_property="clipped_white"),
            Cause.OTHER_DISTRIBUTION,
            "clipped white",
            id="an unusual property",
        ),
        pytest.param(replace(CLEAR, foreign=(("mode", "LA"),)), Cause.OTHER_DISTRIBUTION, "LA", id="another mode"),
        pytest.param(replace(CLEAR, classes=CLOSE), Cause.CLOSE_CALL, "ash (48%) and birch (44%)", id="two plausible"),
        pytest.param(
            replace(CLEAR, moved=Moved(0.3, 0.5), steady_p=0.01), Cause.CLOSE_CALL, "27%|30%", id="not steady"
        ),
    ],
)
def test_each_kind_of_evidence_has_its_cause_and_its_sentence(evidence: Evidence, cause: Cause, says: str) -> None:
    found = explain_image(evidence, TRACK)
    assert found.cause is cause
    assert any(one in found.sentence for one in says.split("|"))
    assert found.sentence.endswith(".")
    assert found.grounds[0].cause is cause


@pytest.mark.parametrize(
    ("evidence", "causes"),
    [
        pytest.param(
            replace(CLEAR, theirs=THEIRS, signs=NOISY, classes=CLOSE),
            [Cause.PREPARATION, Cause.NOISE, Cause.CLOSE_CALL],
            id="what reproduces theirs comes first",
        ),
        pytest.param(
            replace(CLEAR, signs=NOISY, far_p=0.005), [Cause.NOISE, Cause.OTHER_DISTRIBUTION], id="noise makes it far"
        ),
        pytest.param(
            replace(CLEAR, signs=NOISY, far_p=0.005, odd_size=(("width", "32"),)),
            [Cause.OTHER_DISTRIBUTION, Cause.NOISE],
            id="no noise makes it small",
        ),
        pytest.param(
            replace(CLEAR, incomplete=True, far_p=0.005, odd_size=(("width", "32"),)),
            [Cause.NOISE, Cause.OTHER_DISTRIBUTION],
            id="half a file is broken whatever its size",
        ),
    ],
)
def test_two_causes_at_once_are_ranked(evidence: Evidence, causes: list[Cause]) -> None:
    assert [ground.cause for ground in explain_image(evidence, TRACK).grounds] == causes


@pytest.mark.parametrize(
    "theirs",
    [
        pytest.param(replace(THEIRS, differs=False, reproduced_by=()), id="they agree"),
        pytest.param(replace(THEIRS, reproduced_by=()), id="no variant gives theirs"),
    ],
)
def test_preparation_is_never_named_without_a_variant_that_gives_their_prediction(theirs: Theirs) -> None:
    found = explain_image(replace(CLEAR, theirs=theirs), TRACK)
    assert found.cause is Cause.NOTHING_FOUND
    assert any("60 single wrong preparations" in said for said in found.grounds[0].evidence) is theirs.differs


def test_a_class_alone_that_many_variants_give_is_called_likely_and_no_more() -> None:
    theirs = replace(THEIRS, stated="birch", whole=False, reproduced_by=("channel_order=bgr", "scaling=unit"))
    assert "most likely: 2 of 60" in explain_image(replace(CLEAR, theirs=theirs), TRACK).sentence


def test_a_bundle_with_too_few_held_out_images_finds_nothing_by_p() -> None:
    unknown = replace(CLEAR, unusual_p=math.nan, far_p=math.nan, steady_p=math.nan, plausible_from=None, classes=CLOSE)
    assert explain_image(unknown, TRACK).cause is Cause.NOTHING_FOUND


def test_the_context_says_how_often_the_bundle_is_wrong_with_nothing_to_be_found() -> None:
    found = explain_image(CLEAR, TRACK)
    assert "right on 83%" in found.context
    assert "one in six is wrong" in found.context
    assert "of 120 held-out images as ordinary and clear, 6 were wrong" in found.sentence
    assert "one in" not in explain_image(CLEAR, replace(TRACK, accuracy=1.0)).context


# --- the bars -------------------------------------------------------------------------------------------------------


def _photos(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "grain": rng.lognormal(-0.5, 0.4, n),
            "edge_strength": rng.lognormal(0.3, 0.3, n),
            "jpeg_quality": np.full(n, 95.0),
            "missing_share": np.zeros(n),
        }
    )


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        pytest.param({"grain": 15.0}, "grain", id="noise"),
        pytest.param({"edge_strength": 0.1}, "edge_strength", id="blur"),
        pytest.param({"jpeg_quality": 5.0}, "jpeg_quality", id="strong compression"),
        pytest.param({"missing_share": 0.3}, "missing_share", id="half a picture"),
    ],
)
def test_damage_is_told_by_its_own_sign_and_never_by_its_opposite(changed: dict[str, float], named: str) -> None:
    scale = learn_damage(_photos())
    ordinary = {"grain": 0.6, "edge_strength": 1.3, "jpeg_quality": 95.0, "missing_share": 0.0}
    signs = scale.signs({**ordinary, **changed})
    assert signs[0].name == named
    assert signs[0].p <= 0.01
    assert all(sign.p > 0.01 for sign in signs[1:])
    assert all(sign.p > 0.01 for sign in scale.signs(ordinary | {"grain": 0.0, "edge_strength": 9.0}))


def test_a_quality_hardly_lower_than_the_one_that_all_photos_have_is_no_damage() -> None:
    signs = learn_damage(_photos()).signs({"jpeg_quality": 92.0})
    assert [sign.p > 0.5 for sign in signs] == [True]


def test_under_ninety_nine_known_photos_no_sign_has_a_p() -> None:
    assert all(math.isnan(sign.p) for sign in learn_damage(_photos(98)).signs({"grain": 100.0}))


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_about_one_in_a_hundred_new_photos_of_the_same_kind_is_flagged_by_a_sign(seed: int) -> None:
    photos = _photos(800).sample(frac=1, random_state=seed, ignore_index=True)
    scale = learn_damage(photos.iloc[:400])
    flagged = sum(
        any(sign.p <= 0.01 and sign.name == "grain" for sign in scale.signs(row))
        for row in photos.iloc[400:].to_dict("records")
    )
    assert flagged <= 16  # 4 expected


def test_a_class_is_plausible_as_far_down_as_nine_in_ten_held_out_images_have_their_own() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 4)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    own = np.array([rng.choice(4, p=row) for row in probabilities])
    bar = learn_plausible(probabilities[:2000], own[:2000])
    assert bar is not None
    covered = (probabilities[2000:][np.arange(2000), own[2000:]] >= bar).mean()
    assert covered == pytest.approx(0.9, abs=0.025)
    assert learn_plausible(probabilities[:98], own[:98]) is None


def test_an_answer_moves_by_its_largest_loss_and_the_share_of_flips() -> None:
    found = moved(np.array([0.7, 0.2, 0.1]), np.array([[0.6, 0.3, 0.1], [0.3, 0.6, 0.1], [0.8, 0.1, 0.1]]))
    assert found.flips == pytest.approx(1 / 3)
    assert found.drop == pytest.approx(0.4)


def test_steadiness_is_judged_beside_held_out_images() -> None:
    rng = np.random.default_rng(0)
    pinned = rng.dirichlet([5, 1, 1], 150)
    known = learn_steadiness(pinned, np.repeat(pinned[:, None], 4, axis=1) * 0.9)
    assert known.n == 150
    assert known.flipped == 0
    assert known.p(Moved(1.0, 0.9)) == pytest.approx(1 / 151)
    assert known.p(Moved(0.0, 0.0)) == 1


def test_the_standard_survives_the_bundle() -> None:
    standard = Standard(0.15, learn_damage(_photos()), Steadiness((0.1, 0.2), 1))
    assert asdict(Standard.from_json(standard.to_json())) == asdict(standard)
    bare = Standard(None)
    assert Standard.from_json(bare.to_json()) == bare


def test_the_track_counts_clear_images_that_were_wrong_all_the_same() -> None:
    held = pd.DataFrame({"predicted_class": ["a", "a", "b", "b"], "label": ["a", "b", "b", "a"]})
    calibrated = np.array([[0.9, 0.1], [0.95, 0.05], [0.4, 0.6], [0.05, 0.95]])
    track = track_of(held, calibrated, np.array([True, True, True, False]), 0.2, 0.5)
    assert (track.clear, track.clear_wrong, track.n) == (2, 1, 4)


# --- the place among training ----------------------------------------------------------------------------------------


def test_every_property_has_its_place_and_the_most_unusual_stands_first() -> None:
    rows, _ = rows_of_sessions(0, 10)
    row = {**rows.iloc[0].to_dict(), "sharpness": 100.0}
    places = place_among(rows, row)
    assert places[0].name == "sharpness"
    assert places[0].quantile == 1
    assert {place.name for place in places} >= {"sharpness", "format", "luminance_mean"}
    assert [place.off for place in places] == sorted((place.off for place in places), reverse=True)


def test_facts_and_sizes_that_no_photo_has_are_named_only_where_enough_are_known() -> None:
    rows, _ = rows_of_sessions(0, 10)
    row = {**rows.iloc[0].to_dict(), "mode": "La", "width": 1e6}
    assert foreign_facts(rows, row) == (("mode", "La"),)
    assert odd_sizes(rows, row) == (("width", "1e+06"),)
    assert foreign_facts(rows.head(50), row) == odd_sizes(rows.head(50), row) == ()
