"""Nights in processes of their own, seen from outside: some at once, each process one after another.

Not threads: Great Expectations has one context a process, and a bundle that one night proves is replaced by the next.
Fresh interpreters, as in tasks.worker_process: a process that dies costs its night, and the next night gets a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from darkroom.errors import Failed

_ENDING_SECONDS: Final = 25.0


class NightProcess:
    """A process that is started when it is needed, and replaced when it died. One thread asks; any may end it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._wanted = True

    def score(self, flow_run: str) -> dict[str, Any]:
        """Carry out a run of `score`: its summary or its error, as JSON. Failed: the process ended before it told."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"flow_run": flow_run}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            how = self._reap()
            raise Failed("The process of this night ended before the night did.", found=how)
        told: dict[str, Any] = json.loads(line)
        return told

    def end(self) -> None:
        """Ask the process to stop what it is at, and start none again."""
        self._wanted = False
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def wait(self) -> None:
        """Until the process has ended; it is killed where that takes long."""
        if self._process is not None:
            self._reap()

    def _start(self) -> subprocess.Popen[str]:
        if not self._wanted:
            raise Failed("This night was not begun: the backfill was stopped.")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "flows.night_main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
            process_group=0,  # Ctrl-C is for us; the process ends with its input
        )
        return self._process

    def _reap(self) -> str:
        process, self._process = self._process, None
        assert process is not None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            code = process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class NightProcesses:
    """So many processes; leaving it, also by an exception or a signal, leaves none behind."""

    def __init__(self, count: int) -> None:
        self.all = tuple(NightProcess() for _ in range(count))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self.all:
            process.end()
        for process in self.all:
            process.wait()


def _environment() -> dict[str, str]:
    """These packages importable whatever folder the user stands in; nothing of the run that starts the process."""
    # What Prefect hands to a run's process (its id, the way to its supervisor) is for that process alone.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")}
    ours = str(Path(__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [ours, environment.get("PYTHONPATH")]))
    return environment
