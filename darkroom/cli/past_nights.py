"""The command that scores many past nights."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from darkroom.cli.nights import OnAlarm
from darkroom.cli.shared import AsJson, BundlePath, Results, app, print_json, progress, say, says, validated


@app.command()
@says
def backfill(
    bundle: BundlePath,
    inbox: Annotated[str, typer.Argument(help="The nights' folders, such as 'inbox/{night:%Y-%m-%d}'.")],
    start: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first night.")],
    end: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The last night; scored, too.")],
    results: Results = Path("results"),
    at_once: Annotated[int, typer.Option(min=1, max=8, help="Nights that are scored at the same time.")] = 1,
    only_missing: Annotated[
        bool, typer.Option("--only-missing/--all", help="Leave out nights that this bundle has scored, or do all.")
    ] = True,
    settle_seconds: Annotated[float, typer.Option(help="Younger files are looked at twice.")] = 2.0,
    expect_at_least: Annotated[int | None, typer.Option(help="Fewer images in a night are an alarm.")] = None,
    shard_size: Annotated[int, typer.Option(help="Images a shard.")] = 4000,
    processes: Annotated[int | None, typer.Option(help="Decoding processes of each night. Empty: one a core.")] = None,
    suites: Annotated[Path | None, typer.Option(help="Folder with your own Great Expectations suites.")] = None,
    on_alarm: Annotated[OnAlarm, typer.Option(help="hold: keep the rows back until `darkroom release`.")] = (
        OnAlarm.COMMIT
    ),
    thumbnails: Annotated[bool, typer.Option(help="Small pictures in pages and artifacts.")] = True,
    as_json: AsJson = False,
) -> int:
    """Score every night from --from to --to, the oldest first, and say night by night what came of it."""
    from darkroom.orchestrator import api
    from darkroom.settings import IntakeOptions, RunOptions

    options = validated(
        lambda: {
            "intake": IntakeOptions(settle_seconds=settle_seconds, expect_at_least=expect_at_least),
            "run": RunOptions(
                shard_size=shard_size,
                processes=processes,
                suites=suites,
                on_alarm=on_alarm.value,
                thumbnails=thumbnails,
            ),
        }
    )
    with api(), progress(as_json):
        from flows.backfill import answer
        from flows.backfill import backfill as backfill_flow

        told = answer(
            backfill_flow(
                start=start.date(),
                end=end.date(),
                bundle=bundle,
                inbox=inbox,
                results=results,
                at_once=at_once,
                only_missing=only_missing,
                **options,
                return_state=True,
            )
        )
    if as_json:
        print_json(told.model_dump(mode="json"))
    else:
        say(told.as_text())
    return 0 if told.good else 1
