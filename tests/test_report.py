"""The page, the artifact and the terminal: everything is told, and nothing from a file is believed."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from darkroom.errors import StorageError
from darkroom.reasons import Grade, NightCause, NightVerdict, Reason
from darkroom.schemas import CATEGORICAL_PROPERTIES, DRIFT, NUMERIC_PROPERTIES, PREDICTIONS, QUARANTINE
from darkroom.summary import CauseFound, Counts, ExpectationResult, Finding, NightSummary, Severity
from tasks.report.artifact import night_artifact
from tasks.report.charts import histogram_svg, night_chart
from tasks.report.drift_lines import drift_lines, drift_sentence, effect
from tasks.report.further import AcrossShown, EstimateShown, LabelledShown, SliceShown, SlicesShown
from tasks.report.night_page import Histogram, Mix, NearPhoto, NightPage
from tasks.report.page import LARGEST_PAGE, page_html, write_page
from tasks.report.past import PastNight, Series
from tasks.report.terminal import print_night, print_predictions
from tasks.report.untrusted import in_markdown, visible
from tasks.report.view import class_shares
from tests.shown import HOSTILE, Outline, assert_harmless, assert_stays_text, jpeg, kinds_of_tokens


def prediction(number: int, **changes: object) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(NUMERIC_PROPERTIES, 1.5)
    row |= {"format": "JPEG", "mode": "RGB", "channels": "3", "exif_orientation": "1", "icc_class": "none"}
    row |= {"animated": "no", "camera": None, "captured_at": None, "scored_at": datetime(2026, 5, 6, tzinfo=UTC)}
    row |= {
        "content_id": f"{number:064x}",
        "path": f"session-1/part-{number}.jpg",
        "predicted_class": "gear",
        "confidence": 0.875,
        "margin": 0.8,
        "probabilities": [0.875, 0.125],
        "embedding": [0.0] * 32,
        "verdict": "trusted",
        "reasons": [],
        "unusual_p": 0.5,
        "unusual_property": "sharpness",
        "out_of_distribution_p": 0.5,
    }
    return row | changes


def predictions(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=PREDICTIONS.names, dtype=object)


def quarantine(*rows: dict[str, object]) -> pd.DataFrame:
    defaults = {"content_id": None, "retryable": False, "detail": None, "size": 10}
    return pd.DataFrame([defaults | row for row in rows], columns=QUARANTINE.names, dtype=object)


def drift(*rows: dict[str, object]) -> pd.DataFrame:
    defaults = {
        "family": "properties",
        "metric": "sharpness",
        "statistic_name": "ks",
        "statistic": 0.1,
        "effect": 0.0,
        "p_value": 0.5,
        "p_corrected": 1.0,
        "n": 200,
        "n_reference": 1000,
        "reference_value": 10.0,
        "night_value": 10.0,
        "smallest_detectable_effect": 0.31,
        "verdict": "ok",
    }
    return pd.DataFrame([defaults | row for row in rows], columns=DRIFT.names, dtype=object)


def summary(**changes: object) -> NightSummary:
    facts: dict[str, object] = {
        "bundle_id": "parts-3-9f2c41d07ab3",
        "night": date(2026, 5, 5),
        "run_id": "run-7",
        "inbox": "/srv/inbox",
        "verdict": NightVerdict.WARN,
        "headline": "1,234 images scored; sharpness moved from 10 to 4.",
        "counts": Counts(
            seen=2_000, scored=1_234, scored_before=567, duplicate=101, quarantined=53, deferred=29, not_an_image=16
        ),
        "trusted": 1_117,
        "suspect": 117,
        "classes": {"gear": 834, "washer": 400},
        "quarantine_reasons": {"truncated": 41, "read_error": 12},
        "findings": (
            Finding(severity=Severity.WARNING, source="drift", what="sharpness moved.", evidence="effect -1.9"),
        ),
        "expectations": (
            ExpectationResult(
                expectation="sharpness between 2 and 40",
                level="row",
                severity=Severity.WARNING,
                status="failed",
                evaluated=1_234,
                unexpected=77,
                observed="93.8 %",
            ),
        ),
        "started_at": datetime(2026, 5, 6, 2, 0, 0, tzinfo=UTC),
        "finished_at": datetime(2026, 5, 6, 2, 2, 5, tzinfo=UTC),
        "parameters": {"shard_size": 2000, "suites": None},
        "versions": {"keras": "3.15.1"},
        "commit": 41,
    }
    return NightSummary.model_validate(facts | changes)


def night(**changes: object) -> NightPage:
    edges = np.linspace(0, 20, 11)
    facts: dict[str, object] = {
        "summary": summary(),
        "drift": drift(
            {"effect": -1.9, "p_corrected": 1e-9, "night_value": 4.0, "verdict": "warn"}, {"metric": "noise"}
        ),
        "predictions": predictions(
            prediction(1, verdict="suspect", reasons=["unusual_property"], unusual_p=0.004, sharpness=3.25),
            prediction(2, predicted_class="washer"),
        ),
        "quarantine": quarantine(
            {"path": "late.jpg", "reason": "read_error"}, {"path": "cut.jpg", "reason": "truncated"}
        ),
        "thumbnails": {f"{number:064x}": jpeg(number) for number in (1, 2)},
        "histograms": {"sharpness": Histogram(edges, np.arange(10), np.arange(10)[::-1])},
        "training_classes": {"gear": 500, "washer": 500},
    }
    return NightPage(**(facts | changes))  # type: ignore[arg-type]


TRAINING_PHOTO = "f" * 64


def causes(text: str) -> tuple[CauseFound, ...]:
    return (
        CauseFound(cause=NightCause.SHIFT, grade=Grade.LIKELY, sentence=text, evidence=(text,), todo=text),
        CauseFound(cause=NightCause.CLASS_MIX, grade=Grade.POSSIBLE, sentence="Second."),
    )


def full_night(text: str = "calm", **changes: object) -> NightPage:
    """A night of which everything is known, with `text` wherever a text may come from."""
    nights = tuple(date(2026, 5, day) for day in (3, 4, 5))
    facts: dict[str, object] = {
        "summary": summary(causes=causes(text)),
        "mixes": {"format": Mix(("JPEG", text), np.array([150, 50]), np.array([1000, 0]))},
        "past": {
            "sharpness": Series(nights, np.array([9.0, 9.5, 4.0]), ("ok", "warn", "alarm"), 10.0, 1.5),
            "format": Series(nights, np.array([0.0, 0.0, 0.4]), ("ok", "ok", "warn"), 0.0),
        },
        "recent": tuple(
            PastNight(
                "parts-3-9f2c41d07ab3", night, verdict, text, scored=90, suspect=4, quarantined=2, page="x/y.html"
            )
            for night, verdict in zip(nights[1::-1], ("warn", text), strict=True)
        ),
        "near": {f"{1:064x}": (NearPhoto(TRAINING_PHOTO, text, text, 0.2), NearPhoto("e" * 64, text, text, 0.4))},
        "thumbnails": {TRAINING_PHOTO: jpeg(9), **{f"{number:064x}": jpeg(number) for number in (1, 2)}},
        "estimate": EstimateShown(text, 0.83, 0.78, 0.88, 0.9, (text,)),
        "labelled": LabelledShown(("gear", text), np.array([[80, 5], [7, 30]]), 0.84, 0.93),
        "slices": SlicesShown((SliceShown(text, 60, "alarm", text, "−1.20 sd", 0.0003, ((f"{2:064x}", text),)),), text),
        "across": AcrossShown(nights, (1.0, 90.0, 900.0), 730.0, text),
        "budget": text,
        "sealed": {text: text},
        "index": "../../../index.html",
    }
    return night(**(facts | changes))


def empty_night() -> NightPage:
    return NightPage(
        summary=summary(
            verdict=NightVerdict.EMPTY,
            headline="Nothing was scored: the inbox is empty.",
            counts=Counts(),
            trusted=0,
            suspect=0,
            classes={},
            quarantine_reasons={},
            findings=(),
            expectations=(),
            parameters={},
            versions={},
            commit=None,
        ),
        drift=drift(),
        predictions=predictions(),
        quarantine=quarantine(),
    )


def hostile_night(text: str) -> NightPage:
    """A night in which every text that comes from files or from people is `text`."""
    return full_night(
        text,
        summary=summary(
            bundle_id=text,
            inbox=text,
            headline=text,
            report=text,
            classes={text: 834, "washer": 400},
            quarantine_reasons={text: 53},
            causes=causes(text),
            findings=(Finding(severity=Severity.CRITICAL, source=text, what=text, evidence=text),),
            expectations=(
                ExpectationResult(
                    expectation=text, column=text, level=text, severity=Severity.INFO, status="failed", observed=text
                ),
            ),
            parameters={text: text},
            versions={text: text},
        ),
        drift=drift(
            {"family": "probabilities", "metric": text, "verdict": "alarm", "effect": 1.0},
            {"family": text, "metric": text},
            {"metric": "format"},  # its place among the multiples is not by its name
        ),
        predictions=predictions(
            prediction(1, path=text, predicted_class=text, verdict="suspect", reasons=[text, "unusual_property"]),
            prediction(2, path=text, predicted_class=text, camera=text),
            prediction(
                3, verdict="suspect", confidence=0.9, reasons=[f"expectation:{text}:{text}", "unusual_property"],
                unusual_property="format", format=text,
            ),
        ),
        quarantine=quarantine({"path": text, "reason": text, "detail": text, "content_id": text}),
        histograms={text: Histogram(np.arange(3.0), np.array([1, 2]), np.array([2, 1]))},
        training_classes={text: 500},
    )  # fmt: skip


def in_terminal(show: Callable[[Console], None], width: int = 100) -> str:
    out = io.StringIO()
    show(Console(file=out, width=width, force_terminal=True, color_system="standard"))
    return out.getvalue()


@pytest.fixture(scope="module")
def page() -> str:
    return page_html(night())


@pytest.fixture(params=["ordinary", "everything known"])
def any_page(request: pytest.FixtureRequest) -> str:
    return page_html(night() if request.param == "ordinary" else full_night())


def test_the_page_says_every_count_and_that_they_add_up(page: str) -> None:
    text = Outline(page).text
    for count in ("2,000", "1,234", "567", "101", "53", "29", "16", "1,117", "117", "834", "400", "41", "12", "77"):
        assert re.search(rf"(?<![\d,]){count}(?![\d,])", text), count
    assert "1,234 + 567 + 101 + 53 + 29 + 16 = 2,000 seen: every path is accounted for." in text


def test_accounts_that_do_not_balance_are_said_everywhere() -> None:
    lost = night(summary=summary(counts=Counts(seen=10, scored=7)))
    for shown in (
        Outline(page_html(lost)).text,
        night_artifact(lost),
        in_terminal(lambda console: print_night(console, lost.summary), width=200),
    ):
        assert "do not balance" in shown


def test_the_page_says_what_the_night_knows(page: str) -> None:
    text = Outline(page).text
    for said in (
        "warn", "1,234 images scored; sharpness moved from 10 to 4.", "Tuesday, 5 May 2026", "parts-3-9f2c41d07ab3",
        "sharpness moved.", "effect -1.9", "1 of 2 measures differs from training: sharpness.", "−1.90 sd", "0.31",
        "unusual sharpness of 3.25 (p 0.004)", "the file ends before the image does", "tried again on the next night",
        "sharpness between 2 and 40", "number 41", "2 min 5 s", "shard_size", "not set", "3.15.1",
    ):  # fmt: skip
        assert said in text, said


def test_the_page_is_one_file_that_loads_and_runs_nothing(any_page: str) -> None:
    page, outline = any_page, Outline(any_page)
    assert not {"script", "iframe", "object", "embed", "form", "link", "base"} & {tag for tag, _ in outline.elements}
    for tag, attributes in outline.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data", "action", "xlink:href"):
                # A link to another night is followed by a person, and loads nothing.
                expected = ("#", "../../../") if tag == "a" else ("data:image/", "#")
                assert (value or "").startswith(expected), (tag, name)
    assert "http:" not in page
    assert "https:" not in page
    assert "url(" not in page
    assert "@import" not in page
    policy = next(meta["content"] for meta in outline.all("meta") if meta.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_a_screen_reader_finds_its_way(page: str) -> None:
    outline = Outline(page)
    tags = [tag for tag, _ in outline.elements]
    assert outline.all("html") == [{"lang": "en"}]
    assert [tags.count(landmark) for landmark in ("header", "nav", "main", "footer", "h1")] == [1] * 5
    assert tags.count("table") == tags.count("caption")
    assert_accessible(outline)
    assert "tonight centred at" in outline.text


def assert_accessible(outline: Outline) -> None:
    """Names for whatever has none by its text; headings in order; each anchor has its target."""
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in outline.all("a"):
        href = attributes["href"] or ""
        assert href.startswith("../../../") or href[1:] in ids
    for attributes in outline.all("section"):
        assert attributes["aria-labelledby"] in ids
    assert outline.all("img")
    assert all(attributes.get("alt") for attributes in outline.all("img"))
    tags = [tag for tag, _ in outline.elements]
    assert tags.count("table") == tags.count("caption")
    charts = outline.all("svg")
    assert charts
    assert all(attributes.get("role") == "img" for attributes in charts)
    assert tags.count("title") == len(charts) + 1
    assert all(attributes.get("scope") for attributes in outline.all("th"))
    assert all(attributes.get("aria-label") for attributes in outline.all("nav"))
    levels = [int(tag[1]) for tag in tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_a_page_of_which_everything_is_known_is_accessible_too() -> None:
    assert_accessible(Outline(page_html(full_night())))


def test_what_is_known_of_a_night_has_its_section_and_what_is_not_has_none() -> None:
    every = Outline(page_html(full_night("a said thing")))
    known = {attributes["id"] for attributes in every.all("h2")}
    bare = {attributes["id"] for attributes in Outline(page_html(night())).all("h2")}
    assert known - bare == {"causes", "accuracy", "labels"}
    for said in (
        "property shift likely", "What to do a said thing", "83%", "on validation 90%",
        "122 of 1,234 images have a label; 110 of them were predicted so: 90% (84% to 93%), of the "
        "labelled images alone.",
        "From a said thing", "−1.20 sd", "an alarm from 730 on", "nearest in training: a said thing ×2",
        "sharpness over 3 nights: 4 to 9.5, the last 4, training 10; alarm on 5 May; warn on 4 May.",
    ):  # fmt: skip
        assert said in every.text, said
    calm = Outline(page_html(night())).text
    for word in ("Nights together", "have a label", "estimated accuracy", "nearest in training", "Below, the nights"):
        assert word not in calm, word


def test_a_refused_estimate_says_why_and_shows_no_number() -> None:
    html = page_html(full_night(estimate=EstimateShown("Accuracy is not estimated: new classes came."), labelled=None))
    assert "Accuracy is not estimated: new classes came." in Outline(html).text
    assert 'class="gauge"' not in html
    assert "estimated accuracy" not in html


def test_many_classes_are_told_by_their_confusions_and_not_by_a_wall_of_numbers() -> None:
    counts = np.eye(40, dtype=np.int64) * 5
    counts[3, 7] = 4
    outline = Outline(
        page_html(full_night(labelled=LabelledShown(tuple(f"kind {k}" for k in range(40)), counts), mixes={}))
    )
    assert "The commonest confusions" in outline.text
    assert "kind 3\nkind 7\n4" in outline.text
    assert not any("heat" in (attributes.get("class") or "") for attributes in outline.all("table"))


def test_each_category_is_shown_with_its_shares_and_the_rare_ones_together() -> None:
    names = tuple(f"<{letter}>" for letter in "abcdefg")
    mix = Mix(names, np.array([50, 20, 10, 9, 6, 5, 0]), np.array([90, 10, 0, 0, 0, 0, 0]))
    text = Outline(page_html(full_night(mixes={"format": mix}))).text
    told = text[text.index("format: share of images tonight, and in training") :]
    assert re.findall(r"<[a-g]>|\d more|\d+%", told)[:8] == [
        "<a>", "50%", "90%", "50%", "<b>", "20%", "10%", "20%",
    ]  # fmt: skip
    assert "2 more" in text


def test_the_nights_before_are_links_with_tonight_as_the_last() -> None:
    outline = Outline(page_html(full_night()))
    links = [attributes["href"] for attributes in outline.all("a")]
    assert links.count("../../../index.html") == 1
    assert links.count("../../../x/y.html") == 2
    assert outline.text.index("2026-05-03") < outline.text.index("2026-05-04") < outline.text.index("this night")


def test_without_thumbnails_no_picture_of_any_kind_is_on_the_page_or_in_the_artifact() -> None:
    private = full_night(thumbnails={})
    html = page_html(private)
    assert Outline(html).all("img") == []
    assert "data:image" not in html
    assert "It shows no pictures." in html
    assert "data:image/jpeg" not in night_artifact(private)


def test_training_photos_are_shown_beside_an_image_with_their_label() -> None:
    outline = Outline(page_html(full_night("washer")))
    alts = [attributes["alt"] for attributes in outline.all("img")]
    assert alts.count("training photo of washer, washer") == 1


def test_where_room_is_short_training_photos_go_before_tonights() -> None:
    rows = [prediction(n, verdict="suspect", confidence=n / 100) for n in range(24)]
    near = {f"{n:064x}": tuple(NearPhoto(f"{n}-{k}", "t.jpg", "gear", 0.1) for k in range(3)) for n in range(24)}
    pictures = {f"{n:064x}": jpeg(n, (300, 240), quality=90) for n in range(24)}
    pictures |= {photo.content_id: jpeg(5, (300, 240), quality=90) for photos in near.values() for photo in photos}
    outline = Outline(page_html(night(predictions=predictions(*rows), thumbnails=pictures, near=near)))
    alts = [attributes["alt"] or "" for attributes in outline.all("img")]
    assert sum(alt.startswith("session-1/") for alt in alts) == 24
    assert 0 < sum(alt.startswith("training photo") for alt in alts) < 72


def test_how_many_slices_were_compared_stands_with_the_difference_from_training_where_there_are_any() -> None:
    told = "20 sub-folders and cameras were compared"
    html = page_html(night(slices=SlicesShown(sentence=told)))
    assert html.index('id="drift"') < html.index(told) < html.index('id="suspect"')
    assert "sub-folder" not in page_html(night())


def test_a_page_with_every_property_over_thirty_nights_is_small() -> None:
    nights = tuple(date(2026, 4, day + 1) for day in range(30))
    rng = np.random.default_rng(0)
    names = [*NUMERIC_PROPERTIES, *CATEGORICAL_PROPERTIES]
    past = {name: Series(nights, rng.normal(10, 1, 30), ("ok",) * 30, 10.0, 1.0) for name in names}
    histograms = {
        name: Histogram(np.linspace(0, 20, 25), rng.integers(0, 90, 24), rng.integers(0, 90, 24))
        for name in NUMERIC_PROPERTIES
    }
    mixes = {name: Mix(("a", "b"), np.array([3, 4]), np.array([30, 4])) for name in CATEGORICAL_PROPERTIES}
    html = page_html(night(histograms=histograms, mixes=mixes, past=past, thumbnails={}))
    assert len(Outline(html).all("svg")) == 2 * len(names) - len(CATEGORICAL_PROPERTIES)
    assert len(html.encode()) < 250_000


def test_the_artifact_names_cause_estimate_and_the_nights_before() -> None:
    artifact = night_artifact(full_night("a said thing"))
    for said in ("**What to do:** a said thing", "| 2026-05-04 | warn | 90 | 4 | 2 |", "have a label"):
        assert said in artifact


def test_an_effect_has_the_direction_in_which_the_mean_went() -> None:
    rows = drift(
        {"metric": "down", "effect": 1.5, "reference_value": 10.0, "night_value": 4.0},
        {"metric": "up", "effect": 1.5, "reference_value": 10.0, "night_value": 14.0},
        {"metric": "wider", "effect": 0.4, "statistic_name": "spread", "night_value": 4.0},
        {"metric": "format", "effect": 0.4, "reference_value": None, "night_value": None},
    )
    shown = {line.metric: effect(line) for line in drift_lines(rows)}
    assert shown == {"down": "−1.50 sd", "up": "+1.50 sd", "wider": "spread by 40%", "format": "0.40 V"}


def test_dots_and_bands_of_one_table_are_on_one_scale() -> None:
    rows = drift(
        {"metric": "far", "effect": 4.0, "night_value": 20.0, "smallest_detectable_effect": 3.0, "verdict": "alarm"},
        {"metric": "near", "effect": 2.0, "night_value": 20.0, "smallest_detectable_effect": 1.0, "verdict": "warn"},
    )
    html = page_html(night(drift=rows))
    assert re.findall(r"--e:([\d.]+)%;--d:([\d.]+)%", html) == [("46.0", "69.0"), ("23.0", "23.0")]


def test_two_pages_of_one_night_are_the_same_bytes() -> None:
    assert page_html(night()) == page_html(night())
    assert night_artifact(night()) == night_artifact(night())


def test_the_page_is_written_in_one_step(tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "2026-05-05"
    key = "reports/2026-05-05/index.html"
    assert write_page(tmp_path, key, night()) == str(folder / "index.html")
    write_page(tmp_path, key, empty_night())
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    assert "EMPTY" in (folder / "index.html").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="could not be written"):
        write_page(tmp_path, "file/night/index.html", night())


@pytest.mark.parametrize("size", [(160, 120), (400, 300)], ids=["small", "large"])
def test_two_hundred_thumbnails_stay_under_three_megabytes(tmp_path: Path, size: tuple[int, int]) -> None:
    rows = [prediction(n, verdict="suspect" if n % 2 else "trusted", reasons=["low_confidence"]) for n in range(200)]
    pictures = {f"{n:064x}": jpeg(n, size, quality=95) for n in range(200)}
    written = Path(write_page(tmp_path, "index.html", night(predictions=predictions(*rows), thumbnails=pictures)))
    assert written.stat().st_size <= LARGEST_PAGE < 3_000_000
    assert len(Outline(written.read_text(encoding="utf-8")).all("img")) >= 10


def test_pictures_that_do_not_fit_are_counted_and_their_rows_stay() -> None:
    rows = [prediction(n, verdict="suspect", confidence=n / 100) for n in range(30)]
    pictures = {f"{n:064x}": jpeg(n, (500, 400), quality=95) for n in range(30)}
    outline = Outline(page_html(night(predictions=predictions(*rows), thumbnails=pictures)))
    assert "pictures were left out" in outline.text
    assert all(f"part-{n}.jpg" in outline.text for n in range(30))
    assert (outline.all("img")[0]["alt"] or "").startswith("session-1/part-0.jpg")


def test_without_thumbnails_the_page_has_no_picture_and_says_so() -> None:
    outline = Outline(page_html(night(thumbnails={})))
    assert outline.all("img") == []
    assert "It shows no pictures." in outline.text
    assert "session-1/part-1.jpg" in outline.text


def test_bytes_that_are_no_jpeg_are_not_shown() -> None:
    pictures = {f"{1:064x}": b"<svg onload=alert(1)>", f"{2:064x}": b""}
    assert Outline(page_html(night(thumbnails=pictures))).all("img") == []


def test_an_empty_night_renders() -> None:
    outline = Outline(page_html(empty_night()))
    for said in (
        "empty",
        "Nothing was scored: the inbox is empty.",
        "0 + 0 + 0 + 0 + 0 + 0 = 0 seen",
        "not written yet",
    ):
        assert said in outline.text
    assert "every check of this night passed" not in outline.text
    assert "EMPTY" in night_artifact(empty_night())
    assert "EMPTY" in in_terminal(lambda console: print_night(console, empty_night().summary))


def test_frames_without_columns_render() -> None:
    bare = night(drift=pd.DataFrame(), predictions=pd.DataFrame(), quarantine=pd.DataFrame(), histograms={})
    assert "Nothing was compared with training tonight." in Outline(page_html(bare)).text


def test_too_few_images_to_compare_is_said() -> None:
    missing: dict[str, object] = {
        "statistic": None,
        "effect": None,
        "p_value": None,
        "p_corrected": None,
        "n": 7,
        "verdict": "too_few",
    }
    missing |= {"smallest_detectable_effect": None, "night_value": float("nan"), "reference_value": pd.NA}
    few = night(drift=drift(missing, missing | {"metric": "noise"}))
    assert "Too few images to compare with training: 7 tonight." in Outline(page_html(few)).text
    assert "Too few images" in night_artifact(few)
    assert not re.search(r"\b(nan|NaN|None|<NA>)\b", Outline(page_html(few)).text)


def test_no_drift_comes_with_the_smallest_shift_that_would_have_shown() -> None:
    lines = drift_lines(drift({}, {"metric": "noise", "smallest_detectable_effect": 0.47}))
    assert drift_sentence(lines) == (
        "None of 2 measures differs from training beyond chance. "
        "A shift of 0.47 standard deviations would have shown in any numeric one."
    )


def test_the_gravest_drift_comes_first() -> None:
    rows = [
        ("noise", "ok", 0.9),
        ("contrast", "warn", 0.03),
        ("entropy", "alarm", 0.002),
        ("sharpness", "alarm", 0.001),
    ]
    frame = drift(*({"metric": name, "verdict": verdict, "p_corrected": p} for name, verdict, p in rows))
    assert [line.metric for line in drift_lines(frame)] == ["sharpness", "entropy", "contrast", "noise"]


def test_the_most_suspect_come_first_and_every_class_is_among_the_typical() -> None:
    rows = [
        prediction(1, verdict="suspect", out_of_distribution_p=0.03),
        prediction(2, verdict="suspect", out_of_distribution_p=0.001),
        *(prediction(n) for n in range(10, 40)),
        prediction(50, predicted_class="washer"),
    ]
    text = Outline(page_html(night(predictions=predictions(*rows)))).text
    assert text.index("part-2.jpg") < text.index("part-1.jpg")
    assert "part-50.jpg" in text


@pytest.mark.parametrize(
    ("row", "said"),
    [
        pytest.param({"reasons": ["low_confidence"], "confidence": 0.41}, "the model is unsure (41%)", id="unsure"),
        pytest.param(
            {"reasons": np.array(["out_of_distribution"]), "out_of_distribution_p": 0.002},
            "unlike the training images (p 0.002)",
            id="array",
        ),
        pytest.param(
            {"reasons": ["expectation:mode:unexpected"]}, "not as expected: mode", id="expectation"
        ),
        pytest.param(
            {"reasons": [f"expectation:{name}:unexpected" for name in ("width", "height", "mode", "noise", "entropy")]},
            "not as expected: width, height, mode and 2 more",
            id="expectations in one line",
        ),
        pytest.param({"reasons": ["expectation:width:missing"]}, "not as expected: width missing", id="missing"),
        pytest.param(
            {"reasons": ["unusual_property"], "unusual_property": "mode", "unusual_p": None},
            "unusual mode of RGB",
            id="word",
        ),
        pytest.param({"reasons": ["of_a_newer_version"]}, "of a newer version", id="unknown"),
    ],
)  # fmt: skip
def test_a_reason_is_told_in_words(row: dict[str, object], said: str) -> None:
    shown = night(predictions=predictions(prediction(1, verdict="suspect", **row)))
    assert said in Outline(page_html(shown)).text


@pytest.mark.parametrize("reason", list(Reason))
def test_every_quarantine_reason_has_its_sentence_on_the_page(reason: Reason) -> None:
    shown = night(
        quarantine=quarantine({"path": "a.jpg", "reason": str(reason)}), summary=summary(quarantine_reasons={})
    )
    text = Outline(page_html(shown)).text
    assert reason.sentence in text
    assert ("tried again on the next night" in text) == reason.retryable


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_from_a_file_becomes_markup_on_the_page(text: str) -> None:
    calm, hostile = (Outline(page_html(hostile_night(name))) for name in ("calm", text))
    names = ("src", "href", "style", "class", "id")
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in calm.elements]
    for (_, found), (_, expected) in zip(hostile.elements, calm.elements, strict=True):
        assert found.keys() == expected.keys()
        assert [found.get(name) for name in names] == [expected.get(name) for name in names]
    assert_harmless(hostile.text.replace("\n", ""))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_from_a_file_becomes_markup_in_the_artifact(text: str) -> None:
    assert_stays_text(night_artifact(hostile_night("calm")), night_artifact(hostile_night(text)))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_from_a_file_commands_the_terminal(text: str) -> None:
    calm = in_terminal(lambda console: print_night(console, hostile_night("calm").summary), width=4000)
    hostile = in_terminal(lambda console: print_night(console, hostile_night(text).summary), width=4000)
    hostile += in_terminal(lambda console: print_predictions(console, hostile_night(text).predictions), width=4000)
    ours = re.compile(r"\x1b\[[\d;]*m")
    assert set(ours.findall(hostile)) <= {*ours.findall(calm), "\x1b[1m", "\x1b[32m", "\x1b[33m", "\x1b[2m", "\x1b[0m"}
    assert_harmless(ours.sub("", hostile).replace("\n", ""))
    if "[bold red]" in text:
        assert text in hostile


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_charts_draw_any_class_name_without_a_warning(text: str) -> None:
    shares, _ = class_shares(hostile_night(text), 8)
    png = night_chart(shares, drift_lines(hostile_night(text).drift))
    assert Image.open(io.BytesIO(png)).format == "PNG"


@given(st.text(max_size=60))
def test_visible_text_is_printable_utf8_on_one_line(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert_harmless(shown)
    assert visible(shown) == shown


@given(st.text(max_size=60))
def test_markdown_of_any_text_is_one_paragraph_of_plain_text(text: str) -> None:
    assert kinds_of_tokens(f"x{in_markdown(text)}x") == kinds_of_tokens("x")


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("photo (1).jpg", "Größe, 50 %.png", "写真+1.jpg", "a/b:c.jpg"):
        assert visible(name) == name


def test_long_text_keeps_both_ends() -> None:
    shown = visible("a" * 500 + "/end.jpg", 60)
    assert len(shown) == 60
    assert shown.startswith("aaa")
    assert shown.endswith("/end.jpg")


def test_a_pile_of_combining_marks_cannot_paint_over_its_neighbours() -> None:
    assert visible("e" + "\u0301" * 50).count("\u0301") <= 4
    assert visible("e\u0301") == "e\u0301"


def test_the_artifact_holds_a_small_chart_and_one_sheet_of_at_most_six_pictures() -> None:
    rows = [prediction(n, verdict="suspect") for n in range(20)]
    pictures = {f"{n:064x}": jpeg(n) for n in range(20)}
    artifact = night_artifact(night(predictions=predictions(*rows), thumbnails=pictures))
    (chart,) = re.findall(r"data:image/png;base64,([\w+/=]+)", artifact)
    assert len(base64.b64decode(chart)) < 60_000
    (sheet,) = re.findall(r"data:image/jpeg;base64,([\w+/=]+)", artifact)
    with Image.open(io.BytesIO(base64.b64decode(sheet))) as picture:
        assert picture.size == (894, 144)
    assert len(re.findall(r"^\d\. \*\*gear 88%\*\* · session-1/part-\d+.jpg", artifact, re.MULTILINE)) == 6
    assert len(artifact) < 300_000
    for said in ("## WARN", "| 1,234 | 567 | 101 | 53 | 29 | 16 | **2,000** |", "sharpness moved."):
        assert said in artifact


def test_large_thumbnails_do_not_swell_the_artifact() -> None:
    rows = [prediction(n, verdict="suspect") for n in range(6)]
    pictures = {f"{n:064x}": jpeg(n, (600, 500), quality=95) for n in range(6)}
    assert len(night_artifact(night(predictions=predictions(*rows), thumbnails=pictures))) < 300_000


def test_the_terminal_says_what_the_page_says() -> None:
    where = {"results": "/srv/a folder/" + "deep/" * 40 + "results"}
    shown = in_terminal(
        lambda console: print_night(console, summary(report="/srv/reports/index.html"), places=where), width=80
    )
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    for said in (
        "WARN",
        "2026-05-05",
        "1,234 images scored",
        "1,117 trusted, 117 suspect",
        "2,000",
        "567",
        "101",
        "53",
    ):
        assert said in plain, said
    for said in ("41 × the file ends before the image does", "sharpness moved.", "/srv/reports/index.html"):
        assert said in " ".join(plain.split()), said
    assert where["results"] in plain


def test_predictions_in_the_terminal_say_whether_to_trust_them_and_why() -> None:
    rows = predictions(
        prediction(1),
        prediction(2, verdict="suspect", reasons=["low_confidence"], confidence=0.4),
        prediction(3, verdict="quarantined", reasons=["truncated"], predicted_class=None, confidence=float("nan")),
    )
    shown = re.sub(r"\x1b\[[\d;]*m", "", in_terminal(lambda console: print_predictions(console, rows), width=160))
    first, second, third = shown.splitlines()
    assert first.split()[:4] == ["session-1/part-1.jpg", "gear", "88%", "trusted"]
    assert "the model is unsure (40%)" in second
    assert "the file ends before the image does" in third
    assert "nan" not in third


def test_histograms_are_drawn_in_the_colours_of_the_page() -> None:
    edges = np.linspace(0, 10, 6)
    svg = histogram_svg(Histogram(edges, np.array([0, 1, 2, 0, 0]), np.array([0, 0, 4, 1, 0])))
    Outline(svg)
    assert {"var(--training)", "var(--tonight)", "var(--rule)"} <= set(re.findall(r"var\(--\w+\)", svg))
    assert not re.search(r"#[0-9a-f]{3,6}\b| id=|<text|<style|xmlns|clip-path", svg)


@pytest.mark.parametrize(
    ("tonight", "training"),
    [([0, 0], [0, 0]), ([0, 0], [3, 4]), ([5, 0], [0, 0]), ([0, 7], [0, 9])],
    ids=["both empty", "no night", "no training", "constant"],
)
def test_a_histogram_of_hardly_anything_is_drawn(tonight: list[int], training: list[int]) -> None:
    histogram = Histogram(np.array([0.0, 1.0, 2.0]), np.array(tonight), np.array(training))
    Outline(page_html(night(histograms={"sharpness": histogram})))
