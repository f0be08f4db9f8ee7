"""Decoding in processes that can be killed: a file that kills, hangs or swells its process costs one file.

A worker is a fresh interpreter that runs tasks.worker_main and answers over a socket pair. It is not multiprocessing's
child, which would run the user's own script again (an unguarded script must work). Workers hold no state, so they are
killed whenever that is simplest, and replaced when the next image needs one.

jobs ─► bounded look-ahead ─► one thread a worker ─ socket ─► worker: read, decode, prepare, measure
                                                  ◄─ a line of JSON ─┘    └─► the tensor, into shared memory

Nothing is unpickled here: what comes back was in one process with a stranger's file.
"""

from __future__ import annotations

import json
import os
import queue
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import WrongUse
from darkroom.reasons import Reason
from darkroom.storage import store_address
from tasks.decode import Limits
from tasks.identity import NotRead
from tasks.knobs import Preprocessing
from tasks.machine import cores
from tasks.memory import return_large_blocks
from tasks.object_inbox import fetch
from tasks.shared_tensors import SharedTensors
from tasks.worker_process import Died, TooSlow, WorkerProcess

_AHEAD_BYTES: Final = 96 * 1024**2  # of finished arrays that may wait for a slow consumer
# A few dozen keep the network busy; as many again are decoded meanwhile.
BATCH: Final = 32

_FETCHED_AT_ONCE: Final = 16


@dataclass(frozen=True)
class Job:
    """One file to decode: its path (in an object store, too), or its bytes.

    content_id: the sha256 (hex) that it had when it was seen.
    """

    key: int | str
    path: Path | None = None
    data: bytes | None = None
    content_id: str | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.data is None):
            raise WrongUse("a job is a path or bytes", expected="one of them", found=f"key {self.key!r}")


@dataclass(frozen=True)
class Wanted:
    """What to send back of each image. thumbnail: its longest side in pixels, 0 for none."""

    tensor: bool = True
    resized: bool = False
    properties: bool = True
    digests: bool = False
    thumbnail: int = 0


@dataclass(frozen=True)
class Arrived:
    """An image as wanted. tensor (h, w, 3) float32; resized (h, w, 3) uint8 or float32; thumbnail JPEG, upright."""

    key: int | str
    content_id: str
    tensor: NDArray[np.float32] | None
    resized: NDArray[Any] | None
    properties: dict[str, float | str | None] | None
    pixels_sha256: str | None
    tensor_sha256: str | None
    thumbnail: bytes | None


@dataclass(frozen=True)
class Refused:
    """A file that gave no pixels, and why. content_id is None where its bytes were never read."""

    key: int | str
    reason: Reason
    detail: str
    content_id: str | None


@dataclass(frozen=True)
class Batch:
    """Images that were decoded, in the jobs' order, their tensors (n, h, w, 3), and the files that gave none.

    The tensors lie in memory that later images come into: they hold until the next batch is asked for.
    """

    arrived: list[Arrived]
    tensors: NDArray[np.float32]
    refused: list[Refused]


class DecodePool:
    """Decodes files in `processes` workers (default: one a core), which start with the first jobs.

    A context manager; leaving it, also by an exception, leaves no process behind. Failed: workers do not start at all.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        wanted: Wanted | None = None,
        processes: int | None = None,
        limits: Limits | None = None,
    ) -> None:
        processes = cores() if processes is None else processes
        if processes < 1:
            raise WrongUse("a decode pool needs a process", expected="processes ≥ 1", found=processes)
        return_large_blocks()
        wanted = wanted or Wanted()
        self._limits = limits or Limits()
        bytes_each = 4 * prod(preprocessing.input_shape) * (1 + wanted.resized)
        self._ahead = max(2 * processes, min(16 * processes, _AHEAD_BYTES // bytes_each))
        self._batch = min(BATCH, self._ahead)
        # A batch that is looked at, and whole batches ahead of it: the tensors of each lie side by side.
        self._places = self._batch * (1 + -(-self._ahead // self._batch))
        self._shared = SharedTensors(self._places, preprocessing.input_shape) if wanted.tensor else None
        instructions = json.dumps(
            {
                "preprocessing": preprocessing.model_dump(mode="json"),
                "wanted": asdict(wanted),
                "limits": asdict(self._limits),
                "places": self._places,
            }
        ).encode()
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decode")
        self._workers = [WorkerProcess(instructions, self._shared) for _ in range(processes)]
        self._idle: queue.LifoQueue[WorkerProcess] = queue.LifoQueue()  # the last used again: few jobs start few
        for worker in self._workers:
            self._idle.put(worker)
        self._under_way: deque[Future[Arrived | Refused]] = deque()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, jobs: Iterable[Job]) -> Iterator[Arrived | Refused]:
        """The jobs' images, in the jobs' order; never an error for what is in a file.

        Lazy: jobs are taken by the caller's own thread, a bounded number ahead of what it was given, so that 10,000
        jobs need no more memory than 100; decoding goes on while the caller works on what it has.
        """
        for one in self._run(jobs):
            if isinstance(one, Arrived) and one.tensor is not None:
                yield replace(one, tensor=one.tensor.copy())
            else:
                yield one

    def batches(self, jobs: Iterable[Job]) -> Iterator[Batch]:
        """The same, a few dozen jobs at a time, with no tensor copied; only where tensors are wanted."""
        if self._shared is None:
            raise WrongUse("batches are of tensors", expected="Wanted(tensor=True)", found="Wanted(tensor=False)")
        outcomes = self._run(jobs)
        start = 0
        while found := list(islice(outcomes, self._batch)):
            arrived = [one for one in found if isinstance(one, Arrived)]
            tensors = self._shared.array[start : start + len(found)]
            if len(arrived) < len(found):
                tensors = tensors[[isinstance(one, Arrived) for one in found]]
            yield Batch(arrived, tensors, [one for one in found if isinstance(one, Refused)])
            start = (start + self._batch) % self._places

    def _run(self, jobs: Iterable[Job]) -> Iterator[Arrived | Refused]:
        """Of the places for tensors a batch is the caller's, those of what it was given last; the others come round."""
        if self._closed:
            raise WrongUse("the decode pool is closed", todo="open another")
        for future in self._under_way:  # of a run that was given up: its workers may still write
            if not future.cancel():
                future.exception()
        pending = self._under_way = deque()
        places = cycle(range(self._places))
        source = with_bytes(jobs, self._limits.max_bytes)
        try:
            while True:
                for job in islice(source, self._ahead - len(pending)):
                    pending.append(self._threads.submit(self._decode, job, next(places)))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            source.close()
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """Kill the workers and wait for their end; may be called again."""
        self._closed = True
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.stop()
        if self._shared is not None:
            self._shared.close()

    def _decode(self, job: Job | Refused, place: int) -> Arrived | Refused:
        if isinstance(job, Refused):
            return job
        worker = self._idle.get()
        try:
            return self._ask(worker, job, place)
        finally:
            self._idle.put(worker)

    def _ask(self, worker: WorkerProcess, job: Job, place: int) -> Arrived | Refused:
        """Tried once more in a new process, where the file may be innocent: after a death, which may have come from
        outside, and for want of memory, which files before it may have used up.
        """
        path = None if job.path is None else os.fspath(job.path)
        question = {"path": path, "content_id": job.content_id, "place": place}
        late = Refused(job.key, Reason.DECODE_TIMEOUT, f"more than {self._limits.max_seconds:g} s", job.content_id)
        death: Died | None = None
        for _ in range(2):
            try:
                line, resized, thumbnail = worker.ask(question, job.data, self._limits.max_seconds)
            except TooSlow:
                return late
            except Died as died:
                if died.by_alarm:
                    return late
                death = died
                continue
            if line.get("reason") == Reason.OUT_OF_MEMORY and worker.answered > 1:
                worker.stop()
                continue
            if "reason" in line:
                return Refused(job.key, Reason(line["reason"]), line["detail"], line["content_id"])
            return Arrived(
                key=job.key,
                content_id=line["content_id"],
                tensor=None if self._shared is None else self._shared.array[place],
                resized=resized,
                properties=line["properties"],
                pixels_sha256=line["pixels_sha256"],
                tensor_sha256=line["tensor_sha256"],
                thumbnail=thumbnail,
            )
        return Refused(job.key, Reason.DECODER_CRASHED, str(death), job.content_id)


def with_bytes(jobs: Iterable[Job], max_bytes: int) -> Generator[Job | Refused]:
    """The jobs in their order; those of an object store with their bytes, which a few threads fetch ahead."""
    coming: deque[Job | Future[Job | Refused]] = deque()
    pool = ThreadPoolExecutor(_FETCHED_AT_ONCE, thread_name_prefix="fetch")
    try:
        for job in jobs:
            address = None if job.path is None else store_address(job.path)
            coming.append(job if address is None else pool.submit(_fetched, job, address, max_bytes))
            while coming and (isinstance(coming[0], Job) or len(coming) >= _FETCHED_AT_ONCE):
                yield _ready(coming.popleft())
        while coming:
            yield _ready(coming.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ready(job: Job | Future[Job | Refused]) -> Job | Refused:
    return job if isinstance(job, Job) else job.result()


def _fetched(job: Job, address: str, max_bytes: int) -> Job | Refused:
    try:
        return replace(job, path=None, data=fetch(address, max_bytes))
    except NotRead as problem:
        return Refused(job.key, problem.reason, problem.detail, job.content_id)
