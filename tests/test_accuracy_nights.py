"""Accuracy on the page over all nights: every estimate with its interval, every refusal, and what labels said."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from darkroom.summary import AccuracyEstimate
from tasks.report.accuracy_nights import accuracy_sentence, accuracy_trend
from tasks.report.index_page import index_html
from tasks.report.labelled import LabelledNight, labelled_nights, write_labelled
from tasks.report.past import PastNight, past_nights
from tests.nights import BUNDLE, commit_night
from tests.shown import Outline

FIRST = date(2026, 3, 2)
REFUSED = AccuracyEstimate(rows=40, validation=0.84, refused="new classes may have come")


def estimated(value: float, rows: int = 40) -> AccuracyEstimate:
    return AccuracyEstimate(
        rows=rows, validation=0.84, value=value, low=value - 0.07, high=value + 0.07, method="ladder"
    )


def labelled(night: date, accuracy: float) -> LabelledNight:
    return LabelledNight(night=night, labelled=24, accuracy=accuracy, low=accuracy - 0.1, high=accuracy + 0.1)


def night(day: int, estimate: AccuracyEstimate | None, by_labels: float | None = None) -> PastNight:
    when = FIRST + timedelta(days=day)
    said = None if by_labels is None else labelled(when, by_labels)
    return PastNight(BUNDLE, when, "ok", "All is well.", scored=40, estimate=estimate, labelled=said)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Four nights: estimated, refused, estimated and labelled, made before there were estimates."""
    folder = tmp_path / "results"
    for day, estimate in enumerate([estimated(0.81), REFUSED, estimated(0.7), None]):
        commit_night(folder, FIRST + timedelta(days=day), estimate=estimate)
    write_labelled(folder, BUNDLE, (labelled(FIRST + timedelta(days=2), 0.66),))
    return folder


def test_the_table_of_nights_has_each_estimate_refusal_and_label(results: Path) -> None:
    rows = re.findall(r'<tr><th scope="row"><a [^>]*>(\S+)</a></th>(.*?)</tr>', index_html(results))
    cells = {found: Outline(f"<table><tr>{rest}</tr></table>").text for found, rest in rows}
    assert "81% 74% to 88%" in cells["2026-03-02"]
    assert "refused" in cells["2026-03-03"]
    assert "70% 63% to 77%" in cells["2026-03-04"]
    assert "labels: 66% 56% to 76%" in cells["2026-03-04"]
    assert "–" in cells["2026-03-05"]


def test_the_trend_is_told_in_words(results: Path) -> None:
    text = Outline(index_html(results)).text
    assert (
        "Estimated accuracy over 4 nights: 70% to 81%; on validation 84%; refused on 3 Mar; by labels 66% on 4 Mar."
    ) in text
    assert all(words in text for words in ("90 % interval", "on validation", "refused", "what labels say"))


def test_nights_without_estimates_have_neither_chart_nor_column(tmp_path: Path) -> None:
    commit_night(tmp_path, FIRST)
    outline = Outline(index_html(tmp_path))
    assert "stimated" not in outline.text
    assert [one for one in outline.all("figure") if "accuracy" in (one.get("class") or "")] == []


@pytest.mark.parametrize(
    ("nights", "last"),
    [
        pytest.param([night(0, estimated(0.8))], "80% (73% to 87%), on validation 84%", id="estimated"),
        pytest.param([night(0, REFUSED)], "the last night refused, on validation 84%", id="refused"),
        pytest.param([night(0, None, 0.7)], "the last night not estimated; labels say 70%", id="labels alone"),
        pytest.param([night(0, estimated(0.8), 0.7)], "80% (73% to 87%), on validation 84%; labels say 70%", id="both"),
    ],
)
def test_the_last_night_stands_beside_the_chart(nights: list[PastNight], last: str) -> None:
    trend = accuracy_trend(nights)
    assert trend is not None
    assert trend.last == last
    assert accuracy_sentence(nights) in Outline(trend.svg).text
    assert not re.search(r"#[0-9a-f]{3,6}\b| id=|nan", trend.svg)


def test_only_a_night_with_labels_has_a_ring_and_only_a_refused_one_has_a_tick() -> None:
    def drawn(*nights: PastNight) -> tuple[int, int]:
        trend = accuracy_trend(nights)
        assert trend is not None
        return trend.svg.count("var(--paper)"), trend.svg.count("var(--quiet)")

    # The rule of validation has the colour of a tick.
    assert drawn(night(0, estimated(0.8)), night(1, estimated(0.8))) == (0, 1)
    assert drawn(night(0, estimated(0.8), 0.7), night(1, REFUSED)) == (1, 2)


def test_the_scale_holds_everything_that_is_drawn_between_round_shares() -> None:
    trend = accuracy_trend([night(0, estimated(0.62), 0.31), night(1, REFUSED)])
    assert trend is not None
    assert (trend.low, trend.high) == ("20%", "90%")


def test_of_several_runs_of_a_night_the_estimate_is_that_of_the_most_images(tmp_path: Path) -> None:
    for run, estimate in {"a": estimated(0.7, rows=30), "b": estimated(0.8, rows=200), "c": REFUSED}.items():
        commit_night(tmp_path, FIRST, run=run, estimate=estimate)
    (found,) = past_nights(tmp_path, BUNDLE)
    assert found.estimate is not None
    assert found.estimate.value == 0.8


@pytest.mark.parametrize("damage", [b"", b"{", b'[{"night": "some day"}]', None], ids=repr)
def test_a_lost_or_spoiled_record_of_labels_costs_the_labels_and_nothing_else(
    results: Path, damage: bytes | None
) -> None:
    file = results / "reports" / "labels" / f"{BUNDLE}.json"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    assert labelled_nights(results, BUNDLE) == {}
    assert "4 nights" in Outline(index_html(results)).text
