"""The sum across nights: a law of martingales, a state that no order of runs changes, and who may reset it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darkroom
from darkroom.acknowledgements import acknowledge, acknowledgements
from darkroom.errors import StorageError, WrongUse
from darkroom.reasons import NightVerdict
from expectations.across_nights import Accumulated, accumulate, added, evidence
from expectations.alarms import Compared, Earlier, compare
from expectations.budget import A_YEAR
from expectations.drift import night_drift
from expectations.reference import DriftReference, learn_reference
from expectations.slices import NO_SLICES
from flows.nights_before import nights_before
from tasks import publish
from tests import made_up
from tests.normal_rows import CLASSES, rows_of_sessions

FIRST = date(2026, 3, 1)


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    rows, session = rows_of_sessions(1, 120, images=10, rho=0.05)
    return learn_reference(rows, session < 60, session, CLASSES)


def night(seed: int, shift: float = 0.0, sessions: int = 10) -> pd.DataFrame:
    rows, _ = rows_of_sessions(seed, sessions, images=10, rho=0.05)
    return rows.assign(luminance_mean=rows["luminance_mean"] + shift)


@pytest.fixture(scope="module")
def committed(reference: DriftReference) -> pd.DataFrame:
    """Drift rows of six nights that are a little too bright."""
    nights = [night_drift(reference, reference.sketch(night(40 + k, 0.5))) for k in range(6)]
    return pd.concat([one.assign(night=FIRST + timedelta(days=k)) for k, one in enumerate(nights)], ignore_index=True)


def test_an_e_value_is_at_most_one_on_average() -> None:
    p = (np.arange(1_000_000) + 0.5) / 1_000_000
    assert evidence(p).mean() == pytest.approx(1, abs=2e-3)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1e-12, 1), min_size=1, max_size=30))
def test_a_smaller_p_never_makes_a_smaller_sum(ps: list[float]) -> None:
    def total(values: list[float]) -> float:
        found = np.zeros(1)
        for p in values:
            found = added(found, evidence(np.array([p])))
        return float(found[0])

    for place in range(len(ps)):
        less = [p / 2 if k == place else p for k, p in enumerate(ps)]
        assert total(less) >= total(ps)


def test_a_night_that_says_nothing_changes_nothing() -> None:
    assert added(np.array([3.5]), np.array([np.nan])) == 3.5


def test_a_small_shift_that_stays_becomes_an_alarm_and_is_named(
    reference: DriftReference, committed: pd.DataFrame
) -> None:
    first = accumulate(committed, reference, until=FIRST)
    last = accumulate(committed, reference)
    assert not first.alarms(A_YEAR)
    assert last.alarms(A_YEAR)
    assert (last.family, last.metric) == ("properties", "luminance_mean")
    assert last.share > 0.9
    began = last.first_alarm(A_YEAR)
    assert began is not None
    assert FIRST < began <= last.nights[-1]


def test_unchanged_nights_never_add_up(reference: DriftReference) -> None:
    frames = [
        night_drift(reference, reference.sketch(night(100 + k))).assign(night=FIRST + timedelta(days=k))
        for k in range(30)
    ]
    assert max(accumulate(pd.concat(frames), reference).sums) < A_YEAR.sum_alarm / 50


@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False))
def test_the_order_of_runs_does_not_matter(
    reference: DriftReference, committed: pd.DataFrame, shuffled: random.Random
) -> None:
    order = list(range(len(committed)))
    shuffled.shuffle(order)
    again = accumulate(committed.iloc[order], reference)
    expected = accumulate(committed, reference)
    assert again.nights == expected.nights
    np.testing.assert_allclose(again.sums, expected.sums, rtol=1e-9)


def test_a_night_in_two_runs_is_one_night(reference: DriftReference, committed: pd.DataFrame) -> None:
    twice = pd.concat([committed, committed[committed["night"] == FIRST]])
    np.testing.assert_allclose(accumulate(twice, reference).sums, accumulate(committed, reference).sums)


def test_later_nights_do_not_count_for_one_that_is_scored_late(
    reference: DriftReference, committed: pd.DataFrame
) -> None:
    third = FIRST + timedelta(days=2)
    assert accumulate(committed, reference, until=third).sums == accumulate(committed, reference).sums[:3]


def test_the_sum_starts_again_after_the_acknowledged_night(reference: DriftReference, committed: pd.DataFrame) -> None:
    third = FIRST + timedelta(days=2)
    found = accumulate(committed, reference, acknowledged=[third, FIRST])
    assert found.since == third
    assert found.nights == tuple(FIRST + timedelta(days=k) for k in (3, 4, 5))
    assert found.sums == accumulate(committed[committed["night"] > third], reference).sums


def test_an_acknowledgement_of_a_later_night_does_not_touch_an_earlier_one(
    reference: DriftReference, committed: pd.DataFrame
) -> None:
    last = FIRST + timedelta(days=5)
    before = accumulate(committed, reference, until=FIRST, acknowledged=[last])
    assert before == accumulate(committed, reference, until=FIRST)


def _compared(reference: DriftReference, rows: pd.DataFrame, earlier: pd.DataFrame) -> Compared:
    known = Earlier(earlier)
    return compare(reference, reference.sketch(rows), NO_SLICES, FIRST + timedelta(days=9), known)


def test_the_finding_of_the_sum_says_what_moved_and_how_to_start_again(
    reference: DriftReference, committed: pd.DataFrame
) -> None:
    found = _compared(reference, night(77, 0.5), committed)
    (finding,) = found.findings
    assert finding.what == "Over 7 nights together, luminance mean differs from training."
    assert "darkroom acknowledge" in finding.evidence
    assert (found.whole["verdict"] != "alarm").all()


def test_a_night_of_ten_images_counts_in_the_sum_and_one_of_five_does_not(reference: DriftReference) -> None:
    nothing = Earlier.none().rows
    ten = _compared(reference, night(5, 3.0, sessions=1), nothing)
    five = _compared(reference, night(5, 3.0, sessions=1).head(5), nothing)
    assert ten.across.nights
    assert "counts in the sum across nights" in ten.could_have_shown
    assert five.across == Accumulated((), ())
    assert five.could_have_shown == "at least 25 are compared by themselves; each image was checked alone"


def test_nights_that_no_chance_explains_leave_a_number_and_the_last_stretch_is_told() -> None:
    sums = np.zeros(1)
    for _ in range(4):
        sums = added(sums, evidence(np.array([1e-300])))
    assert np.isfinite(sums).all()
    days = tuple(FIRST + timedelta(days=k) for k in range(4))
    assert Accumulated(days, (900.0, 10.0, 800.0, 950.0)).first_alarm(A_YEAR) == days[2]
    assert Accumulated(days, (900.0, 800.0, 10.0, 9.0)).first_alarm(A_YEAR) is None


class TestAcknowledging:
    @pytest.fixture
    def results(self, tmp_path: Path) -> Path:
        """Two nights of one bundle: the first is an alarm, the second is not."""
        for number, verdict in ((0, NightVerdict.ALARM), (1, NightVerdict.OK)):
            inbox = made_up.draw_inbox(tmp_path / f"inbox-{number}")
            made_up.score(tmp_path / "results", inbox, night=FIRST + timedelta(days=number), verdict=verdict)
        return tmp_path / "results"

    def test_who_when_which_night_and_why_are_kept(self, results: Path) -> None:
        kept = acknowledge(results, FIRST, reason=" lamp replaced ", by="ada")
        assert acknowledgements(results, made_up.BUNDLE) == [kept]
        stored = json.loads((results / "acknowledgements" / made_up.BUNDLE / "00000001.json").read_text())
        assert (stored["night"], stored["by"], stored["reason"]) == (str(FIRST), "ada", "lamp replaced")

    def test_the_command_and_the_public_function_write_the_same_record(self, results: Path) -> None:
        command = [sys.executable, "-m", "darkroom.cli", "acknowledge", str(FIRST), "--reason", "lamp", "--json"]
        done = subprocess.run([*command, "--results", results], capture_output=True, text=True, timeout=120, check=True)
        by_command = json.loads(done.stdout)
        by_function = darkroom.acknowledge(results, str(FIRST), reason="lamp", by=by_command["by"])
        assert by_command == by_function.model_dump(mode="json") | {"number": 1, "at": by_command["at"]}

    def test_a_second_record_is_added_and_changes_nothing_of_the_first(self, results: Path) -> None:
        first = acknowledge(results, FIRST, reason="looking into it")
        before = (results / "acknowledgements" / made_up.BUNDLE / "00000001.json").read_bytes()
        second = acknowledge(results, FIRST, reason="lamp replaced")
        assert [one.number for one in (first, second)] == [1, 2]
        assert (results / "acknowledgements" / made_up.BUNDLE / "00000001.json").read_bytes() == before

    @pytest.mark.parametrize(
        ("night", "reason", "says"),
        [
            pytest.param(FIRST + timedelta(days=1), "fine", "no alarm to acknowledge", id="a night that was ok"),
            pytest.param(FIRST + timedelta(days=9), "fine", "no alarm to acknowledge", id="a night nobody scored"),
            pytest.param(FIRST, "  ", "with a reason", id="no reason"),
        ],
    )
    def test_what_cannot_be_acknowledged_is_refused(self, results: Path, night: date, reason: str, says: str) -> None:
        with pytest.raises(WrongUse, match=says):
            acknowledge(results, night, reason=reason)
        assert not (results / "acknowledgements").exists()

    def test_two_at_once_both_keep_their_record(self, results: Path) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda k: acknowledge(results, FIRST, reason=f"reason {k}"), range(8)))
        kept = acknowledgements(results, made_up.BUNDLE)
        assert [one.number for one in kept] == list(range(1, 9))
        assert {one.reason for one in kept} == {f"reason {k}" for k in range(8)}

    def test_a_broken_record_is_named(self, results: Path) -> None:
        acknowledge(results, FIRST, reason="seen")
        path = results / "acknowledgements" / made_up.BUNDLE / "00000001.json"
        path.write_text("{}")
        with pytest.raises(StorageError, match="00000001"):
            acknowledgements(results, made_up.BUNDLE)

    def test_the_nights_before_are_those_after_the_acknowledged_one(self, results: Path) -> None:
        second = FIRST + timedelta(days=1)
        before = nights_before(results, made_up.BUNDLE, None, second)
        assert set(before.rows["night"]) == {FIRST, second}
        acknowledge(results, FIRST, reason="seen")
        after = nights_before(results, made_up.BUNDLE, None, second)
        assert set(after.rows["night"]) == {second}
        assert after.acknowledged == (FIRST,)
        assert set(nights_before(results, made_up.BUNDLE, None, FIRST).rows["night"]) == set()

    def test_an_alarm_of_one_inbox_is_not_acknowledged_for_another(self, results: Path, tmp_path: Path) -> None:
        kept = acknowledge(results, FIRST, reason="seen")
        assert kept.inbox == str(tmp_path / "inbox-0")
        own, other = (nights_before(results, made_up.BUNDLE, str(tmp_path / f"inbox-{k}"), FIRST) for k in (0, 1))
        assert own.acknowledged == (FIRST,)
        assert other.acknowledged == ()

    def test_a_drift_file_that_is_lost_is_told_and_stops_no_night(
        self, results: Path, reference: DriftReference
    ) -> None:
        second = FIRST + timedelta(days=1)
        next((results / "drift").rglob(f"night={FIRST}/**/*.parquet")).unlink()
        before = nights_before(results, made_up.BUNDLE, None, second)
        assert (set(before.rows["night"]), before.lost) == ({second}, (FIRST,))
        found = compare(
            reference, reference.sketch(night(3)), NO_SLICES, second, replace(Earlier.none(), lost=before.lost)
        )
        assert [one.what for one in found.findings] == [f"The sum across nights lacks {FIRST}."]

    def test_nights_of_another_inbox_do_not_count(self, results: Path) -> None:
        assert nights_before(results, made_up.BUNDLE, "/elsewhere", FIRST).rows.empty


def test_a_result_folder_without_nights_has_nothing_before(tmp_path: Path) -> None:
    with publish.begin_run(tmp_path / "results", made_up.BUNDLE, FIRST, tmp_path):
        pass
    assert nights_before(tmp_path / "results", made_up.BUNDLE, None, FIRST).rows.empty
