"""The server's database may be Postgres: `darkroom serve` with the address that docs/operations.md names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.bundle import Bundle
from tests.postgres import Postgres, running, tools
from tests.served import free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    found = tools()
    if found is None:
        pytest.skip("no Postgres on this machine")
    with running(found) as cluster:
        yield cluster


def test_serve_keeps_its_runs_in_postgres_and_a_deployed_run_completes(
    postgres: Postgres, bundle: Bundle, tmp_path: Path
) -> None:
    from prefect.client.orchestration import SyncPrefectClient

    port = free_port()
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {
        **ours,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.address,
    }
    log = tmp_path / "serve.log"
    (tmp_path / "darkroom.toml").write_text(f'roots = ["{bundle.path}"]\n')
    command = [sys.executable, "-m", "darkroom.cli", "serve", "--port", f"{port}"]
    with (
        log.open("w") as told,
        subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=told, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_for(lambda: "Ctrl-C" in log.read_text(), 180, log)
            with SyncPrefectClient(f"http://127.0.0.1:{port}/api") as client:
                verify = client.read_deployment_by_name("verify/verify")
                run = client.create_flow_run_from_deployment(verify.id, parameters={"bundle": str(bundle.path)})

                def ended() -> bool:
                    state = client.read_flow_run(run.id).state
                    return state is not None and state.is_final()

                wait_for(ended, 180, log)
                state = client.read_flow_run(run.id).state
                assert state is not None
                assert state.is_completed(), log.read_text()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=90)
    assert postgres.ask(f"SELECT state_name FROM flow_run WHERE id = '{run.id}'") == "Completed"
    assert not list((tmp_path / "prefect").glob("*.db"))


def wait_for(answer: object, seconds: float, log: Path) -> None:
    end = time.monotonic() + seconds
    while not answer():  # type: ignore[operator]
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.5)
