"""Where runs report: a server of our own, the server that is named, and the server that `darkroom serve` brings up."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml

from darkroom.errors import GateClosed, OrchestratorError
from darkroom.orchestrator import api, serve
from darkroom.orchestrator.connection import until_events_are_sent
from darkroom.orchestrator.deployments import DEPLOYMENTS, HEARTBEAT_SECONDS, POOL, SCHEDULE_SLUG
from darkroom.orchestrator.server import is_prefect
from darkroom.project import Project
from darkroom.roots import ROOTS

ROOT = Path(__file__).parent.parent
FLOW = """
    import sys, time
    from darkroom.errors import GateClosed
    from darkroom.orchestrator import api

    with api() as address:
        from prefect import flow, task

        @task
        def double(number):
            return 2 * number

        @task
        def refuse():
            raise GateClosed("The gate is closed.", todo="nothing")

        @flow
        def tiny(refused=False):
            doubled = double.map([1, 2, 3]).result()
            if refused:
                refuse()
            return sum(doubled)
"""


@pytest.fixture
def outside(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has no Prefect server."""
    named = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**named, "PREFECT_HOME": str(tmp_path / "prefect home")}


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def script(inside: str = "", after: str = "") -> list[str]:
    body = textwrap.dedent(FLOW) + textwrap.indent(textwrap.dedent(inside), "    ") + "\n" + textwrap.dedent(after)
    return [sys.executable, "-c", body]


def run(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120)


def wait_for(answer: Any, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer():
            return True
        time.sleep(0.2)
    return False


def test_a_flow_runs_on_a_server_of_its_own_that_is_gone_afterwards_without_a_word(
    outside: dict[str, str], tmp_path: Path
) -> None:
    done = run(script("print(address, tiny())"), outside, tmp_path)
    address, answer = done.stdout.split()
    assert (answer, done.stderr, done.returncode) == ("12", "", 0)
    assert not is_prefect(address, timeout=2)
    assert not (tmp_path / "prefect home" / "prefect.db").exists()


def test_an_error_of_ours_in_a_task_reaches_the_caller_as_itself_and_nothing_is_printed(
    outside: dict[str, str], tmp_path: Path
) -> None:
    inside = """
        try:
            tiny(refused=True)
        except GateClosed as error:
            print(error.todo)
    """
    done = run(script(inside), outside, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("nothing\n", "", 0)


def test_two_at_once_and_one_inside_the_other_and_one_after_the_other_work(
    outside: dict[str, str], tmp_path: Path
) -> None:
    inside = """
        with api() as inner:
            assert inner == address
            print(tiny())
    """
    after = """
        with api() as second:
            assert second != address
            print(tiny())
    """
    command = script(inside, after)
    both = [
        subprocess.Popen(command, env=outside, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=120) for process in both] == [("12\n12\n", "")] * 2


def test_the_server_dies_with_a_parent_that_is_killed(outside: dict[str, str], tmp_path: Path) -> None:
    command = script("tiny(); print(address, flush=True); time.sleep(100)")
    with subprocess.Popen(command, env=outside, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert is_prefect(address, timeout=5)
        process.send_signal(signal.SIGKILL)
    assert wait_for(lambda: not is_prefect(address, timeout=1), seconds=5)


def test_a_server_that_dies_under_a_run_is_named_as_the_cause(outside: dict[str, str], tmp_path: Path) -> None:
    inside = """
        tiny()
        import os, signal, subprocess
        for child in subprocess.check_output(["pgrep", "-P", str(os.getpid()), "-f", "server_main"]).split():
            os.kill(int(child), signal.SIGKILL)
        tiny()
    """
    done = run(script(inside), outside, tmp_path)
    assert "OrchestratorError: The Prefect server that darkroom started has died." in done.stderr


def test_a_named_server_that_does_not_answer_is_an_error_that_says_what_to_do(
    outside: dict[str, str], tmp_path: Path, free_port: int
) -> None:
    after = "from darkroom.errors import OrchestratorError"
    address = f"http://127.0.0.1:{free_port}/api"
    done = run(script(after=after), {**outside, "PREFECT_API_URL": address}, tmp_path)
    assert f"OrchestratorError: The Prefect server at {address} does not answer." in done.stderr
    assert "unset PREFECT_API_URL" in done.stderr


def test_a_server_named_in_the_active_profile_is_asked_too(
    outside: dict[str, str], tmp_path: Path, free_port: int
) -> None:
    home = Path(outside["PREFECT_HOME"])
    home.mkdir()
    address = f"http://127.0.0.1:{free_port}/api"
    (home / "profiles.toml").write_text(f'active = "far"\n[profiles.far]\nPREFECT_API_URL = "{address}"\n')
    done = run(script(), outside, tmp_path)
    assert f"The Prefect server at {address} does not answer." in done.stderr


@pytest.mark.filterwarnings("ignore")
def test_a_named_server_is_used_and_left_running(prefect_api: str, tmp_path: Path) -> None:
    done = run(script("print(address, tiny())"), dict(os.environ), tmp_path)
    assert (done.stdout, done.stderr) == (f"{prefect_api} 12\n", "")
    assert is_prefect(prefect_api, timeout=5)


@pytest.mark.filterwarnings("ignore")
def test_an_error_of_ours_survives_api_within_api(prefect_api: str) -> None:
    def refuse() -> None:
        with api() as address:
            raise GateClosed(address)

    with pytest.raises(GateClosed, match=prefect_api):
        refuse()


def test_importing_the_room_does_not_import_prefect() -> None:
    command = [sys.executable, "-c", "import sys, darkroom.orchestrator; print('prefect' in sys.modules)"]
    assert subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout == "False\n"


def test_prefect_yaml_and_serve_say_the_same() -> None:
    written = {entry["name"]: entry for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    assert list(written) == [entry.name for entry in DEPLOYMENTS]
    for entry in DEPLOYMENTS:
        told = written[entry.name]
        assert told["entrypoint"] == entry.entrypoint
        assert told["description"] == entry.description
        assert told["parameters"] == entry.parameters(Project())
        assert told["work_pool"]["name"] == POOL
        heartbeat = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": HEARTBEAT_SECONDS} if entry.nightly else {}
        assert told["work_pool"]["job_variables"] == {"env": {ROOTS: '["."]', **heartbeat}}
        nightly = [{"slug": SCHEDULE_SLUG, "cron": "0 2 * * *", "timezone": "UTC", "active": True}]
        assert told["schedules"] == (nightly if entry.nightly else [])
        limit = {"limit": 1, "collision_strategy": "ENQUEUE"}
        assert told.get("concurrency_limit") == (limit if entry.nightly else None)


@pytest.fixture
def client(prefect_api: str) -> Iterator[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def registered(client: Any, tmp_path: Path) -> Any:
    from darkroom.orchestrator.deployments import make_pool, register

    make_pool(client)
    make_pool(client)
    register(client, tmp_path, Project(), schedule_is_active=False)
    return client


@pytest.mark.filterwarnings("ignore")
def test_the_deployments_have_full_paths_and_one_night_at_a_time(registered: Any, tmp_path: Path) -> None:
    for flow in [entry.name for entry in DEPLOYMENTS]:
        name = f"{flow}/{flow}"
        assert registered.read_deployment_by_name(name).work_pool_name == POOL
    score = registered.read_deployment_by_name("score/score")
    assert score.entrypoint == "flows.score.score"
    assert score.parameters == {
        "bundle": str(tmp_path / "models/model"),
        "inbox": str(tmp_path / "inbox/{night:%Y-%m-%d}"),
        "results": str(tmp_path / "results"),
        "night": {"timezone": "UTC", "night_offset_days": -1},
    }
    assert score.global_concurrency_limit.limit == 1
    assert score.concurrency_options.collision_strategy == "ENQUEUE"


@pytest.mark.filterwarnings("ignore")
def test_the_schedule_is_active_only_where_there_is_a_bundle_to_score_with(registered: Any, tmp_path: Path) -> None:
    from darkroom.orchestrator.deployments import bundle_exists, register

    assert not bundle_exists(tmp_path, Project())
    (before,) = registered.read_deployment_by_name("score/score").schedules
    register(registered, tmp_path, Project(), schedule_is_active=True)
    (after,) = registered.read_deployment_by_name("score/score").schedules
    assert (before.active, after.active, after.schedule.cron) == (False, True, "0 2 * * *")


@pytest.mark.filterwarnings("ignore")
def test_the_server_plans_the_nights(registered: Any, tmp_path: Path) -> None:
    # prefect 3.8.8 with SQLAlchemy 2.1 does not: its scheduler fails on every insert, and says so in its log only.
    from darkroom.orchestrator.deployments import register

    register(registered, tmp_path, Project(), schedule_is_active=True)
    score = registered.read_deployment_by_name("score/score")

    def planned() -> list[Any]:
        runs = registered.read_flow_runs()
        return [run.expected_start_time for run in runs if run.deployment_id == score.id and run.auto_scheduled]

    assert wait_for(planned, seconds=90), "the scheduler of the server plans nothing"
    assert all((moment.hour, moment.minute) == (2, 0) for moment in planned())


@pytest.mark.filterwarnings("ignore")
def test_a_night_that_is_due_stays_due_when_the_deployments_are_renewed(registered: Any, tmp_path: Path) -> None:
    from prefect.states import Scheduled

    from darkroom.orchestrator.deployments import register
    from darkroom.orchestrator.planning import due

    score = registered.read_deployment_by_name("score/score")
    planned = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    late = registered.create_flow_run_from_deployment(score.id, state=Scheduled(scheduled_time=planned))
    register(registered, tmp_path, Project(), schedule_is_active=True)
    assert planned in [run.expected_start_time for run in due(registered, "score/score")]
    registered.delete_flow_run(late.id)


@pytest.mark.filterwarnings("ignore")
def test_runs_that_died_with_the_last_server_are_closed(registered: Any) -> None:
    from prefect.states import Paused, Running

    from darkroom.orchestrator.lost import Lost, mend_lost_runs

    verify = registered.read_deployment_by_name("verify/verify")
    run = registered.create_flow_run_from_deployment(verify.id)
    registered.set_flow_run_state(run.id, Running(), force=True)
    assert mend_lost_runs(registered, fresh=True) == Lost(closed=1)
    assert registered.read_flow_run(run.id).state.is_crashed()
    assert mend_lost_runs(registered, fresh=True) == Lost()
    asking = registered.create_flow_run_from_deployment(registered.read_deployment_by_name("quarantine/quarantine").id)
    registered.set_flow_run_state(asking.id, Running(), force=True)
    registered.set_flow_run_state(asking.id, Paused(timeout_seconds=3600), force=True)
    told = "nobody would take the answer to a question of a dead process"
    assert mend_lost_runs(registered, fresh=True) == Lost(closed=1), told


@pytest.mark.filterwarnings("ignore")
def test_runs_that_are_asked_for_at_the_same_moment_are_all_taken(registered: Any, prefect_api: str) -> None:
    # prefect 3.8.8 with SQLite answers most of them with 503; its own client then asks again, and again.
    score = registered.read_deployment_by_name("score/score")
    at_once = threading.Barrier(20)

    def ask(_: int) -> str:
        asked = urllib.request.Request(
            f"{prefect_api}/deployments/{score.id}/create_flow_run",
            b"{}",
            {"Content-Type": "application/json", "X-PREFECT-API-VERSION": "0.8.4"},
        )
        at_once.wait()
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return str(json.load(answer)["id"])

    try:
        with ThreadPoolExecutor(at_once.parties) as people:
            runs = list(people.map(ask, range(at_once.parties)))
        assert len(set(runs)) == at_once.parties
    finally:
        for run in registered.read_flow_runs(limit=200):
            if run.deployment_id == score.id:
                registered.delete_flow_run(run.id)


def test_one_sender_sends_the_events_of_night_after_night(prefect_api: str) -> None:
    # Prefect never forgets a sender that has ended: a backfill's process grew by four megabytes with every night.
    from prefect.events import emit_event
    from prefect.events.worker import EventsWorker

    senders, ours = [], f"darkroom.night.{uuid4()}"
    for night in range(3):
        emit_event("darkroom.night.ok", {"prefect.resource.id": f"{ours}.{night}"})
        until_events_are_sent()
        senders.append(EventsWorker.instance())
    assert len(set(senders)) == 1

    def arrived() -> bool:
        wanted = {"filter": {"event": {"prefix": ["darkroom.night."]}, "resource": {"id_prefix": [ours]}}}
        asked = urllib.request.Request(
            f"{prefect_api}/events/filter", json.dumps(wanted).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(json.load(answer)["total"]) == 3

    assert wait_for(arrived)


def test_of_a_deployment_with_one_run_at_a_time_the_oldest_is_taken_and_the_others_wait() -> None:
    from darkroom.orchestrator.worker import EndingWorker

    one_at_a_time, free = uuid4(), uuid4()
    worker = EndingWorker("nights")
    worker._one_at_a_time = {one_at_a_time: True, free: False}
    late, early, other, third = (
        _due(one_at_a_time, hour=3),
        _due(one_at_a_time, hour=2),
        _due(free, hour=4),
        _due(free, hour=1),
    )
    found = [late, early, other, third]
    assert worker._in_turn(found) == [third, early, other]
    worker._processes = {1: early.flow_run.id}
    assert worker._in_turn(found) == [third, other], "one is at work"
    worker._processes = {}
    assert worker._in_turn([late]) == [late], "it has ended"


def _due(deployment: UUID, hour: int) -> Any:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import WorkerFlowRunResponse

    when = datetime(2026, 3, 2, hour, tzinfo=UTC)
    run = FlowRun(flow_id=uuid4(), deployment_id=deployment, expected_start_time=when)  # type: ignore[arg-type]
    return WorkerFlowRunResponse(work_pool_id=uuid4(), work_queue_id=uuid4(), flow_run=run)


def test_a_port_that_something_else_has_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OrchestratorError, match=f"Port {port} of 127.0.0.1 is taken") as caught:
            serve("127.0.0.1", port)
    assert "--port" in (caught.value.todo or "")


def test_a_run_whose_lines_nobody_reads_any_more_is_not_ended_by_the_next_line(tmp_path: Path) -> None:
    code = (
        "import sys, rich.console, darkroom.orchestrator.run_main as run; run.survive_a_broken_pipe(); "
        "input(); [rich.console.Console(file=f).print('a line') for f in (sys.stderr, sys.stdout) * 2]; "
        "open('alive', 'w').close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        for unread in (process.stdout, process.stderr):
            assert unread is not None
            unread.close()
        assert process.stdin is not None
        process.stdin.write(b"go on\n")
        process.stdin.close()
        process.wait(60)
    assert (tmp_path / "alive").exists()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_serve_says_where_it_is_and_stops_without_a_trace(
    outside: dict[str, str], tmp_path: Path, free_port: int, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "darkroom.cli", "serve", "--port", str(free_port)]
    with subprocess.Popen(
        command, env=outside, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        told = ""
        while "Ctrl-C" not in told:
            line = process.stdout.readline()
            assert line, told
            told += line
        assert f"http://127.0.0.1:{free_port}" in told
        assert str(tmp_path / "results") in told
        assert "not scheduled" in told
        with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/api/health", timeout=10) as answer:
            assert answer.read() == b"true"
        with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/api/admin/settings", timeout=10) as answer:
            cleared = json.load(answer)["server"]["services"]["db_vacuum"]
        process.send_signal(number)
        rest = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert "Traceback" not in told + rest
    assert rest.endswith("Stopped.\n")
    assert not is_prefect(f"http://127.0.0.1:{free_port}/api", timeout=2)
    assert (Path(outside["PREFECT_HOME"]) / "prefect.db").exists()
    assert {"events", "flow_runs"} == set(cleared["enabled"]), "the database must not grow every night"
    assert cleared["retention_period"] == "P90D"
