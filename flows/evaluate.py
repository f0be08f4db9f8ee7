"""Evaluate: labels that arrived after scoring, joined to what was scored; accuracy beside the night's own estimate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic.json_schema import SkipJsonSchema

from darkroom.forms import optional
from darkroom.labels import newest, record_labels, recorded_labels
from darkroom.results import Commit, bundles, commits, now, read
from expectations.accuracy import calibration_error
from expectations.class_mix import confusion_of
from expectations.labelling import realised, reliability
from flows.evaluation_words import Elsewhere, Evaluation, NightRecord, evaluation_markdown
from flows.in_the_ui import show
from flows.joining import Joined, find_images, not_there
from flows.labels_shown import LABEL_COLUMNS, one_at_a_time, show_labels
from flows.naming import named
from flows.parameters import BundlePath, ResultsPath, a_file
from tasks.bundle import find_bundle, open_bundle
from tasks.labels_file import StatedLabels, read_labels
from tasks.report.untrusted import visible


@dataclass(frozen=True)
class LabelledImages:
    """Predictions with the label, stratum and stratum_rows of each (`rows`), how many each night scored, and the labels
    that say nothing of this bundle.
    """

    rows: pd.DataFrame
    scored: pd.Series
    elsewhere: Elsewhere


@flow(name="evaluate", flow_run_name=named("{bundle}", " by {labels}"))
def evaluate(
    bundle: BundlePath,
    results: ResultsPath = Path("results"),
    labels: Annotated[Path | SkipJsonSchema[None], optional("Labels", a_file)] = None,
) -> Evaluation:
    """Join labels that arrived later to what was scored, and say how right it was, beside what was estimated.

    Args:
        bundle: Folder of a bundle, or models/NAME for the version in use.
        results: The results folder.
        labels: CSV or Parquet with the columns label, and path or content_id, such as labels.csv. Empty: what is
            recorded already.

    """
    sealed = open_bundle(find_bundle(bundle))
    stated = None if labels is None else take_labels(labels, sealed.classes)
    with one_at_a_time(results):
        seen = read_paths(results)
        joined = None if stated is None else join_and_record(stated, results, seen)
        images = find_labelled(results, sealed.id, sealed.classes, seen)
        told = weigh(images, results, sealed.id, sealed.classes, stated, joined)
        show_on_pages(results, told, images)
    report_evaluation(told)
    return told


@task(name="read the labels", task_run_name="read the labels", cache_policy=NO_CACHE)
def take_labels(file: Path, classes: tuple[str, ...]) -> StatedLabels:
    """Every row with a class that the model knows, or an error that names the nearest."""
    stated = read_labels(file, classes, now())
    for finding in stated.findings:
        get_run_logger().info(visible(finding))
    return stated


@task(name="read the paths", task_run_name="read the paths", cache_policy=NO_CACHE)
def read_paths(results: Path) -> pd.DataFrame:
    """Every path ever seen, with its content and night."""
    return read(results, "files", columns=["path", "content_id", "night"])


@task(name="record the labels", task_run_name="record the labels", cache_policy=NO_CACHE)
def join_and_record(stated: StatedLabels, results: Path, seen: pd.DataFrame) -> Joined:
    """Find the image of each label, and add all of them to the record, also those that no image was found for."""
    joined = find_images(stated.rows, seen)
    # A label that came before its image was scored is known by that image now.
    before = find_images(recorded_labels(results), seen).rows
    fresh = not_there(joined.rows, before)
    if len(fresh):
        get_run_logger().info("%d labels recorded in %s", len(fresh), record_labels(results, fresh))
    return Joined(fresh, joined.unknown, joined.ambiguous)


@task(name="find the labelled images", task_run_name="find the labelled images", cache_policy=NO_CACHE)
def find_labelled(results: Path, bundle: str, classes: tuple[str, ...], seen: pd.DataFrame) -> LabelledImages:
    """Every scored image of the bundle that has a label now."""
    # A label may have come before its image was scored: looked for again each time.
    labels = newest(find_images(recorded_labels(results), seen).rows)
    columns = ["content_id", "path", "predicted_class", "confidence", "night", "run"]
    predictions = read(results, bundle=bundle, columns=columns)
    rows = predictions.merge(labels[LABEL_COLUMNS], on="content_id")
    known = rows["label"].isin(classes)
    left = labels["content_id"][~labels["content_id"].isin(predictions["content_id"])]
    elsewhere = _elsewhere(results, bundle, left, int((~known).sum()))
    return LabelledImages(rows[known], predictions.groupby("night").size(), elsewhere)


@task(name="weigh the labels", task_run_name="weigh the labels", cache_policy=NO_CACHE)
def weigh(
    images: LabelledImages,
    results: Path,
    bundle: str,
    classes: tuple[str, ...],
    stated: StatedLabels | None,
    joined: Joined | None,
) -> Evaluation:
    """Accuracy by night with its interval, calibration and confusion; and whether the estimates held."""
    rows, scored = images.rows, images.scored
    right = (rows["label"] == rows["predicted_class"]).to_numpy()
    done = commits(results, bundle)
    nights = [
        _night(night, rows[rows["night"] == night], int(scored[night]), done) for night in sorted(set(rows["night"]))
    ]
    given = 0 if stated is None else len(stated.rows)
    return Evaluation(
        bundle_id=bundle,
        classes=classes,
        given=given,
        empty=0 if stated is None else stated.empty,
        findings=() if stated is None else stated.findings,
        recorded=0 if joined is None else len(joined.rows),
        unknown=() if joined is None else joined.unknown,
        ambiguous=() if joined is None else joined.ambiguous,
        labelled=len(rows),
        elsewhere=images.elsewhere,
        nights=tuple(nights),
        confusion=confusion_of(rows["label"], rows["predicted_class"], classes),
        calibration_error=calibration_error(rows["confidence"].to_numpy(np.float64), right) if len(rows) else None,
        calibration=reliability(rows["confidence"].to_numpy(np.float64), right) if len(rows) else (),
    )


@task(name="show the labels on the pages", task_run_name="show the labels on the pages", cache_policy=NO_CACHE)
def show_on_pages(results: Path, told: Evaluation, images: LabelledImages) -> None:
    """On the page of every run that has labelled images, and on that over all nights."""
    log = get_run_logger()
    for problem in show_labels(results, told, images.rows):
        log.warning(problem)
    log.info("Labels of %d nights are shown on their pages", len(told.nights))


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
def report_evaluation(told: Evaluation) -> None:
    """The record in the Prefect UI."""
    right = "no labels" if not told.nights else told.nights[-1].as_text()
    key = show("evaluation", told.bundle_id, evaluation_markdown(told), f"{told.bundle_id}: {right}")
    get_run_logger().info("Told: the artifact %s", key)


def _elsewhere(results: Path, bundle: str, contents: pd.Series, other_classes: int) -> Elsewhere:
    """Which other bundles have scored these contents; those of no bundle were refused, or never came."""
    by_bundle: dict[str, int] = {}
    scored: set[str] = set()
    for name in bundles(results) if len(contents) else ():
        if name != bundle:
            own = contents[contents.isin(read(results, bundle=name, columns=["content_id"])["content_id"])]
            by_bundle |= {name: len(own)} if len(own) else {}
            scored |= set(own)
    return Elsewhere(
        images=len(scored), bundles=by_bundle, unscored=len(contents) - len(scored), other_classes=other_classes
    )


def _night(night: pd.Timestamp, rows: pd.DataFrame, scored: int, done: list[Commit]) -> NightRecord:
    right = (rows["label"] == rows["predicted_class"]).to_numpy()
    found = realised(right, rows["stratum"], rows["stratum_rows"], scored)
    of_night = [one.summary for one in done if one.night == night.date() and one.counts.scored]
    largest = max(of_night, key=lambda one: one.counts.scored, default=None)
    return NightRecord(
        night=night.date(),
        scored=scored,
        labelled=found.labelled,
        accuracy=found.accuracy,
        low=found.low,
        high=found.high,
        design=found.design,
        of=found.of,
        estimate=None if largest is None else largest.estimate,
    )
