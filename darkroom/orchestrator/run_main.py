"""The process of one run: Prefect's engine, which ends when its worker does, however that ends.

Run by `darkroom serve` as `python -P -m darkroom.orchestrator.run_main`. A run that outlived its worker could not be
stopped by anybody, and would hold its inbox while the next attempt waits for it.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import threading
import time
from uuid import UUID

# For a server that is still there; a new one takes longer to start, and is told by whoever starts it.
_TELLING_SECONDS = 5.0


def main() -> None:
    """Carry out the run that the environment names."""
    worker, run = os.getppid(), UUID(os.environ["PREFECT__FLOW_RUN_ID"])
    threading.Thread(target=_end_with, args=(worker, run), daemon=True).start()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


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
