"""What all commands share: the app, its options, and how an answer or an error reaches a person or a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from darkroom import __version__
from darkroom.errors import DarkroomError, GateClosed
from darkroom.trust import trusting

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


class GroupBy(StrEnum):
    """What must not straddle the split."""

    IMAGE = "image"
    SUB_FOLDER = "sub-folder"
    COLUMN = "column"


def says(command: Callable[..., int]) -> Callable[..., None]:
    """Turn a command's number into the exit code, and an expected error into a message and its exit code."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            code = command(*args, **kwargs)
        except DarkroomError as error:
            fail(error, as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            typer.echo("Stopped. What was finished is kept; the next run goes on from there.", err=True)
            raise typer.Exit(130) from None
        raise typer.Exit(code)

    return run


def fail(error: DarkroomError, *, as_json: bool) -> NoReturn:
    """Tell an expected error, and end with its exit code."""
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


def progress(as_json: bool) -> AbstractContextManager[None]:
    """Bars while inside, where a person watches."""
    from rich.console import Console

    from darkroom.progress import shown

    return shown(Console(stderr=True, quiet=as_json))


def say(text: str) -> None:
    """Lines that may quote names of files and classes: no character of them reaches the terminal as a command."""
    from tasks.report.untrusted import visible

    for line in text.splitlines():
        typer.echo(visible(line, longest=4096))


def print_json(model: Any) -> None:
    """One JSON object."""
    typer.echo(json.dumps(model, indent=1, default=str))


def validated(build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was typed as models; a wrong value is an error that names its parameter."""
    from pydantic import ValidationError

    from darkroom.forms import wrong_parameter

    try:
        return build()
    except ValidationError as error:
        raise wrong_parameter(error) from None


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    trusted_keys: Annotated[
        Path | None,
        typer.Option(
            help="Folder of public keys: only a bundle that one of them has signed is opened.", metavar="FOLDER"
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"darkroom {__version__}")
        raise typer.Exit(0)
    try:
        context.with_resource(trusting(trusted_keys, Path.cwd()))
    except DarkroomError as error:
        fail(error, as_json="--json" in sys.argv)
