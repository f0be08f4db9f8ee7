"""Faults of what carries a night (server, database, processes, memory, bundle, files), struck in the real flow.

The night is at work in the process in which a backfill scores its nights; at a moment it is stopped, struck, and let go
on. Afterwards all is mended, and the same night comes once more: it has the rows of one that nothing happened to.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

import pandas as pd
import psutil

from benchmarks.harness import Measured
from benchmarks.prefect import bundle, place
from darkroom import demo_world
from darkroom.errors import Failed
from darkroom.orchestrator.connection import reporting_to
from darkroom.orchestrator.server import Server
from darkroom.settings import IntakeOptions, NightOptions, RunOptions
from flows.night_process import NightProcess
from tasks.bundle import Bundle, open_bundle
from tests.postgres import Postgres, running, tools
from tests.served import free_port, outside, wait_until
from tests.test_score_flow import rows_of

NIGHT: Final = date(2026, 3, 1)
IMAGES, A_SHARD = 48, 4
# Shards that are finished when the fault strikes: before the first, among them, and between the last and the commit.
MOMENTS: Final = (0, 1, 6, 12)
BACK: Final = 5.0  # seconds after which what has gone is there again
LOCKED: Final = 20.0
PATIENCE: Final = 600.0


@dataclass
class Scene:
    """A server that can be killed and started again with its database; the process of the nights; an own bundle."""

    folder: Path
    bundle: Bundle
    postgres: Postgres | None = None
    process: NightProcess = field(default_factory=NightProcess)
    port: int = field(default_factory=free_port)

    @property
    def inbox(self) -> Path:
        """The images of the night."""
        return self.folder / "inbox"

    @property
    def api(self) -> str:
        """Of the server, whether it is there or not."""
        return f"http://127.0.0.1:{self.port}/api"

    def start_server(self) -> None:
        """Returns when it is healthy."""
        environment = outside(self.folder / "prefect")
        if self.postgres is not None:
            environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = self.postgres.address
        self.server = Server.public("127.0.0.1", self.port, environment)
        self.server.wait_until_healthy(self.api)

    def kill_server(self) -> None:
        """As the power does."""
        os.kill(self.server.pid, signal.SIGKILL)
        self.server.stop()

    def night_process(self) -> psutil.Process:
        """The one that is at work. StopIteration: there is none."""
        return next(one for one in psutil.Process().children() if "flows.night_main" in one.cmdline())

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The night stands still meanwhile."""
        with contextlib.suppress(psutil.NoSuchProcess, StopIteration):
            self.night_process().suspend()
        yield
        with contextlib.suppress(psutil.NoSuchProcess, StopIteration):
            self.night_process().resume()

    def decoders(self) -> list[psutil.Process]:
        """Those that it has at this moment."""
        return [one for one in self.night_process().children() if "tasks.worker_main" in one.cmdline()]

    def new_process(self) -> None:
        """For the nights to come, in place of the one that is there."""
        self.process.end()
        self.process.wait()
        self.process = NightProcess()

    def asked(self, results: Path) -> str:
        """A run of the night, which the server knows, for the process to carry out."""
        from prefect.client.orchestration import get_client
        from prefect.states import Pending

        from flows.score import score

        parameters = {
            "bundle": self.bundle.path,
            "inbox": str(self.inbox),
            "results": results,
            "night": NightOptions(night=NIGHT),
            "intake": IntakeOptions(settle_seconds=0),
            "run": RunOptions(shard_size=A_SHARD, thumbnails=False),
        }
        with get_client(sync_client=True) as client:
            told = score.serialize_parameters(parameters)
            return str(client.create_flow_run(score, parameters=told, state=Pending()).id)


# -- faults: entered when they strike, left when they are mended -----------------------------------------------------


@contextmanager
def _later(mend: Callable[[], None], seconds: float = BACK) -> Iterator[None]:
    timer = threading.Timer(seconds, mend)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@contextmanager
def _server_restarts(scene: Scene) -> Iterator[None]:
    scene.kill_server()
    with _later(scene.start_server):
        yield


@contextmanager
def _server_gone(scene: Scene) -> Iterator[None]:
    scene.kill_server()
    yield
    scene.start_server()


@contextmanager
def _server_silent(scene: Scene) -> Iterator[None]:
    server = psutil.Process(scene.server.pid)
    server.suspend()
    with _later(server.resume, LOCKED):
        yield


@contextmanager
def _database_locked(scene: Scene) -> Iterator[None]:
    connection = sqlite3.connect(scene.folder / "prefect" / "prefect.db", timeout=60, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    with contextlib.closing(connection), _later(connection.rollback, LOCKED):
        yield


@contextmanager
def _postgres_restarts(scene: Scene) -> Iterator[None]:
    assert scene.postgres is not None
    scene.postgres.stop()
    with _later(scene.postgres.start):
        yield


@contextmanager
def _postgres_gone(scene: Scene) -> Iterator[None]:
    assert scene.postgres is not None
    scene.postgres.stop()
    yield
    scene.postgres.start()


@contextmanager
def _run_killed(scene: Scene) -> Iterator[None]:
    scene.night_process().kill()
    yield


@contextmanager
def _run_out_of_memory(scene: Scene) -> Iterator[None]:
    """No page more than it has."""
    night = scene.night_process()
    night.rlimit(psutil.RLIMIT_AS, (night.memory_info().vms,) * 2)
    yield
    scene.new_process()


@contextmanager
def _decoders_killed(scene: Scene) -> Iterator[None]:
    for one in scene.decoders():
        one.kill()
    yield


@contextmanager
def _decoders_killed_for_a_while(scene: Scene) -> Iterator[None]:
    """As by a machine without memory: each new one is killed as well."""
    end = time.monotonic() + BACK

    def kill() -> None:
        while time.monotonic() < end:
            with contextlib.suppress(psutil.NoSuchProcess, StopIteration):
                for one in scene.decoders():
                    one.kill()
            time.sleep(0.05)

    killing = threading.Thread(target=kill)
    killing.start()
    yield
    killing.join()


@contextmanager
def _decoders_out_of_memory(scene: Scene) -> Iterator[None]:
    for one in scene.decoders():
        with contextlib.suppress(psutil.NoSuchProcess):
            one.rlimit(psutil.RLIMIT_AS, (one.memory_info().vms,) * 2)
    yield


@contextmanager
def _read_hangs(scene: Scene) -> Iterator[None]:
    """A decoder that is inside a read and does not come back: to whoever waits it looks like this."""
    for one in scene.decoders():
        with contextlib.suppress(psutil.NoSuchProcess):
            one.suspend()
    yield


@contextmanager
def _opening_waits(scene: Scene) -> Iterator[None]:
    """Another program has a lease on every image, as a file server has: an open waits for it."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    with ExitStack() as stack:
        for image in scene.inbox.rglob("*.jpg"):
            file = stack.enter_context(image.open("r+b"))
            with contextlib.suppress(OSError):  # it is being read
                fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield


@contextmanager
def _bundle_gone(scene: Scene) -> Iterator[None]:
    aside = scene.bundle.path.with_name("aside")
    scene.bundle.path.rename(aside)
    yield
    aside.rename(scene.bundle.path)


@contextmanager
def _bundle_replaced(scene: Scene) -> Iterator[None]:
    """By one with other weights, under its name."""
    here, aside = scene.bundle.path, scene.bundle.path.with_name("aside")
    here.rename(aside)
    shutil.copytree(aside, here)
    model = here / "model.keras"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 0xFF
    model.chmod(0o644)
    model.write_bytes(data)
    yield
    shutil.rmtree(here)
    aside.rename(here)


@dataclass(frozen=True)
class Kind:
    """A fault; some strike decoders, and need a moment at which there are some."""

    strike: Callable[[Scene], AbstractContextManager[None]]
    of_decoders: bool = False


ANYWHERE: Final[dict[str, Kind]] = {
    "server killed, and back": Kind(_server_restarts),
    "server gone": Kind(_server_gone),
    "server silent for a while": Kind(_server_silent),
    "SQLite locked for a while": Kind(_database_locked),
    "run killed": Kind(_run_killed),
    "no memory for the run": Kind(_run_out_of_memory),
    "decoders killed": Kind(_decoders_killed, of_decoders=True),
    "decoders killed for a while": Kind(_decoders_killed_for_a_while, of_decoders=True),
    "no memory for the decoders": Kind(_decoders_out_of_memory, of_decoders=True),
    "a read hangs": Kind(_read_hangs, of_decoders=True),
    "opening a file waits": Kind(_opening_waits),
    "bundle gone": Kind(_bundle_gone),
    "bundle replaced": Kind(_bundle_replaced),
}
ON_POSTGRES: Final[dict[str, Kind]] = {
    "Postgres stopped, and back": Kind(_postgres_restarts),
    "Postgres gone": Kind(_postgres_gone),
}


# -- a night that is struck, and the same night afterwards -----------------------------------------------------------


def real_faults() -> Mapping[str, Measured]:
    """Nights whose rows were not those of an undisturbed one after the next: there may be none."""
    found = tools()
    if found is None:
        raise RuntimeError("there is no Postgres on this machine")
    with running(found) as postgres:
        told = [*_all_of("sqlite", ANYWHERE), *_all_of("postgres", ON_POSTGRES, postgres)]
    wrong = [one for one in told if one["wrong"]]
    fewest = min((sum(one["kind"] == kind for one in told), kind) for kind in (*ANYWHERE, *ON_POSTGRES))
    through = sum(one["night"] == "scored" for one in told)
    note = f"{len(told)} nights struck: {through} went through, the others ended with an error and came once more; "
    note += "; ".join(f"{one['kind']} at shard {one['moment']}: {one['wrong']}" for one in wrong[:5]) or "none differs"
    return {
        "real_faults_with_other_rows": Measured(len(wrong), note, told),
        "real_fault_kinds": Measured(len({one["kind"] for one in told})),
        "real_fault_fewest_moments": Measured(*fewest),
    }


def _all_of(where: str, kinds: Mapping[str, Kind], postgres: Postgres | None = None) -> Iterator[dict[str, Any]]:
    folder = place(f"real-faults-{where}")
    shutil.copytree(bundle().path, folder / "bundle")
    scene = Scene(folder, open_bundle(folder / "bundle"), postgres)
    demo_world.draw_night(scene.inbox, "good", images=IMAGES, seed=7)
    scene.start_server()
    with reporting_to(scene.api):
        undisturbed = folder / "undisturbed"
        scene.process.score(scene.asked(undisturbed))
        expected = rows_of(undisturbed, scene.bundle)
        if len(expected) != IMAGES:
            raise RuntimeError(f"an undisturbed night has {len(expected)} rows")
        for name, kind in kinds.items():
            for moment in MOMENTS:
                if (told := _struck(scene, name, kind, moment, expected)) is not None:
                    yield told
        scene.new_process()
    scene.kill_server()


def _struck(scene: Scene, name: str, kind: Kind, moment: int, expected: pd.DataFrame) -> dict[str, Any] | None:
    """What came of both nights; None where the first was over before the fault."""
    results = scene.folder / f"{name}-{moment}"
    told: list[str] = []

    def met() -> bool:
        return _finished(results) >= moment and (not kind.of_decoders or bool(scene.decoders()))

    run = scene.asked(results)
    scoring = threading.Thread(target=lambda: told.append(_outcome(scene, run)))
    scoring.start()
    wait_until(lambda: met() or told, f"{moment} shards of {name}", PATIENCE, 0.001)
    started = time.monotonic()
    with ExitStack() as faults:
        with scene.stopped():
            struck = met()
            if struck:
                faults.enter_context(kind.strike(scene))
        scoring.join(PATIENCE)
        seconds = round(time.monotonic() - started, 1)
        if scoring.is_alive():
            told.append("it hangs")
            scene.night_process().kill()
            scoring.join()
    if not struck:
        return None
    again = _outcome(scene, scene.asked(results))
    wrong = [one for one in (told[0], again) if one == "it hangs" or (one is again and again != "scored")]
    wrong += _differences(rows_of(results, scene.bundle), expected)
    return {"kind": name, "moment": moment, "night": told[0], "seconds": seconds, "wrong": "; ".join(wrong)}


def _outcome(scene: Scene, run: str) -> str:
    """Scored, or the error that the night ended with."""
    try:
        told = scene.process.score(run)
    except Failed as error:
        return "; ".join(str(error).splitlines())
    return "scored" if "summary" in told else f"{told['error']['error']}: {told['error']['what']}"


def _finished(results: Path) -> int:
    """Shards of the night that is at work; −1 where it has not begun, or is over."""
    for record in (results / "staging").glob("*/run.json"):
        return len([*(record.parent / "shards").glob("*.json")])
    return -1


def _differences(found: pd.DataFrame, expected: pd.DataFrame) -> list[str]:
    if list(found["content_id"]) != list(expected["content_id"]):
        return [f"{len(found)} rows of {found['content_id'].nunique()} images, {len(expected)} expected"]
    try:
        pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-5)
    except AssertionError as error:
        return [str(error).splitlines()[0]]
    return []
