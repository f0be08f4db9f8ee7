"""The commands that make, prove and put into use bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from darkroom.cli.shared import (
    AsJson,
    BundlePath,
    GroupBy,
    Models,
    app,
    print_json,
    progress,
    say,
    says,
    validated,
)
from darkroom.errors import WrongUse
from darkroom.forms import in_words
from darkroom.settings import EngineName, ExaminationOptions, TrainingRecipe


@app.command()
@says
def train(
    folder: Annotated[Path, typer.Argument(help="Labelled photos: a folder a class.")],
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "model",
    models: Models = Path("models"),
    backbone: Annotated[str, typer.Option(help=in_words(TrainingRecipe, "backbone"))] = "MobileNetV2",
    backbone_argument: Annotated[
        list[str] | None, typer.Option(help="A further argument of the backbone, such as alpha=0.35. Repeatable.")
    ] = None,
    weights: Annotated[str, typer.Option(help=in_words(TrainingRecipe, "weights"))] = "imagenet",
    image_size: Annotated[int, typer.Option(help=in_words(TrainingRecipe, "image_size"))] = 224,
    group_by: Annotated[GroupBy, typer.Option(help=in_words(TrainingRecipe, "group_by"))] = GroupBy.IMAGE,
    groups: Annotated[Path | None, typer.Option(help=in_words(TrainingRecipe, "groups"))] = None,
    validation_share: Annotated[float, typer.Option(help=in_words(TrainingRecipe, "validation_share"))] = 0.2,
    preprocessing: Annotated[Path | None, typer.Option(help=in_words(TrainingRecipe, "preprocessing"))] = None,
    recipe: Annotated[Path | None, typer.Option(help="A JSON file with the whole recipe; other options win.")] = None,
    seed: Annotated[int, typer.Option(help=in_words(TrainingRecipe, "seed"))] = 0,
    ablate: Annotated[int, typer.Option(help=in_words(ExaminationOptions, "remedy_seeds"))] = 0,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help=in_words(ExaminationOptions, "learning_curve"))
    ] = False,
    ladder_images: Annotated[int, typer.Option(help=in_words(ExaminationOptions, "ladder_images"))] = 200,
    sensitivity_images: Annotated[int, typer.Option(help=in_words(ExaminationOptions, "sensitivity_images"))] = 50,
    thumbnails: Annotated[bool, typer.Option(help=in_words(ExaminationOptions, "thumbnails"))] = True,
    as_json: AsJson = False,
    *,
    context: typer.Context,
) -> int:
    """Train a classifier on labelled folders and seal it, with everything learned beside it, as a bundle."""
    from darkroom.orchestrator import api

    given = {
        "backbone": backbone,
        "backbone_arguments": _backbone_arguments(backbone_argument or []),
        "weights": weights,
        "image_size": image_size,
        "group_by": group_by.value,
        "groups": groups,
        "validation_share": validation_share,
        "preprocessing": preprocessing,
        "seed": seed,
    }
    examination = validated(
        lambda: {
            "examination": ExaminationOptions(
                ladder_images=ladder_images,
                sensitivity_images=sensitivity_images,
                remedy_seeds=ablate,
                learning_curve=learning_curve,
                thumbnails=thumbnails,
            )
        }
    )["examination"]
    with api(), progress(as_json):
        from flows.train import train as train_flow

        sealed = train_flow(
            folder=folder, models=models, name=name, recipe=_recipe(given, recipe, context), examination=examination
        )
    if as_json:
        print_json(sealed.model_dump(mode="json"))
    else:
        say(sealed.as_text())
    return 0


@app.command()
@says
def adopt(
    model: Annotated[
        Path, typer.Argument(help="A .keras or .h5 file, a SavedModel folder, a Teachable Machine export.")
    ],
    data: Annotated[Path, typer.Option(help="Labelled photos that the model should know: a folder a class.")],
    labels: Annotated[
        Path | None, typer.Option(help="Names of the outputs in their order. Empty: beside the model, or solved.")
    ] = None,
    preprocessing: Annotated[
        str, typer.Option(help="A preset, such as load_img:unit, or a preprocessing.json. Empty: inferred.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Where bundles are sealed.")] = Path("models"),
    name: Annotated[str, typer.Option(help="Name of the bundle. Empty: that of the model's file.")] = "",
    image_size: Annotated[int, typer.Option(help="Side of the square, for a model that takes any size.")] = 0,
    group_by: Annotated[GroupBy, typer.Option(help="What is counted together: image, or sub-folder.")] = GroupBy.IMAGE,
    consent: Annotated[
        list[str] | None, typer.Option(help="Code in the model that may run while it is opened, such as Lambda:scale.")
    ] = None,
    ladder_images: Annotated[int, typer.Option(help="Photos that go through the corruption ladder. 0: none.")] = 200,
    sensitivity_images: Annotated[int, typer.Option(help="Photos that are prepared in every wrong way. 0: none.")] = 50,
    thumbnails: Annotated[bool, typer.Option(help="Small pictures of the photos in the bundle, for `explain`.")] = True,
    seed: Annotated[int, typer.Option(help="Of the samples that are drawn.")] = 0,
    as_json: AsJson = False,
) -> int:
    """Make a bundle of anybody's model: open it, find out how its images were prepared, learn what is normal."""
    from rich.console import Console

    from darkroom.asking import person
    from darkroom.orchestrator import api

    if group_by is GroupBy.COLUMN:
        raise WrongUse("An adopted model has no column of groups.", expected="image or sub-folder", found="column")
    with api(), person(Console(stderr=True, quiet=as_json)), progress(as_json):
        from flows.adopt import adopt as adopt_flow

        adopted = adopt_flow(
            model=model,
            data=data,
            models=out,
            name=name,
            labels=labels,
            preprocessing=preprocessing,
            image_size=image_size,
            group_by="sub-folder" if group_by is GroupBy.SUB_FOLDER else "image",
            consent=consent or [],
            ladder_images=ladder_images,
            sensitivity_images=sensitivity_images,
            thumbnails=thumbnails,
            seed=seed,
        )
    if as_json:
        print_json(adopted.model_dump(mode="json"))
    else:
        say(adopted.as_text())
    return 0


@app.command()
@says
def verify(
    bundle: BundlePath,
    engine: Annotated[
        EngineName, typer.Option(help="openvino is compared with keras first, and may be used from then on.")
    ] = "auto",
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that the bundle was trained on: engines are compared on its held-out photos, too."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Prove a bundle: every digest, then every golden image, from bytes to pixels to tensor to probabilities."""
    from flows.engines import check_comparison, prove_parity
    from flows.looking import prove
    from tasks.bundle import find_bundle, open_bundle

    check_comparison(engine, data)
    parity = None
    if engine == "openvino":
        with progress(as_json):
            parity = prove_parity(open_bundle(find_bundle(bundle)), data)
    proof = prove(bundle, engine).proof
    if as_json:
        compared = None if parity is None else parity.model_dump(mode="json")
        print_json({**proof.model_dump(mode="json"), "parity": compared})
    else:
        say("\n".join([*([parity.as_text()] if parity else []), proof.as_text()]))
    return 0


@app.command()
@says
def audit(
    bundle: BundlePath,
    data: Annotated[Path, typer.Option(help="The folder that the bundle was trained on.")],
    out: Annotated[Path | None, typer.Option(help="Where the page goes. Empty: audit-<bundle id>.")] = None,
    as_json: AsJson = False,
) -> int:
    """Look for what flatters the validation accuracy (copies, sessions, labels, shortcuts); tell it again without."""
    from darkroom.orchestrator import api

    with api(), progress(as_json):
        from flows.audit import audit as audit_flow

        audited = audit_flow(bundle=bundle, data=data, out=out)
    if as_json:
        print_json(audited.model_dump(mode="json"))
    else:
        say(audited.as_text())
    return 0 if audited.honest else 1


@app.command()
@says
def promote(
    name: Annotated[str, typer.Argument(help="Name of the bundle.")],
    version: Annotated[int, typer.Argument(help="The version to use from now on.")],
    reason: Annotated[str, typer.Option(help="Why; kept in history.jsonl.")],
    models: Models = Path("models"),
    as_json: AsJson = False,
) -> int:
    """Put a version into use. Who, when and why is kept."""
    from darkroom.person import this_person
    from tasks.bundle import promote as put_into_use

    put_into_use(models, name, version, reason=reason, by=this_person())
    if as_json:
        print_json({"name": name, "version": version})
    else:
        typer.echo(f"{name} version {version} is in use.")
    return 0


@app.command()
@says
def sign(
    bundle: BundlePath,
    key: Annotated[Path, typer.Option(help="Your private key: Ed25519, in PEM.")],
    as_json: AsJson = False,
) -> int:
    """Sign a bundle with your private key, so that it is opened where signatures are required."""
    from tasks.bundle import sign_bundle

    signed = sign_bundle(bundle, key)
    if as_json:
        print_json({"bundle_id": signed.bundle_id, "key": signed.key, "file": str(signed.file)})
    else:
        say(f"{signed.bundle_id} is signed by the key {signed.key}: {signed.file}")
    return 0


@app.command()
@says
def reseal(
    bundle: BundlePath,
    reason: Annotated[str, typer.Option(help="Why, such as the upgrade; kept for good. Empty: only show.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Seal without asking.")] = False,
    promote: Annotated[bool, typer.Option("--promote", help="Put the new version into use.")] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="CONTENT_ID", help="Seal it without this image: a content id, or a file. Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """After an upgrade: show how far the golden images have moved, and, if you agree, seal the next version."""
    if without:
        return _reseal_without(bundle, without, reason, yes, promote, as_json)
    from rich.console import Console

    from darkroom.asking import ask, person
    from darkroom.orchestrator import api

    with api(), person(Console(stderr=True, quiet=as_json)):
        from flows.reseal import reseal as reseal_flow

        moved = reseal_flow(bundle=bundle, agreed=yes, reason=reason, promote=promote)
        if moved.moved and reason and not yes and not as_json:
            say(moved.as_text())
            if ask("Seal the next version with the golden images as they are now?", ("no", "yes"), 0):
                moved = reseal_flow(bundle=bundle, agreed=True, reason=reason, promote=promote)
    if as_json:
        print_json(moved.model_dump(mode="json"))
    else:
        say(moved.as_text())
    return 1 if moved.moved and moved.sealed is None else 0


def _reseal_without(bundle: Path, contents: list[str], reason: str, yes: bool, promote: bool, as_json: bool) -> int:
    from flows.leaving_out import leave_out

    left = leave_out(bundle, contents, agreed=yes, reason=reason, promote=promote)
    if as_json:
        print_json(left.model_dump(mode="json"))
    else:
        say(left.as_text())
    return 0 if left.sealed is not None else 1


def _recipe(given: dict[str, Any], file: Path | None, context: typer.Context) -> Any:
    """The recipe: the defaults, over them the file's settings, over them what was typed."""
    stated: dict[str, Any] = {}
    if file is not None:
        try:
            stated = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise WrongUse("The recipe cannot be read.", file=file, expected="a JSON object", found=error) from error

    def typed(setting: str) -> bool:
        option = "backbone_argument" if setting == "backbone_arguments" else setting
        source = context.get_parameter_source(option)
        return source is not None and source.name == "COMMANDLINE"

    settings = {**given, **stated, **{setting: value for setting, value in given.items() if typed(setting)}}
    return validated(lambda: {"recipe": TrainingRecipe.model_validate(settings)})["recipe"]


def _backbone_arguments(pairs: list[str]) -> dict[str, float]:
    arguments = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            arguments[key] = float(value)
        except ValueError as error:
            raise WrongUse(
                "A backbone argument is not understood.", expected="name=number, such as alpha=0.35", found=pair
            ) from error
    return arguments
