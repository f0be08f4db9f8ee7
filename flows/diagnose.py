"""Diagnose: which mistake makes the predictions that somebody else got, from their file or from their own function."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic.json_schema import SkipJsonSchema

from darkroom.errors import WrongUse
from darkroom.forms import optional, titled
from darkroom.pages import page_folder, place_of
from expectations.answers import Answers, distances
from flows.diagnosed import Cause, Diagnosis, Fixed, explanation_of
from flows.diagnosis_words import (
    left_out,
    mends_of,
    names_in_words,
    preparation_at_fault,
    runner_up_in_words,
    sentence_of,
)
from flows.in_the_ui import page_line, show
from flows.looking import ProvedModel, prove_model
from flows.naming import named
from flows.parameters import BundlePath, PageFolder, a_file, a_folder
from flows.searching import Searched, search
from flows.staging_calls import StageDifference, call_on, compare_stages, only_at_a_terminal
from flows.telling import tell_skew
from tasks.foreign import findings_of_sealed
from tasks.photos import Photos, photos_in
from tasks.predictions_file import Predictions, read_predictions
from tasks.report.diagnosis_page import DiagnosisPage, ImageShown, as_seen, diagnosis_markdown, write_diagnosis
from tasks.report.fixes import fixes
from tasks.report.untrusted import visible
from tasks.variants import Replay, applied

_MOST = 2000  # images; more say nothing new
_SHOWN = 8
_RANKED = 15
_VERDICTS = {
    "same": "no difference",
    "reproduced": "explained",
    "nearly": "nearly explained",
    "unexplained": "not explained",
}


@dataclass(frozen=True)
class Given:
    """Answers that were made elsewhere, about photos of a folder, in their order."""

    paths: tuple[str, ...]
    answers: Answers
    findings: tuple[str, ...]
    stages: tuple[StageDifference, ...] = ()


@flow(name="diagnose", flow_run_name=named("{bundle}", " on {images}"))
def diagnose(
    bundle: BundlePath,
    images: Annotated[Path, titled("Images", a_folder, minLength=1)],
    predictions: Annotated[Path | SkipJsonSchema[None], optional("Predictions", a_file, minLength=1)] = None,
    call: SkipJsonSchema[str | None] = None,
    samples: SkipJsonSchema[int] = 32,
    seconds: SkipJsonSchema[float] = 120.0,
    out: PageFolder = None,
) -> Diagnosis:
    """Say which mistake, or which two, make the predictions that somebody got elsewhere; or that none does.

    Args:
        bundle: Folder of a bundle, or models/NAME for the version in use.
        images: The folder that the predictions were made on.
        predictions: What was predicted there, such as theirs.csv: CSV, Parquet, JSON or JSON lines, with a column
            path.
        call: Instead of a file, and in no form: module:function, their own predict or preprocess function.
        samples: Images that the function is called on.
        seconds: Time limit of the function.
        out: Where diagnosis.html and diagnosis.json go. Empty: a folder diagnosis-<bundle id>, beside the pages of the
            nights where those are served.

    """
    started = time.perf_counter()
    if (predictions is None) == (call is None):
        raise WrongUse(
            "There is nothing to diagnose." if call is None else "A file and a function cannot both be diagnosed.",
            parameter="predictions",
            expected="either a file of predictions, or (at a terminal only) --call module:function",
        )
    only_at_a_terminal(call)
    model = prove_model(bundle)
    get_run_logger().info("Proved: %s", model.proof.as_text())
    if predictions is not None:
        given = read(model, images, predictions)
    else:
        given = call_theirs(model, images, str(call), samples, seconds)
    replay = Replay(model.engine, Photos(images, given.paths), model.bundle.preprocessing)
    searched = explain(model, replay, given)
    page = draw(model, replay, given, searched)
    told = tell_it(model, given, searched, page, started, page_folder(out, f"diagnosis-{model.bundle.id}"))
    report_diagnosis(page, told.page)
    tell_skew(told, searched)
    return told


@task(name="read the predictions", task_run_name="read the predictions", cache_policy=NO_CACHE)
def read(model: ProvedModel, images: Path, file: Path) -> Given:
    """Their file against the photos of the folder; of very many an even sample."""
    theirs = read_predictions(file, model.bundle.classes, photos_in(images))
    findings = theirs.findings
    get_run_logger().info("Read: %s predictions of theirs", f"{len(theirs):,}")
    rows = np.arange(len(theirs))
    if len(theirs) > _MOST:
        rows = np.unique(np.linspace(0, len(theirs) - 1, _MOST).round().astype(int))
        findings += (f"Of {len(theirs):,} rows {len(rows):,} were looked at, evenly spread.",)
    return Given(tuple(theirs.paths[row] for row in rows), answers_of(theirs).rows(rows), findings)


@task(name="call their function", task_run_name="call their function", cache_policy=NO_CACHE)
def call_theirs(model: ProvedModel, images: Path, target: str, samples: int, seconds: float) -> Given:
    """Their function on an even sample of the photos, stage by stage against the bundle's own."""
    photos = photos_in(images)
    if not photos:
        raise WrongUse("There are no images to call the function on.", file=images)
    rows = np.unique(np.linspace(0, len(photos) - 1, min(samples, len(photos))).round().astype(int))
    sample = [photos[row] for row in rows]
    called = call_on(target, images, sample, seconds)
    compared = compare_stages(called, images, sample, model)
    return Given(compared.paths, compared.answers, compared.findings, compared.stages)


@task(name="explain", task_run_name="explain", cache_policy=NO_CACHE)
def explain(model: ProvedModel, replay: Replay, given: Given) -> Searched:
    """Every variant, mistakes behind the model, pairs."""
    searched = search(replay, given.answers, model.bundle.classes)
    get_run_logger().info(
        "Searched: %s preparations and %s pairs; %s by %s",
        f"{searched.singles:,}",
        f"{searched.pairs:,}",
        searched.found.level,
        ", ".join(searched.found.variants) or "no variant",
    )
    return searched


def answers_of(theirs: Predictions) -> Answers:
    """Predictions of a file as expectations know them."""
    return Answers(theirs.kind, theirs.probabilities, theirs.predicted, theirs.confidence, theirs.rounding)


def draw(model: ProvedModel, replay: Replay, given: Given, searched: Searched) -> DiagnosisPage:
    """What the page shows."""
    found = searched.found
    bundle = model.bundle
    differs = found.level != "same"
    facts = [
        ("Images", f"{found.rows:,}, {found.undecided:,} of them undecided (certain answers tell little)"),
        ("What was given", given.answers.kind),
        ("Reproduced by the best", f"{found.best.share:.1%} of the rows, within {found.tolerance:.2g}"),
        ("Undecided rows reproduced", f"{found.best.share_undecided:.1%}"),
        ("Difference", f"median {found.best.median:.2g}, worst {found.best.worst:.2g}"),
        ("Runner-up", runner_up_in_words(found.runner_up)),
        ("Margin", "–" if found.margin is None else f"{100 * found.margin:.1f} points of rows"),
        ("Tried", f"{searched.singles:,} preparations on {searched.few:,} images, {searched.pairs:,} pairs"),
    ]
    return DiagnosisPage(
        bundle_id=bundle.id,
        verdict=_VERDICTS[found.level],
        sentence=sentence_of(searched, bundle.classes),
        facts=facts,
        mends=mends_of(searched, bundle.classes) if differs else (),
        fixes=fixes(bundle.preprocessing) if differs and preparation_at_fault(searched) else (),
        ranking=[(names_in_words(one.names), one.share, one.median, one.worst) for one in found.ranking[:_RANKED]],
        alike=[names_in_words(names) for names in found.alike],
        not_shown=found.not_shown,
        not_replayed=list(searched.not_replayed.items()),
        findings=(*given.findings, *left_out(searched), *(_static_findings(model) if differs else ())),
        stages=[(one.stage, one.verdict, one.difference) for one in given.stages],
        images=_images(model, replay, given, searched) if differs else (),
    )


@task(name="write the diagnosis", task_run_name="write the diagnosis", cache_policy=NO_CACHE)
def tell_it(
    model: ProvedModel, given: Given, searched: Searched, page: DiagnosisPage, started: float, out: Path
) -> Diagnosis:
    """The page and diagnosis.json, and the same as a value."""
    found = searched.found
    told = Diagnosis(
        bundle_id=model.bundle.id,
        same=found.level == "same",
        explained=bool(found.variants),
        sentence=page.sentence,
        cause=Cause(
            variants=found.variants,
            level=found.level,
            alike=found.alike if found.explained else (),
            share_reproduced=found.best.share,
        ),
        closest=explanation_of(found.best),
        runner_up=None if found.runner_up is None else explanation_of(found.runner_up),
        margin=found.margin,
        images=found.rows,
        undecided_images=found.undecided,
        tolerance=found.tolerance,
        not_shown=found.not_shown,
        not_replayed=searched.not_replayed,
        findings=tuple(page.findings),
        stages=tuple({"stage": s.stage, "verdict": s.verdict, "difference": s.difference} for s in given.stages),
        mends=tuple(page.mends),
        fixes=tuple(Fixed(library=fix.library, code=fix.code, differs=fix.differs) for fix in page.fixes),
        tried={"preparations": searched.singles, "pairs": searched.pairs, "images": searched.few},
        page=str(out / "diagnosis.html"),
        seconds=round(time.perf_counter() - started, 2),
    )
    write_diagnosis(out, page, told.model_dump_json(indent=1).encode())
    return told


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
def report_diagnosis(page: DiagnosisPage, written: str) -> None:
    """The diagnosis in the log and in the Prefect UI."""
    get_run_logger().info("%s: %s", page.verdict, visible(page.sentence, 600))
    markdown = diagnosis_markdown(page) + page_line(written)
    key = show("diagnosis", page.bundle_id, markdown, f"{page.bundle_id}, {page.verdict}: {page.sentence}")
    get_run_logger().info("Told: the artifact %s, and %s", key, place_of(written))


def _static_findings(model: ProvedModel) -> tuple[str, ...]:
    """What is read in the model itself, and may be another thing where their predictions were made."""
    bundle = model.bundle
    found = findings_of_sealed(bundle.model_path, bundle.manifest.embedding_layer, bundle.preprocessing.input_shape)
    return tuple(f"In the model: {finding.sentence}" for finding in found)


def _images(model: ProvedModel, replay: Replay, given: Given, searched: Searched) -> tuple[ImageShown, ...]:
    """The images of which theirs and the bundle's answer differ most."""
    bundle = model.bundle
    ours = replay.probabilities(bundle.preprocessing)
    far = np.where(np.isfinite(ours).all(axis=1), distances(given.answers, ours), -1.0)
    rows = [int(row) for row in np.argsort(-far, kind="stable")[:_SHOWN] if far[row] > given.answers.tolerance]
    if not rows:
        return ()
    variants = [searched.by_name[name] for name in searched.found.variants if name in searched.by_name]
    wrong = applied(bundle.preprocessing, [one for one in variants if one.stage != "model"])
    values = bundle.preprocessing.values
    pinned = [as_seen(one, values) for one in replay.tensors(bundle.preprocessing, rows)]
    theirs = [b""] * len(rows)
    if wrong is not None and wrong != bundle.preprocessing:
        theirs = [as_seen(one, values) for one in replay.tensors(wrong, rows)]
    return tuple(
        ImageShown(
            path=given.paths[row],
            ours=_answer(bundle.classes, int(ours[row].argmax()), float(ours[row].max())),
            theirs=_their_answer(bundle.classes, given.answers, row),
            moved=f"differs by {far[row]:.3g}",
            pinned=pinned[place],
            wrong=theirs[place],
        )
        for place, row in enumerate(rows)
    )


def _answer(classes: Sequence[str], predicted: int, confidence: float | None) -> str:
    return classes[predicted] if confidence is None else f"{classes[predicted]} {confidence:.3f}"


def _their_answer(classes: Sequence[str], theirs: Answers, row: int) -> str:
    confidence: float | None = None
    if theirs.probabilities is not None:
        confidence = float(theirs.probabilities[row].max())
    elif theirs.confidence is not None:
        confidence = float(theirs.confidence[row])
    return _answer(classes, int(theirs.predicted[row]), confidence)
