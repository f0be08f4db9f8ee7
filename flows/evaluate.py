"""Evaluate: labels that arrived after scoring, joined to what was scored; accuracy beside the night's own estimate."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from darkroom.labels import newest, record_labels, recorded_labels
from darkroom.results import Commit, commits, now, read
from expectations.accuracy import calibration_error
from expectations.class_mix import confusion_of
from expectations.labelling import realised, reliability
from flows.evaluation_words import Evaluation, NightRecord
from flows.labels_shown import LABEL_COLUMNS, one_at_a_time, show_labels
from tasks.bundle import find_bundle, open_bundle
from tasks.labels_file import StatedLabels, read_labels
from tasks.report.untrusted import in_markdown


@dataclass(frozen=True)
class Joined:
    """Labels and what they are about. `rows`: LABELS; `unknown`: paths or ids that no scored image has, `ambiguous`:
    paths that several contents have had.
    """

    rows: pd.DataFrame
    unknown: tuple[str, ...]
    ambiguous: tuple[str, ...]


@dataclass(frozen=True)
class LabelledImages:
    """Predictions with the label, stratum and stratum_rows of each (`rows`), and how many each night scored."""

    rows: pd.DataFrame
    scored: pd.Series


@flow(name="evaluate", flow_run_name="evaluate {results}")
def evaluate(bundle: Path, results: Path = Path("results"), labels: Path | None = None) -> Evaluation:
    """Join labels that arrived later to what was scored, and say how right it was, beside what was estimated.

    Args:
        bundle: Folder of a bundle, or models/NAME for the version in use.
        results: The results folder.
        labels: CSV or Parquet with label, and path or content_id. Empty: what is recorded already.

    """
    sealed = open_bundle(find_bundle(bundle))
    stated = None if labels is None else take_labels(labels, sealed.classes)
    joined = None if stated is None else join_and_record(stated, results, sealed.id)
    with one_at_a_time(results):
        images = find_labelled(results, sealed.id, sealed.classes)
        told = weigh(images, results, sealed.id, sealed.classes, stated, joined)
        show_on_pages(results, told, images)
    report_evaluation(told)
    return told


@task(name="read the labels", cache_policy=NO_CACHE)
def take_labels(file: Path, classes: tuple[str, ...]) -> StatedLabels:
    """Every row with a class that the model knows, or an error that names the nearest."""
    return read_labels(file, classes, now())


@task(name="record the labels", cache_policy=NO_CACHE)
def join_and_record(stated: StatedLabels, results: Path, bundle: str) -> Joined:
    """Find the image of each label, and add all of them to the record, also those that no image was found for."""
    joined = find_images(stated.rows, read(results, "files", columns=["path", "content_id", "night"]))
    # A label that came before its image was scored is known by that image now.
    before = find_images(recorded_labels(results), read(results, "files", columns=["path", "content_id", "night"])).rows
    fresh = not_there(joined.rows, before)
    if len(fresh):
        get_run_logger().info("%d labels recorded in %s", len(fresh), record_labels(results, fresh))
    return Joined(fresh, joined.unknown, joined.ambiguous)


@task(name="find the labelled images", cache_policy=NO_CACHE)
def find_labelled(results: Path, bundle: str, classes: tuple[str, ...]) -> LabelledImages:
    """Every scored image of the bundle that has a label now."""
    files = read(results, "files", columns=["path", "content_id", "night"])
    # A label may have come before its image was scored: looked for again each time.
    labels = newest(find_images(recorded_labels(results), files).rows)
    columns = ["content_id", "path", "predicted_class", "confidence", "night", "run"]
    predictions = read(results, bundle=bundle, columns=columns)
    rows = predictions.merge(labels[LABEL_COLUMNS], on="content_id")
    return LabelledImages(rows[rows["label"].isin(classes)], predictions.groupby("night").size())


@task(name="weigh the labels", cache_policy=NO_CACHE)
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
        recorded=0 if joined is None else len(joined.rows),
        unknown=() if joined is None else joined.unknown,
        ambiguous=() if joined is None else joined.ambiguous,
        labelled=len(rows),
        nights=tuple(nights),
        confusion=confusion_of(rows["label"], rows["predicted_class"], classes),
        calibration_error=calibration_error(rows["confidence"].to_numpy(np.float64), right) if len(rows) else None,
        calibration=reliability(rows["confidence"].to_numpy(np.float64), right) if len(rows) else (),
    )


@task(name="show the labels on the pages", cache_policy=NO_CACHE)
def show_on_pages(results: Path, told: Evaluation, images: LabelledImages) -> None:
    """On the page of every run that has labelled images, and on that over all nights."""
    log = get_run_logger()
    for problem in show_labels(results, told, images.rows):
        log.warning(problem)
    log.info("Labels of %d nights are shown on their pages", len(told.nights))


@task(name="report", cache_policy=NO_CACHE)
def report_evaluation(told: Evaluation) -> None:
    """The record in the Prefect UI."""
    lines = "\n\n".join(in_markdown(line, 1000) for line in told.as_text().splitlines())
    create_markdown_artifact(lines, key="evaluation", description=told.bundle_id)


def find_images(rows: pd.DataFrame, files: pd.DataFrame) -> Joined:
    """The content of each label that has none: by its path, whole or without the folders before it. `files` are all
    paths ever seen. A path that was another content on another night needs the night, or the content id.
    """
    contents: dict[str, dict[str, set[date]]] = defaultdict(lambda: defaultdict(set))
    seen = files[files["content_id"].notna()]
    for path, content, night in zip(seen["path"], seen["content_id"], seen["night"], strict=True):
        contents[path][content].add(night.date())
    bases = defaultdict(set)
    for path in contents:
        bases[path.rpartition("/")[2]].add(path)
    known = set(seen["content_id"])
    found: list[str | None] = []
    unknown: list[str] = []
    ambiguous: list[str] = []
    for content, path, night in zip(rows["content_id"], rows["path"], rows["night"], strict=True):
        if isinstance(content, str):
            found.append(content)
            if content not in known:
                unknown.append(content)
            continue
        there = contents.get(_known_path(str(path), contents, bases) or "", {})
        fitting = [one for one, when in there.items() if pd.isna(night) or night in when]
        found.append(fitting[0] if len(fitting) == 1 else None)
        if not fitting:
            unknown.append(str(path))
        elif len(fitting) > 1:
            ambiguous.append(str(path))
    filled = rows.assign(content_id=pd.Series(found, index=rows.index, dtype=object))
    return Joined(filled, tuple(unknown), tuple(ambiguous))


def _known_path(path: str, contents: dict[str, dict[str, set[date]]], bases: dict[str, set[str]]) -> str | None:
    parts = path.replace("\\", "/").split("/") if path not in contents else [path]
    for start in range(len(parts)):
        tail = "/".join(parts[start:])
        if tail in contents:
            return tail
    alike = bases.get(parts[-1], set())
    return next(iter(alike)) if len(alike) == 1 and len(parts) == 1 else None


def not_there(rows: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Without what the record says already: the same file may be brought twice."""
    facts = ["content_id", "path", "label", "source", "stratum"]

    def keys(frame: pd.DataFrame) -> pd.Series:
        if not len(frame):
            return pd.Series(dtype=str)
        # Where nobody said when, the label has the date at which it came, which is another each time.
        given, came = (pd.to_datetime(frame[name], utc=True) for name in ("labelled_at", "received_at"))
        said = given.astype(str).where(given != came, "")
        return frame[facts].fillna("").astype(str).assign(said=said).agg("\x1f".join, axis=1)

    once = rows[~keys(rows).duplicated(keep="last")]
    fresh: pd.DataFrame = once[~keys(once).isin(set(keys(before)))]
    return fresh


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
