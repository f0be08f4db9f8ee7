"""The nights that were committed, as pages show them: from the results alone, whatever is lost or comes at once."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.errors import StorageError
from darkroom.reasons import NightVerdict
from darkroom.storage import LocalStorage
from tasks.report.index_page import index_html, write_index
from tasks.report.over_nights import line_sentence, line_svg, sum_svg
from tasks.report.past import INDEX, Series, drift_of, past_nights, series_of, with_tonight
from tests import made_up
from tests.nights import BUNDLE, commit_night, drift_row
from tests.shown import HOSTILE, Outline, assert_harmless

FIRST = date(2026, 1, 30)
ALARM, WARN, OK, EMPTY = NightVerdict.ALARM, NightVerdict.WARN, NightVerdict.OK, NightVerdict.EMPTY


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty nights, the tenth an alarm, the twelfth without any image."""
    folder = tmp_path_factory.mktemp("forty") / "results"
    for day in range(40):
        night = FIRST + timedelta(days=day)
        if day == 11:
            commit_night(folder, night, EMPTY, drift=(), scored=0, quarantined=0, suspect=0)
            continue
        moved = {"effect": 1.9, "night_value": 4.0, "verdict": "alarm"} if day == 9 else {"night_value": 9.0 + day / 40}
        commit_night(folder, night, ALARM if day == 9 else OK, drift=[moved, {"metric": "noise"}], scored=100 + day)
    return folder


def test_runs_of_one_night_are_one_night_with_the_verdict_of_the_gravest(results: Path) -> None:
    commit_night(results, FIRST, ALARM, scored=30, suspect=9, run="a")
    commit_night(results, FIRST, WARN, scored=10, suspect=1, run="b")
    commit_night(results, FIRST, OK, scored=0, suspect=0, quarantined=0, run="c")
    (night,) = past_nights(results, BUNDLE)
    assert (night.verdict, night.scored, night.suspect, night.quarantined, night.runs) == ("alarm", 40, 10, 4, 3)
    assert night.page == f"{FIRST}/{BUNDLE}/a/index.html"


def test_a_night_that_was_run_again_for_nothing_keeps_the_page_that_shows_something(results: Path) -> None:
    commit_night(results, FIRST, OK, run="a")
    commit_night(results, FIRST, EMPTY, scored=0, suspect=0, quarantined=0, run="b", page=False)
    (night,) = past_nights(results, BUNDLE)
    assert night.page == f"{FIRST}/{BUNDLE}/a/index.html"


def test_nights_come_in_the_order_of_nights_and_not_of_runs(results: Path) -> None:
    for day in (2, 0, 1):
        commit_night(results, FIRST + timedelta(days=day))
    assert [one.night for one in past_nights(results, BUNDLE)] == [FIRST + timedelta(days=day) for day in range(3)]
    earlier = past_nights(results, BUNDLE, before=FIRST + timedelta(days=2))
    assert [one.night for one in earlier] == [FIRST, FIRST + timedelta(days=1)]


def test_other_inboxes_are_left_out_where_one_is_named(results: Path) -> None:
    commit_night(results, FIRST, inbox="/srv/line-1")
    commit_night(results, FIRST + timedelta(days=1), inbox="/srv/line-2")
    assert [one.night for one in past_nights(results, BUNDLE, "/srv/line-1")] == [FIRST]


def test_a_property_over_nights_is_its_mean_weighed_by_images(results: Path) -> None:
    commit_night(results, FIRST, drift=[{"n": 30, "night_value": 8.0}], run="a")
    commit_night(results, FIRST, drift=[{"n": 10, "night_value": 12.0, "verdict": "warn"}], run="b")
    commit_night(results, FIRST + timedelta(days=1), drift=[{"n": 40, "night_value": 7.0}])
    series = series_of(drift_of(results, past_nights(results, BUNDLE)), "properties")["sharpness"]
    assert series.values.tolist() == [9.0, 7.0]
    assert series.verdicts == ("warn", "ok")
    assert series.reference == 10.0


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(-1e3, 1e3)), min_size=1, max_size=6))
def test_the_mean_over_runs_lies_between_them_and_does_not_care_for_their_order(runs: list[tuple[int, float]]) -> None:
    def value(some: list[tuple[int, float]]) -> float:
        rows = pd.DataFrame([drift_row(n=n, night_value=mean, night=FIRST) for n, mean in some])
        return float(series_of(rows, "properties")["sharpness"].values[0])

    means = [mean for _, mean in runs]
    assert min(means) - 1e-6 <= value(runs) <= max(means) + 1e-6
    assert value(runs) == pytest.approx(value(runs[::-1]))


def test_a_property_without_a_mean_is_shown_by_how_much_its_mix_differs(results: Path) -> None:
    category = {"metric": "format", "reference_value": None, "night_value": None, "effect": 0.3}
    commit_night(results, FIRST, drift=[category])
    series = series_of(drift_of(results, past_nights(results, BUNDLE)), "properties")["format"]
    assert (series.values.tolist(), series.reference) == ([0.3], 0.0)


def test_tonight_is_the_last_of_its_nights_before_it_is_committed(results: Path) -> None:
    commit_night(results, FIRST)
    tonight = pd.DataFrame([drift_row(night_value=4.0, verdict="alarm")])
    rows = with_tonight(drift_of(results, past_nights(results, BUNDLE)), tonight, FIRST + timedelta(days=1))
    series = series_of(rows, "properties")["sharpness"]
    assert series.values.tolist() == [10.0, 4.0]
    assert series.verdicts == ("ok", "alarm")


def test_rows_of_slices_are_no_nights(results: Path) -> None:
    tonight = pd.DataFrame([drift_row(slice=None), drift_row(slice="folder=a", night_value=99.0)])
    rows = with_tonight(drift_of(results, []), tonight, FIRST)
    assert series_of(rows, "properties")["sharpness"].values.tolist() == [10.0]


def test_a_first_night_has_no_past(results: Path) -> None:
    rows = with_tonight(drift_of(results, []), pd.DataFrame(), FIRST)
    assert past_nights(results, BUNDLE) == []
    assert series_of(rows, "properties") == {}


@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_a_lost_old_drift_part_costs_that_night_its_values_and_nothing_else(results: Path, damage: str) -> None:
    for day in range(3):
        commit_night(results, FIRST + timedelta(days=day))
    part = next((results / "drift").rglob(f"night={FIRST}/**/*.parquet"))
    if damage == "removed":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-9])
    nights = past_nights(results, BUNDLE)
    assert len(nights) == 3
    assert len(series_of(drift_of(results, nights), "properties")["sharpness"].nights) == 2
    assert "3 nights" in Outline(index_html(results)).text


def test_the_index_shows_every_night_with_a_link_to_its_page(forty: Path) -> None:
    outline = Outline(index_html(forty))
    assert "40 nights: 38 ok, 1 alarm, 1 empty." in outline.text
    links = {attributes["href"] for attributes in outline.all("a")} - {"#main"}
    assert links == {f"{FIRST + timedelta(days=day)}/{BUNDLE}/run-{day + 1}/index.html" for day in range(40)}
    assert all((forty / "reports" / (link or "")).is_file() for link in links)
    assert "sharpness: differed on 1 of 40 nights, on 8 Feb." in outline.text
    assert "noise: differed" not in outline.text


def test_the_largest_shift_is_of_a_mean_and_a_spread_is_told_as_one(results: Path) -> None:
    wider = {"metric": "entropy", "statistic_name": "spread", "effect": 7.0, "verdict": "alarm"}
    commit_night(results, FIRST, drift=[{"effect": 0.4}, {"metric": "noise", "effect": -0.9, "verdict": "warn"}, wider])
    commit_night(results, FIRST + timedelta(days=1), drift=[{"effect": 0.2}])
    html = index_html(results)
    assert "0.2 (0.2 to 0.9)" in Outline(html).text
    assert "alarm, effect spread by 700%" in html
    assert "warn, effect −0.9" in html


def test_the_index_names_the_last_night_first(forty: Path) -> None:
    text = Outline(index_html(forty)).text
    assert text.index("the last one: 2026-03-10") < text.index("40 nights")


def test_the_calendar_has_each_night_on_its_weekday(forty: Path) -> None:
    html = index_html(forty)
    calendar = html[html.index('class="calendar"') : html.index(">Trend</h3>")]
    for row in re.findall(r'<tr><th scope="row">(\w+)</th>(.*?)</tr>', calendar, re.DOTALL):
        for found in re.findall(r'"hidden">(\d{4}-\d\d-\d\d) ', row[1]):
            assert f"{date.fromisoformat(found):%a}" == row[0]
    assert len(re.findall(r'"hidden">\d{4}-\d\d-\d\d ', calendar)) == 40


def test_the_index_loads_and_runs_nothing_and_is_small(forty: Path) -> None:
    html = index_html(forty)
    outline = Outline(html)
    assert not {"script", "iframe", "object", "embed", "form", "link", "base", "img"} & {
        tag for tag, _ in outline.elements
    }
    assert "http:" not in html
    assert "https:" not in html
    assert len(html.encode()) < 300_000
    tags = [tag for tag, _ in outline.elements]
    assert tags.count("table") == tags.count("caption")
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(attributes.get("role") == "img" for attributes in outline.all("svg"))


def test_bundles_follow_each_other_the_one_used_last_first(results: Path) -> None:
    commit_night(results, FIRST, bundle="old-1-0123456789ab")
    commit_night(results, FIRST + timedelta(days=1), bundle="new-2-0123456789ab")
    text = Outline(index_html(results)).text
    assert text.index("Bundle new-2") < text.index("Bundle old-1")


def test_results_without_a_night_have_an_index_that_says_so(results: Path) -> None:
    assert "No night was committed yet." in Outline(index_html(results)).text


def test_a_lost_or_spoiled_index_is_whole_after_the_next_run(results: Path) -> None:
    commit_night(results, FIRST)
    write_index(results)
    first = (results / INDEX).read_bytes()
    for damage in (lambda path: path.unlink(), lambda path: path.write_text("spoiled")):
        damage(results / INDEX)
        write_index(results)
        assert (results / INDEX).read_bytes() == first


def test_a_moved_results_folder_makes_the_same_index(results: Path, tmp_path: Path) -> None:
    commit_night(results, FIRST)
    here = index_html(results)
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(results, moved)
    assert index_html(moved) == here


def test_an_index_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    commit_night(tmp_path / "results", FIRST)
    (tmp_path / "results" / "reports").rename(tmp_path / "results" / "away")
    (tmp_path / "results" / "reports").write_text("in the way")
    with pytest.raises(StorageError):
        write_index(tmp_path / "results")


def test_runs_that_end_together_leave_an_index_with_all_of_their_nights(results: Path) -> None:
    names = [f"line{number}-1-0123456789ab" for number in range(3)]

    def run(name: str) -> None:
        for day in range(2):
            commit_night(results, FIRST + timedelta(days=day), bundle=name)
            write_index(results)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(run, names))
    outline = Outline((results / INDEX).read_text(encoding="utf-8"))
    assert all(f"Bundle {name}" in outline.text for name in names)
    assert outline.text.count("2 nights: 2 ok.") == len(names)
    assert [path.name for path in (results / "reports").iterdir() if path.is_file()] == ["index.html"]


def test_an_index_writer_that_is_killed_leaves_the_old_index(results: Path) -> None:
    commit_night(results, FIRST)
    write_index(results)
    before = (results / INDEX).read_bytes()
    commit_night(results, FIRST + timedelta(days=1))
    program = (
        "import os, sys; from tasks.report.index_page import write_index\n"
        "os.rename = lambda *_: os._exit(9)\n"
        "write_index(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(results)], cwd=Path(__file__).parent.parent, check=False, env=os.environ
    )
    assert done.returncode == 9
    assert (results / INDEX).read_bytes() == before
    write_index(results)
    assert "2 nights" in (results / INDEX).read_text(encoding="utf-8")


def test_a_run_that_is_kept_back_is_named_on_the_index(tmp_path: Path, results: Path) -> None:
    inbox = made_up.draw_inbox(tmp_path / "inbox")
    from tasks import publish
    from tasks.intake import take_in
    from tasks.ledger import open_ledger

    with publish.begin_run(results, BUNDLE, FIRST, inbox) as run:
        ledger = open_ledger(results, BUNDLE)
        run.staging.freeze(take_in(inbox, formats=["PNG"], ledger=ledger, settle_seconds=0), 4)
        for shard in run.staging.unfinished():
            made_up.look_at(run.staging, shard, inbox)
        settled = publish.settle(run)
        publish.hold(run, settled, made_up.summary_of(run, settled, ALARM))
    text = Outline(index_html(results)).text
    assert "Kept back until somebody has looked" in text
    assert run.id in text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_of_a_commit_becomes_markup_on_the_index(results: Path, text: str) -> None:
    def outline(folder: Path, said: str) -> Outline:
        # What JSON and Parquet cannot hold cannot come from a commit.
        kept = said.encode("utf-8", "replace").decode()
        moved = {"family": "probabilities", "metric": kept, "verdict": "alarm"}
        commit_night(folder, FIRST, ALARM, headline=kept, drift=[moved])
        return Outline(index_html(folder))

    calm, hostile = outline(results / "calm", "calm"), outline(results / "hostile", text)
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in calm.elements]
    for (_, found), (_, expected) in zip(hostile.elements, calm.elements, strict=True):
        assert found.keys() == expected.keys()
        assert [found.get(name) for name in ("href", "style", "class", "id")] == [
            expected.get(name) for name in ("href", "style", "class", "id")
        ]
    assert_harmless(hostile.text.replace("\n", ""))


NIGHTS = tuple(FIRST + timedelta(days=day) for day in range(4))


@pytest.mark.parametrize(
    ("values", "verdicts", "said"),
    [
        pytest.param(
            [9, 9, 8, 4], ["ok", "ok", "warn", "alarm"],
            "4 to 9, the last 4, training 10; alarm on 2 Feb; warn on 1 Feb.", id="told",
        ),
        pytest.param([9, math.nan, 8, math.nan], ["ok"] * 4, "8 to 9, the last not measured, training 10.", id="gaps"),
        pytest.param([math.nan] * 4, ["ok"] * 4, "not measured on any of 4 nights.", id="nothing"),
        pytest.param([7, 7, 7, 7], ["ok"] * 4, "7 to 7, the last 7, training 10.", id="constant"),
    ],
)  # fmt: skip
def test_a_line_is_drawn_and_told_in_words(values: list[float], verdicts: list[str], said: str) -> None:
    series = Series(NIGHTS, np.array(values, float), tuple(verdicts), 10.0, 1.0)
    sentence = line_sentence("sharpness", series)
    assert sentence.endswith(said)
    svg = line_svg(series, sentence)
    assert Outline(svg).all("svg")[0]["role"] == "img"
    assert said in Outline(svg).text
    assert ("var(--alarm)" in svg) == ("alarm" in verdicts)
    assert not re.search(r"#[0-9a-f]{3,6}\b| id=|<text|<style|xmlns|clip-path|nan", svg)


def test_a_night_that_was_told_is_a_dot_at_its_date() -> None:
    def dots(verdicts: list[str]) -> int:
        svg = line_svg(Series(NIGHTS, np.arange(4.0), tuple(verdicts), 1.0), "x")
        return svg.count("var(--alarm)") + svg.count("var(--warn)")

    assert [dots(["ok"] * 4), dots(["ok", "alarm", "ok", "ok"]), dots(["warn", "alarm", "ok", "warn"])] == [0, 1, 3]


def test_the_sum_over_nights_is_drawn_to_the_height_of_an_alarm() -> None:
    calm, over = (sum_svg(NIGHTS, sums, 730.0, "evidence") for sums in ([0.0, 1, 2, 3], [1.0, 9, 90, 900]))
    assert "var(--alarm)" not in calm
    assert over.count("var(--alarm)") == 1


def test_the_index_of_a_folder_is_the_same_bytes_twice(forty: Path) -> None:
    assert index_html(forty) == index_html(LocalStorage(forty))
