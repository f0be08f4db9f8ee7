"""The commands about what is known: the quarantine, where a row comes from, and what is to be forgotten."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from darkroom.cli.shared import AsJson, Models, Results, app, print_json, say, says
from darkroom.reasons import Reason


class What(StrEnum):
    """What is done about the quarantine."""

    LIST = "list"
    RELEASE = "release"
    DELETE = "delete"


@app.command()
@says
def quarantine(
    action: Annotated[
        What,
        typer.Argument(
            help="list them; release: the next run looks at them once more; delete: their copies, and nothing else."
        ),
    ],
    results: Results = Path("results"),
    reason: Annotated[
        list[Reason] | None,
        typer.Option(metavar="CODE", help="Only files refused for this reason. Repeatable. Empty: all."),
    ] = None,
    why: Annotated[str, typer.Option(help="Kept for good; needed to release and to delete.")] = "",
    night: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only those refused last then.")] = None,
    bundle: Annotated[str, typer.Option(help="Only those of this bundle: its id or its name.")] = "",
    inbox: Annotated[str, typer.Option(help="Only those found in this folder.")] = "",
    only: Annotated[
        list[str] | None, typer.Option(help="Only this content id (or its first 8 characters) or path. Repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List the files that could not be scored; release them for the next run, or delete their copies."""
    from darkroom.settings import QuarantineFilter
    from flows.quarantined import Choice, done

    which = QuarantineFilter(night=night.date() if night else None, bundle=bundle, inbox=inbox, only=tuple(only or ()))
    told = done(results, Choice(action=action.value, reasons=tuple(reason or ()), which=which, note=why))
    if as_json:
        print_json(told.model_dump(mode="json"))
    else:
        say(told.as_text())
    return 0


@app.command()
@says
def trace(
    row: Annotated[
        str, typer.Argument(help="A content id, or its first 8 characters; or a path, as in the results or in full.")
    ],
    results: Results = Path("results"),
    models: Annotated[
        Path | None, typer.Option(help="Where bundles are sealed. Empty: where each run says that its bundle was.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Say which bundle, code, parameters and person made a row, and what was decided about it since."""
    from tasks.trace import trace as find

    told = find(results, row, models=models)
    if as_json:
        print_json(told.model_dump(mode="json"))
    else:
        say(told.as_text())
    return 0


@app.command()
@says
def forget(
    contents: Annotated[
        list[str], typer.Argument(metavar="CONTENT_ID...", help="Whole content ids; or files, whose content is meant.")
    ],
    results: Results = Path("results"),
    models: Models = Path("models"),
    reason: Annotated[str, typer.Option(help="Why, without naming the image; kept for good.")] = "",
    by: Annotated[str, typer.Option(help="Who decided. Empty: the user of this process.")] = "",
    as_json: AsJson = False,
) -> int:
    """Remove images from results: rows, copies, labels, pictures; and say which bundles hold them."""
    from flows.forget import forget as forget_them

    told = forget_them(results, contents, why=reason, by=by, models=models)
    if as_json:
        print_json(told.model_dump(mode="json"))
    else:
        say(told.as_text())
    return 0
