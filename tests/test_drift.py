"""What moves and what does not: laws of the sketch, silence on unchanged nights, alarms on changed ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.errors import BundleUnreadable
from darkroom.summary import Counts
from expectations.alarms import could_have_shown
from expectations.budget import A_YEAR, FEWEST, Budget, Verification
from expectations.drift import night_drift
from expectations.reference import Columns, DriftReference, learn_reference
from expectations.scores import Law, Laws, rank_scores
from expectations.shares import Shares
from expectations.sketch import Sketch
from expectations.verdict import NightEvidence, judge_night
from expectations.verification import learn_verified, verify
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


def test_a_reference_of_another_version_is_refused_with_what_to_do(reference: DriftReference) -> None:
    with pytest.raises(BundleUnreadable, match="train the bundle again"):
        DriftReference.from_json(reference.to_json().replace('"metrics"', '"measures"'))


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


def test_a_property_that_is_only_wider_is_told_by_its_spread(reference: DriftReference) -> None:
    rows, _ = rows_of_sessions(7, 20, rho=0.1)
    found = drift_of(reference, rows.assign(entropy=2 * rows["entropy"])).loc["entropy"]
    assert (found["verdict"], found["statistic_name"]) == ("alarm", "spread")
    assert found["effect"] == pytest.approx(1, abs=0.4)


@pytest.fixture(scope="module")
def constant() -> DriftReference:
    """Widths of 640 only."""
    rows, session = rows_of_sessions(1, 60, rho=0.1)
    return learn_reference(rows.assign(width=640.0), session < 20, session, CLASSES)


@pytest.mark.parametrize(
    ("width", "images", "verdict"),
    [
        pytest.param(1024.0, 200, "alarm", id="all larger"),
        pytest.param(480.0, 200, "alarm", id="all smaller"),
        pytest.param(639.0, 200, "warn", id="all smaller by a pixel, which is less than the floor"),
        pytest.param(1024.0, 1, "ok", id="one larger"),
        pytest.param(640.0, 200, "ok", id="as ever"),
    ],
)
def test_what_never_changed_in_training_may_be_otherwise_once(
    constant: DriftReference, width: float, images: int, verdict: str
) -> None:
    rows, _ = rows_of_sessions(7, 10, rho=0.1)
    rows["width"] = np.where(np.arange(len(rows)) < images, width, 640.0)
    found = drift_of(constant, rows).loc["width"]
    assert (found["verdict"], found["statistic_name"]) == (verdict, "share")


def test_a_number_of_two_values_can_be_learned_and_moves() -> None:
    rows, session = rows_of_sessions(1, 60, rho=0.1)
    rows["height"] = np.where(np.arange(len(rows)) % 2, 480.0, 640.0)
    known = learn_reference(rows, session < 20, session, CLASSES)
    tonight, _ = rows_of_sessions(7, 10, rho=0.1)
    assert drift_of(known, tonight.assign(height=640.0)).loc["height", "verdict"] == "alarm"
    assert drift_of(known, tonight.assign(height=rows["height"][: len(tonight)])).loc["height", "verdict"] == "ok"


def test_the_error_of_a_small_reference_is_not_called_drift_every_night() -> None:
    rng = np.random.default_rng(8)
    rows, _ = rows_of_sessions(1, 103, images=1, rho=0)
    # The sample of one property happens to lie four of its standard errors off.
    unlucky = rng.normal(size=103)
    rows["luminance_mean"] = unlucky - unlucky.mean() + 4 / np.sqrt(103)
    known = learn_reference(rows, np.ones(103, np.bool_), np.arange(103), CLASSES)
    nights = (rows_of_sessions(50 + night, 1000, images=1, rho=0)[0] for night in range(20))
    assert {drift_of(known, one).loc["luminance_mean", "verdict"] for one in nights} <= {"ok", "warn"}


@settings(max_examples=8, deadline=None)
@given(shift=st.floats(0, 2), nights=st.tuples(st.integers(7, 3000), st.integers(7, 3000)))
def test_a_larger_budget_never_makes_fewer_alarms(
    reference: DriftReference, shift: float, nights: tuple[int, int]
) -> None:
    rows, _ = rows_of_sessions(7, 10, rho=0.1)
    sketch = reference.sketch(rows.assign(luminance_mean=rows["luminance_mean"] + shift))
    seldom, often = (
        night_drift(reference, sketch, Budget(number))["verdict"] == "alarm" for number in sorted(nights, reverse=True)
    )
    assert (seldom <= often).all()


@pytest.mark.parametrize("family", ["properties", "embedding"])
def test_the_shares_of_the_budget_are_one(reference: DriftReference, family: str) -> None:
    assert reference.weights[reference.alarming].sum() == pytest.approx(1)
    of = np.array([one.metric.family == family for one in reference.metrics])
    assert len(set(reference.weights[of])) == 1


class TestLaws:
    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.integers(0, 40), min_size=3, max_size=70).filter(lambda counts: np.count_nonzero(counts) > 2))
    def test_scores_rise_and_have_mean_0_and_variance_1_on_the_reference(self, counts: list[int]) -> None:
        location, spread = rank_scores(np.array(counts))
        assert (np.diff(location[np.array(counts) > 0]) > 0).all()
        for score in (location, spread):
            assert np.average(score, weights=counts) == pytest.approx(0, abs=1e-9)
            if score.any():
                assert np.average(score**2, weights=counts) == pytest.approx(1)

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 1000), sessions=st.integers(40, 80), images=st.integers(1, 12), rho=st.floats(0, 0.6))
    def test_the_variance_of_a_mean_is_that_of_whole_sessions(
        self, seed: int, sessions: int, images: int, rho: float
    ) -> None:
        rng = np.random.default_rng(seed)
        session = np.repeat(np.arange(sessions), images)
        score = np.sqrt(rho) * rng.normal(size=sessions)[session] + np.sqrt(1 - rho) * rng.normal(size=len(session))
        law = Law.of(score, [session], spread=False)
        told = Laws.of([law], [len(score)]).of_reference()[0]
        # Of means of equal sessions, the textbook's estimate.
        means = score.reshape(sessions, images).mean(axis=1)
        assert told == pytest.approx(means.var(ddof=1) / sessions, rel=0.05 if law.between else 1.0)
        assert law.degrees == pytest.approx(sessions - 1)

    @pytest.mark.parametrize("skewness", [0.0, 0.3, 1.5])
    def test_a_skewed_tail_is_heavier_on_its_own_side_only(self, skewness: float) -> None:
        laws = Laws.of([Law(1.0, 0.0, 0.0, 1.0, skewness, 1e6)], [10**9])
        n = np.array([25.0])
        right, left = (float(laws.tail(np.array([sign * 0.8]), n)[0]) for sign in (1, -1))
        normal = 2 * 3.1671e-5
        assert left == pytest.approx(normal, rel=0.01)
        assert right == pytest.approx(normal, rel=0.01) if not skewness else right > 1.3 * left

    @pytest.mark.parametrize(
        ("k", "n", "a", "b"),
        [(3, 100, 0.5, 1000.5), (20, 50, 100, 900), (60, 200, 40, 160), (3, 50, 300, 700), (5, 1000, 0.5, 60)],
    )
    def test_a_share_has_the_tail_of_the_beta_binomial_law(self, k: int, n: int, a: float, b: float) -> None:
        from scipy.stats import betabinom

        # The reference that has this beta law: Jeffreys' prior is half an image more on each side.
        shares = Shares(((a - 0.5) / (a + b - 1),), (0.0,), (0.0,), round(a + b - 1), 1.0, round(a + b - 1))
        told = float(shares.tail(np.array([[k]], np.float64), np.array([[n]], np.float64))[0, 0])
        one_sided = betabinom.sf(k - 1, n, a, b) if k / n > a / (a + b) else betabinom.cdf(k, n, a, b)
        assert told == pytest.approx(min(1, 2 * one_sided), rel=0.35 if one_sided > 0.05 else 0.01)

    def test_images_of_one_session_count_as_one(self) -> None:
        session = np.repeat(np.arange(50), 10)
        together = Shares.of((session == 3).astype(np.int64), [session], 2)
        assert float(together.effect(np.array([[100.0]]), one_session=False)[0, 1]) == pytest.approx(10, rel=0.1)


@pytest.fixture(scope="module")
def verified() -> DriftReference:
    rows, session = rows_of_sessions(3, 120, images=10, rho=0.3)
    return learn_verified(rows, session < 60, session, CLASSES, seed=1)


class TestVerification:
    def test_a_bundle_of_unchanged_sessions_keeps_its_budget(self, verified: DriftReference) -> None:
        found = verified.verification
        assert found is not None
        assert found.holds(A_YEAR)
        assert found.nights >= 500
        low, high = found.interval(A_YEAR)
        assert low <= found.rate(A_YEAR) <= high
        assert f"Of {found.nights:,} nights drawn from images that the reference had not seen" in found.sentence(A_YEAR)

    def test_it_is_sealed_with_the_reference(self, verified: DriftReference) -> None:
        assert DriftReference.from_json(verified.to_json()) == verified

    def test_under_thirty_sessions_nothing_is_verified_and_it_says_why(self) -> None:
        rows, session = rows_of_sessions(3, 60, images=10)
        found = learn_verified(rows, session < 12, session, CLASSES, seed=1).verification
        assert found is not None
        assert not found.holds(A_YEAR)
        assert found.sentence(A_YEAR) == (
            "The budget is one false alarm in 365 nights; not verified: 12 sessions were held out, "
            "and at least 30 are needed."
        )

    def test_a_rate_above_the_budget_is_said_to_be_above_it(self) -> None:
        found = Verification(nights=1000, worth=100, sizes=(50,), lowest=(1e-6,) * 200, sessions=50)
        assert not found.holds(A_YEAR)
        assert "it is not kept. Of 1,000 nights" in found.sentence(A_YEAR)
        assert Verification(nights=1000, worth=100, sizes=(50,), sessions=50).holds(A_YEAR)

    def test_sessions_that_are_hardly_alike_inside_and_very_different_keep_it_too(self) -> None:
        rows, session = rows_of_sessions(3, 40, images=25, rho=0.9)
        everything = np.ones(len(rows), np.bool_)
        found = verify(Columns.of(rows, everything, CLASSES), everything, session, CLASSES, seed=1)
        assert found.rate(A_YEAR) < 0.02


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


def test_a_night_without_drift_says_in_its_headline_what_it_would_have_shown(reference: DriftReference) -> None:
    rows, _ = rows_of_sessions(12, 30, rho=0.1)
    drift = night_drift(reference, reference.sketch(rows))
    assert set(drift["verdict"]) == {"ok"}
    evidence = NightEvidence(
        counts=Counts(seen=600, scored=600), expectations=[], drift=drift, could_have_shown=could_have_shown(drift)
    )
    numbers = drift[(drift["family"] == "properties") & drift["reference_value"].notna()]
    smallest = numbers["smallest_detectable_effect"].max()
    assert judge_night(evidence).headline == (
        "600 images scored; nothing differs from training beyond what chance explains; a shift of "
        f"{smallest:.2f} standard deviations in any numeric property would have shown."
    )


def test_fewer_sessions_can_show_less() -> None:
    rows, _ = rows_of_sessions(11, 50)
    twelve, forty = (drift_of(learned(60, held, 0.1), rows) for held in (12, 40))
    metric = "component_01"
    assert twelve.loc[metric, "smallest_detectable_effect"] > 1.5 * forty.loc[metric, "smallest_detectable_effect"]


def test_where_two_sessions_were_seen_no_shift_is_said_to_show() -> None:
    found = drift_of(learned(60, 2, 0.3), rows_of_sessions(11, 8)[0])
    assert pd.isna(found.loc["component_01", "smallest_detectable_effect"])


def test_components_of_the_embedding_are_one_finding() -> None:
    known = learned(60, 30)
    rows, _ = rows_of_sessions(12, 10, rho=0.1)
    moved = np.stack(rows["embedding"].tolist())
    moved[:, :5] += 3
    drift = night_drift(known, known.sketch(rows.assign(embedding=list(moved))))
    counts = Counts(seen=len(rows), scored=len(rows))
    judged = judge_night(NightEvidence(counts=counts, expectations=[], drift=drift))
    assert [finding.what for finding in judged.findings] == ["The embedding moved, in 5 of 32 components."]
