"""A Prefect server in a process of its own, seen from the process that started it."""

from __future__ import annotations

import contextlib
import http
import http.client
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from darkroom.environment import cache_folder
from darkroom.errors import OrchestratorError

_SCRIPT = Path(__file__).with_name("server_main.py")


class Server:
    """A Prefect server that stops with this object, or with this process however it ends."""

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by stop()
        # -P: a user's folder may hold modules named like Prefect's. A session of its own: Ctrl-C is for the run, and
        # the server has to live until the run has said how it ended.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_SCRIPT), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**environment, "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.strip():
            problem = self.last_words()
            self.stop()
            raise OrchestratorError("The Prefect server did not start.", found=problem)
        self.port = int(line)

    @classmethod
    def private(cls) -> Self:
        """Our own, for the runs of this process: a free port, a database that vanishes."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        quiet = {"PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL"}
        return cls("private", str(_template()), environment={**ours, **quiet, "PREFECT_SERVER_UI_ENABLED": "false"})

    @classmethod
    def public(cls, host: str, port: int, environment: dict[str, str]) -> Self:
        """The user's, with their home and their database."""
        return cls("public", host, str(port), environment=environment)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """What the process wrote last."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.poll()}"

    def wait_until_healthy(self, address: str, seconds: float = 120.0) -> None:
        """Return when the server answers; an OrchestratorError when it dies or takes too long."""
        end = time.monotonic() + seconds
        while not is_prefect(address, timeout=5.0):
            if not self.alive:
                raise OrchestratorError("The Prefect server did not start.", found=self.last_words())
            if time.monotonic() > end:
                raise OrchestratorError(f"The Prefect server at {address} did not answer within {seconds:.0f} s.")
            time.sleep(0.2)

    def stop(self, seconds: float = 15.0) -> None:
        """End the process and wait for that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def is_prefect(address: str, *, timeout: float) -> bool:
    """Whether a healthy Prefect server answers at `address` (which ends in /api)."""
    # Never through a proxy: the address is one of this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address}/health", timeout=timeout) as health:
            healthy = json.load(health) is True
        try:
            with opener.open(f"{address}/admin/version", timeout=timeout) as version:
                return healthy and isinstance(json.load(version), str)
        except urllib.error.HTTPError as refused:
            # One with a password tells its health to everybody, and no more.
            return healthy and refused.code == http.HTTPStatus.UNAUTHORIZED
    except (OSError, ValueError, http.client.HTTPException):  # also one that dies at this very moment
        return False


def _template() -> Path:
    """Where an empty database of this version of Prefect is kept between runs."""
    return cache_folder() / f"prefect-{importlib.metadata.version('prefect')}.db"
