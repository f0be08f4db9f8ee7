"""Nights by the schedule, while what carries them is killed, stopped, started and renewed; and what came of them.

The nights are planned by the server's own scheduler from the deployment's own cron: a night is a date, so three of them
come either in three days or, as after a machine was off, for the past (`POST /deployments/{id}/schedule`, which is the
scheduler's function with another beginning). Everything after that is what happens at 02:00: the run is late, the
worker asks for it, and its planned start says which night it is for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

import darkroom
from darkroom import demo_world
from darkroom.orchestrator.connection import reporting_to
from darkroom.orchestrator.deployments import make_pool, register
from darkroom.orchestrator.server import Server
from darkroom.project import Project
from darkroom.settings import NightOptions
from tasks.bundle import Bundle
from tests.served import Serve, free_port, outside, wait_until

IMAGES = 12
WORKER = (
    "import asyncio; from darkroom.orchestrator.deployments import POOL; "
    "from darkroom.orchestrator.worker import EndingWorker; asyncio.run(EndingWorker(POOL).start())"
)


@dataclass(frozen=True)
class Found:
    """What the results hold of the nights that were to be scored."""

    right: int  # nights with each of their images, and no other
    lost: int  # images without a row
    doubled: int  # rows too many


class Nights:
    """The last nights of a folder a night, each with images of its own; a project of `darkroom serve` around them."""

    def __init__(self, folder: Path, bundle: Bundle, count: int) -> None:
        self.folder, self.results = folder, folder / "results"
        today = datetime.now(UTC).date()
        self.all = [today - timedelta(days=day) for day in range(count + 1, 1, -1)]
        self.wanted: dict[date, set[str]] = {}
        for night in self.all:
            inbox = folder / "inbox" / f"{night}"
            demo_world.draw_night(inbox, "good", images=IMAGES, seed=night.toordinal())
            files = (path for path in inbox.rglob("*") if path.is_file())
            self.wanted[night] = {hashlib.sha256(image.read_bytes()).hexdigest() for image in files}
        (folder / "darkroom.toml").write_text(
            f'bundle = "{bundle.path}"\n[intake]\nsettle_seconds = 0\n[run]\nshard_size = 4\nthumbnails = false\n'
        )

    def plan(self, client: Any) -> Any:
        """As the server does it, from the deployment's cron; the deployment."""
        score = client.read_deployment_by_name("score/score")
        start = datetime(self.all[0].year, self.all[0].month, self.all[0].day, 12, tzinfo=UTC)
        client.request(
            "POST",
            "/deployments/{id}/schedule",
            path_params={"id": score.id},
            json={"start_time": f"{start}", "end_time": f"{start + timedelta(days=len(self.all) - 1, hours=23)}"},
        )
        assert [night_of(run) for run in self.runs(client)] == self.all
        assert all(run.auto_scheduled for run in self.runs(client))
        return score

    def runs(self, client: Any) -> list[Any]:
        """Of the past, in the order of their planned starts."""
        past = [run for run in client.read_flow_runs() if run.expected_start_time < datetime.now(UTC)]
        return sorted(past, key=lambda run: run.expected_start_time)

    def at_work(self, night: date) -> bool:
        """Whether a run of this night has looked at a shard, and has not committed."""
        for record in (self.results / "staging").glob("*/run.json"):
            with contextlib.suppress(OSError, ValueError):  # it is being written, or removed
                if json.loads(record.read_text())["night"] == str(night):
                    return any((record.parent / "shards").glob("*.json"))
        return False

    def wait_for(self, night: date) -> None:
        wait_until(lambda: self.at_work(night), f"the run of {night} is at work", 300)

    def wait_for_all(self, client: Any) -> list[Any]:
        wait_until(lambda: all(run.state.is_final() for run in self.runs(client)), "all runs have ended", 300, 1.0)
        return self.runs(client)

    def found(self) -> Found:
        rows = darkroom.read(self.results)
        by_night = {night.date(): set(group) for night, group in rows.groupby("night")["content_id"]}
        right = sum(by_night.get(night) == wanted for night, wanted in self.wanted.items())
        lost = set.union(*self.wanted.values()) - set(rows["content_id"])
        return Found(right, len(lost), int(rows["content_id"].duplicated().sum()))


def night_of(run: Any) -> date:
    return run.expected_start_time.date() - timedelta(days=1)


def killed_and_stopped(nights: Nights, serve: Serve) -> list[Any]:
    """Three nights: everything is killed in the second, and stopped as a person does in the third; their runs.

    Each start registers the deployments again, while one run is lost or interrupted and another is late.
    """
    serve.start()
    with serve.client() as client:
        nights.plan(client)
    nights.wait_for(nights.all[1])
    serve.stop(signal.SIGKILL)
    serve.start()
    nights.wait_for(nights.all[2])
    assert serve.stop(signal.SIGINT) == 0
    serve.start()
    with serve.client() as client:
        return nights.wait_for_all(client)


def killed_alone(nights: Nights, serve: Serve) -> list[Any]:
    """Two nights: the run of the first is killed, and two people start it again at once; all runs."""
    serve.start()
    with serve.client() as client:
        score = nights.plan(client)
        nights.wait_for(nights.all[0])
        killed = nights.runs(client)[0].id
        os.kill(int(client.read_flow_run(killed).infrastructure_pid), signal.SIGKILL)
        wait_until(lambda: client.read_flow_run(killed).state.is_crashed(), "the worker tells the server", 15)
        nights.wait_for_all(client)
        again = {"night": NightOptions(night=nights.all[0]).model_dump(mode="json")}
        for _ in range(2):
            client.create_flow_run_from_deployment(score.id, parameters=again)
        return nights.wait_for_all(client)


def worker_and_server_die(nights: Nights) -> list[Any]:
    """Two nights: the worker is killed in the first while its server lives, the server is restarted in the second."""
    from prefect.client.orchestration import SyncPrefectClient

    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    with contextlib.ExitStack() as second, SyncPrefectClient(address) as client:
        with server_at(port, nights.folder):
            with reporting_to(address):
                make_pool(client)
                register(client, nights.folder, Project.read(nights.folder), schedule_is_active=True)
            nights.plan(client)
            with worker_of(address, nights.folder) as worker:
                nights.wait_for(nights.all[0])
                run = psutil.Process(worker.pid).children()
                worker.kill()
                assert psutil.wait_procs(run, timeout=20)[0] == run
            first = nights.runs(client)[0]
            assert (first.state.name, night_of(first)) == ("AwaitingRetry", nights.all[0])
            second.enter_context(worker_of(address, nights.folder))
            nights.wait_for(nights.all[1])
        with server_at(port, nights.folder):
            return nights.wait_for_all(client)


def server_at(port: int, folder: Path) -> Server:
    """A Prefect server that keeps its database when it is started again."""
    server = Server.public("127.0.0.1", port, outside(folder / "prefect"))
    server.wait_until_healthy(f"http://127.0.0.1:{port}/api")
    return server


@contextmanager
def worker_of(address: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**outside(folder / "prefect"), "PREFECT_API_URL": address}
    with (folder / "worker.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", WORKER], env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
