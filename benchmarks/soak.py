"""Three hundred nights of one served darkroom, a day after a day: what its processes hold, and what its database does.

Server, worker, deployment and flow are real, with the proof, the page and the commit of each night. Three things are
not. The run that the worker starts hands itself over (benchmarks.handing) to the process in which a backfill scores its
nights (flows.night_process): 300 nights need no 300 starts, and what the flow leaks adds up. That process looks at
images in no time (benchmarks.instant). After each night the database is made a day older.
"""

from __future__ import annotations

import os
import shlex
import socket
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.harness import Measured
from benchmarks.prefect import bundle, place
from darkroom import demo_world
from darkroom.orchestrator.connection import reporting_to
from darkroom.orchestrator.deployments import HEARTBEAT_SECONDS
from darkroom.results import commits
from darkroom.settings import NightOptions
from flows.night_process import NightProcess
from tests.served import Serve

NIGHTS: Final = 300
IMAGES: Final = 50
# Until then processes still import, fill caches and start the threads of their pools.
WARM: Final = 30
FIRST: Final = date(2026, 1, 1)
# So often, in seconds: a day of the database is some seconds long.
OFTEN: Final = {
    "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "15",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ORPHAN_CLEANUP_LOOP_SECONDS": "15",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
}


def soak() -> Mapping[str, Measured]:
    """Ratios and growth of the last third of the nights against the first, after those in which all gets warm."""
    folder, sealed = place("soak"), bundle()
    settings = f'bundle = "{sealed.path}"\n[intake]\nsettle_seconds = 0\n[run]\nthumbnails = false\n'
    (folder / "darkroom.toml").write_text(settings)
    with Serve(folder, **OFTEN) as serve:
        serve.start()
        samples = list(_nights(serve))
    made = commits(folder / "results", sealed.id)
    right = len({one.night for one in made if one.counts.scored == IMAGES})
    return {
        "soak_nights_right": Measured(right, f"of {len(made)} commits, {IMAGES} images each"),
        **figures(samples),
    }


def figures(samples: Sequence[Mapping[str, Any]]) -> Mapping[str, Measured]:
    """Of the worst process; of the database the last third against the one before, when it has its age."""
    warm = samples[WARM:]
    third = len(warm) // 3
    first, second, last = warm[:third], warm[third : 2 * third], warm[-third:]

    def middles(what: str, name: str) -> tuple[float, float]:
        before, after = (statistics.median(one[what][name] for one in part) for part in (first, last))
        return before, after

    told = {}
    processes = sorted(samples[0]["memory"])
    memory = {name: middles("memory", name) for name in processes}
    note = "; ".join(f"{name} {before / 1e6:.0f} → {after / 1e6:.0f} MB" for name, (before, after) in memory.items())
    worst = max(after / before for before, after in memory.values())
    told["soak_memory_ratio"] = Measured(worst, note, samples)
    for what in ("handles", "threads", "children"):
        found = {name: middles(what, name) for name in processes}
        note = "; ".join(f"{name} {before:g} → {after:g}" for name, (before, after) in found.items())
        told[f"soak_{what}_grown"] = Measured(max(after - before for before, after in found.values()), note)
    sizes = [max(one["database"] for one in part) for part in (first, second, last)]
    note = f"{' → '.join(f'{size / 1e6:.1f}' for size in sizes)} MB at most in each third"
    told["soak_database_ratio"] = Measured(sizes[2] / sizes[1], note)
    files = [max(one["files"] for one in part) for part in (second, last)]
    told["soak_home_files_grown"] = Measured(files[1] - files[0], f"{files[1]} files in the Prefect home")
    seconds = [statistics.median(one["seconds"] for one in part) for part in (first, last)]
    note = f"{seconds[0]:.1f} → {seconds[1]:.1f} s a night, from its request to its end"
    told["soak_seconds_ratio"] = Measured(seconds[1] / seconds[0], note)
    return told


def _nights(serve: Serve) -> Iterator[dict[str, Any]]:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentUpdate

    process = InstantNights()
    environment = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": HEARTBEAT_SECONDS}
    with (
        SyncPrefectClient(f"{serve.address}/api") as client,
        reporting_to(f"{serve.address}/api", **environment),
        handed_to(process, serve.folder / "handing") as command,
    ):
        score = client.read_deployment_by_name("score/score")
        # Of the deployment: a run that brings a command of its own is refused.
        client.update_deployment(score.id, DeploymentUpdate(job_variables={**score.job_variables, "command": command}))
        living: dict[str, psutil.Process] = {}
        for number in range(NIGHTS):
            night = FIRST + timedelta(days=number)
            demo_world.draw_night(serve.folder / "inbox" / f"{night}", "good", images=IMAGES, seed=night.toordinal())
            started = time.perf_counter()
            asked = {"night": NightOptions(night=night).model_dump(mode="json")}
            run = client.create_flow_run_from_deployment(score.id, parameters=asked)
            while not (state := client.read_flow_run(run.id).state).is_final():  # type: ignore[union-attr]
                time.sleep(0.5)
            if not state.is_completed():  # type: ignore[union-attr]
                raise RuntimeError(f"the night of {night} ended as {state}\n{serve.told()[-2000:]}")
            seconds = time.perf_counter() - started
            process.free.wait()
            living = living or _living(serve)
            yield {"night": number, "seconds": seconds, **_sample(serve, living)}
            a_day_passes(serve.folder / "prefect" / "prefect.db")
        process.end()
        process.wait()


class InstantNights(NightProcess):
    """The process of a backfill's nights; `free`: none is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def score(self, flow_run: str) -> dict[str, Any]:
        """One night after another."""
        self.free.clear()
        try:
            return super().score(flow_run)
        finally:
            self.free.set()

    def _start(self) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, "-P", "-W", "ignore", "-m", "benchmarks.instant"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, process_group=0)
        return self._process


@contextmanager
def handed_to(process: NightProcess, socket_at: Path) -> Iterator[str]:
    """The command of a run that hands itself to this process, one after another."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(socket_at))
    listening.listen()

    def serve() -> None:
        while True:
            try:
                way, _ = listening.accept()
            except OSError:
                return
            with way:
                told = process.score(way.makefile().readline().strip())
                way.sendall(b"0\n" if "summary" in told else b"1\n")

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield shlex.join([sys.executable, "-S", "-E", str(Path(__file__).with_name("handing.py")), str(socket_at)])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def _living(serve: Serve) -> dict[str, psutil.Process]:
    """The processes that live on, once there has been a night."""
    assert serve.process is not None
    worker = psutil.Process(serve.process.pid)
    # The other children of the worker come and go.
    server = min(worker.children(), key=lambda one: one.create_time())
    (nights,) = (one for one in psutil.Process().children() if "benchmarks.instant" in one.cmdline())
    return {"server": server, "worker": worker, "nights": nights}


def _sample(serve: Serve, processes: Mapping[str, psutil.Process]) -> dict[str, Any]:
    """Of each: resident bytes, open files and sockets, threads, seconds of processor, processes below it."""
    home = serve.folder / "prefect"
    return {
        "memory": {name: one.memory_info().rss for name, one in processes.items()},
        "handles": {name: one.num_fds() for name, one in processes.items()},
        "threads": {name: one.num_threads() for name, one in processes.items()},
        "processor": {name: sum(one.cpu_times()) for name, one in processes.items()},
        "children": {name: len(one.children(recursive=True)) for name, one in processes.items()},
        "database": sum(path.stat().st_size for path in home.glob("prefect.db*")),
        "files": sum(len(names) for _, _, names in os.walk(home)),
    }


def a_day_passes(database: Path) -> None:
    """What Prefect asks for the age of a run or an event is a day earlier; it reads these columns, and no others."""
    columns = {"flow_run": "end_time", "events": "occurred", "event_resources": "occurred"}
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for table, column in columns.items():
            earlier = f"strftime('%Y-%m-%d %H:%M:%f000', {column}, '-1 day')"
            connection.execute(f"UPDATE {table} SET {column} = {earlier} WHERE {column} IS NOT NULL")
