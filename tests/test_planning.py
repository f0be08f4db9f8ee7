"""Planned and lost runs: renewing a deployment loses and doubles no night, and a run without a worker is told so."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from darkroom.orchestrator import planning
from darkroom.orchestrator.deployments import make_pool, register
from darkroom.orchestrator.lost import MOST_ATTEMPTS, Lost, go_on_later, hand_over, mend_lost_runs, worker_name
from darkroom.project import Project, Schedule

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def registered(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        make_pool(client)
        register(client, tmp_path_factory.mktemp("project"), Project(), schedule_is_active=False)
        yield client


@pytest.fixture
def client(registered: Any) -> Iterator[Any]:
    """Of a server with the deployments, and no run of them."""
    yield registered
    for run in registered.read_flow_runs(limit=200):
        if run.deployment_id is not None:
            registered.delete_flow_run(run.id)


def deployment(client: Any, name: str = "score") -> Any:
    return client.read_deployment_by_name(f"{name}/{name}")


def plan(client: Any, start: datetime, end: datetime) -> None:
    place, times = {"id": deployment(client).id}, {"start_time": f"{start}", "end_time": f"{end}"}
    client.request("POST", "/deployments/{id}/schedule", path_params=place, json=times)


def planned(client: Any) -> Counter[datetime]:
    """How often each start is planned."""
    score = deployment(client).id
    runs = [run for run in client.read_flow_runs(limit=200) if run.deployment_id == score and run.state.is_scheduled()]
    return Counter(run.expected_start_time for run in runs)


def at(days: int) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(hour=2, minute=0, second=0, microsecond=0)


def test_late_nights_and_those_to_come_are_planned_once_however_often_the_deployments_are_renewed(
    client: Any, tmp_path: Path
) -> None:
    register(client, tmp_path, Project(), schedule_is_active=True)
    plan(client, at(-3), at(-1) + timedelta(hours=1))
    for _ in range(2):
        register(client, tmp_path, Project(), schedule_is_active=True)
    found = planned(client)
    assert set(found.values()) == {1}
    assert [moment for moment in sorted(found) if moment < datetime.now(UTC)][:3] == [at(-3), at(-2), at(-1)]
    assert sum(moment > datetime.now(UTC) for moment in found) >= 3


def test_a_night_that_came_due_while_the_deployment_was_renewed_is_planned_all_the_same(
    client: Any, tmp_path: Path
) -> None:
    register(client, tmp_path, Project(schedule=Schedule(cron="* * * * *")), schedule_is_active=True)
    due = datetime.now(UTC).replace(second=0, microsecond=0)
    planning.plan_again(client, deployment(client).id, [], due - timedelta(seconds=1))
    assert planned(client)[due] == 1


def test_the_schedule_keeps_its_id_so_that_what_was_planned_under_it_is_not_planned_again(
    client: Any, tmp_path: Path
) -> None:
    for _ in range(2):  # with another id it would be planned twice: prefect#18894
        register(client, tmp_path, Project(), schedule_is_active=True)
        plan(client, at(-2), at(-1) + timedelta(hours=1))
    assert planned(client)[at(-1)] == 1


def running(client: Any, name: str, *, attempts: int = 1, worker: str | None = None, state: Any = None) -> Any:
    """A run of a deployment that says it is at work."""
    from prefect.states import Pending, Running

    asked = {"start": "2026-03-01", "end": "2026-03-02"} if name == "backfill" else {}
    run = client.create_flow_run_from_deployment(deployment(client, name).id, parameters=asked)
    for _ in range(attempts):
        client.set_flow_run_state(run.id, Pending(), force=True)
        client.set_flow_run_state(run.id, Running(), force=True)
    if worker is not None:
        labels = {"prefect.worker.name": worker}
        client.request("PATCH", "/flow_runs/{id}/labels", path_params={"id": run.id}, json=labels)
    if state is not None:
        client.set_flow_run_state(run.id, state, force=True)
    return client.read_flow_run(run.id)


@pytest.mark.parametrize(
    ("name", "attempts", "becomes"),
    [
        ("score", 1, "AwaitingRetry"),
        ("backfill", 1, "AwaitingRetry"),
        ("score", MOST_ATTEMPTS, "Crashed"),
        ("verify", 1, "Crashed"),
    ],
)
def test_after_a_server_died_nights_go_on_and_nothing_else(client: Any, name: str, attempts: int, becomes: str) -> None:
    run = running(client, name, attempts=attempts)
    again = becomes == "AwaitingRetry"
    assert mend_lost_runs(client, fresh=True) == Lost(going_on=int(again), closed=int(not again))
    after = client.read_flow_run(run.id)
    assert after.state.name == becomes
    assert after.expected_start_time == run.expected_start_time
    assert mend_lost_runs(client, fresh=True) == Lost()


def test_a_run_that_a_person_was_cancelling_does_not_go_on(client: Any) -> None:
    from prefect.states import Cancelling

    run = running(client, "score", state=Cancelling())
    assert mend_lost_runs(client, fresh=True) == Lost(closed=1)
    assert client.read_flow_run(run.id).state.is_cancelled()


def test_the_slot_of_a_lost_run_is_free_again(client: Any) -> None:
    from prefect.states import Pending, Running

    score = deployment(client).id
    first, second = (client.create_flow_run_from_deployment(score).id for _ in range(2))
    for state in (Pending(), Running()):
        client.set_flow_run_state(first, state)
    assert client.set_flow_run_state(second, Pending()).state.name == "AwaitingConcurrencySlot"
    mend_lost_runs(client, fresh=True)
    assert client.set_flow_run_state(second, Pending()).state.name == "Pending"


def test_the_nights_of_a_lost_backfill_are_closed_with_it(client: Any) -> None:
    from uuid import uuid4

    from prefect.states import Running

    from flows.backfill import begun

    parent = running(client, "backfill")
    night = begun(datetime.now(UTC).date(), {"bundle": "b", "inbox": "i", "results": f"r-{uuid4()}"}, parent.id)
    client.set_flow_run_state(night, Running(), force=True)
    mend_lost_runs(client, fresh=True)
    assert client.read_flow_run(night).state.is_crashed()
    client.delete_flow_run(night)


def _dead() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


@pytest.mark.parametrize(
    ("worker", "lost"),
    [
        (lambda: f"darkroom {socket.gethostname()} {_dead()}", True),
        (worker_name, True),  # this process has just started: it was another one with the same number
        (lambda: f"darkroom {socket.gethostname()} {os.getppid()}", False),
        (lambda: "darkroom another-machine 1", False),
        (lambda: "ProcessWorker 7", False),
    ],
    ids=["dead", "the same number", "alive", "another machine", "a worker of Prefect's own"],
)
def test_on_a_server_that_was_there_before_only_runs_of_dead_workers_of_this_machine_are_lost(
    client: Any, worker: Any, lost: bool
) -> None:
    run = running(client, "score", worker=worker())
    assert mend_lost_runs(client, fresh=False) == Lost(going_on=int(lost))
    assert client.read_flow_run(run.id).state.is_running() is not lost


@pytest.mark.parametrize(("state", "going_on"), [("Completed", 0), ("Failed", 0), ("Cancelled", 0), ("Crashed", 1)])
def test_of_the_runs_that_a_worker_ended_those_go_on_that_did_not_end_by_themselves(
    client: Any, state: str, going_on: int
) -> None:
    from prefect import states

    run = running(client, "score", state=getattr(states, state)())
    assert go_on_later(client, [run.id]) == going_on
    assert client.read_flow_run(run.id).state.is_scheduled() is bool(going_on)


@pytest.mark.parametrize(
    ("deployment", "state", "handed"),
    [
        ("score", "Running", True),
        ("score", "Pending", True),
        ("score", "Cancelling", False),
        ("score", "Completed", False),
        ("backfill", "Running", False),
    ],
    ids=["a night", "one that begins", "one that a person cancels", "one that has ended", "nights of a backfill"],
)
def test_before_its_worker_ends_a_night_is_planned_again_and_anything_else_is_left_as_it_is(
    client: Any, deployment: str, state: str, handed: bool
) -> None:
    from prefect import states

    run = running(client, deployment, state=getattr(states, state)())
    assert hand_over(client, run.id) is handed
    after = client.read_flow_run(run.id)
    assert after.state.name == ("AwaitingRetry" if handed else state)
    assert go_on_later(client, [run.id]) == int(handed or deployment == "backfill")
