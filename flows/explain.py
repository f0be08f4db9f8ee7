"""Explain: why one prediction may be wrong, in one sentence, with the evidence on one page."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic.json_schema import SkipJsonSchema

from darkroom.errors import WrongUse
from darkroom.forms import optional, titled
from darkroom.pages import page_folder, place_of
from flows.explained import Explained, record_of
from flows.explaining import Told, explain_bytes
from flows.explanation_shown import page_of
from flows.in_the_ui import page_line, show
from flows.looking import Instruments, proved
from flows.naming import named
from flows.parameters import BundlePath, PageFolder, a_file
from flows.staging_calls import only_at_a_terminal, stated_by
from tasks.decode import Limits
from tasks.refusal import ImageRefused
from tasks.report.explain_page import ExplainPage, explain_markdown, write_explanation
from tasks.report.untrusted import visible
from tasks.stated_prediction import StatedPrediction, read_stated
from tasks.worker_main import read_file


@flow(name="explain", flow_run_name=named("{image}", " by {bundle}"))
def explain(
    image: Annotated[Path, titled("Image", a_file, minLength=1)],
    bundle: BundlePath,
    prediction: Annotated[str | SkipJsonSchema[None], optional("Prediction made elsewhere")] = None,
    call: SkipJsonSchema[str | None] = None,
    seconds: SkipJsonSchema[float] = 120.0,
    out: PageFolder = None,
) -> Explained:
    """Say in one sentence why a prediction may be wrong, and show on one page what speaks for it.

    Args:
        image: The image file, such as inbox/2026-11-23/photo.jpg.
        bundle: Folder of a bundle, or models/NAME for the version in use.
        prediction: What was predicted elsewhere: a class, class=confidence, or a JSON list of probabilities. Empty:
            what the bundle predicts.
        call: Instead, and in no form: module:function, their own predict or preprocess function.
        seconds: Time limit of the function.
        out: Where explain.html and explain.json go. Empty: a folder explained-<first digits of the content's sha256>,
            beside the pages of the nights where those are served.

    """
    if prediction is not None and call is not None:
        raise WrongUse("A prediction and a function cannot both be explained.", expected="--prediction or --call")
    only_at_a_terminal(call)
    data = read(image)
    instruments = prove_bundle(bundle)
    stated = stated_elsewhere(image, instruments, prediction, call, seconds)
    told = explain_image(data, instruments, stated)
    page = page_of(image, told, instruments.bundle)
    explained = record_of(image, data, told, instruments.bundle)
    explained = write(page_folder(out, f"explained-{hashlib.sha256(data).hexdigest()[:12]}"), page, explained)
    report_explanation(page, explained.page)
    return explained


def read(image: Path) -> bytes:
    """The file's bytes. Raises WrongUse where it cannot be read."""
    try:
        return read_file(str(image), Limits().max_bytes)
    except ImageRefused as refused:
        raise WrongUse(
            "The image cannot be read.",
            file=image,
            expected="an image file",
            found=f"{refused.reason.sentence} {refused.detail}".strip(),
            todo="name one file",
        ) from refused


@task(name="prove the bundle", task_run_name="prove the bundle", cache_policy=NO_CACHE)
def prove_bundle(bundle: Path) -> Instruments:
    """Digests and goldens, unless this process has just proved them."""
    instruments = proved(bundle)
    get_run_logger().info("Proved: %s", instruments.proof.as_text())
    return instruments


def stated_elsewhere(
    image: Path, instruments: Instruments, prediction: str | None, call: str | None, seconds: float
) -> StatedPrediction | None:
    """As it was typed, or as their function says it."""
    if call is not None:
        return stated_by(call, image, instruments, seconds)
    return None if prediction is None else read_stated(prediction, instruments.bundle.classes)


@task(
    name="look, compare, shake, name the cause",
    task_run_name="look, compare, shake, name the cause",
    cache_policy=NO_CACHE,
)
def explain_image(data: bytes, instruments: Instruments, stated: StatedPrediction | None) -> Told:
    """One decode and one forward pass; then every variant and every slight change."""
    return explain_bytes(data, instruments, stated)


@task(name="write the explanation", task_run_name="write the explanation", cache_policy=NO_CACHE)
def write(out: Path, page: ExplainPage, explained: Explained) -> Explained:
    """The page, and the same for programs."""
    whole = explained.model_copy(update={"page": str(out / "explain.html")})
    told = json.dumps(whole.model_dump(mode="json"), indent=1, allow_nan=False)
    write_explanation(out, page, {"explain.json": told.encode()})
    return whole


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
def report_explanation(page: ExplainPage, written: str) -> None:
    """The explanation in the log and in the Prefect UI."""
    get_run_logger().info("%s: %s", visible(page.cause), visible(page.sentence, 600))
    markdown = explain_markdown(page) + page_line(written)
    key = show("explanation", page.bundle_id, markdown, f"{page.image}, {page.cause}: {page.sentence}")
    get_run_logger().info("Told: the artifact %s, and %s", key, place_of(written))
