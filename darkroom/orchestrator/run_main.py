"""The process of one run: Prefect's engine, which ends when its worker does, however that ends.

Run by `darkroom serve` as `python -P -m darkroom.orchestrator.run_main`. A run that outlived its worker could not be
stopped by anybody, and would hold its inbox while the next attempt waits for it.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import threading
import time
from typing import Final
from uuid import UUID

# The word of a worker that is about to end. Not SIGTERM: Prefect takes that for a crash, and a person would be told of
# a night that failed, while it only waits for the next worker.
HAND_OVER: Final = signal.SIGUSR1

# For a server that is still there; a new one takes longer to start, and is told by whoever starts it.
_TELLING_SECONDS = 5.0


def main() -> None:
    """Carry out the run that the environment names."""
    worker, run = os.getppid(), UUID(os.environ["PREFECT__FLOW_RUN_ID"])
    # Before there are threads, and waited for in one: the main one may be inside a network for seconds.
    signal.pthread_sigmask(signal.SIG_BLOCK, {HAND_OVER})
    survive_a_broken_pipe()
    threading.Thread(target=_hand_over_when_asked, args=(run,), daemon=True).start()
    threading.Thread(target=_end_with, args=(worker, run), daemon=True).start()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


def survive_a_broken_pipe() -> None:
    """Let lines go nowhere when the worker, which reads them, has died.

    rich, with which Prefect writes its lines, ends the process instead (`SystemExit`): Prefect would tell the server of
    a crash, over the word that the night goes on.
    """
    from rich.console import Console

    def read_by_nobody(console: Console) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        os.close(nowhere)

    setattr(Console, "on_broken_pipe", read_by_nobody)  # noqa: B010 - an assignment, to a type checker, is a mistake


def _hand_over_when_asked(run: UUID) -> None:
    signal.sigwait({HAND_OVER})
    handed = threading.Event()
    telling = threading.Thread(target=_hand_over, args=(run, handed), daemon=True)
    telling.start()
    telling.join(_TELLING_SECONDS)
    if handed.is_set():
        telling.join(_TELLING_SECONDS)  # the last lines of the log are worth that much
        os._exit(0)  # what was finished is on disk; after another code the worker would call it crashed
    os.kill(os.getpid(), signal.SIGTERM)


def _hand_over(run: UUID, handed: threading.Event) -> None:
    from prefect.client.orchestration import get_client

    from darkroom.orchestrator.connection import send_what_waits
    from darkroom.orchestrator.lost import hand_over

    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        if hand_over(client, run):
            handed.set()
            send_what_waits()


def _end_with(worker: int, run: UUID) -> None:
    while os.getppid() == worker:
        time.sleep(0.5)
    telling = threading.Thread(target=_tell, args=(run,), daemon=True)
    telling.start()
    telling.join(_TELLING_SECONDS)
    os._exit(1)  # as if killed: what was finished is on disk


def _tell(run: UUID) -> None:
    from prefect.client.orchestration import get_client

    from darkroom.orchestrator.lost import go_on_later

    # It may be gone together with the worker.
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        go_on_later(client, [run])


if __name__ == "__main__":
    main()
