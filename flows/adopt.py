"""Adopt: from a model that was made elsewhere, and labelled photos, to a sealed bundle like any other."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from darkroom.asking import ask
from darkroom.errors import WrongUse
from darkroom.forms import optional, titled
from darkroom.names import some_of_many
from darkroom.orchestrator.events import bundle_sealed
from darkroom.progress import tell
from darkroom.settings import LADDER_IMAGES
from darkroom.storage import LocalStorage
from expectations.knowledge import Knowledge
from flows.adopted import Adopted, adopted_as
from flows.adopting import (
    a_preparation,
    labels_of,
    load,
    photos_of,
    plainly_prepared,
    solved_order,
    spread_over_classes,
    stated_preparation,
)
from flows.card import ladder_shown, model_facts, sensitivity_shown
from flows.examination import climb_ladder, measure
from flows.naming import named
from flows.origin import Named, Origin, Outcome, Preparation
from flows.parameters import NAME_OR_NOTHING, ModelsPath, Promote, a_file, a_file_or_folder, a_folder
from flows.preparing import infer_preparation
from flows.preparing_words import choice
from flows.sensitivity import weigh_variants
from flows.single import learn_single
from flows.train import learn_what_is_normal, report_training
from tasks.adopting import class_of_folder, look_at_photos, match_folders, readable
from tasks.bundle import Bundle, SealedContents, choose_goldens, seal_bundle
from tasks.bundle.versions import check_name
from tasks.foreign import TEACHABLE_MACHINE, ForeignModel, open_foreign, read_labels
from tasks.goldens import Golden
from tasks.inference import Engine
from tasks.preprocessing import Preprocessing
from tasks.presets import preset
from tasks.report.card import CardFacts, bundle_card, bundle_card_html
from tasks.report.untrusted import visible
from tasks.training import TrainedModel, scan

# Photos that decide about the preparation: more of them say little more.
MOST_PHOTOS = 800
_WORK = ".work"
_LONGEST = 1000  # characters of a sentence that names folders

GroupBy = Literal["image", "sub-folder"]


@flow(name="adopt", flow_run_name=named("{model}", " on {data}"))
def adopt(
    model: Annotated[Path, titled("Model", a_file_or_folder, minLength=1)],
    data: Annotated[Path, titled("Photos", a_folder, minLength=1)],
    models: ModelsPath = Path("models"),
    name: Annotated[str, titled("Name", pattern=NAME_OR_NOTHING, maxLength=64)] = "",
    labels: Annotated[Path | SkipJsonSchema[None], optional("Names of the outputs", a_file)] = None,
    preprocessing: Annotated[str, titled("Preprocessing", a_preparation)] = "",
    image_size: Annotated[int, Field(ge=0, le=2048), titled("Image size")] = 0,
    group_by: Annotated[GroupBy, titled("Keep together")] = "image",
    consent: Annotated[list[str], titled("Code that may run")] = [],  # noqa: B006  # a form of lists needs one
    ladder_images: Annotated[int, Field(ge=0), titled("Images for the corruption ladder")] = LADDER_IMAGES,
    sensitivity_images: Annotated[int, Field(ge=0), titled("Images prepared wrongly")] = 50,
    thumbnails: Annotated[bool, titled("Small pictures")] = True,
    seed: Annotated[int, Field(ge=0), titled("Seed")] = 0,
    promote: Promote = False,
) -> Adopted:
    """Make a bundle of a model that was made elsewhere: find out how its images were prepared, learn what is normal.

    Args:
        model: A .keras or .h5 file, a SavedModel folder, or an export of Teachable Machine, such as my_model.h5.
        data: Labelled photos that the model should know: a folder a class, such as photos/ with photos/cat/ and
            photos/dog/.
        models: Where bundles are sealed.
        name: Name of the bundle, of letters, digits and . _ - between them; the next version of it is sealed. Empty:
            that of the model's file.
        labels: File with the names of the outputs in their order, such as labels.txt. Empty: a file beside the model,
            else solved from the photos.
        preprocessing: How its images were prepared: a preset, maybe with a scaling (load_img:unit), or a
            preprocessing.json. Empty: inferred from the photos.
        image_size: Side of the square, for a model that takes any. 0: the model's own.
        group_by: What belongs together and is counted so: each image alone, or sub-folders (sessions).
        consent: Code in the model that may run while it is opened, each piece by its name, such as Lambda:scale.
        ladder_images: Photos that go through the corruption ladder. 0: none.
        sensitivity_images: Photos that are prepared in every wrong way, to see what each would cost. 0: none.
        thumbnails: Keep small pictures of the photos in the bundle, for the flow explain.
        seed: Of the samples that are drawn.
        promote: Put this version into use. The first one always is.

    """
    name = check_name(name or re.sub(r"[^A-Za-z0-9._-]+", "-", model.stem).strip("._-")[:64])
    with adopting_folder(models) as work:
        theirs = open_model(model, work, consent)
        engine = load(theirs, preprocessing, image_size)
        named = name_the_outputs(theirs, engine, data, group_by, labels, seed)
        preparation = find_preparation(theirs, engine, named, preprocessing, seed)
        looked = look(theirs, engine, named, preparation.chosen, work, seed)
        knowledge = learn_what_is_normal(looked, seed)
        outcome = examine(looked, knowledge, ladder_images, sensitivity_images, thumbnails, seed, data)
        origin = Origin(theirs, named, preparation)
        goldens = choose_goldens(looked.profile, data)
        card = write_card(name, origin, looked, knowledge, outcome, goldens, group_by, data)
        bundle = seal(models, name, origin, looked, knowledge, outcome, goldens, card, promote)
    report_training(bundle, card)
    bundle_sealed(bundle.id, bundle.path)
    return adopted_as(bundle, origin, outcome)


@contextmanager
def adopting_folder(models: Path) -> Iterator[Path]:
    """A folder below `models`/.work; what a kill leaves there is removed with what trainings leave."""
    storage = LocalStorage(models.absolute() / _WORK)
    name = f"adopt-{secrets.token_hex(6)}"
    folder = storage.root / name
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        storage.remove_folder(name)


@task(name="open the model", task_run_name="open the model", cache_policy=NO_CACHE)
def open_model(model: Path, work: Path, consent: Sequence[str]) -> ForeignModel:
    """What it really is, what would run in it, and a model that can be sealed."""
    theirs = open_foreign(model, work / "opened", consent=consent)
    log = get_run_logger()
    log.info("%s; %d classes, kept as %s", theirs.kind, theirs.classes, theirs.saved.name)
    for finding in theirs.findings:
        log.info("%s", finding.sentence)
    return theirs


@task(name="name the outputs", task_run_name="name the outputs", cache_policy=NO_CACHE)
def name_the_outputs(
    theirs: ForeignModel, engine: Engine, data: Path, group_by: GroupBy, labels: Path | None, seed: int
) -> Named:
    """Which output is which class: from a file, or solved from the photos; and the photos of those classes.

    Raises: WrongUse where neither says it.
    """
    file = labels or theirs.labels
    if file is not None:
        classes = read_labels(file, theirs.classes)
        dataset = scan(data, group_by, no_class=lambda folder: class_of_folder(folder, classes) is None)
        how = f"The names of the outputs are those of {file.name}: {some_of_many(classes)}."
        matched = match_folders(dataset, classes)
        for sentence in matched.sentences():
            get_run_logger().warning(visible(sentence, _LONGEST))
        return Named(matched, classes, how)
    dataset = scan(data, group_by)
    if theirs.classes != len(dataset.classes):
        raise WrongUse(
            "Nothing says which output of the model is which class.",
            file=theirs.path,
            expected=f"{theirs.classes} folders of photos, one for each output, or a file of names (--labels)",
            found=f"{len(dataset.classes)} folders: {some_of_many(dataset.classes)}",
        )
    order = solved_order(engine, dataset, seed)
    if order.unclear:
        raise WrongUse(
            "Nothing says which output of the model is which class, and the photos do not tell it.",
            file=theirs.path,
            expected="a file with the names of the outputs in their order (--labels)",
            found=order.sentence(),
        )
    return Named(match_folders(dataset, order.names), order.names, order.sentence())


@task(name="find the preparation", task_run_name="find the preparation", cache_policy=NO_CACHE)
def find_preparation(theirs: ForeignModel, engine: Engine, named: Named, preprocessing: str, seed: int) -> Preparation:
    """Infer how the images were prepared, compare it with what is stated, and decide what is sealed.

    Stated: that. Else a person at the terminal chooses. Else what the model's origin publishes, or the most likely.
    """
    dataset = named.matched.dataset
    size = engine.input_shape[0], engine.input_shape[1]
    rows = readable(dataset, spread_over_classes(dataset, MOST_PHOTOS, seed), plainly_prepared(engine, "tf"))
    stated = stated_preparation(preprocessing, size, theirs.origin)
    inferred = infer_preparation(
        engine,
        photos_of(dataset, rows),
        labels_of(dataset, rows, named.classes),
        size=size,
        origin=theirs.origin,
        scaling_inside=theirs.scaling_inside is not None,
        stated=stated,
        groups=np.unique([dataset.files[row].group for row in rows], return_inverse=True)[1],
    )
    get_run_logger().info(inferred.as_text())
    if stated is not None:
        return Preparation(stated, "It was stated.", inferred)
    published = preset("teachable_machine", size=size) if theirs.origin == TEACHABLE_MACHINE else None
    found = {row.preprocessing: row.found for row in inferred.rows}
    likely = [row.preprocessing for row in inferred.told_apart]
    choices = list(dict.fromkeys([*([published] if published else []), *likely]))
    place = 0
    if len(choices) > 1:
        lines = [choice(one, found.get(one), published=one == published) for one in choices]
        place = ask(f"{inferred.as_text()} Which preparation is sealed?", lines, place)
    if place:
        how = "A person chose it among those that the photos cannot tell apart."
    elif published is not None:
        how = "It is what Teachable Machine publishes for its exports."
        how += "" if published in inferred.plausible else " These photos speak for another one, see below."
    else:
        alike = len(inferred.plausible) - 1
        others = "others cannot be ruled out" if len(choices) > 1 else f"{alike} others answer alike on these photos"
        how = f"It is the most likely; {others}." if alike else "It is the most likely, and the only one."
    return Preparation(choices[place], how, inferred)


@task(name="look at the photos", task_run_name="look at the photos", cache_policy=NO_CACHE)
def look(
    theirs: ForeignModel, engine: Engine, named: Named, preprocessing: Preprocessing, work: Path, seed: int
) -> TrainedModel:
    """Properties, probabilities and embeddings of every photo, prepared as it will be sealed."""
    return look_at_photos(
        engine,
        theirs.saved,
        theirs.embedding_layer,
        named.matched.dataset,
        named.classes,
        preprocessing,
        work,
        seed,
        tell,
    )


@task(name="examine the model", task_run_name="examine the model", cache_policy=NO_CACHE)
def examine(
    looked: TrainedModel,
    knowledge: Knowledge,
    ladder_images: int,
    sensitivity_images: int,
    thumbnails: bool,
    seed: int,
    data: Path,
) -> Outcome:
    """How well it does on these photos, on worse ones, and on the same ones wrongly prepared."""
    return Outcome(
        measure(looked.profile, looked.classes),
        climb_ladder(looked, knowledge, ladder_images, seed, tell),
        weigh_variants(looked, data, sensitivity_images, seed, tell),
        learn_single(looked, seed, tell, thumbnails=thumbnails),
    )


@task(name="write the card", task_run_name="write the card", cache_policy=NO_CACHE)
def write_card(
    name: str,
    origin: Origin,
    looked: TrainedModel,
    knowledge: Knowledge,
    outcome: Outcome,
    goldens: list[Golden],
    group_by: str,
    data: Path,
) -> CardFacts:
    """What a person should know of the bundle: above all how its images are prepared, and how sure that is."""
    facts = model_facts(name, looked, outcome.measures, knowledge, goldens, group_by, data)
    return replace(
        facts,
        ladder=ladder_shown(outcome.ladder),
        sensitivity=sensitivity_shown(outcome.sensitivity),
        adopted=origin.shown(),
    )


@task(name="seal the bundle", task_run_name="seal the bundle", cache_policy=NO_CACHE)
def seal(
    models: Path,
    name: str,
    origin: Origin,
    looked: TrainedModel,
    knowledge: Knowledge,
    outcome: Outcome,
    goldens: list[Golden],
    card: CardFacts,
    promote: bool,
) -> Bundle:
    """Write everything once, record the goldens in a new process, and give it a version and a digest."""
    contents = SealedContents(
        model_path=looked.model_path,
        preprocessing=looked.preprocessing,
        classes=looked.classes,
        embedding_layer=looked.embedding_layer,
        profile=looked.profile,
        embeddings=looked.embeddings,
        goldens=goldens,
        metrics={
            **{split: one.as_dict() for split, one in outcome.measures.items()},
            "adopted": origin.as_dict(),
            "left_out": {one.path: one.why for one in looked.left_out},
        },
        files={
            **knowledge.to_files(),
            **outcome.to_files(),
            "preparation.json": json.dumps(origin.preparation.as_dict(), indent=1, allow_nan=False).encode(),
            "card.md": bundle_card(card).encode(),
            "card.html": bundle_card_html(card).encode(),
        },
    )
    bundle = seal_bundle(models, name, contents, promote=promote, reason="adopted")
    get_run_logger().info("%s is sealed", bundle.id)
    return bundle
