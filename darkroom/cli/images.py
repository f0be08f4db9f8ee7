"""The commands about single images, and about predictions that were made elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from darkroom.cli.shared import (
    AsJson,
    BundlePath,
    app,
    print_json,
    progress,
    say,
    says,
)
from darkroom.errors import WrongUse


@app.command()
@says
def predict(
    bundle: BundlePath,
    files: Annotated[list[Path], typer.Argument(help="Image files.")],
    as_json: AsJson = False,
) -> int:
    """Predict single images, with the same preparation and the same doubts as in the nightly run; writes nothing."""
    import darkroom

    rows = darkroom.predict(bundle, files)
    if as_json:
        print_json(json.loads(rows.to_json(orient="records")))
    else:
        from rich.console import Console

        from tasks.report.terminal import print_predictions

        print_predictions(Console(), rows)
    return 1 if (rows["verdict"] == "quarantined").any() else 0


@app.command()
@says
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

    with api(), progress(as_json):
        from flows.explain import explain as explain_flow

        explained = explain_flow(image=image, bundle=bundle, prediction=prediction, call=call, seconds=seconds, out=out)
    if as_json:
        print_json(explained.model_dump(mode="json"))
    else:
        say(explained.as_text())
    return 0


@app.command()
@says
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

    with api(), progress(as_json):
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
        print_json(told.model_dump(mode="json"))
    else:
        say(told.as_text())
    return 0 if told.same else 1
