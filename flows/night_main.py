"""The inside of a process that scores nights: the id of a flow run, what came of it, the id of the next, and so on.

Run by flows.night_process as `python -P -m flows.night_main`; one line of JSON each way. When its input ends, which the
system sees to however its parent ends, it stops the night that it is at, and ends.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, Final

from darkroom.errors import DarkroomError

# What a run that is asked to end has for telling the server so.
_GRACE_SECONDS: Final = 20.0


def main() -> None:
    """Score night after night, until the input ends."""
    # What libraries print is no answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asked: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    from darkroom.orchestrator import api

    with api():
        while (flow_run := asked.get()) is not None:
            print(json.dumps(_answer(flow_run)), file=answers, flush=True)
            asked.task_done()


def _listen(asked: queue.Queue[str | None]) -> None:
    for line in sys.stdin:
        asked.put(json.loads(line)["flow_run"])
    if asked.unfinished_tasks:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os._exit(1)
    asked.put(None)


def _answer(flow_run: str) -> dict[str, Any]:
    try:
        return {"summary": _score(flow_run)}
    except DarkroomError as error:
        return {"error": error.as_dict()}
    except Exception as error:  # one night must not end the others
        return {"error": {"error": type(error).__name__, "what": (str(error).splitlines() or [""])[0]}}


def _score(flow_run_id: str) -> dict[str, Any]:
    """Carry out a flow run that is there already: the summary of the night."""
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow

    from darkroom.summary import NightSummary
    from flows.score import score

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(flow_run_id))
    state: Any = run_flow(score, flow_run=flow_run, parameters=flow_run.parameters, return_type="state")
    summary = state.result(raise_on_failure=False)
    if isinstance(summary, NightSummary):
        return summary.model_dump(mode="json")
    raise summary


if __name__ == "__main__":
    main()
