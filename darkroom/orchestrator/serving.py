"""`darkroom serve`: a Prefect server, the deployments and a worker, until somebody stops them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

from darkroom.errors import OrchestratorError, WrongUse
from darkroom.orchestrator.connection import check_answer, reporting_to
from darkroom.orchestrator.deployments import DEPLOYMENTS, check_schedule
from darkroom.orchestrator.origins import is_loopback
from darkroom.orchestrator.reports_server import pages_served
from darkroom.orchestrator.server import Server, is_prefect
from darkroom.project import FILE, Project
from darkroom.storage import store_address

# Of the server, unless the environment says otherwise.
_DEFAULTS: Final = {
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    # A machine that was off for two weeks scores all of them; with Prefect's three it would lose the later nights.
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS": "14",
    # Prefect keeps runs for ever, and its database would grow every night. What was scored is not in it.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(90 * 86_400),
}


def serve(
    host: str = "127.0.0.1",
    port: int = 4200,
    *,
    reports_port: int | None = None,
    ready: Callable[[dict[str, object]], None] | None = None,
) -> None:
    """Bring up a Prefect server, register the deployments, and work until Ctrl-C or SIGTERM.

    A healthy Prefect server that already answers there is used, and left running. The user's Prefect home keeps the
    runs. The pages of the nights are served at `reports_port`: the one after `port`, if it is not stated. `ready` is
    told where everything is, once it is there. With Prefect's setting PREFECT_SERVER_API_AUTH_STRING (user:password)
    server and pages ask for it.

    Raises: OrchestratorError, if the port is taken by something else, or the server does not start; WrongUse, if others
    would reach a server without a password.
    """
    folder = Path.cwd()
    project = Project.read(folder)
    check_schedule(project)
    password = _password(host)
    known = {} if password is None else {"PREFECT_API_AUTH_STRING": password}
    address = f"http://{_reachable(host)}:{port}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(_sigterm_is_ctrl_c())
        try:
            server = _server(host, port, address, password)
            if server is not None:
                stack.enter_context(server)
                server.wait_until_healthy(f"{address}/api")
            stack.enter_context(reporting_to(f"{address}/api", **known))
            check_answer(f"{address}/api")
            results = project.place("results", folder)
            elsewhere = store_address(results) is not None
            served = pages_served(Path(results) / "reports", host, reports_port, port, password)
            pages = None if elsewhere else stack.enter_context(served)
            scheduled = _register(folder, project, fresh=server is not None)
            taken = f"port {port + 1} is taken; choose another with --reports-port"
            where = pages or f"not served: {'they lie in an object store' if elsewhere else taken}"
            _say(_welcome(address, where, folder, project, scheduled=scheduled, ours=server is not None))
            if ready is not None:
                told = {"ui": address, "api": f"{address}/api", "reports": pages, "folder": str(folder)}
                ready({**told, "scheduled": scheduled})
            asyncio.run(_work(server))
        except KeyboardInterrupt:
            pass  # before the worker was there, or for the second time
    _say("Stopped.")


def _password(host: str) -> str | None:
    """The `user:password` of server and pages. Raises WrongUse where others reach them and there is none."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_SERVER_API_AUTH_STRING

    todo = "PREFECT_SERVER_API_AUTH_STRING=user:password darkroom serve …; docs/operations.md, Exposing it"
    stated = PREFECT_SERVER_API_AUTH_STRING.value() or PREFECT_API_AUTH_STRING.value()
    password = None if stated is None else str(stated)
    if password is None and not is_loopback(host):
        raise WrongUse(
            "Whoever reaches the server can start runs on this machine, and it would have no password.",
            parameter="host",
            expected="127.0.0.1, or a password",
            found=host,
            todo=todo,
        )
    # Prefect's server compares text, and fails where that is not ASCII.
    if password is not None and not re.fullmatch(r"[!-9;-~]+:[!-~]+", password):
        raise WrongUse(
            "The password of the Prefect server is not one that every client can state.",
            parameter="PREFECT_SERVER_API_AUTH_STRING",
            expected="user:password, in ASCII and without spaces",
            todo=todo,
        )
    return password


def _server(host: str, port: int, address: str, password: str | None) -> Server | None:
    """A server of our own, or None where one already answers."""
    if is_prefect(f"{address}/api", timeout=5.0):
        _say(f"A Prefect server already answers at {address}: it is used, and not stopped at the end.")
        return None
    _check_free(host, port)
    _say("The Prefect server is starting; the first time this takes a quarter of a minute.")
    environment = {
        **_DEFAULTS,
        **{name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"},
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        # In memory, the slot of a run would be lost together with the server, and nobody could give it back.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_UI_API_URL": os.environ.get("PREFECT_UI_API_URL", f"{address}/api"),
        **({} if password is None else {"PREFECT_SERVER_API_AUTH_STRING": password}),
    }
    return Server.public(host, port, environment)


def _check_free(host: str, port: int) -> None:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(address[:2], family=family):
            return
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OrchestratorError(
                f"Port {port} of {host} is taken by something that is not a Prefect server.",
                todo="stop that program, or choose another port: darkroom serve --port 4210",
            ) from error
        raise OrchestratorError(
            f"No server can listen at port {port} of {host}.", found=error, todo="choose another --host or --port"
        ) from error


def _register(folder: Path, project: Project, *, fresh: bool) -> bool:
    from prefect.client.orchestration import get_client

    from darkroom.orchestrator import deployments, lost

    scheduled = deployments.bundle_exists(folder, project)
    with get_client(sync_client=True) as client:
        deployments.check_folder(client, folder)
        deployments.make_pool(client)
        deployments.register(client, folder, project, schedule_is_active=scheduled)
        told = lost.mend_lost_runs(client, fresh=fresh).as_text()
        if told:
            _say(told)
    return scheduled


async def _work(server: Server | None) -> None:
    """Run what is due until a signal comes; then stop the runs, and let them tell the server."""
    from darkroom.orchestrator.deployments import POOL
    from darkroom.orchestrator.worker import EndingWorker

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    worker = EndingWorker(POOL)
    working = asyncio.create_task(worker.start(printer=lambda *_: None))
    stopping = asyncio.create_task(stop.wait())
    dying = asyncio.create_task(_until_dead(server))
    await asyncio.wait({working, stopping, dying}, return_when=asyncio.FIRST_COMPLETED)
    # A second Ctrl-C does not wait.
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if stop.is_set():
        _say("\nStopping: the worker, its runs, then the server." if server else "\nStopping: the worker and its runs.")
    failed = working.exception() if working.done() else None
    ended = await worker.end_runs()
    for task in (working, stopping, dying):
        task.cancel()
    await asyncio.gather(working, stopping, dying, return_exceptions=True)
    if server is None or server.alive:
        await asyncio.to_thread(_go_on_later, ended)
    if not stop.is_set():
        if server is not None and not server.alive:
            raise OrchestratorError("The Prefect server has died.", found=server.last_words())
        raise OrchestratorError("The worker has stopped.", found=failed, todo="start darkroom serve again")


def _go_on_later(ended: list[UUID]) -> None:
    from prefect.client.orchestration import get_client

    from darkroom.orchestrator import lost

    with get_client(sync_client=True) as client:
        going_on = lost.go_on_later(client, ended)
    if going_on:
        _say(f"{going_on} interrupted run(s) go on with the next start.")


async def _until_dead(server: Server | None) -> None:
    while server is None or server.alive:
        await asyncio.sleep(1.0)


@contextlib.contextmanager
def _sigterm_is_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _reachable(host: str) -> str:
    """The name under which this machine reaches a server that listens at `host`."""
    if host in ("0.0.0.0", "", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _welcome(address: str, pages: str, folder: Path, project: Project, *, scheduled: bool, ours: bool) -> str:
    nightly = (
        f"cron {project.schedule.cron} {project.schedule.timezone}; the night is {_offset(project)}"
        if scheduled
        else f"not scheduled: {project.bundle} does not exist yet. Train it, then start darkroom serve again"
    )
    what_stops = "server and worker stop" if ours else "the worker stops"
    lines = [
        "",
        f"  Prefect      {address}",
        f"  Pages        {pages}",
        *(f"  {entry.name:<12} {nightly if entry.nightly else 'when you press Run'}" for entry in DEPLOYMENTS),
        f"  Project      {folder / FILE if (folder / FILE).exists() else f'{folder} (no {FILE}: darkroom init)'}",
        f"  Inbox        {project.place('inbox', folder)}",
        f"  Results      {project.place('results', folder)}",
        f"  Stop         Ctrl-C; {what_stops}, the schedule stays as it is",
        "",
    ]
    return "\n".join(lines)


def _offset(project: Project) -> str:
    days = project.schedule.night_offset_days
    names = {0: "the day of the run", -1: "the day before"}
    return names.get(days, f"{abs(days)} days {'before' if days < 0 else 'after'} the run")


def _say(text: str) -> None:
    print(text, flush=True)
