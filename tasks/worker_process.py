"""One decoding process from the outside: started when needed, asked one question at a time, killed when it is late."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import site
import socket
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import Failed
from tasks.shared_tensors import SharedTensors

_START_SECONDS: Final = 180.0  # TensorFlow from a cold disk
_DYING_SECONDS: Final = 5.0
_SINGLE_THREADED: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Died(Exception):
    """The process ended before it answered. `by_alarm`: it ended itself, being late."""

    def __init__(self, how: int | None) -> None:
        self.by_alarm = how == -signal.SIGALRM
        super().__init__(_how_it_ended(how))


class TooSlow(Exception):
    """No answer within the limit of time; the process was killed."""


class Answer(NamedTuple):
    """The line of JSON, and what follows it."""

    line: dict[str, Any]
    resized: NDArray[Any] | None
    thumbnail: bytes | None


class WorkerProcess:
    """A process that is replaced when it died. One thread at a time asks; `kill` may be called by any."""

    def __init__(self, instructions: bytes, shared: SharedTensors | None = None) -> None:
        self._instructions = instructions
        self._shared = shared
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._wanted = True
        self.answered = 0  # questions, by the process that is there

    def ask(self, question: dict[str, Any], data: bytes | None, max_seconds: float) -> Answer:
        """One file. Died, TooSlow: and the next question starts another process. Failed: none can be started."""
        connection = self._connection or self._start()
        try:
            connection.send_bytes(json.dumps(question).encode())
            if data is not None:
                connection.send_bytes(data)
            if not connection.poll(max_seconds):
                self.stop()
                raise TooSlow
            line = json.loads(connection.recv_bytes())
            self.answered += 1
            resized = _receive(connection, *line["resized"]) if line.get("resized") else None
            return Answer(line, resized, connection.recv_bytes() if line.get("thumbnail") else None)
        except (EOFError, OSError) as problem:
            raise Died(self.stop(wait=_DYING_SECONDS)) from problem

    def kill(self) -> None:
        """End the process now, and start none again. Whoever waits for its answer gets Died, then Failed."""
        self._wanted = False
        if self._process is not None:
            self._process.kill()

    def stop(self, wait: float = 0.0) -> int | None:
        """No process and no socket afterwards. Returns how it ended; it has `wait` seconds to end by itself."""
        how = None
        if self._process is not None:
            if wait:  # how it dies by itself is worth more than our SIGKILL
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=wait)
            self._process.kill()
            how = self._process.wait()
            self._process = None
            self.answered = 0
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        return how

    def _start(self) -> Connection:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with tempfile.TemporaryFile() as said:
            with theirs:
                passed = [theirs.fileno()] + ([self._shared.descriptor] if self._shared else [])
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-W", "ignore", "-m", "tasks.worker_main", *map(str, passed)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    pass_fds=passed,
                    env=_environment(),
                    process_group=0,  # Ctrl-C is for us; a worker ends when its socket does
                )
            connection = self._connection = Connection(ours.detach())
            if not self._wanted:  # killed between the two lines above and its own check
                self._process.kill()
            try:
                connection.send_bytes(self._instructions)
                ready = connection.poll(_START_SECONDS) and connection.recv_bytes() == b"ready"
            except (EOFError, OSError):
                ready = False
            if ready:
                return connection
            how = self.stop(wait=_DYING_SECONDS)
            said.seek(0)
            words = said.read().decode(errors="replace").strip()[-2000:]
        if not self._wanted:
            raise Failed("the decode pool was closed while it had work")
        raise Failed(
            "a decoding process did not start",
            expected="it answers `ready`",
            found=f"{_how_it_ended(how)}; it said: {words or 'nothing'}",
            todo="`import tasks.worker_main` in a fresh interpreter fails in the same way",
        )


def _receive(connection: Connection, shape: list[int], kind: str) -> NDArray[Any]:
    array: NDArray[Any] = np.empty(shape, dtype=np.dtype(kind))
    connection.recv_bytes_into(array.data.cast("B"))
    return array


def _how_it_ended(how: int | None) -> str:
    if how is None:
        return "it never ran"
    return f"ended by {signal.Signals(-how).name}" if how < 0 else f"ended with exit code {how}"


def _environment() -> dict[str, str]:
    """One thread a worker, no GPU, and these packages importable whatever folder the user stands in."""
    environment = dict(os.environ)
    ours = str(Path(__file__).resolve().parent.parent)
    if ours not in (*site.getsitepackages(), site.getusersitepackages()):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [ours, environment.get("PYTHONPATH")]))
    environment.update(dict.fromkeys(_SINGLE_THREADED, "1"))
    environment.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    # glibc keeps what an image needed for the next one, rather than asking the system for every page of it again.
    environment.update(MALLOC_MMAP_THRESHOLD_=str(32 * 1024**2), MALLOC_TRIM_THRESHOLD_=str(64 * 1024**2))
    environment.pop("PYTHONWARNINGS", None)
    return environment
