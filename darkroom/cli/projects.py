"""The commands that begin, show and serve a project."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from darkroom.cli.shared import (
    AsJson,
    app,
    print_json,
    say,
    says,
    validated,
)


@app.command()
@says
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
        print_json(story.as_dict())
    return 0


@app.command()
@says
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

    schedule = validated(lambda: {"schedule": Schedule(cron=cron, timezone=timezone or local_timezone())})["schedule"]
    project = Project(models=models, bundle=bundle, inbox=inbox, results=results, schedule=schedule)
    check_schedule(project)
    begun = begin(folder, project)
    if as_json:
        print_json({"folder": str(begun.folder), "written": [str(path) for path in begun.written]})
    else:
        say(begun.as_text())
    return 0


@app.command()
@says
def serve(
    host: Annotated[
        str, typer.Option(help="Address of the server. Others than this machine's own need a password.")
    ] = "127.0.0.1",
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
