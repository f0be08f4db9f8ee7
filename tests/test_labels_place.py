"""Labels on a page that was drawn before they came: as if they had been there, and nothing else of the page changes."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from darkroom.results import commits
from darkroom.summary import AccuracyEstimate
from flows.evaluation_words import Evaluation, NightRecord
from flows.labels_shown import labelled_shown, show_labels
from tasks.report.further import LabelledShown
from tasks.report.labelled import labelled_nights
from tasks.report.labels_place import ROOM_FOR_LABELS, redraw_labels, with_labels
from tasks.report.night_page import NightPage
from tasks.report.page import LARGEST_PAGE, fitted, page_html, write_page
from tests.nights import BUNDLE, commit_night
from tests.shown import HOSTILE, Outline
from tests.test_report import night, prediction, predictions, summary

SAID = LabelledShown(("gear", "washer"), np.array([[80, 5], [7, 30]]), 0.84, 0.93)
CORRECTED = LabelledShown(("gear", "washer"), np.array([[70, 15], [7, 30]]), 0.76, 0.87, 0.81)
ESTIMATE = AccuracyEstimate(rows=1_234, validation=0.9, value=0.86, low=0.8, high=0.91, method="ladder")


def drawn(labelled: LabelledShown | None = None, **changes: object) -> str:
    return page_html(night(labelled=labelled, **changes))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, SAID, id="the first labels"),
        pytest.param(SAID, SAID, id="the same again"),
        pytest.param(SAID, CORRECTED, id="a correction"),
        pytest.param(SAID, None, id="no image of the run has a label any more"),
    ],
)
def test_labels_that_come_later_make_the_page_that_it_had_been_with_them(
    before: LabelledShown | None, after: LabelledShown | None
) -> None:
    facts = summary(estimate=ESTIMATE)
    assert with_labels(drawn(before, summary=facts), facts, after) == drawn(after, summary=facts)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_class_becomes_markup_and_none_escapes_its_place(text: str) -> None:
    marks = f"{text}<!-- end of labels --><!-- labels: section -->"
    counts = np.array([[1, 2], [3, 4]])
    calm, hostile = (
        str(with_labels(drawn(), summary(), LabelledShown(("gear", name), counts, 0.3, 0.7)))
        for name in ("calm", marks)
    )
    assert [tag for tag, _ in Outline(hostile).elements] == [tag for tag, _ in Outline(calm).elements]
    assert with_labels(hostile, summary(), None) == drawn()


def test_a_file_name_is_no_place_for_labels() -> None:
    rows = predictions(prediction(1, verdict="suspect", path="<!-- labels: section -->x<!-- end of labels -->"))
    page = drawn(predictions=rows)
    found = with_labels(page, summary(), SAID)
    assert found is not None
    assert found.count("What the labels say") == 1


@pytest.mark.parametrize(
    ("facts", "labelled", "said"),
    [
        pytest.param(
            {"estimate": ESTIMATE}, SAID,
            "90% (84% to 93%), of the labelled images alone. Estimated without labels: 86% (80% to 91%); the two "
            "intervals have values in common.", id="as given",
        ),
        pytest.param(
            {"estimate": ESTIMATE.model_copy(update={"low": 0.88})}, CORRECTED,
            "Weighed by how they were chosen, accuracy is 81% (76% to 87%). "
            "Estimated without labels: 86% (88% to 91%); the "
            "two intervals have no value in common.", id="weighed",
        ),
        pytest.param(
            {"estimate": AccuracyEstimate(rows=9, refused="too few images")}, SAID,
            "alone. Accuracy is not estimated: too few images.", id="refused",
        ),
        pytest.param({}, SAID, "(84% to 93%), of the labelled images alone.\n", id="never estimated"),
    ],
)  # fmt: skip
def test_labels_stand_beside_the_estimate(facts: dict[str, object], labelled: LabelledShown, said: str) -> None:
    assert said in Outline(drawn(labelled, summary=summary(**facts))).text


def test_a_page_without_labels_leaves_room_for_the_longest() -> None:
    def filled(spare: int) -> int:
        return len(fitted(lambda room: "x" * (LARGEST_PAGE - 1_000_000 + room), spare))

    assert (filled(0), filled(ROOM_FOR_LABELS)) == (LARGEST_PAGE, LARGEST_PAGE - ROOM_FOR_LABELS)
    names = tuple(f"{'&' * 590}{k:010}" for k in range(12))
    later = with_labels(drawn(), summary(), LabelledShown(names, np.ones((12, 12), np.int64), 0.1, 0.2))
    assert later is not None
    assert len(later.encode()) - len(drawn().encode()) <= ROOM_FOR_LABELS


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(None, "not there", id="missing"),
        pytest.param(b"<!DOCTYPE html>", "no place", id="older"),
        pytest.param(b"\xff\xfe<!-- labels: line -->", "not as it was written", id="not text"),
        pytest.param(drawn().replace("<!-- labels: line -->", "").encode(), "no place", id="one mark lost"),
    ],
)
def test_a_page_without_a_place_is_left_alone(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "reports" / "index.html"
    file.parent.mkdir()
    if content is not None:
        file.write_bytes(content)
    assert why in str(redraw_labels(tmp_path, "reports/index.html", summary(), SAID))
    assert (file.read_bytes() if file.exists() else None) == content


RUN = pd.DataFrame(
    {
        "label": ["gear", "gear", "washer", "washer"],
        "predicted_class": ["gear", "washer", "washer", "washer"],
        "stratum": ["s-of-8/doubtful", "s-of-8/doubtful", "s-of-8/surer", "s-of-8/surer"],
        "stratum_rows": [2, 2, 6, 6],
    }
)


@pytest.mark.parametrize(
    ("scored", "weighed"),
    [pytest.param(8, 0.875, id="chosen from this run"), pytest.param(20, None, id="chosen from several runs")],
)
def test_only_a_choice_from_the_images_of_the_run_stands_for_them(scored: int, weighed: float | None) -> None:
    found = labelled_shown(RUN, ("gear", "washer"), scored)
    assert found.weighed == weighed
    assert found.share == (weighed or 0.75)
    assert found.counts.tolist() == [[1, 1], [0, 2]]


def told(labelled: int) -> Evaluation:
    record = NightRecord(
        night=date(2026, 3, 2), scored=80, labelled=labelled, accuracy=0.75, low=0.5, high=0.9, design="as given",
        of=80, estimate=None,
    )  # fmt: skip
    return Evaluation(
        bundle_id=BUNDLE, classes=("gear", "washer"), given=0, empty=0, recorded=0, unknown=(), ambiguous=(),
        labelled=labelled, nights=(record,) if labelled else (), confusion=(), calibration_error=None, calibration=(),
    )  # fmt: skip


def page_of(results: Path, run: str) -> Path:
    return results / "reports" / "2026-03-02" / BUNDLE / run / "index.html"


def test_each_run_of_a_night_shows_the_labels_of_its_own_images(tmp_path: Path) -> None:
    for run in ("a", "b", "c"):
        commit_night(tmp_path, date(2026, 3, 2), run=run, page=False)
    for commit in commits(tmp_path, BUNDLE):
        nothing = pd.DataFrame()
        page = NightPage(commit.summary, nothing, predictions(), nothing)
        write_page(tmp_path, page_of(Path(), commit.run).as_posix(), page)
    rows = RUN.assign(night=pd.Timestamp(2026, 3, 2), run=["a", "b", "b", "b"])
    assert show_labels(tmp_path, told(4), rows) == []
    a, b, c = (Outline(page_of(tmp_path, run).read_text()).text for run in ("a", "b", "c"))
    assert "1 of 40 images have a label; 1 of them" in a
    assert "3 of 40 images have a label; 2 of them" in b
    assert "have a label" not in c
    (kept,) = labelled_nights(tmp_path, BUNDLE).values()
    assert kept.runs == ("a", "b")

    assert show_labels(tmp_path, told(3), rows[1:]) == []
    assert "have a label" not in page_of(tmp_path, "a").read_text()
    assert "3 of 40" in page_of(tmp_path, "b").read_text()


def test_pages_that_cannot_be_written_are_told_and_the_others_are(tmp_path: Path) -> None:
    commit_night(tmp_path, date(2026, 3, 2), run="a", page=False)
    (tmp_path / "reports" / "labels").mkdir(parents=True)
    (tmp_path / "reports" / "index.html").mkdir()
    rows = RUN.assign(night=pd.Timestamp(2026, 3, 2), run="a")
    first, second = show_labels(tmp_path, told(4), rows)
    assert "the page is not there" in first
    assert "The page over all nights does not show the labels" in second
