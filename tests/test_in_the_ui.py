"""What a run shows in the Prefect UI: its name, its artifacts, its progress, and a log without noise."""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import Image
from prefect import runtime
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import LogSort

from darkroom import pages
from darkroom.errors import BundleTampered
from darkroom.night import night_of
from darkroom.reasons import NightVerdict, Reason
from darkroom.settings import NightOptions
from darkroom.summary import AccuracyEstimate, Counts
from flows import counting
from flows.counting import Counter, HowFar, count, counted
from flows.evaluation_words import Evaluation, NightRecord, evaluation_markdown
from flows.in_the_ui import key_of, show_night
from flows.naming import named
from flows.night_words import intake_sentence
from tasks.intake import take_in
from tasks.ledger import open_ledger
from tasks.report.artifact import night_artifact
from tasks.report.artifact_tables import drift_artifact, quarantine_artifact, quarantine_told
from tasks.report.further import SliceShown, SlicesShown
from tasks.report.night_page import NightPage
from tasks.report.nights_chart import nights_chart
from tasks.report.past import PastNight
from tasks.report.sheet import sheet
from tasks.runs import begin_run
from tasks.staging import Run
from tests import made_up
from tests.shown import HOSTILE, assert_stays_text, jpeg
from tests.test_report import drift, full_night, hostile_night, night, predictions, quarantine, summary

BUNDLE = "parts-3-9f2c41d07ab3"


# -- artifacts


def shown(page: NightPage, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str]]:
    """Key → Markdown and description, of the artifacts of a night."""
    from flows import in_the_ui

    made: dict[str, tuple[str, str]] = {}

    def create(markdown: str, *, key: str, description: str) -> None:
        made[key] = (markdown, description)

    monkeypatch.setattr(in_the_ui, "create_markdown_artifact", create)
    assert show_night(page) == list(made)
    return made


def test_a_night_has_three_artifacts_whose_keys_stay_the_same_over_nights_and_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = shown(night(), monkeypatch)
    later = shown(night(summary=summary(night=date(2026, 5, 9), bundle_id="parts-12-000000000000")), monkeypatch)
    assert list(first) == list(later) == ["night-parts", "drift-parts", "quarantine-parts"]
    assert [told for _, told in first.values()] == [
        "2026-05-05 warn: 1,234 images scored; sharpness moved from 10 to 4.",
        "2026-05-05: 1 of 2 measures differs from training: sharpness.",
        "2026-05-05: 53 of 2,000 files set aside; 29 wait for the next night.",
    ]


@pytest.mark.parametrize(
    ("bundle", "key"),
    [
        (BUNDLE, "night-parts"),
        ("Keras_Model.v2-1-0123456789ab", "night-keras-model-v2-6670"),
        ("keras-model-v2-1-0123456789ab", "night-keras-model-v2"),
        ("a--b..c-7-0123456789ab", "night-a-b-c-1829"),
        ("parts-2026", "night-parts-2026"),
    ],
)
def test_a_key_is_of_lowercase_letters_digits_and_dashes(bundle: str, key: str) -> None:
    assert key_of("night", bundle) == key
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_from_a_file_becomes_markup_in_any_artifact_of_a_night(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for name in ("calm", text):
        facts = hostile_night(name)
        told = summary(headline=f"60 images; the share of {name} moved.", quarantine_reasons={name: 53})
        made.append(shown(NightPage(**{**vars(facts), "summary": told}), monkeypatch))
    for calm, hostile in zip(made[0].values(), made[1].values(), strict=True):
        for before, after in zip(calm, hostile, strict=True):
            assert_stays_text(before, after)


def test_the_drift_table_has_every_measure_but_the_components_that_did_not_move() -> None:
    rows = drift(
        {"metric": "sharpness", "verdict": "alarm", "effect": 1.9, "night_value": 4.0, "p_corrected": 1e-9},
        {"metric": "noise"},
        {"family": "embedding", "metric": "component_3", "verdict": "warn", "effect": 0.7, "p_corrected": 1e-4},
        {"family": "embedding", "metric": "component_4"},
    )
    table = drift_artifact(night(drift=rows))
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert lines[2] == "| sharpness | alarm | −1.90 sd | 0.31 sd | 10 | 4 |"
    assert len(lines) == 5
    assert "Not in the table: 1 embedding components that did not move." in table


def test_the_drift_table_names_the_folders_that_differ() -> None:
    moved = SlicesShown((SliceShown("folder line-2", 60, "alarm", "brightness", "−1.20"),), "2 were compared.")
    assert "| folder line-2 | 60 | alarm | brightness | −1.20 |" in drift_artifact(night(slices=moved))


def test_the_quarantine_table_has_each_reason_with_its_count_and_some_files() -> None:
    aside = [{"path": f"cut-{n}.jpg", "reason": "truncated", "detail": "30 bytes short"} for n in range(5)]
    told = quarantine_artifact(
        night(
            quarantine=quarantine(*aside, {"path": "late.jpg", "reason": "read_error"}),
            summary=summary(quarantine_reasons={"truncated": 41, "read_error": 1}),
        )
    )
    assert "| truncated | 41 | no |" in told
    assert "| read\\_error | 1 | yes |" in told
    assert told.count("30 bytes short") == 3
    assert "- and 38 more" in told
    assert "late.jpg" in told


def test_a_night_without_quarantine_and_without_drift_says_so() -> None:
    empty = night(
        drift=drift(), quarantine=quarantine(), predictions=predictions(),
        summary=summary(quarantine_reasons={}, counts=summary().counts.model_copy(update={"quarantined": 0})),
    )  # fmt: skip
    assert quarantine_told(empty) == "2026-05-05: Nothing set aside; 29 wait for the next night."
    assert "Nothing was compared with training tonight." in drift_artifact(empty)
    assert "|" not in quarantine_artifact(empty)


def test_every_artifact_links_to_the_served_page_and_tells_its_path_where_none_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = f"/srv/results/reports/2026-05-05/{BUNDLE}/run-7/index.html"
    page = full_night(summary=summary(report=report))
    drawn = (night_artifact, drift_artifact, quarantine_artifact)
    monkeypatch.delenv(pages.URL, raising=False)
    assert all(report in draw(page) and "](http" not in draw(page) for draw in drawn)
    monkeypatch.setenv(pages.URL, "http://127.0.0.1:4201")
    monkeypatch.setenv(pages.FOLDER, "/srv/results/reports")
    address = f"http://127.0.0.1:4201/2026-05-05/{BUNDLE}/run-7/index.html"
    for draw in drawn:
        assert f"[The page of this night]({address})" in draw(page)
        assert "[all nights](http://127.0.0.1:4201/index.html)" in draw(page)
    assert "| [2026-05-04](http://127.0.0.1:4201/x/y.html) | warn | 90 | 4 | 2 |" in night_artifact(page)


def test_a_long_night_of_everything_is_a_small_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drift(*({"metric": f"measure {n}", "verdict": "alarm", "effect": 2.0} for n in range(400)))
    files = [{"path": f"{'long/' * 60}{n}.jpg", "reason": str(reason)} for n, reason in enumerate(Reason)]
    many = full_night(
        drift=rows, quarantine=quarantine(*files), thumbnails={f"{n:064x}": jpeg(n, (144, 144), 95) for n in range(9)}
    )
    for markdown, described in shown(many, monkeypatch).values():
        assert len(markdown) < 300_000
        assert len(described) < 1_000


def past(day: int, verdict: NightVerdict, estimate: AccuracyEstimate | None) -> PastNight:
    return PastNight(
        BUNDLE, date(2026, 5, day), str(verdict), "", scored=90, suspect=4, quarantined=2, estimate=estimate
    )


@pytest.mark.parametrize("nights", [0, 1, 8])
def test_the_last_nights_are_a_small_picture_however_many_there_are(nights: int) -> None:
    known = AccuracyEstimate(rows=90, validation=0.95, value=0.9, low=0.8, high=0.97, method="ladder")
    refused = AccuracyEstimate(rows=90, refused="new classes may have come")
    shown = [past(n + 1, list(NightVerdict)[n % 4], (known, refused, None)[n % 3]) for n in range(nights)]
    png = nights_chart(shown)
    assert png.startswith(b"\x89PNG")
    assert len(png) < 40_000


def test_a_sheet_keeps_the_place_of_what_is_no_picture() -> None:
    drawn = [sheet(given) for given in ([jpeg(1)], [jpeg(1), b"broken", b"", jpeg(2)], [jpeg(n) for n in range(8)])]
    sizes = [Image.open(io.BytesIO(one)).size for one in drawn]
    assert sizes == [(894, 144), (894, 144), (894, 294)]
    assert sheet([]) == b""


def test_labels_are_a_table_of_nights_the_newest_first() -> None:
    estimate = AccuracyEstimate(rows=90, value=0.9, low=0.85, high=0.95)
    nights = tuple(
        NightRecord(
            night=date(2026, 5, day), scored=90, labelled=40, accuracy=0.8, low=0.7, high=0.84, design="strata", of=90,
            estimate=estimate if day == 4 else None,
        )
        for day in (4, 5)
    )  # fmt: skip
    told = Evaluation(
        bundle_id=BUNDLE, classes=("a|b", "c"), given=80, empty=0, recorded=80, unknown=(), ambiguous=(), labelled=80,
        nights=nights, confusion=((30, 10), (6, 34)), calibration_error=0.04, calibration=(),
    )  # fmt: skip
    markdown = evaluation_markdown(told)
    assert markdown.index("2026-05-05") < markdown.index("2026-05-04")
    assert "| 2026-05-04 | 40 of 90 | 80.0% (70.0% to 84.0%) | 90.0% (85.0% to 95.0%) | **no** |" in markdown
    assert "| a\\|b | c | 10 |" in markdown


# -- progress


@pytest.mark.parametrize(
    ("far", "sentence"),
    [
        (HowFar(1200, 3000, 3, 84.0), "1,200 of 3,000 images, 84 a second, 3 quarantined, about 20 s left"),
        (HowFar(0, 3000, 0, None), "0 of 3,000 images, 0 quarantined"),
        (HowFar(3000, 3000, 3, 84.0), "3,000 of 3,000 images, 84 a second, 3 quarantined"),
        (HowFar(10, 3000, 0, 4.25), "10 of 3,000 images, 4.2 a second, 0 quarantined, about 12 min left"),
        (HowFar(10, 300_000, 0, 40.0), "10 of 300,000 images, 40 a second, 0 quarantined, about 2.1 h left"),
        (HowFar(299, 300, 0, 40.0), "299 of 300 images, 40 a second, 0 quarantined, about 5 s left"),
    ],
)
def test_progress_is_one_sentence(far: HowFar, sentence: str) -> None:
    assert far.sentence == sentence


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Ten images to look at in three shards, one of them broken, and an empty file that the intake has set aside."""
    inbox = made_up.draw_inbox(tmp_path / "inbox")
    (inbox / "empty.png").touch()
    with begin_run(tmp_path / "results", made_up.BUNDLE, made_up.NIGHT, inbox) as attempt:
        ledger = open_ledger(attempt.staging.storage, attempt.bundle)
        attempt.staging.freeze(take_in(inbox, formats=["PNG"], ledger=ledger, settle_seconds=0), 4)
        yield attempt


def test_one_counter_counts_the_shards_of_a_night_wherever_they_are_looked_at(run: Run, tmp_path: Path) -> None:
    made_up.look_at(run.staging, 2, tmp_path / "inbox")  # an earlier attempt, which died
    counter = Counter(run.staging, 10)
    begun = counter.how_far()
    assert (begun.done, begun.total, begun.a_second) == (2, 10, None)
    aside = begun.quarantined
    assert counter.count(0, 3, 0).done == 5
    assert counter.count(0, 1, 0).done == 3  # the shard is tried again
    made_up.look_at(run.staging, 1, tmp_path / "inbox")  # another machine
    counter.look_around()
    assert counter.how_far().done == 7
    counter.count(0, 4, 0)
    made_up.look_at(run.staging, 0, tmp_path / "inbox")
    done, seconds = counter.in_all()
    assert (done.done, done.quarantined, done.percent) == (10, 2, 100.0)
    assert aside <= 2
    assert done.a_second is not None
    assert done.a_second * seconds == pytest.approx(8)


@pytest.mark.usefixtures("prefect_api")
def test_a_run_has_a_progress_artifact_that_ends_where_the_night_ends(run: Run, tmp_path: Path) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:

        @flow(name="score")
        def looks() -> UUID:
            with counted(run):
                for shard in range(3):
                    count(run.id, shard, 1, [])
                    made_up.look_at(run.staging, shard, tmp_path / "inbox")
            return UUID(str(runtime.flow_run.id))

        identity = looks()
        (artifact,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[identity]))
        )
        assert (artifact.key, artifact.type, artifact.data) == ("progress-parts", "progress", 100.0)
        assert str(artifact.description).startswith("10 of 10 images in ")
        (line,) = lines_of(client, identity)
        assert line == f"INFO {artifact.description}"


@pytest.mark.usefixtures("prefect_api")
def test_a_progress_that_cannot_be_shown_stops_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client

    monkeypatch.setattr(counting, "_ARTIFACT_SECONDS", 0.05)

    @flow(name="score")
    def looks() -> None:
        with counted(run), get_client(sync_client=True) as client:
            made = client.read_artifacts(
                artifact_filter=ArtifactFilter(
                    flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(str(runtime.flow_run.id))])
                )
            )
            client.delete_artifact(made[0].id)
            count(run.id, 0, 3, [Reason.BROKEN_DATA])
            time.sleep(0.2)

    looks()


# -- names


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"bundle": Path("/srv/models/parts"), "night": NightOptions(night=date(2026, 11, 23))}, "2026-11-23 parts"),
        ({"bundle": "models/parts/3", "night": {"night": "2026-11-23"}}, "2026-11-23 parts 3"),
        ({"bundle": "parts", "night": {"night": "2026-11-23"}, "labels": "/x/may.csv"}, "2026-11-23 parts by may.csv"),
        ({"bundle": "a\u202eb\n", "night": {"night": "2026-11-23"}}, "2026-11-23 a⟨U+202E⟩b␊"),
        ({"bundle": "parts", "night": {"timezone": "Mars/City"}}, "parts"),
        ({"bundle": "parts", "night": {"night": "the third"}}, "parts"),
        ({"bundle": "", "night": {"timezone": "Mars/City"}}, "nameless"),
    ],
)
def test_a_run_is_named_by_night_and_bundle_and_never_fails_by_its_name(given: dict[str, Any], name: str) -> None:
    from prefect import flow

    @flow(name="nameless", flow_run_name=named("{night}", " {bundle}", " by {labels}"), validate_parameters=False)
    def nameless(bundle: Any, night: Any = NightOptions(), labels: Any = None) -> str:
        return str(runtime.flow_run.name)

    assert nameless(**given) == name


@pytest.mark.usefixtures("prefect_api")
def test_a_run_without_a_stated_night_is_named_by_the_night_that_it_scores() -> None:
    from prefect import flow

    @flow(flow_run_name=named("{night}", " {bundle}"))
    def scores(bundle: str, night: NightOptions = NightOptions(night_offset_days=-3)) -> tuple[str, date]:
        return str(runtime.flow_run.name), night_of(night, runtime.flow_run.scheduled_start_time)

    name, scored = scores("parts")
    assert name == f"{scored} parts"


# -- the log


def lines_of(client: Any, run: UUID) -> list[str]:
    """Level and text of a run's lines, in their order, once they have arrived."""
    from darkroom.orchestrator.connection import send_what_waits

    send_what_waits()
    logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])), sort=LogSort.TIMESTAMP_ASC)
    return [f"{logging.getLevelName(one.level)} {one.message}" for one in logs]


def ran(name: str, error: Exception | None) -> list[str]:
    """The log of a flow of this name with one task, which says one line and then raises."""
    from prefect import flow, get_run_logger, task
    from prefect.client.orchestration import get_client

    @task(name="open")
    def opens() -> None:
        get_run_logger().info("Looking.")
        if error is not None:
            raise error

    @flow(name=name)
    def flows() -> None:
        found.append(UUID(str(runtime.flow_run.id)))
        opens()

    found: list[UUID] = []
    with suppress(Exception):
        flows()
    with get_client(sync_client=True) as client:
        return lines_of(client, found[0])


@pytest.mark.usefixtures("prefect_api")
class TestTheLog:
    def test_what_goes_well_is_told_by_the_run_alone(self) -> None:
        assert ran("verify", None) == ["INFO Looking."]

    def test_an_expected_error_is_told_once_in_its_own_words_in_every_run(self) -> None:
        error = BundleTampered("card.md was changed.", file="a\u202eb", expected="x", found="y", todo="restore it")
        told = (
            "ERROR BundleTampered: card.md was changed.\n  file: a⟨U+202E⟩b\n  expected: x\n  found: y\n"
            "  what to do: restore it"
        )
        assert ran("verify", error) == ran("verify", error) == ["INFO Looking.", told]

    def test_an_unexpected_error_keeps_its_traceback(self) -> None:
        lines = ran("verify", ZeroDivisionError("by zero"))
        assert any(line.startswith("ERROR") and "Traceback" in line and "by zero" in line for line in lines)
        assert any(line.startswith("INFO Finished in state Failed(") for line in lines)

    def test_a_flow_of_the_user_s_own_keeps_every_line(self) -> None:
        lines = ran("somebody's", None)
        assert [line.split(" run ")[0] for line in lines[:2]] == ["INFO Beginning flow", "INFO Looking."]
        assert lines[2:] == ["INFO Finished in state Completed()"] * 2


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (Counts(seen=160, scored=160), "Intake: 160 paths, 160 images to score"),
        (
            Counts(seen=1_167, scored=1_160, quarantined=6, not_an_image=1),
            "Intake: 1,167 paths, 1,160 images to score, 6 quarantined, 1 not an image",
        ),
        (
            Counts(seen=2, scored_before=1, duplicate=1),
            "Intake: 2 paths, 0 images to score, 1 scored before, 1 duplicate",
        ),
    ],
)
def test_the_intake_is_one_line_without_what_no_path_is(counts: Counts, sentence: str) -> None:
    assert intake_sentence(counts) == sentence
