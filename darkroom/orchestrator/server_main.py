"""A Prefect server that never outlives whoever started it. Run as a script, outside of darkroom's own processes.

    server_main.py private TEMPLATE      a free port of this machine, no UI, a database that is deleted at the end
    server_main.py public HOST PORT      the user's own home and database, with UI

The first line of its output is the port: from then on connections are accepted, and wait until the server is up. It
stops when its standard input ends or its parent changes; the system sees to both, also upon `kill -9` of the parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

_GRACE_SECONDS = 10.0
_BACKLOG = 2048


def main(kind: str, *arguments: str) -> None:
    """Bind, say the port, then take the seconds that Prefect needs."""
    parent = os.getppid()
    _know_ourselves()
    if kind == "private":
        home = Path(tempfile.mkdtemp(prefix="darkroom-prefect-"))
        template = Path(arguments[0])
        _watch(parent, lambda: _vanish(home))
        listening = _announce(socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG))
        try:
            _run_private(listening, home, template)
        finally:
            shutil.rmtree(home, ignore_errors=True)
    else:
        _watch(parent, _stop_in_good_order)
        host, port = arguments[0], int(arguments[1])
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = _announce(socket.create_server(address, family=family, backlog=_BACKLOG))
        _know_blocks()
        _server(listening, host, graceful_seconds=5).run(sockets=[listening])


def _know_ourselves() -> None:
    """Also where darkroom runs from its source, and is not installed."""
    sys.path.append(str(Path(__file__).parents[2]))


def _know_blocks() -> None:
    """Our own kinds of blocks, also where no entry point names them."""
    import darkroom.orchestrator.mail  # noqa: F401


def _announce(listening: socket.socket) -> socket.socket:
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    return listening


def _run_private(listening: socket.socket, home: Path, template: Path) -> None:
    os.environ["PREFECT_HOME"] = str(home)
    os.chdir(home)  # a prefect.toml or .env of the user's folder is not for this server
    database = home / "prefect.db"
    with contextlib.suppress(OSError):
        shutil.copyfile(template, database)
    if not database.exists():
        _build(database, template)
    _server(listening, "127.0.0.1", graceful_seconds=1).run(sockets=[listening])


def _server(listening: socket.socket, host: str, *, graceful_seconds: int) -> Any:
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_SERVER_CORS_ALLOWED_ORIGINS, PREFECT_UI_API_URL

    from darkroom.orchestrator.origins import Callers, OnlyOurPages

    # Where a proxy shows it, the UI has to know the address, and Prefect's own setting names further pages.
    outside = [PREFECT_UI_API_URL.value() or "", *PREFECT_SERVER_CORS_ALLOWED_ORIGINS.value().split(",")]
    callers = Callers.of(host, listening.getsockname()[1], outside)

    _write_in_turn()
    # The ping's limits are Prefect's own; without them a busy client loses its websocket.
    config = uvicorn.Config(
        OnlyOurPages(create_app(final=True), callers),
        log_level="error",
        lifespan="on",
        timeout_graceful_shutdown=graceful_seconds,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
    )
    return uvicorn.Server(config)


def _write_in_turn() -> None:
    """Let whoever writes to SQLite wait for those before.

    Prefect's transactions begin as readers, and SQLite refuses one at once that would write after another has written
    (SQLITE_BUSY_SNAPSHOT), however long it might wait: most runs that are asked for in the same second got status 503.
    """
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def begin_as_writer(self: Any, session: Any, with_for_update: bool = True) -> Any:
        return begin(self, session, with_for_update=True)

    setattr(AioSqliteConfiguration, "begin_transaction", begin_as_writer)  # noqa: B010 - as in run_main


def _build(database: Path, template: Path) -> None:
    """Build the empty database, and keep a copy: that takes six of a first start's ten seconds."""
    from prefect.server.database import provide_database_interface

    asyncio.run(provide_database_interface().create_db())
    beside = template.with_name(f"{template.name}.{os.getpid()}")
    with contextlib.suppress(OSError, sqlite3.Error):
        template.parent.mkdir(parents=True, exist_ok=True)
        with (
            contextlib.closing(sqlite3.connect(database)) as source,
            contextlib.closing(sqlite3.connect(beside)) as copy,
        ):
            source.backup(copy)
        beside.replace(template)


def _watch(parent: int, leave: Any) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            ready, _, _ = select.select([0], [], [], 1.0)
            if ready and not os.read(0, 1):
                break
        leave()

    threading.Thread(target=watch, daemon=True).start()


def _vanish(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    os._exit(0)


def _stop_in_good_order() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
