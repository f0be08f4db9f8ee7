"""Nights by the schedule, on a real server with a real worker, that are killed, stopped and started again.

How they are planned: tests/scheduled.py. That the scheduler also plans by itself, and that a run starts at its minute,
tests/test_planning.py and tests/test_ui.py show.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.events.filters import EventFilter, EventNameFilter

from darkroom.results import commits
from tasks.bundle import Bundle
from tests.scheduled import IMAGES, Found, Nights, killed_alone, killed_and_stopped, night_of, worker_and_server_die
from tests.served import Serve
from tests.sockets import Sockets

_FAILURES = ("prefect.flow-run.Failed", "prefect.flow-run.Crashed")

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]


def test_three_nights_with_everything_killed_in_the_second_and_stopped_in_the_third(
    bundle: Bundle, tmp_path: Path
) -> None:
    nights = Nights(tmp_path, bundle, 3)
    sockets = Sockets(tmp_path / "sockets")
    with Serve(tmp_path, **sockets.environment) as serve:
        runs = killed_and_stopped(nights, serve)
        assert [(run.state.name, run.run_count) for run in runs] == [("Completed", n) for n in (1, 2, 2)]
        with serve.client() as client:
            (schedule,) = client.read_deployment_by_name("score/score").schedules
            ahead = sorted(run.expected_start_time for run in client.read_flow_runs() if run.state.is_scheduled())
            failures = EventFilter(event=EventNameFilter(name=["darkroom.night.failed", *_FAILURES]))
            told = [event.event for event in client.read_events(failures, limit=50).events]
        assert told == [], "a night that goes on is no failure"
        assert schedule.active
        assert ahead == [ahead[0] + timedelta(days=day) for day in range(14)]
        assert ahead[0] - datetime.now(UTC) < timedelta(days=1)
    assert nights.found() == Found(right=3, lost=0, doubled=0)
    made = [(commit.night, commit.counts.scored) for commit in commits(nights.results, bundle.id)]
    assert [entry for entry in made if entry[1]] == [(night, IMAGES) for night in nights.all]
    assert "Traceback" not in serve.told()
    sockets.assert_local_only(processes=8)


def test_a_run_that_is_killed_alone_holds_nothing_and_two_at_once_score_its_night_once(
    bundle: Bundle, tmp_path: Path
) -> None:
    nights = Nights(tmp_path, bundle, 2)
    with Serve(tmp_path) as serve:
        scheduled, by_a_person = (runs := killed_alone(nights, serve))[:2], runs[2:]
    assert [(night_of(run), run.state.name) for run in scheduled] == list(
        zip(nights.all, ("Crashed", "Completed"), strict=True)
    )
    assert [run.state.name for run in by_a_person] == ["Completed", "Completed"]
    assert nights.found() == Found(right=2, lost=0, doubled=0)


def test_a_worker_that_dies_alone_and_a_server_that_is_restarted_under_a_run_lose_and_double_nothing(
    bundle: Bundle, tmp_path: Path
) -> None:
    nights = Nights(tmp_path, bundle, 2)
    runs = worker_and_server_die(nights)
    assert [(run.state.name, run.run_count) for run in runs] == [("Completed", 2), ("Completed", 1)]
    assert nights.found() == Found(right=2, lost=0, doubled=0)


def test_the_recorder_of_sockets_hears_of_what_leaves_the_machine(tmp_path: Path) -> None:
    import subprocess
    import sys

    sockets = Sockets(tmp_path / "sockets")
    leaves = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    asks = "import socket, contextlib\nwith contextlib.suppress(OSError): socket.getaddrinfo('api.invalid', 443)"
    stays = "import socket, contextlib\nwith contextlib.suppress(OSError): socket.create_connection(('127.0.0.1', 9))"
    for code in (leaves, asks, stays):
        subprocess.run([sys.executable, "-P", "-c", code], env={**sockets.environment}, check=True)
    assert sockets.leaving() == {"192.0.2.1", "api.invalid"}
    assert {host for _, host in sockets.recorded()} == {"192.0.2.1", "api.invalid", "127.0.0.1"}
