"""The same night in this process, in several, and on a Dask cluster; workers that die, clusters that are not there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from darkroom import demo_world
from darkroom.errors import GoldenMismatch, OrchestratorError, WrongUse
from darkroom.settings import RunOptions
from flows.runners import handfuls
from tasks.bundle import Bundle
from tasks.machine import SHARE, cores, share
from tests.test_score_flow import rows_of, score_night
from tests.tiny import ROOT, in_new_process

# Prefect's and Dask's own: sockets that end with the worker that was killed.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]

IMAGES, A_SHARD = 40, 5
SHARDS = IMAGES // A_SHARD + 1  # and a broken file


@pytest.fixture(scope="session")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runners") / "inbox"
    demo_world.draw_night(folder, "good", images=IMAGES, seed=11)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    return folder


@pytest.fixture(scope="session")
def expected(bundle: Bundle, inbox: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The rows of the night in one process."""
    results = tmp_path_factory.mktemp("threads")
    score_night(bundle, inbox, results, run=of("threads"))
    return rows_of(results, bundle)


def of(runner: str, **options: object) -> dict[str, object]:
    return {"runner": runner, "shard_size": A_SHARD, "thumbnails": False, **options}


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert len(found) == IMAGES
    pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-5)


@contextmanager
def cluster(workers: int = 1, preload: Path | None = None) -> Iterator[str]:
    """A scheduler and workers as a person starts them, in another folder than the run's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard"]
    worker = ["worker", address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard"]
    worker += [] if preload is None else ["--preload", str(preload)]
    started = []
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    try:
        for arguments in (scheduler, *[worker] * workers):
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *arguments],
                    env={**plain, "PYTHONPATH": str(ROOT)},
                    cwd="/",
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            if arguments is scheduler:
                _until_it_listens(address)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=30)


def _until_it_listens(address: str) -> None:
    host, _, port = address.removeprefix("tcp://").partition(":")
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.1)


@contextmanager
def killing_a_worker(results: Path) -> Iterator[list[int]]:
    """SIGKILL, once, for a worker of this process that looks at images: as soon as some of the shards are finished."""
    killed: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not killed and not over.wait(0.005):
            if any(results.glob("staging/*/shards/*.json")):
                for worker in psutil.Process().children(recursive=True):
                    if not killed and _decodes(worker):
                        worker.kill()
                        killed.append(worker.pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def _decodes(process: psutil.Process) -> bool:
    with suppress(psutil.Error):  # it, or a child of it, ended while it was looked at
        return any("tasks.worker_main" in " ".join(child.cmdline()) for child in process.children())
    return False


@pytest.mark.parametrize("runner", ["processes", "dask"])
def test_workers_give_the_rows_of_one_process_although_one_of_them_is_killed(
    bundle: Bundle, inbox: Path, expected: pd.DataFrame, tmp_path: Path, runner: str
) -> None:
    with killing_a_worker(tmp_path) as killed:
        summary = score_night(bundle, inbox, tmp_path, run=of(runner))
    assert killed
    assert (summary.counts.scored, summary.counts.quarantined, summary.counts.balanced) == (IMAGES, 1, True)
    assert_same(rows_of(tmp_path, bundle), expected)
    assert not [one for one in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]
    assert share() is None, "the share of a worker is not that of who started it"


@pytest.mark.long
def test_a_cluster_that_is_there_takes_part_one_run_after_another_and_each_reports_to_its_own_server(
    bundle: Bundle, inbox: Path, expected: pd.DataFrame, tmp_path: Path, prefect_api: str
) -> None:
    with cluster(workers=2) as address:
        for number in range(2):
            night = in_new_process(_NIGHT_OF_ITS_OWN, bundle.path, inbox, tmp_path / f"{number}", address)
            told, problem = night.communicate(timeout=240)
            assert night.returncode == 0, problem
            # Each of these servers came and went with its run, and heard of every task.
            assert told.split() == ["COMPLETED"] * SHARDS
            assert_same(rows_of(tmp_path / f"{number}", bundle), expected)


_NIGHT_OF_ITS_OWN = """
import os, sys, time, warnings
warnings.simplefilter("ignore")
os.environ.pop("PREFECT_API_URL", None)
from pathlib import Path
from darkroom.orchestrator import api
bundle, inbox, results, address = sys.argv[1:]
with api():
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterName
    from tests.test_runners import SHARDS, of
    from tests.test_score_flow import score_night
    from tasks.bundle import open_bundle
    score_night(open_bundle(Path(bundle)), Path(inbox), Path(results), run=of("dask", dask_address=address))
    with get_client(sync_client=True) as client:
        for _ in range(40):  # the server hears of tasks by events, a moment later
            runs = [run for run in client.read_task_runs() if run.name.startswith("look at shard")]
            states = [run.state.type.value for run in runs]
            if states.count("COMPLETED") == SHARDS:
                break
            time.sleep(0.5)
    print(*states)
"""


@pytest.mark.usefixtures("prefect_api")
class TestWhatCannotBe:
    def test_an_address_that_nobody_answers_is_told_before_anything_is_done(
        self, bundle: Bundle, inbox: Path, tmp_path: Path
    ) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))  # and never listens
            address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(OrchestratorError) as told:
                score_night(bundle, inbox, tmp_path / "results", run=of("dask", dask_address=address))
        assert address in told.value.what
        assert not (tmp_path / "results").exists()

    @pytest.mark.parametrize(
        ("options", "parameter"),
        [
            pytest.param({"runner": "spark"}, "runner", id="another runner"),
            pytest.param({"runner": "dask", "dask_address": "tcp://somewhere"}, "dask_address", id="no port"),
            pytest.param({"runner": "dask", "workers": 0}, "workers", id="no workers"),
            pytest.param({"runner": "threads", "dask_address": "tcp://127.0.0.1:8786"}, "dask_address", id="not dask"),
        ],
    )
    def test_a_wrong_value_is_told_with_its_name(
        self, bundle: Bundle, inbox: Path, tmp_path: Path, options: dict[str, object], parameter: str
    ) -> None:
        from flows.score import score

        with pytest.raises(WrongUse) as told:
            score(bundle=bundle.path, inbox=str(inbox), results=tmp_path / "results", run=options)  # type: ignore[arg-type]
        assert told.value.parameter == f"run.{parameter}"

    @pytest.mark.long
    def test_workers_that_cannot_see_the_run_are_told_by_name(
        self, bundle: Bundle, inbox: Path, tmp_path: Path, prefect_api: str
    ) -> None:
        from flows.runners import workers_for

        with cluster() as address:
            run = RunOptions(runner="dask", dask_address=address)
            with (
                pytest.raises(OrchestratorError, match="1 of the workers") as told,
                workers_for(run, _lacks_something),
            ):
                pytest.fail("a worker that lacks something has no part")
        assert "the results are elsewhere" in str(told.value)


def _lacks_something() -> str:
    return "the results are elsewhere"


def test_a_worker_whose_model_answers_otherwise_looks_at_no_image(
    bundle: Bundle, inbox: Path, tmp_path: Path, prefect_api: str
) -> None:
    """The run has proved the bundle where it begins; each worker replays the goldens itself, before its first shard."""
    otherwise = tmp_path / "otherwise.py"
    otherwise.write_text(_ANOTHER_MACHINE)
    with cluster(preload=otherwise) as address, pytest.raises(GoldenMismatch):
        score_night(bundle, inbox, tmp_path, run=of("dask", dask_address=address, engine="keras"))
    assert list(tmp_path.glob("staging/*/manifest.json"))
    assert not list(tmp_path.glob("staging/*/shards/*"))


_ANOTHER_MACHINE = """
from dataclasses import replace
from tasks.inference import KerasEngine

def dask_setup(worker):
    computed = KerasEngine.run

    def run(engine, tensors):
        outputs = computed(engine, tensors)
        return replace(outputs, probabilities=outputs.probabilities[:, ::-1].copy())

    KerasEngine.run = run
"""


@pytest.mark.parametrize("workers", [1, 2, 7, 100])
@pytest.mark.parametrize("shards", [0, 1, 3, 250, 10_000, 50_000])
def test_many_shards_are_looked_at_by_the_handful_each_once_and_in_order(shards: int, workers: int) -> None:
    made = [one.shards for one in handfuls(range(shards), workers)]
    assert [shard for one in made for shard in one] == list(range(shards))
    sizes = [len(one) for one in made]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-8 * workers :] == [1] * min(shards, 8 * workers), "nobody waits long for the last"
    assert max(sizes, default=0) <= max(1, shards / (8 * workers)), "no worker has much more to do than another"
    assert len(made) <= 8 * workers * (2 + np.log(1 + shards))


@pytest.mark.parametrize(
    ("given", "expected"), [("1", 1), ("0", 1), ("100000", None), ("", None), ("many", None)], ids=str
)
def test_a_worker_computes_with_its_share_of_the_cores_and_never_with_more_than_there_are(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: int | None
) -> None:
    there = len(os.sched_getaffinity(0))
    monkeypatch.setenv(SHARE, given)
    assert cores() == (expected or there)
