"""The process of one run: Prefect's engine, which ends when its worker does, however that ends.

Run by `darkroom serve` as `python -P -m darkroom.orchestrator.run_main`. A run that outlived its worker could not be
stopped by anybody, and would hold its inbox while the next attempt waits for it.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading
import time

# Enough to tell a server that is still there; less than a new server takes to start.
_GRACE_SECONDS = 5.0


def main() -> None:
    """Carry out the run that the environment names."""
    worker = os.getppid()
    threading.Thread(target=_end_with, args=(worker,), daemon=True).start()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


def _end_with(worker: int) -> None:
    while os.getppid() == worker:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
