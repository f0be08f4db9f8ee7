"""A night, its suspects, their labels, and how right it was: from the inbox to the record."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

import darkroom
from darkroom import demo_world
from darkroom.errors import WrongUse
from darkroom.labels import record_labels, recorded_labels
from darkroom.results import commit_key, commits, now
from darkroom.settings import IntakeOptions, NightOptions, RunOptions
from darkroom.storage import storage_at
from flows.suspects import suspects
from tasks.bundle import Bundle
from tasks.labels_file import read_labels
from tasks.report.view import share
from tests.shown import Outline

NIGHT = date(2026, 3, 2)


@pytest.fixture(scope="module")
def results(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One night of the drawn world, scored."""
    folder = tmp_path_factory.mktemp("evaluated")
    demo_world.draw_training(folder / "inbox", images=60, seed=11)
    score_inbox(bundle, folder / "inbox", folder / "results")
    return folder / "results"


def score_inbox(bundle: Bundle, inbox: Path, results: Path) -> None:
    from flows.score import score

    score(
        bundle=bundle.path,
        inbox=str(inbox),
        results=results,
        night=NightOptions(night=NIGHT),
        intake=IntakeOptions(settle_seconds=0),
        run=RunOptions(shard_size=25, thumbnails=False),
    )


def pages_of(results: Path) -> list[Path]:
    return list((results / "reports").glob("*/*/*/index.html"))


def page_of(results: Path) -> str:
    (page,) = pages_of(results)
    return Outline(page.read_text(encoding="utf-8")).text


def index_of(results: Path) -> str:
    return Outline((results / "reports" / "index.html").read_text(encoding="utf-8")).text


def test_the_bundle_holds_the_estimator_and_the_night_its_estimate(bundle: Bundle, results: Path) -> None:
    assert bundle.has("estimates.json")
    rows = darkroom.read(results, "estimates", night=NIGHT)
    (accuracy,) = rows[rows["quantity"] == "accuracy"].to_dict("records")
    assert accuracy["n"] == 60
    told = pd.notna(accuracy["refused"]) or accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert told
    shares = rows[rows["quantity"] == "class_share"]
    assert set(shares["name"]) == set(bundle.classes)
    assert shares["value"].sum() == pytest.approx(1)
    (page,) = (page.read_text() for page in (results / "reports").glob("*/*/*/index.html"))
    assert "stimated accuracy" in page or "Accuracy is not estimated" in page


def test_suspects_are_labelled_brought_and_weighed(bundle: Bundle, results: Path, tmp_path: Path) -> None:
    file = tmp_path / "suspects.csv"
    suspects(results, bundle.id, file, count=24, by_lot=0.5, seed=1)
    chosen = pd.read_csv(file)
    assert len(chosen) == 24
    assert chosen["label"].isna().all()
    with pytest.raises(WrongUse, match="somebody may have filled it in"):
        suspects(results, bundle.id, file, count=24, by_lot=0.5, seed=1)
    # The drawn world names the class by the folder.
    labelled = chosen.assign(label=[path.split("/")[0] for path in chosen["path"]])
    labelled.to_csv(file, index=False)
    told = darkroom.evaluate(bundle.path, results, file)
    assert (told.given, told.recorded, told.labelled, told.unknown) == (24, 24, 24, ())
    (night,) = told.nights
    assert night.design == "strata"
    assert night.low <= night.accuracy <= night.high
    assert sum(map(sum, told.confusion)) == 24
    assert str(NIGHT) in told.as_text()
    shown = page_of(results)
    right = sum(told.confusion[k][k] for k in range(len(bundle.classes)))
    assert f"24 of 60 images have a label; {right} of them were predicted so. Weighed by how they were chosen" in shown
    assert f"accuracy is {share(night.accuracy)} ({share(night.low)} to {share(night.high)})." in shown
    assert "labels: " in index_of(results)

    again = darkroom.evaluate(bundle.path, results, file)
    assert again.recorded == 0
    assert again.nights == told.nights
    assert page_of(results) == shown

    more = tmp_path / "more.csv"
    first = labelled.iloc[0]
    other = next(name for name in bundle.classes if name != first["label"])
    more.write_text(f"path,label\n{first['path']},{other}\nno/such.jpg,{other}\n")
    corrected = darkroom.evaluate(bundle.path, results, more)
    assert corrected.recorded == 2
    assert corrected.unknown == ("no/such.jpg",)
    assert len(recorded_labels(results)) == 26
    assert corrected.labelled == 24
    assert corrected.confusion != told.confusion
    now_right = sum(corrected.confusion[k][k] for k in range(len(bundle.classes)))
    mended = page_of(results)
    assert f"24 of 60 images have a label; {now_right} of them were predicted so." in mended
    assert mended.count("images have a label") == 1
    (outline,) = (Outline(page.read_text()) for page in pages_of(results))
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "#labels" in [attributes["href"] for attributes in outline.all("a")]


def test_a_page_that_is_lost_or_has_no_place_is_told_and_left_alone(
    bundle: Bundle, results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    (page,) = pages_of(copy)
    path = str(darkroom.read(copy, columns=["path"])["path"][0])
    file = tmp_path / "one.csv"
    for content, why in (
        (b"<!DOCTYPE html><p>of an older darkroom", "has no place for labels"),
        (None, "is not there"),
    ):
        if content is None:
            page.unlink()
        else:
            page.write_bytes(content)
        file.write_text(f"path,label\n{path},{path.split('/')[0]}\n")
        with caplog.at_level("WARNING"):
            told = darkroom.evaluate(bundle.path, copy, file)
        assert len(told.nights) == 1
        assert why in caplog.text
        assert (page.read_bytes() if page.exists() else None) == content
    assert "labels: " in index_of(copy)


@pytest.fixture
def scored(results: Path, tmp_path: Path) -> Path:
    """The results of the night, to be changed."""
    shutil.copytree(results, tmp_path / "results")
    for record in (tmp_path / "results").glob("labels/*.parquet"):
        record.unlink()
    return tmp_path / "results"


def labels_of(results: Path, file: Path, images: int, *, separator: str = ",") -> Path:
    """A file with the labels of some images."""
    known = darkroom.read(results, columns=["content_id", "path"])[:images]
    lines = [f"{row['path']}{separator}{row['path'].split('/')[0]}" for row in known.to_dict("records")]
    file.write_text("\n".join([f"path{separator}label", *lines, ""]))
    return file


def test_how_a_file_of_labels_was_read_is_told(
    bundle: Bundle, scored: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import in_the_ui

    artifacts: list[str] = []
    monkeypatch.setattr(in_the_ui, "create_markdown_artifact", lambda text, **_: artifacts.append(text))
    with caplog.at_level("INFO"):
        told = darkroom.evaluate(bundle.path, scored, labels_of(scored, tmp_path / "some.csv", 8, separator=";"))
    finding = "Columns are separated by ';'."
    assert told.findings == (finding,)
    assert finding in told.as_text()
    assert finding in caplog.text
    assert finding.replace("'", "&#39;") in artifacts[0]


def test_what_another_evaluation_has_recorded_meanwhile_is_not_recorded_again(
    bundle: Bundle, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import evaluate

    file = labels_of(scored, tmp_path / "some.csv", 8)
    turn = evaluate.one_at_a_time

    @contextmanager
    def after_another(results: Path) -> Iterator[None]:
        with turn(results):
            record_labels(results, evaluate.find_images(stated, evaluate.read(results, "files")).rows)
            yield

    stated = read_labels(file, bundle.classes, now()).rows
    monkeypatch.setattr(evaluate, "one_at_a_time", after_another)
    told = darkroom.evaluate(bundle.path, scored, file)
    assert (told.given, told.recorded, told.labelled) == (8, 0, 8)
    assert len(recorded_labels(scored)) == 8


def test_labels_of_images_that_only_another_bundle_has_scored_are_told(
    bundle: Bundle, scored: Path, tmp_path: Path
) -> None:
    labels_of(scored, tmp_path / "some.csv", 8)
    with (tmp_path / "some.csv").open("a") as more:
        more.write(f"never-came.jpg,{bundle.classes[0]}\n")
    darkroom.evaluate(bundle.path, scored, tmp_path / "some.csv")
    older = "parts-7-0123456789ab"
    storage = storage_at(scored)
    for commit in commits(storage, bundle.id):
        theirs = commit.model_copy(update={"bundle": older}).model_dump_json().encode()
        storage.write_new(commit_key(older, commit.number), theirs)
    shutil.rmtree(scored / "commits" / bundle.id)
    told = darkroom.evaluate(bundle.path, scored)
    assert told.labelled == 0
    assert (told.elsewhere.images, told.elsewhere.bundles, told.elsewhere.unscored) == (8, {older: 8}, 0)
    assert f"Not counted: 8 labelled images, scored only by other bundles (8 by {older})." in told.as_text()


def test_labels_that_were_there_before_the_night_are_on_its_page_from_the_start(
    bundle: Bundle, results: Path, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    demo_world.draw_training(inbox, images=20, seed=11)
    known = darkroom.read(results, columns=["content_id", "path"])
    # One session of the three.
    known = known[known["path"].isin([path.relative_to(inbox).as_posix() for path in inbox.rglob("*.*")])][:12]
    labels = known.assign(label=[path.split("/")[0] for path in known["path"]])
    nothing = pd.Series(None, index=labels.index, dtype=object)
    columns = {"night": nothing, "stratum": nothing, "stratum_rows": nothing}
    record_labels(tmp_path / "results", labels.assign(labelled_at=now(), received_at=now(), source="ada", **columns))
    score_inbox(bundle, inbox, tmp_path / "results")
    first = page_of(tmp_path / "results")
    assert "12 of 20 images have a label" in first
    darkroom.evaluate(bundle.path, tmp_path / "results")
    assert page_of(tmp_path / "results") == first
