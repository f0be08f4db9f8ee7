"""`darkroom serve` in a folder of its own, started, stopped and killed as often as a test wants."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# So that a test does not wait for polls that are meant for nights.
QUICK = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def outside(home: Path) -> dict[str, str]:
    """The environment of somebody with a Prefect home of their own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**ours, **QUICK, "PREFECT_HOME": str(home)}


def wait_until(met: Callable[[], Any], what: str, seconds: float = 180.0, every: float = 0.05) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := met():
            return answer
        time.sleep(every)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class Serve:
    """`darkroom serve` below `folder`; the server keeps its port and its database from start to start."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.environment = {**outside(folder / "prefect"), **environment}
        self.log = folder / "serve.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once everything is there."""
        told = self.told()
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "darkroom.cli", "serve", "--port", str(self.port)],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: "Ctrl-C" in self.told()[len(told) :] or self.process.poll() is not None, self.told())  # type: ignore[union-attr]
        assert self.process.poll() is None, self.told()

    def told(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """How it ended."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        return process.wait(timeout=120)

    @contextmanager
    def client(self) -> Iterator[Any]:
        from prefect.client.orchestration import SyncPrefectClient

        with SyncPrefectClient(f"{self.address}/api") as client:
            yield client

    def __enter__(self) -> Serve:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop()
