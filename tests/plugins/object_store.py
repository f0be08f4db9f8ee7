"""One S3 server for the whole session: moto in a process of its own, over real HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.object_server import BUCKET, MANY


@dataclass(frozen=True)
class ObjectServer:
    """The server, and what it is told beside S3."""

    address: str

    def folder(self) -> str:
        """The address of a folder that nobody else uses."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex}"

    def misbehave(self, fault: str, *, method: str = "ANY", key: str = ".*", times: int = 1, every: int = 1) -> None:
        """What becomes of the next `times` requests of this kind, or of every few of them."""
        faults = [{"fault": fault, "method": method, "key": key, "times": times, "every": every, "met": 0}]
        self._ask("faults", json.dumps(faults).encode())

    def behave(self) -> int:
        """From now on; how many requests have fitted the faults until now."""
        met: int = json.loads(self._ask("faults", b"[]"))
        return met

    def asked(self) -> list[str]:
        """The requests since the last time."""
        requests: list[str] = json.loads(self._ask("requests"))
        return requests

    def fill(self, folder: str) -> list[str]:
        """Put many objects into a folder; their names."""
        self._ask(f"fill/{folder.removeprefix(f's3://{BUCKET}/')}")
        return [f"{number:05d}" for number in range(MANY)]

    def _ask(self, what: str, data: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"{self.address}/-/{what}", data, timeout=30) as answer:
            told: bytes = answer.read()
        return told


@contextmanager
def running() -> Iterator[ObjectServer]:
    """A server, and this process's environment as a client of it needs it."""
    command = [sys.executable, "-m", "tests.object_server"]
    root = Path(__file__).parent.parent.parent
    with (
        subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        pytest.MonkeyPatch.context() as patch,
    ):
        assert process.stdout is not None
        address = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }.items():
            patch.setenv(name, value)
        yield ObjectServer(address)
        process.kill()


@pytest.fixture(scope="session")
def _object_server() -> Iterator[ObjectServer]:
    with running() as server:
        yield server


@pytest.fixture
def object_server(_object_server: ObjectServer) -> Iterator[ObjectServer]:
    """A server that behaves, until it is told otherwise."""
    _object_server.behave()
    _object_server.asked()
    yield _object_server
    _object_server.behave()
