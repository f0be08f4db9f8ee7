"""The server's database may be Postgres: `darkroom serve` with the address that docs/operations.md names."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.bundle import Bundle

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]


@dataclass
class Postgres:
    """A cluster of Debian's package, which nobody else uses."""

    tools: Path
    port: int

    @property
    def address(self) -> str:
        """As Prefect wants it."""
        return f"postgresql+asyncpg://prefect:secret@127.0.0.1:{self.port}/prefect"

    def ask(self, sql: str, database: str = "prefect") -> str:
        command = [
            self.tools / "psql",
            "-h",
            "127.0.0.1",
            "-p",
            f"{self.port}",
            "-U",
            "postgres",
            "-Atc",
            sql,
            database,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    on_path = shutil.which("pg_ctl")
    found = [*Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), *([Path(on_path).resolve()] if on_path else [])]
    if not found:
        pytest.skip("no Postgres on this machine")
    tools = found[0].parent
    cluster = Path(f"/tmp/darkroom-postgres-{os.getpid()}")
    # Postgres does not run as root, and Debian's package makes a user for it.
    as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    port = free_port()
    subprocess.run([*as_owner, tools / "initdb", "-D", cluster, "-A", "trust", "-U", "postgres"], check=True, cwd="/")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={cluster} -c fsync=off"
    control = [*as_owner, tools / "pg_ctl", "-D", cluster, "-w"]
    subprocess.run([*control, "-o", options, "-l", cluster / "log", "start"], check=True, cwd="/")
    try:
        postgres = Postgres(tools, port)
        postgres.ask("CREATE ROLE prefect LOGIN PASSWORD 'secret'", "postgres")
        postgres.ask("CREATE DATABASE prefect OWNER prefect", "postgres")
        yield postgres
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, cwd="/")
        shutil.rmtree(cluster, ignore_errors=True)


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
