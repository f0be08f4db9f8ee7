"""Twenty nights that are asked of one served darkroom at the same moment, some of them more than once."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx

import darkroom
from benchmarks.harness import Measured
from benchmarks.prefect import bundle, place
from darkroom import demo_world
from darkroom.settings import NightOptions
from tests.scheduled import IMAGES, Nights
from tests.served import Serve

# Nights of a folder each; the first three of them are asked for once more, and one growing folder three times.
NIGHTS: Final = 14
AGAIN: Final = 3
GROWING: Final = 3
MOST_SECONDS: Final = 3600


def at_once() -> Mapping[str, Measured]:
    """As the UI's form asks: all are served, one at a time; no night is lost, none comes twice."""
    nights = Nights(place("at-once"), bundle(), NIGHTS)
    growing = nights.folder / "growing"
    demo_world.draw_night(growing, "good", images=IMAGES, seed=1)
    apart = {"inbox": str(growing), "results": str(nights.folder / "results of growing")}
    asked: list[dict[str, Any]] = [
        *({"night": NightOptions(night=night).model_dump(mode="json")} for night in [*nights.all, *nights.all[:AGAIN]]),
        *itertools.repeat(apart, GROWING),
    ]
    # A person's darkroom: what the tests of it hurry, such as polls, is as slow as it is.
    with Serve(nights.folder) as serve:
        for name in ("PREFECT_WORKER_QUERY_SECONDS", "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS"):
            serve.environment.pop(name)
        serve.start()
        started = time.perf_counter()
        with serve.client() as client, ThreadPoolExecutor(len(asked)) as people:
            score = client.read_deployment_by_name("score/score").id
            address = f"{serve.address}/api/deployments/{score}/create_flow_run"
            answers = [*people.map(lambda one: _ask(address, one), asked)]
            waiting = {answer["id"] for answer in answers if answer is not None}
            while waiting and time.perf_counter() - started < MOST_SECONDS:
                time.sleep(1)
                waiting -= {run for run in waiting if client.read_flow_run(run).state.is_final()}
            seconds = time.perf_counter() - started
            runs = [run for run in client.read_flow_runs() if run.parameters.get("bundle") and run.start_time]
    found, rows = nights.found(), darkroom.read(apart["results"])["content_id"]
    spans = sorted((run.start_time, run.end_time) for run in runs)
    beside = sum(before[1] > after[0] for before, after in itertools.pairwise(spans))
    states = Counter(run.state.name for run in runs)
    work = sum(run.total_run_time.total_seconds() for run in runs)
    note = f"{seconds / len(asked):.0f} s a night, {work / len(asked):.0f} s of it in the flow"
    return {
        "at_once_accepted": Measured(len(asked) - answers.count(None), "each at its first try"),
        "at_once_completed": Measured(states["Completed"], f"of {len(asked)} that were asked for: {dict(states)}"),
        "at_once_nights_right": Measured(
            found.right + (len(rows) == IMAGES), f"{NIGHTS} nights of a folder each, and one growing folder"
        ),
        "at_once_rows_lost": Measured(found.lost + IMAGES - rows.nunique()),
        "at_once_rows_doubled": Measured(found.doubled + int(rows.duplicated().sum())),
        "at_once_beside_another": Measured(beside, "runs that began before the one before them had ended"),
        "at_once_seconds": Measured(seconds, note, [str(span) for span in spans]),
    }


def _ask(address: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
    """As a form in a browser: once. Prefect's own client would try again; None where the server says no."""
    answer = httpx.post(address, json={"parameters": parameters, "state": {"type": "SCHEDULED"}}, timeout=120)
    made: dict[str, Any] | None = answer.json() if answer.is_success else None
    return made
