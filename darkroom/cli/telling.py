"""The command that says who is told of alarms, failures and silence."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from darkroom.cli.shared import AsJson, app, print_json, say, says
from darkroom.errors import WrongUse

_STDIN = "-"


@app.command()
@says
def notify(
    webhook: Annotated[
        str | None,
        typer.Option(help="Address that gets JSON with subject, body and text. `-` reads it from the input."),
    ] = None,
    slack: Annotated[str | None, typer.Option(help="Incoming webhook of Slack. `-` reads it from the input.")] = None,
    email: Annotated[
        str | None,
        typer.Option(help="mailto://USER:PASSWORD@HOST:PORT?from=…&to=…; mailtos:// with TLS. `-`: from the input."),
    ] = None,
    block: Annotated[
        list[str] | None, typer.Option(help="A notification block that you made in Prefect: type/name. Repeatable.")
    ] = None,
    silence_hours: Annotated[float, typer.Option(min=0.1, help="Tell when no night came to its end for so long.")] = 26,
    zombie_minutes: Annotated[
        float, typer.Option(min=3, help="Without a sign of life for so long, a run has crashed.")
    ] = 10,
    test: Annotated[
        bool, typer.Option("--test", help="Send one message, on the way that an alarm would take.")
    ] = False,
    show: Annotated[bool, typer.Option("--list", help="Show who is told, and when.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Tell nobody any more.")] = False,
    as_json: AsJson = False,
) -> int:
    """Say who is told of an alarm, an empty night, a failure and silence; each call replaces what was said before."""
    from prefect.client.orchestration import get_client

    from darkroom.orchestrator import automations
    from darkroom.orchestrator.notices import SILENCE_HOURS, ZOMBIE_MINUTES, Told

    given = {"webhook": webhook, "slack": slack, "email": email}
    addresses = {kind: _secret(address) for kind, address in given.items() if address is not None}
    if remove and (addresses or block or test):
        raise WrongUse("Nobody can be told who is removed.", expected="--remove alone")
    if (silence_hours, zombie_minutes) != (SILENCE_HOURS, ZOMBIE_MINUTES) and not (addresses or block):
        raise WrongUse(
            "Each call replaces what was said before, and this one does not say who is told.",
            expected="--webhook, --slack, --email or --block beside --silence-hours and --zombie-minutes",
        )
    if len([address for address in given.values() if address == _STDIN]) > 1:
        raise WrongUse("Only one address can be read from the input.")
    answer: dict[str, object] = {}
    with automations.lasting_api(), get_client(sync_client=True) as client:
        if remove:
            answer["removed"] = automations.remove(client)
        if addresses or block:
            others = [automations.find_channel(client, name) for name in block or []]
            channels = [automations.make_channel(kind, address) for kind, address in addresses.items()] + others
            told = Told(
                tuple(channel.id for channel in channels),
                automations.ui_address(),
                silence_hours=silence_hours,
                zombie_minutes=zombie_minutes,
            )
            automations.tell(client, told)
        if test:
            answer["sent"] = automations.send_test(client)
        found = automations.notices(client)
    if as_json:
        print_json({**answer, "told": [{**vars(one), "channels": list(one.channels)} for one in found]})
        return 0
    for one in found:
        say(one.as_text())
    if remove:
        typer.echo(f"{answer['removed']} automations are removed. Nobody is told any more.")
    elif not found:
        typer.echo("Nobody is told. Say who: darkroom notify --webhook, --slack, --email or --block")
    if test:
        typer.echo(f"A test message was sent to {answer['sent']} channel(s).")
    return 0


def _secret(address: str) -> str:
    """An address as given, or from the standard input: there it is in no history and in no list of processes."""
    if address != _STDIN:
        return address
    if sys.stdin.isatty():
        return str(typer.prompt("Address", hide_input=True))
    return sys.stdin.readline().strip()
