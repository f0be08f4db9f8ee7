"""The command line: reads what a person typed, runs a flow, says what came of it.

Exit codes: 0 done, 1 a gate or an alarm says no, 2 wrong use, 3 failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout
from datetime import datetime
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from darkroom import __version__
from darkroom.errors import DarkroomError, GateClosed, StorageError, WrongUse

app = typer.Typer(
    name="darkroom",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Scores folders of new images every night, and says which predictions to trust.\n\n"
    "Exit codes: 0 done, 1 a gate or an alarm says no, 2 wrong use, 3 failed.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
BundlePath = Annotated[Path, typer.Argument(help="A bundle, or models/NAME for the version in use.")]
Results = Annotated[Path, typer.Option(help="Where results are written.")]
Models = Annotated[Path, typer.Option(help="Where bundles are sealed.")]


class OnAlarm(StrEnum):
    """What becomes of the rows of a night that is an alarm."""

    COMMIT = "commit"
    HOLD = "hold"


class GroupBy(StrEnum):
    """What must not straddle the split."""

    IMAGE = "image"
    SUB_FOLDER = "sub-folder"
    COLUMN = "column"


def _says(command: Callable[..., int]) -> Callable[..., None]:
    """Turn a command's number into the exit code, and an expected error into a message and its exit code."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            code = command(*args, **kwargs)
        except DarkroomError as error:
            _fail(error, as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            typer.echo("Stopped. What was finished is kept; the next run goes on from there.", err=True)
            raise typer.Exit(130) from None
        raise typer.Exit(code)

    return run


def _fail(error: DarkroomError, *, as_json: bool) -> NoReturn:
    if as_json:
        typer.echo(json.dumps(error.as_dict()))
    else:
        from rich.console import Console
        from rich.text import Text

        from tasks.report.untrusted import visible

        title = "The gate is closed: " if isinstance(error, GateClosed) else "Error: "
        told = "\n".join(visible(line, longest=4096) for line in str(error).splitlines())
        Console(stderr=True, soft_wrap=True).print(Text(title, style="bold red") + Text(told))
    raise typer.Exit(error.exit_code)


def _progress(as_json: bool) -> AbstractContextManager[None]:
    from rich.console import Console

    from darkroom.progress import shown

    return shown(Console(stderr=True, quiet=as_json))


def _say(text: str) -> None:
    """Lines that may quote names of files and classes: no character of them reaches the terminal as a command."""
    from tasks.report.untrusted import visible

    for line in text.splitlines():
        typer.echo(visible(line, longest=4096))


def _print_json(model: Any) -> None:
    typer.echo(json.dumps(model, indent=1, default=str))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"darkroom {__version__}")
        raise typer.Exit(0)


@app.command()
@_says
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo's world, bundle and results go.")] = Path(
        "darkroom-demo"
    ),
    seed: Annotated[int, typer.Option(help="Another seed draws another world.")] = 0,
    as_json: AsJson = False,
) -> int:
    """Draw a small world, train, seal, score three nights, and say what each showed. Under two minutes, no network."""
    from flows.demo import demo as run_demo

    story = run_demo(folder, seed=seed, quiet=as_json)
    if as_json:
        _print_json(story.as_dict())
    return 0


@app.command()
@_says
def train(
    folder: Annotated[Path, typer.Argument(help="Labelled photos: a folder a class.")],
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "model",
    models: Models = Path("models"),
    backbone: Annotated[str, typer.Option(help="A name of keras.applications, or SmallConvNet.")] = "MobileNetV2",
    backbone_argument: Annotated[
        list[str] | None, typer.Option(help="A further argument of the backbone, such as alpha=0.35. Repeatable.")
    ] = None,
    weights: Annotated[str, typer.Option(help="imagenet, none, or a file that holds the backbone.")] = "imagenet",
    image_size: Annotated[int, typer.Option(help="Side of the square that the model sees, in pixels.")] = 224,
    group_by: Annotated[GroupBy, typer.Option(help="What must not straddle the split.")] = GroupBy.IMAGE,
    groups: Annotated[Path | None, typer.Option(help="CSV with path and group, for --group-by column.")] = None,
    validation_share: Annotated[float, typer.Option(help="Share of the images held out.")] = 0.2,
    preprocessing: Annotated[Path | None, typer.Option(help="A preprocessing.json of your own.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A JSON file with the whole recipe; other options win.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split, the weights and the augmentation.")] = 0,
    ablate: Annotated[
        int, typer.Option(help="Seeds over which each remedy against overfitting is tried, on and off. 0: not at all.")
    ] = 0,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Train on 25 and 50 % of the data, too.")
    ] = False,
    ladder_images: Annotated[
        int, typer.Option(help="Held-out images that go through the corruption ladder. 0: none.")
    ] = 200,
    sensitivity_images: Annotated[
        int, typer.Option(help="Held-out images that are prepared wrongly in every known way. 0: none.")
    ] = 50,
    thumbnails: Annotated[bool, typer.Option(help="Small pictures of the photos in the bundle, for `explain`.")] = True,
    as_json: AsJson = False,
    *,
    context: typer.Context,
) -> int:
    """Train a classifier on labelled folders and seal it, with everything learned beside it, as a bundle."""
    from darkroom.orchestrator import api
    from darkroom.settings import ExaminationOptions

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
    examination = _validated(
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
    with api(), _progress(as_json):
        from flows.train import train as train_flow

        sealed = train_flow(
            folder=folder, models=models, name=name, recipe=_recipe(given, recipe, context), examination=examination
        )
    if as_json:
        _print_json(sealed.model_dump(mode="json"))
    else:
        _say(sealed.as_text())
    return 0


@app.command()
@_says
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
    with api(), person(Console(stderr=True, quiet=as_json)), _progress(as_json):
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
        _print_json(adopted.model_dump(mode="json"))
    else:
        _say(adopted.as_text())
    return 0


@app.command()
@_says
def verify(bundle: BundlePath, as_json: AsJson = False) -> int:
    """Prove a bundle: every digest, then every golden image, from bytes to pixels to tensor to probabilities."""
    from flows.looking import prove

    proof = prove(bundle).proof
    if as_json:
        _print_json(proof.model_dump(mode="json"))
    else:
        _say(proof.as_text())
    return 0


@app.command()
@_says
def audit(
    bundle: BundlePath,
    data: Annotated[Path, typer.Option(help="The folder that the bundle was trained on.")],
    out: Annotated[Path | None, typer.Option(help="Where the page goes. Empty: audit-<bundle id>.")] = None,
    as_json: AsJson = False,
) -> int:
    """Look for what flatters the validation accuracy (copies, sessions, labels, shortcuts); tell it again without."""
    from darkroom.orchestrator import api

    with api(), _progress(as_json):
        from flows.audit import audit as audit_flow

        audited = audit_flow(bundle=bundle, data=data, out=out)
    if as_json:
        _print_json(audited.model_dump(mode="json"))
    else:
        _say(audited.as_text())
    return 0 if audited.honest else 1


@app.command()
@_says
def diagnose(
    bundle: Annotated[Path, typer.Option(help="A bundle, or models/NAME for the version in use.")],
    images: Annotated[Path, typer.Option(help="The folder that the predictions were made on.")],
    predictions: Annotated[
        Path | None, typer.Option(help="Predictions made elsewhere: CSV, Parquet, JSON or JSON lines.")
    ] = None,
    call: Annotated[
        str | None, typer.Option(help="Instead: module:function, your own predict or preprocess function.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Images that the function is called on.")] = 32,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time limit of the function.")] = 120.0,
    out: Annotated[Path | None, typer.Option(help="Where the page goes. Empty: diagnosis-<bundle id>.")] = None,
    as_json: AsJson = False,
) -> int:
    """Say which mistake makes predictions that were made elsewhere differ from the bundle's; 1 where they differ."""
    if (predictions is None) == (call is None):
        raise WrongUse(
            "There is nothing to diagnose." if call is None else "A file and a function cannot both be diagnosed.",
            expected="either --predictions FILE or --call module:function",
        )
    from darkroom.orchestrator import api

    with api(), _progress(as_json):
        from flows.diagnose import diagnose as diagnose_flow

        told = diagnose_flow(
            bundle=bundle,
            images=images,
            predictions=predictions,
            call=call,
            samples=samples,
            seconds=seconds,
            out=out,
        )
    if as_json:
        _print_json(told.model_dump(mode="json"))
    else:
        _say(told.as_text())
    return 0 if told.same else 1


@app.command()
@_says
def score(
    bundle: BundlePath,
    inbox: Annotated[str, typer.Argument(help="Folder of new images; may hold {night:%Y-%m-%d}.")],
    results: Results = Path("results"),
    night: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Empty: yesterday.")] = None,
    night_offset_days: Annotated[int, typer.Option(help="Days from today to the night.")] = -1,
    timezone: Annotated[str, typer.Option(help="Time zone that decides which day it is.")] = "UTC",
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read every file again, whatever size and time say.")
    ] = False,
    settle_seconds: Annotated[float, typer.Option(help="Younger files are looked at twice.")] = 2.0,
    expect_at_least: Annotated[int | None, typer.Option(help="Fewer images are an alarm.")] = None,
    shard_size: Annotated[int, typer.Option(help="Images a shard.")] = 2000,
    processes: Annotated[int | None, typer.Option(help="Decoding processes. Empty: one a core.")] = None,
    suites: Annotated[Path | None, typer.Option(help="Folder with your own Great Expectations suites.")] = None,
    on_alarm: Annotated[OnAlarm, typer.Option(help="hold: keep the rows back until `darkroom release`.")] = (
        OnAlarm.COMMIT
    ),
    false_alarm_nights: Annotated[
        int, typer.Option(help="At most one false drift alarm in so many unchanged nights.")
    ] = 365,
    quarantine_copies: Annotated[bool, typer.Option(help="A copy of each quarantined file in the results.")] = True,
    thumbnails: Annotated[bool, typer.Option(help="Small pictures in pages and artifacts.")] = True,
    as_json: AsJson = False,
) -> int:
    """Score a night: prove the bundle, take in what is new, predict, validate, compare, commit, report."""
    from darkroom.orchestrator import api
    from darkroom.reasons import NightVerdict
    from darkroom.settings import IntakeOptions, NightOptions, RunOptions

    options = _validated(
        lambda: {
            "night": NightOptions(
                night=night.date() if night else None, night_offset_days=night_offset_days, timezone=timezone
            ),
            "intake": IntakeOptions(
                rehash=rehash,
                settle_seconds=settle_seconds,
                expect_at_least=expect_at_least,
                quarantine_copies=quarantine_copies,
            ),
            "run": RunOptions(
                shard_size=shard_size,
                processes=processes,
                suites=suites,
                on_alarm=on_alarm.value,
                false_alarm_nights=false_alarm_nights,
                thumbnails=thumbnails,
            ),
        }
    )
    with api(), _progress(as_json):
        from flows.score import score as score_flow

        summary = score_flow(bundle=bundle, inbox=inbox, results=results, **options)
    if as_json:
        _print_json(summary.model_dump(mode="json"))
    else:
        from rich.console import Console

        from tasks.report.past import INDEX
        from tasks.report.terminal import print_night

        print_night(
            Console(), summary, places={"all nights": results.absolute() / INDEX, "results": results.absolute()}
        )
        if summary.commit is None:
            typer.echo(f"Kept back. Look at the page, then: darkroom release {summary.run_id} --results {results}")
    return 1 if summary.verdict in (NightVerdict.ALARM, NightVerdict.EMPTY) else 0


@app.command()
@_says
def evaluate(
    labels: Annotated[
        Path | None, typer.Argument(help="CSV or Parquet with label, and path or content_id. Empty: those recorded.")
    ] = None,
    *,
    bundle: Annotated[Path, typer.Option(help="A bundle, or models/NAME for the version in use.")],
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> int:
    """Join labels that arrived later to what was scored: accuracy, calibration, confusion, beside the estimate."""
    from darkroom.orchestrator import api

    with api(), _progress(as_json):
        from flows.evaluate import evaluate as evaluate_flow

        told = evaluate_flow(bundle=bundle, results=results, labels=labels)
    if as_json:
        _print_json(told.model_dump(mode="json"))
    else:
        _say(told.as_text())
    return 0


@app.command()
@_says
def suspects(
    bundle: Annotated[Path, typer.Option(help="A bundle, or models/NAME for the version in use.")],
    results: Results = Path("results"),
    night: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Empty: the newest.")] = None,
    count: Annotated[int, typer.Option(min=4, help="Rows to choose.")] = 60,
    by_lot: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of them that is drawn by lot.")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Of the lot.")] = 0,
    out: Annotated[Path, typer.Option(help="The CSV to write.")] = Path("suspects.csv"),
    as_json: AsJson = False,
) -> int:
    """Export the rows most worth a label as CSV: fill in `label`, and bring the file to `darkroom evaluate`."""
    from flows.suspects import suspects as choose
    from tasks.bundle import find_bundle, open_bundle

    chosen = choose(
        results,
        open_bundle(find_bundle(bundle)).id,
        out,
        night=night.date() if night else None,
        count=count,
        by_lot=by_lot,
        seed=seed,
    )
    if as_json:
        _print_json(json.loads(chosen.to_json(orient="records")))
    else:
        then = f"darkroom evaluate {out} --bundle {bundle} --results {results}"
        typer.echo(f"{len(chosen)} rows in {out}. Fill in `label`, then: {then}")
    return 0


@app.command()
@_says
def held(results: Results = Path("results"), as_json: AsJson = False) -> int:
    """List the runs that an alarm keeps back."""
    from tasks.held import held as runs_held
    from tasks.report.untrusted import visible

    intents = runs_held(results)
    if as_json:
        _print_json([intent.summary.model_dump(mode="json") for intent in intents])
    else:
        for intent in intents:
            typer.echo(f"{intent.run}  night {intent.night}  {visible(intent.summary.headline)}")
        if not intents:
            typer.echo("No run is kept back.")
    return 0


@app.command()
@_says
def release(
    run: Annotated[str, typer.Argument(help="A run that `darkroom held` lists.")],
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> int:
    """Make the rows of a run that was kept back part of the results."""
    from tasks.held import release as commit_held

    summary = commit_held(results, run).summary
    _renew_index(results)
    if as_json:
        _print_json(summary.model_dump(mode="json"))
    else:
        typer.echo(f"{summary.counts.scored} images of {summary.night} are part of the results now.")
    return 0


@app.command()
@_says
def discard(
    run: Annotated[str, typer.Argument(help="A run that `darkroom held` lists.")],
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> int:
    """Remove a run that was kept back; its images count as not scored, and the next run takes them in again."""
    from tasks.held import discard as remove_held

    remove_held(results, run)
    _renew_index(results)
    if as_json:
        _print_json({"discarded": run})
    else:
        typer.echo(f"{run} is discarded.")
    return 0


@app.command()
@_says
def acknowledge(
    night: Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="The night whose alarm was dealt with.")],
    reason: Annotated[str, typer.Option(help="What was found, or done; kept for good.")],
    results: Results = Path("results"),
    bundle: Annotated[
        str | None, typer.Option(help="Id of the bundle, where several have an alarm that night.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Say that an alarm was dealt with, and why; the sum across nights starts again after that night."""
    from darkroom.acknowledgements import acknowledge as record

    kept = record(results, night.date(), reason=reason, bundle=bundle)
    if as_json:
        _print_json(kept.model_dump(mode="json"))
    else:
        typer.echo(f"The alarm of {kept.night} is acknowledged by {kept.by}: {kept.reason}")
    return 0


@app.command()
@_says
def predict(
    bundle: BundlePath,
    files: Annotated[list[Path], typer.Argument(help="Image files.")],
    as_json: AsJson = False,
) -> int:
    """Predict single images, with the same preparation and the same doubts as in the nightly run; writes nothing."""
    import darkroom

    rows = darkroom.predict(bundle, files)
    if as_json:
        _print_json(json.loads(rows.to_json(orient="records")))
    else:
        from rich.console import Console

        from tasks.report.terminal import print_predictions

        print_predictions(Console(), rows)
    return 1 if (rows["verdict"] == "quarantined").any() else 0


@app.command()
@_says
def explain(
    image: Annotated[Path, typer.Argument(help="The image file.")],
    bundle: Annotated[Path, typer.Option(help="A bundle, or models/NAME for the version in use.")],
    prediction: Annotated[
        str | None,
        typer.Option(help="What was predicted elsewhere: a class, class=confidence, or a JSON list of probabilities."),
    ] = None,
    call: Annotated[
        str | None, typer.Option(help="Instead: module:function, their own predict or preprocess function.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time limit of the function.", min=1)] = 120.0,
    out: Annotated[
        Path | None, typer.Option(help="Where explain.html and explain.json go. Empty: explained-<content>.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Say in one sentence why a prediction may be wrong, and show on one page what speaks for it."""
    from darkroom.orchestrator import api

    with api(), _progress(as_json):
        from flows.explain import explain as explain_flow

        explained = explain_flow(image=image, bundle=bundle, prediction=prediction, call=call, seconds=seconds, out=out)
    if as_json:
        _print_json(explained.model_dump(mode="json"))
    else:
        _say(explained.as_text())
    return 0


@app.command()
@_says
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
        _print_json({"name": name, "version": version})
    else:
        typer.echo(f"{name} version {version} is in use.")
    return 0


@app.command()
@_says
def init(
    folder: Annotated[Path, typer.Argument(help="The project's folder; made where it is missing.")],
    models: Annotated[str, typer.Option(help="Where bundles are sealed.")] = "models",
    bundle: Annotated[str, typer.Option(help="What the nights are scored with.")] = "models/model",
    inbox: Annotated[
        str, typer.Option(help="Folder of new images; {night:%Y-%m-%d} is the date.")
    ] = "inbox/{night:%Y-%m-%d}",
    results: Annotated[str, typer.Option(help="Where results are written.")] = "results",
    cron: Annotated[str, typer.Option(help="When: minute, hour, day, month, weekday.")] = "0 2 * * *",
    timezone: Annotated[str, typer.Option(help="Time zone of the schedule. Empty: that of this machine.")] = "",
    as_json: AsJson = False,
) -> int:
    """Begin a project: darkroom.toml, a systemd unit, and the folders that `darkroom serve` works with."""
    from darkroom.beginning import begin
    from darkroom.orchestrator.deployments import check_schedule
    from darkroom.project import Project, Schedule, local_timezone

    schedule = Schedule(cron=cron, timezone=timezone or local_timezone())
    project = Project(models=models, bundle=bundle, inbox=inbox, results=results, schedule=schedule)
    check_schedule(project)
    begun = begin(folder, project)
    if as_json:
        _print_json({"folder": str(begun.folder), "written": [str(path) for path in begun.written]})
    else:
        _say(begun.as_text())
    return 0


@app.command()
@_says
def serve(
    host: Annotated[str, typer.Option(help="Address of the server.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the server.")] = 4200,
    reports_port: Annotated[
        int | None, typer.Option(help="Port at which the pages of the nights open. Empty: the one after.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Bring up the Prefect server, the deployments and a worker; stop with Ctrl-C."""
    from darkroom.orchestrator import serve as bring_up

    if as_json:
        output = sys.stdout
        with redirect_stdout(sys.stderr):
            bring_up(
                host,
                port,
                reports_port=reports_port,
                ready=lambda facts: print(json.dumps(facts), file=output, flush=True),
            )
    else:
        bring_up(host, port, reports_port=reports_port)
    return 0


def _renew_index(results: Path) -> None:
    """What was done is done, whether the page over all nights can say so or not; the next run writes it anew."""
    from tasks.report.index_page import write_index

    try:
        write_index(results)
    except StorageError as error:
        typer.echo(f"The page over all nights could not be written: {error}", err=True)


def _validated(build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    from pydantic import ValidationError

    try:
        return build()
    except ValidationError as error:
        raise _wrong_parameter(error) from None


def _wrong_parameter(error: Any) -> WrongUse:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    return WrongUse(f"The parameter {name} has a wrong value.", expected=first["msg"], found=first.get("input"))


def _recipe(given: dict[str, Any], file: Path | None, context: typer.Context) -> Any:
    """The recipe: the defaults, over them the file's settings, over them what was typed."""
    from darkroom.settings import TrainingRecipe

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
    return _validated(lambda: {"recipe": TrainingRecipe.model_validate(settings)})["recipe"]


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


def main() -> None:
    """The console command."""
    app()


if __name__ == "__main__":
    main()
