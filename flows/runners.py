"""Where shards are looked at: in this process, in several of this machine, or on the machines of a Dask cluster.

A worker that dies costs what it had in hand: somebody else looks at it again, and what was finished is left alone. All
workers report to the one Prefect API of their run, and compute with their share of the machine's cores.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

from prefect.settings import PREFECT_API_URL
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from darkroom.errors import OrchestratorError, WorkersLost, WrongUse
from darkroom.orchestrator.connection import console_is_quiet, environment_of, send_what_waits
from darkroom.orchestrator.server import is_prefect
from darkroom.settings import RunOptions
from tasks.machine import SHARE, cores

# A task costs Prefect and its server a quarter of a second of a core, a small shard a tenth of that. A handful is such
# a part of one worker's share of what is left, so that the last ones are single and nobody waits for another.
_OF_A_SHARE: Final = 8
# Two threads: a shard uses every core, for decoding and for the network, but not while it is validated: then the next
# one does. They take turns at the decode pool.
_TURNS: Final = 2
_PATIENCE_SECONDS: Final = 10.0
# What libraries of linear algebra read when they are loaded.
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LOUDER: Final = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"

# What is asked of a worker: what it lacks for its part of the run, in words; None: nothing.
Lacks = Callable[[], str | None]


@dataclass(frozen=True)
class Handful:
    """The shards that one task looks at, one after another."""

    shards: tuple[int, ...]

    def __str__(self) -> str:
        first, last = self.shards[0], self.shards[-1]
        return f"shard {first}" if first == last else f"shards {first} to {last}"


@dataclass(frozen=True)
class Workers:
    """What carries out tasks, and how many it carries out at a time."""

    runner: TaskRunner[Any]
    count: int


def handfuls(shards: Sequence[int], workers: int) -> list[Handful]:
    """A task a shard; where there are many for each worker, fewer tasks, the first of them for many neighbours (guided
    self-scheduling: Polychronopoulos and Kuck, IEEE Transactions on Computers C-36, 1987).
    """
    made = []
    while shards:
        size = max(1, len(shards) // (_OF_A_SHARE * workers))
        made.append(Handful(tuple(shards[:size])))
        shards = shards[size:]
    return made


def its_cluster(run: RunOptions) -> None:
    """Whether the run can have the workers that it asks for, before it does anything.

    Raises: WrongUse; OrchestratorError where no scheduler answers at the address.
    """
    if run.dask_address and run.runner != "dask":
        raise WrongUse(
            "A scheduler of Dask is named, and another runner.",
            parameter="dask_address",
            expected="runner dask beside it",
            found=f"runner {run.runner}",
        )
    if run.runner != "dask":
        return
    if find_spec("prefect_dask") is None:
        raise WrongUse("Dask is not installed.", parameter="runner", todo="pip install 'darkroom[dask]'")
    if run.dask_address:
        host, _, port = run.dask_address.rpartition("://")[2].rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_SECONDS).close()
        except OSError as error:
            raise _no_scheduler(run.dask_address, error) from error


@contextmanager
def workers_for(run: RunOptions, lacks: Lacks) -> Iterator[Workers]:
    """What carries out the tasks of a run: those that are submitted to it inside.

    `lacks` is asked of each worker of a cluster that was there before; it has to survive pickling.

    Raises: WorkersLost for workers that die again and again, at the latest when it is left; OrchestratorError for a
    cluster that does not answer, has no workers, or workers that lack something.
    """
    with ExitStack() as stack:
        if run.runner == "threads":
            yield Workers(stack.enter_context(ThreadPoolTaskRunner(max_workers=_TURNS)), _TURNS)
            return
        if not run.dask_address:
            stack.enter_context(environment_of(_of_a_worker(run.workers)))
        try:
            if run.runner == "processes":
                runner = stack.enter_context(ProcessPoolTaskRunner(run.workers, initializer=_end_with_parent))
                yield Workers(runner, run.workers)
            else:
                yield stack.enter_context(_on_dask(run, lacks))
        except Exception as error:
            if isinstance(error, BrokenProcessPool) or type(error).__name__ == "KilledWorker":
                raise WorkersLost(
                    "Worker processes ended before they had finished what they were given.",
                    found=str(error).splitlines()[0][:300],
                    todo="give them more memory, or start fewer of them, and run again: what was finished is kept",
                ) from error
            raise


def take_share() -> None:
    """The cores that this process computes with: of a Dask worker its threads, unless its environment says other."""
    threads = _threads_of_dask()
    if threads is not None:
        os.environ.setdefault(SHARE, str(threads))


@contextmanager
def _on_dask(run: RunOptions, lacks: Lacks) -> Iterator[Workers]:
    """On the cluster that is named; or on one of this machine that ends with the run: a shared one forgets nothing
    (prefect#21697), and its workers may have been started by anybody.
    """
    from prefect_dask.task_runners import DaskTaskRunner

    # One thread: Dask gives a worker as many tasks as it has threads, and each task wants the whole worker.
    own = {
        "n_workers": run.workers,
        "threads_per_worker": 1,
        "memory_limit": None,
        "dashboard_address": None,
        "silence_logs": logging.CRITICAL,
    }
    where = {"address": run.dask_address} if run.dask_address else {"cluster_kwargs": own}
    with DaskTaskRunner(**where, client_kwargs={"timeout": _PATIENCE_SECONDS}) as runner:
        try:
            client = runner.client
        except OSError as error:
            raise _no_scheduler(run.dask_address, error) from error
        if run.dask_address:
            _ask_workers(client, run.dask_address, lacks)
        try:
            yield Workers(runner, max(1, len(client.nthreads())))
        finally:
            # What the last tasks have to tell the server must not end with the workers, nor wait for another run.
            with suppress(Exception):  # a cluster that has gone: whatever ended the run is told
                client.run(send_what_waits, on_error="ignore")


def _ask_workers(client: Any, address: str, lacks: Lacks) -> None:
    try:
        client.wait_for_workers(1, timeout=_PATIENCE_SECONDS)
    except TimeoutError as error:
        raise OrchestratorError(
            f"The Dask cluster at {address} has no workers.", todo=f"start some: dask worker {address} --nthreads 1"
        ) from error
    lacking = {where: what for where, what in client.run(_ready, lacks, PREFECT_API_URL.value()).items() if what}
    if lacking:
        where, what = next(iter(lacking.items()))
        raise OrchestratorError(
            f"{len(lacking)} of the workers of the Dask cluster at {address} cannot take part.",
            found=f"{where}: {what}",
            todo="all machines need the same darkroom, the same folders under the same paths, and a Prefect server "
            "that each of them reaches (PREFECT_API_URL)",
        )


def _ready(lacks: Lacks, api: str) -> str | None:
    """Asked inside a worker that others may have used before."""
    if not is_prefect(api, timeout=_PATIENCE_SECONDS):
        return f"the Prefect server at {api} does not answer from there"
    send_what_waits()  # of a run that was killed: what follows is for the server of this one
    return lacks()


def _of_a_worker(workers: int) -> dict[str, str]:
    """What the environment says to one of so many workers of this machine."""
    share = str(max(1, cores() // workers))
    quiet = {_LOUDER: "CRITICAL"} if console_is_quiet() else {}
    return {SHARE: share, **dict.fromkeys(_THREADS, share), **quiet}


def _end_with_parent() -> None:
    """A worker of a pool waits for work for ever, also when the process that gave it is gone."""
    from multiprocessing import parent_process

    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="ends with its parent", daemon=True).start()


def _threads_of_dask() -> int | None:
    """Threads of the Dask worker that this is inside of."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return int(get_worker().state.nthreads)
    except ValueError:
        return None


def _no_scheduler(address: str, error: Exception) -> OrchestratorError:
    return OrchestratorError(
        f"The Dask scheduler at {address} does not answer.",
        found=error,
        todo="start it (dask scheduler), or leave dask_address empty: then the run starts a cluster of its own",
    )
