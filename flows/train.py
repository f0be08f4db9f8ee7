"""Train: from labelled folders to a sealed bundle."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from darkroom.forms import titled
from darkroom.orchestrator.events import bundle_sealed
from darkroom.progress import Progress, tell
from darkroom.settings import ExaminationOptions, TrainingRecipe
from expectations.budget import Budget
from expectations.knowledge import Knowledge, learn_normal
from flows.card import card_facts
from flows.examination import Examined, examine
from flows.in_the_ui import page_line, show
from flows.naming import named
from flows.parameters import NAME_PATTERN, ExaminationForm, ModelsPath, Promote, RecipeForm, a_folder
from tasks.bundle import Bundle, SealedContents, choose_goldens, seal_bundle
from tasks.bundle.versions import check_name
from tasks.goldens import Golden
from tasks.report.card import CardFacts, bundle_card, bundle_card_html
from tasks.report.card.words import headline
from tasks.training import TrainedModel, Work, train_model, work_folder

# Seconds between lines of progress in the run's log.
_LOG_EVERY = 15.0
# Classes that the terminal names.
_SHOWN = 30


class Sealed(BaseModel):
    """A bundle that was just sealed, and how well it does."""

    model_config = ConfigDict(frozen=True)

    bundle_id: str
    path: str
    classes: tuple[str, ...]
    images: dict[str, int]
    left_out: int
    training_accuracy: float
    validation_accuracy: float
    validation_interval: tuple[float, float]
    honest_accuracy: float
    honest_interval: tuple[float, float]
    honesty: str
    calibration_error: float
    calibration_error_after: float
    seconds: float

    def as_text(self) -> str:
        """For a person."""
        low, high = self.validation_interval
        left_out = f"; {self.left_out} files left out, see the card" if self.left_out else ""
        return (
            f"{self.bundle_id} is sealed: {len(self.classes)} classes, {self.images['train']} images to train on, "
            f"{self.images['validation']} held out{left_out}.\n"
            f"Right on {self.validation_accuracy:.1%} of the held-out images ({low:.1%} – {high:.1%}), "
            f"on {self.training_accuracy:.1%} of those it was trained on.\n"
            f"{self.honesty}\n"
            f"Classes, in the order of the outputs: {_listed(self.classes)}\n"
            f"Bundle  {self.path}\nCard    {self.path}/card.html"
        )


def _listed(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:_SHOWN])
    return shown if len(classes) <= _SHOWN else f"{shown}, … ({len(classes)}; all of them in bundle.json)"


@flow(name="train", flow_run_name=named("{name}", " from {folder}"))
def train(
    folder: Annotated[Path, titled("Photos", a_folder, minLength=1)],
    models: ModelsPath = Path("models"),
    name: Annotated[str, titled("Name", check_name, pattern=NAME_PATTERN, maxLength=64)] = "model",
    recipe: RecipeForm = TrainingRecipe(),
    examination: ExaminationForm = ExaminationOptions(),
    promote: Promote = False,
) -> Sealed:
    """Train a classifier on labelled folders, and seal it with everything that is learned beside it.

    Args:
        folder: Labelled photos: a folder a class, such as photos/ with photos/cat/ and photos/dog/.
        models: Where bundles are sealed.
        name: Name of the bundle, of letters, digits and . _ - between them; the next version of it is sealed.
        recipe: How the model is made from the photos.
        examination: What is measured beside its accuracy.
        promote: Put this version into use. The first one always is.

    """
    started = time.perf_counter()
    with work_folder(models, folder, recipe) as work:
        model = train_network(folder, recipe, work)
        knowledge = learn_what_is_normal(model, recipe.seed)
        examined = examine_training(model, knowledge, recipe, examination, folder, work)
        goldens = choose_goldens(model.profile, folder)
        card = write_card(name, model, examined, knowledge, goldens, recipe, folder)
        bundle = seal(models, name, model, examined, knowledge, goldens, card, promote)
    report_training(bundle, card)
    bundle_sealed(bundle.id, bundle.path)
    return _sealed(bundle, model, examined, knowledge, time.perf_counter() - started)


@task(name="train the network", task_run_name="train the network", cache_policy=NO_CACHE)
def train_network(folder: Path, recipe: TrainingRecipe, work: Work) -> TrainedModel:
    """Scan, split, decode, fit; probabilities and embeddings of every image without augmentation."""
    log = get_run_logger()
    if work.resumed:
        log.info("A training that was interrupted goes on; what it had finished is in %s", work.folder)
    model = train_model(folder, recipe, work.folder, _told_to_the_log())
    log.info("Classes, in the order of the outputs: %s", ", ".join(model.classes))
    for one in model.left_out:
        log.warning("Left out: %s: %s", one.path, one.why)
    return model


@task(name="learn what is normal", task_run_name="learn what is normal", cache_policy=NO_CACHE)
def learn_what_is_normal(model: TrainedModel, seed: int) -> Knowledge:
    """The suite, the outlier scores, the calibration and the drift reference."""
    knowledge = learn_normal(model.profile, model.embeddings, model.classes, refused=len(model.left_out), seed=seed)
    if knowledge.drift.verification is not None:
        get_run_logger().info(knowledge.drift.verification.sentence(Budget()))
    return knowledge


@task(name="examine the training", task_run_name="examine the training", cache_policy=NO_CACHE)
def examine_training(
    model: TrainedModel,
    knowledge: Knowledge,
    recipe: TrainingRecipe,
    examination: ExaminationOptions,
    folder: Path,
    work: Work,
) -> Examined:
    """How well it does, whether its validation is honest, how robust it is, what its remedies are worth."""
    examined = examine(model, knowledge, recipe, examination, folder, work.folder, _told_to_the_log())
    log = get_run_logger()
    log.info("%s", examined.splits.sentence)
    log.info("%s", examined.audit.sentence())
    return examined


@task(name="write the card", task_run_name="write the card", cache_policy=NO_CACHE)
def write_card(
    name: str,
    model: TrainedModel,
    examined: Examined,
    knowledge: Knowledge,
    goldens: list[Golden],
    recipe: TrainingRecipe,
    folder: Path,
) -> CardFacts:
    """What a person should know of the bundle."""
    return card_facts(name, model, examined, knowledge, goldens, recipe, folder)


@task(name="seal the bundle", task_run_name="seal the bundle", cache_policy=NO_CACHE)
def seal(
    models: Path,
    name: str,
    model: TrainedModel,
    examined: Examined,
    knowledge: Knowledge,
    goldens: list[Golden],
    card: CardFacts,
    promote: bool,
) -> Bundle:
    """Write everything once, record the goldens in a new process, and give it a version and a digest."""
    contents = SealedContents(
        model_path=model.model_path,
        preprocessing=model.preprocessing,
        classes=model.classes,
        embedding_layer=model.embedding_layer,
        profile=model.profile,
        embeddings=model.embeddings,
        goldens=goldens,
        metrics={
            **{split: one.as_dict() for split, one in examined.measures.items()},
            "gap": asdict(examined.gap),
            "honest": asdict(examined.audit.restated),
            "recipe": dict(card.recipe),
            "history": model.history,
            "left_out": {one.path: one.why for one in model.left_out},
        },
        files={
            **knowledge.to_files(),
            **examined.to_files(),
            "card.md": bundle_card(card).encode(),
            "card.html": bundle_card_html(card).encode(),
        },
    )
    bundle = seal_bundle(models, name, contents, promote=promote)
    get_run_logger().info("%s is sealed", bundle.id)
    return bundle


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
def report_training(bundle: Bundle, card: CardFacts) -> None:
    """The card in the Prefect UI, its first sentence in the log."""
    get_run_logger().info("%s: %s", bundle.id, headline(card))
    markdown = bundle_card(card) + page_line(bundle.path / "card.html")
    key = show("card", bundle.id, markdown, f"{bundle.id}: {headline(card)}")
    get_run_logger().info("Told: the artifact %s", key)


def _told_to_the_log() -> Progress:
    """Progress for whoever watches, and a line in the run's log now and then."""
    log = get_run_logger()
    logged = 0.0

    def progress(stage: str, done: int, total: int, note: str) -> None:
        nonlocal logged
        tell(stage, done, total, note)
        if done == total or time.monotonic() - logged >= _LOG_EVERY:
            log.info("%s: %s of %s%s", stage.capitalize(), f"{done:,}", f"{total:,}", f", {note}" if note else "")
            logged = time.monotonic()

    return progress


def _sealed(bundle: Bundle, model: TrainedModel, examined: Examined, knowledge: Knowledge, seconds: float) -> Sealed:
    measures = examined.measures
    return Sealed(
        bundle_id=bundle.id,
        path=str(bundle.path),
        classes=model.classes,
        images={split: one.n for split, one in measures.items()},
        left_out=len(model.left_out),
        training_accuracy=measures["train"].accuracy,
        validation_accuracy=measures["validation"].accuracy,
        validation_interval=measures["validation"].interval,
        honest_accuracy=examined.audit.restated.accuracy,
        honest_interval=(examined.audit.restated.low, examined.audit.restated.high),
        honesty=examined.audit.sentence(),
        calibration_error=knowledge.calibration.error_before,
        calibration_error_after=knowledge.calibration.error_after,
        seconds=seconds,
    )
