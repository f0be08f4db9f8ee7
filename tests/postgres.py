"""A Postgres of Debian's package that nobody else uses: started, asked, stopped and started again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.served import free_port


@dataclass
class Postgres:
    """A cluster; its folder is short, for a socket lies in it."""

    tools: Path
    folder: Path
    port: int

    @property
    def address(self) -> str:
        """As Prefect wants it."""
        return f"postgresql+asyncpg://prefect:secret@127.0.0.1:{self.port}/prefect"

    def ask(self, sql: str, database: str = "prefect") -> str:
        where = ["-h", "127.0.0.1", "-p", f"{self.port}", "-U", "postgres"]
        command = [self.tools / "psql", *where, "-Atc", sql, database]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self._control("-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        """At once: whoever is connected loses the connection."""
        self._control("-m", "immediate", "stop")

    def _control(self, *arguments: str) -> None:
        # Its output is a file's: a pipe would be held open by the server that it starts.
        command = [*as_owner(), self.tools / "pg_ctl", "-D", self.folder, "-w", *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)


def as_owner() -> list[str]:
    """Postgres does not run as root, and Debian's package makes a user for it."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def tools() -> Path | None:
    """Where its programs are, if they are on this machine."""
    on_path = shutil.which("pg_ctl")
    found = [*Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), *([Path(on_path).resolve()] if on_path else [])]
    return found[0].parent if found else None


@contextmanager
def running(tools: Path) -> Iterator[Postgres]:
    """With an empty database for Prefect."""
    postgres = Postgres(tools, Path(f"/tmp/darkroom-postgres-{os.getpid()}"), free_port())
    cluster = ["-D", str(postgres.folder), "-A", "trust", "-U", "postgres"]
    subprocess.run([*as_owner(), tools / "initdb", *cluster], check=True, cwd="/", stdout=subprocess.DEVNULL)
    try:
        postgres.start()
        postgres.ask("CREATE ROLE prefect LOGIN PASSWORD 'secret'", "postgres")
        postgres.ask("CREATE DATABASE prefect OWNER prefect", "postgres")
        yield postgres
    finally:
        with suppress(subprocess.CalledProcessError):  # it was not there
            postgres.stop()
        shutil.rmtree(postgres.folder, ignore_errors=True)
