"""Nights by the schedule, on a real server with a real worker, that are killed, stopped and started again.

The nights are planned by the server's own scheduler from the deployment's own cron: a night is a date, so three of them
come either in three days or, as after a machine was off, for the past (`POST /deployments/{id}/schedule`, which is the
scheduler's function with another beginning). Everything after that is what happens at 02:00: the run is late, the
worker asks for it, and its planned start says which night it is for. That the scheduler also plans by itself, and a
run starts at its minute, tests/test_orchestrator.py and tests/test_ui.py show.
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
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

import darkroom
from darkroom import demo_world
from darkroom.orchestrator.connection import reporting_to
from darkroom.orchestrator.deployments import make_pool, register
from darkroom.orchestrator.server import Server
from darkroom.project import Project
from darkroom.results import commits
from darkroom.settings import NightOptions
from tasks.bundle import Bundle
from tests.served import Serve, free_port, outside, wait_until
from tests.sockets import Sockets

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

IMAGES = 12
WORKER = (
    "import asyncio; from darkroom.orchestrator.deployments import POOL; "
    "from darkroom.orchestrator.worker import EndingWorker; asyncio.run(EndingWorker(POOL).start())"
)


class Nights:
    """The last nights of a folder a night, each with images of its own."""

    def __init__(self, folder: Path, bundle: Bundle, count: int) -> None:
        self.folder, self.bundle = folder, bundle
        today = datetime.now(UTC).date()
        self.all = [today - timedelta(days=day) for day in range(count + 1, 1, -1)]
        self.wanted = {}
        for night in self.all:
            inbox = folder / "inbox" / f"{night}"
            demo_world.draw_night(inbox, "good", images=IMAGES, seed=night.toordinal())
            for image in inbox.rglob("*.jpg"):
                self.wanted[hashlib.sha256(image.read_bytes()).hexdigest()] = night
        (folder / "darkroom.toml").write_text(
            f'bundle = "{bundle.path}"\n[intake]\nsettle_seconds = 0\n[run]\nshard_size = 4\nthumbnails = false\n'
        )

    @property
    def results(self) -> Path:
        return self.folder / "results"

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
        planned = self.runs(client)
        assert [run.expected_start_time.date() - timedelta(days=1) for run in planned] == self.all
        assert all(run.auto_scheduled for run in planned)
        return score

    def runs(self, client: Any) -> list[Any]:
        """Of the past, in the order of their planned starts."""
        past = [run for run in client.read_flow_runs() if run.expected_start_time < datetime.now(UTC)]
        return sorted(past, key=lambda run: run.expected_start_time)

    def at_work(self, night: date) -> bool:
        """Whether a run of this night has looked at a shard, and has not committed."""
        for record in (self.results / "staging").glob("*/run.json"):
            try:
                if json.loads(record.read_text())["night"] == str(night):
                    return any((record.parent / "shards").glob("*.json"))
            except (OSError, ValueError):  # it is being written, or removed
                pass
        return False

    def wait_for(self, night: date) -> None:
        wait_until(lambda: self.at_work(night), f"the run of {night} is at work", 300)

    def wait_for_all(self, client: Any) -> list[Any]:
        wait_until(lambda: all(run.state.is_final() for run in self.runs(client)), "all runs have ended", 300, 1.0)
        return self.runs(client)

    def assert_right_and_once(self) -> None:
        rows = darkroom.read(self.results)
        assert rows["content_id"].is_unique
        found = {row.content_id: row.night.date() for row in rows[["content_id", "night"]].itertuples()}
        assert found == self.wanted
        done = [(commit.night, commit.counts.scored) for commit in commits(self.results, self.bundle.id)]
        assert [entry for entry in done if entry[1]] == [(night, IMAGES) for night in self.all]


def test_three_nights_with_everything_killed_in_the_second_and_stopped_in_the_third(
    bundle: Bundle, tmp_path: Path
) -> None:
    nights = Nights(tmp_path, bundle, 3)
    sockets = Sockets(tmp_path / "sockets")
    with Serve(tmp_path, **sockets.environment) as serve:
        serve.start()
        with serve.client() as client:
            score = nights.plan(client)
        nights.wait_for(nights.all[1])
        serve.stop(signal.SIGKILL)
        serve.start()  # registers the deployments again while the second run is lost and the third is late
        nights.wait_for(nights.all[2])
        assert serve.stop(signal.SIGINT) == 0
        serve.start()
        with serve.client() as client:
            runs = nights.wait_for_all(client)
            assert [(run.state.name, run.run_count) for run in runs] == [("Completed", n) for n in (1, 2, 2)]
            (schedule,) = client.read_deployment(score.id).schedules
            assert schedule.active
            ahead = [run.expected_start_time for run in client.read_flow_runs() if run.state.is_scheduled()]
            assert sorted(ahead) == [min(ahead) + timedelta(days=day) for day in range(14)]
            assert min(ahead) - datetime.now(UTC) < timedelta(days=1)
    nights.assert_right_and_once()
    assert "Traceback" not in serve.told()
    sockets.assert_local_only(processes=3)


def test_a_run_that_is_killed_alone_holds_nothing_and_its_night_is_scored_once_by_two_that_a_person_starts(
    bundle: Bundle, tmp_path: Path
) -> None:
    nights = Nights(tmp_path, bundle, 2)
    with Serve(tmp_path) as serve:
        serve.start()
        with serve.client() as client:
            score = nights.plan(client)
            nights.wait_for(nights.all[0])
            killed = nights.runs(client)[0]
            os.kill(int(client.read_flow_run(killed.id).infrastructure_pid), signal.SIGKILL)
            wait_until(lambda: client.read_flow_run(killed.id).state.is_crashed(), "the worker tells the server", 15)
            nights.wait_for_all(client)
            assert [run.state.name for run in nights.runs(client)] == ["Crashed", "Completed"]
            again = {"night": NightOptions(night=nights.all[0]).model_dump(mode="json")}
            both = [client.create_flow_run_from_deployment(score.id, parameters=again).id for _ in range(2)]
            nights.wait_for_all(client)
            assert all(client.read_flow_run(run).state.is_completed() for run in both)
    rows = darkroom.read(nights.results)
    assert rows["content_id"].is_unique
    assert {row.content_id: row.night.date() for row in rows.itertuples()} == nights.wanted


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


def test_a_worker_that_dies_alone_and_a_server_that_is_restarted_under_a_run_lose_and_double_nothing(
    bundle: Bundle, tmp_path: Path
) -> None:
    from prefect.client.orchestration import SyncPrefectClient

    nights = Nights(tmp_path, bundle, 2)
    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    with SyncPrefectClient(address) as client:
        with server_at(port, tmp_path):
            with reporting_to(address):
                make_pool(client)
                register(client, tmp_path, Project.read(tmp_path), schedule_is_active=True)
            nights.plan(client)
            with worker_of(address, tmp_path) as worker:
                nights.wait_for(nights.all[0])
                (run,) = psutil.Process(worker.pid).children()
                worker.kill()
                gone, _ = psutil.wait_procs([run], timeout=20)
                assert gone
            first = nights.runs(client)[0]
            assert first.state.name == "AwaitingRetry"
            assert first.expected_start_time.date() - timedelta(days=1) == nights.all[0]
            second = contextlib.ExitStack()
            second.enter_context(worker_of(address, tmp_path))
            nights.wait_for(nights.all[1])
        with second, server_at(port, tmp_path):
            runs = nights.wait_for_all(client)
            assert [(run.state.name, run.run_count) for run in runs] == [("Completed", 2), ("Completed", 1)]
    nights.assert_right_and_once()
