"""The commands about nights: score them, and what is done with what came of it."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from darkroom.cli.shared import (
    AsJson,
    BundlePath,
    Results,
    app,
    print_json,
    progress,
    say,
    says,
    validated,
)
from darkroom.errors import StorageError
from darkroom.forms import in_words
from darkroom.settings import EngineName, IntakeOptions, NightOptions, RunnerName, RunOptions
from darkroom.storage import storage_at, store_address


class OnAlarm(StrEnum):
    """What becomes of the rows of a night that is an alarm."""

    COMMIT = "commit"
    HOLD = "hold"


@app.command()
@says
def score(
    bundle: BundlePath,
    inbox: Annotated[str, typer.Argument(help="Folder of new images; may hold {night:%Y-%m-%d}.")],
    results: Results = Path("results"),
    night: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help=in_words(NightOptions, "night"))] = None,
    night_offset_days: Annotated[int, typer.Option(help=in_words(NightOptions, "night_offset_days"))] = -1,
    timezone: Annotated[str, typer.Option(help=in_words(NightOptions, "timezone"))] = "UTC",
    rehash: Annotated[bool, typer.Option("--rehash", help=in_words(IntakeOptions, "rehash"))] = False,
    settle_seconds: Annotated[float, typer.Option(help=in_words(IntakeOptions, "settle_seconds"))] = 2.0,
    expect_at_least: Annotated[int | None, typer.Option(help=in_words(IntakeOptions, "expect_at_least"))] = None,
    shard_size: Annotated[int, typer.Option(help=in_words(RunOptions, "shard_size"))] = 4000,
    processes: Annotated[int | None, typer.Option(help=in_words(RunOptions, "processes"))] = None,
    runner: Annotated[RunnerName, typer.Option(help=in_words(RunOptions, "runner"))] = "threads",
    workers: Annotated[int, typer.Option(help=in_words(RunOptions, "workers"))] = 2,
    dask_address: Annotated[str, typer.Option(help=in_words(RunOptions, "dask_address"))] = "",
    engine: Annotated[EngineName, typer.Option(help=in_words(RunOptions, "engine"))] = "auto",
    suites: Annotated[Path | None, typer.Option(help=in_words(RunOptions, "suites"))] = None,
    on_alarm: Annotated[
        OnAlarm, typer.Option(help="hold: keep the rows back until darkroom release.")
    ] = OnAlarm.COMMIT,
    false_alarm_nights: Annotated[int, typer.Option(help=in_words(RunOptions, "false_alarm_nights"))] = 365,
    quarantine_copies: Annotated[bool, typer.Option(help=in_words(IntakeOptions, "quarantine_copies"))] = True,
    thumbnails: Annotated[bool, typer.Option(help=in_words(RunOptions, "thumbnails"))] = True,
    metrics: Annotated[str, typer.Option(help=in_words(RunOptions, "metrics"))] = "",
    as_json: AsJson = False,
) -> int:
    """Score a night: prove the bundle, take in what is new, predict, validate, compare, commit, report."""
    from darkroom.orchestrator import api
    from darkroom.reasons import NightVerdict

    options = validated(
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
                runner=runner,
                workers=workers,
                dask_address=dask_address,
                engine=engine,
                suites=suites,
                on_alarm=on_alarm.value,
                false_alarm_nights=false_alarm_nights,
                thumbnails=thumbnails,
                metrics=metrics,
            ),
        }
    )
    with api(), progress(as_json):
        from flows.score import score as score_flow

        summary = score_flow(bundle=bundle, inbox=inbox, results=results, **options)
    if as_json:
        print_json(summary.model_dump(mode="json"))
    else:
        from rich.console import Console

        from tasks.report.past import INDEX
        from tasks.report.terminal import print_night

        storage = storage_at(results)
        print_night(Console(), summary, places={"all nights": storage.describe(INDEX), "results": storage.name})
        if summary.commit is None:
            then = f"darkroom release {summary.run_id} --reason '…' --results {store_address(results) or results}"
            typer.echo(f"Kept back. Look at the page, then: {then}")
    return 1 if summary.verdict in (NightVerdict.ALARM, NightVerdict.EMPTY) else 0


@app.command()
@says
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

    with api(), progress(as_json):
        from flows.evaluate import evaluate as evaluate_flow

        told = evaluate_flow(bundle=bundle, results=results, labels=labels)
    if as_json:
        print_json(told.model_dump(mode="json"))
    else:
        say(told.as_text())
    return 0


@app.command()
@says
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
        print_json(json.loads(chosen.to_json(orient="records")))
    else:
        then = f"darkroom evaluate {out} --bundle {bundle} --results {store_address(results) or results}"
        typer.echo(f"{len(chosen)} rows in {out}. Fill in `label`, then: {then}")
    return 0


@app.command()
@says
def held(results: Results = Path("results"), as_json: AsJson = False) -> int:
    """List the runs that an alarm keeps back."""
    from tasks.held import held as runs_held
    from tasks.report.untrusted import visible

    intents = runs_held(results)
    if as_json:
        print_json([intent.summary.model_dump(mode="json") for intent in intents])
    else:
        for intent in intents:
            typer.echo(f"{intent.run}  night {intent.night}  {visible(intent.summary.headline)}")
        if not intents:
            typer.echo("No run is kept back.")
    return 0


@app.command()
@says
def release(
    run: Annotated[str, typer.Argument(help="A run that `darkroom held` lists.")],
    reason: Annotated[str, typer.Option(help="Why; kept for good.")],
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> int:
    """Make the rows of a run that was kept back part of the results."""
    from tasks.held import release as commit_held

    summary = commit_held(results, run, why=reason).summary
    renew_index(results)
    if as_json:
        print_json(summary.model_dump(mode="json"))
    else:
        typer.echo(f"{summary.counts.scored} images of {summary.night} are part of the results now.")
    return 0


@app.command()
@says
def discard(
    run: Annotated[str, typer.Argument(help="A run that `darkroom held` lists.")],
    reason: Annotated[str, typer.Option(help="Why; kept for good.")],
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> int:
    """Remove a run that was kept back; its images count as not scored, and the next run takes them in again."""
    from tasks.held import discard as remove_held

    remove_held(results, run, why=reason)
    renew_index(results)
    if as_json:
        print_json({"discarded": run})
    else:
        typer.echo(f"{run} is discarded.")
    return 0


@app.command()
@says
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
        print_json(kept.model_dump(mode="json"))
    else:
        say(f"The alarm of {kept.night} is acknowledged by {kept.by}: {kept.reason}")
    return 0


def renew_index(results: Path) -> None:
    """What was done is done, whether the page over all nights can say so or not; the next run writes it anew."""
    from tasks.report.index_page import write_index

    try:
        write_index(results)
    except StorageError as error:
        typer.echo(f"The page over all nights could not be written: {error}", err=True)
