"""Ten thousand shards through the orchestrator, looked at in an instant: what is left is the cost of orchestration.

The flow, the Prefect server, the staging, the commit and the page are real. Only the look at the images of a shard is
not: benchmarks.instant returns the row of an image that was looked at before, under the name and content of this one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Final

import psutil

from benchmarks.harness import Measured, Row
from darkroom.settings import IntakeOptions, NightOptions, RunOptions

SHARDS: Final = 10_000
# After so many the server has loaded whatever it loads.
EARLY: Final = 1_000


def ten_thousand_shards() -> Mapping[str, Measured]:
    """Seconds of the whole night, and the server's memory at its end against that after the first thousand shards."""
    from benchmarks.speed import bundle, draw_photo, work

    photo = work() / "one-of-ten-thousand.jpg"
    draw_photo(1).resize((64, 48)).save(photo, quality=80)
    return night_of_shards(bundle(0.35, "load_img").path, photo.read_bytes(), work() / "shards", SHARDS)


def night_of_shards(bundle: Path, photo: bytes, folder: Path, shards: int) -> Mapping[str, Measured]:
    """Each shard is one image: this photo, made another content by some bytes behind its end. Two workers."""
    import dask

    from darkroom.orchestrator import api
    from flows.score import score

    inbox = folder / "inbox"
    inbox.mkdir(parents=True)
    for number in range(shards):
        (inbox / f"{number:05d}.jpg").write_bytes(photo + f"{number:05d}".encode())
    instantly = dask.config.set({"distributed.worker.preload": ["benchmarks.instant"]})
    with api(), instantly, _watched(folder) as watched:
        started = time.perf_counter()
        score(
            bundle=bundle,
            inbox=str(inbox),
            results=folder / "results",
            night=NightOptions(night=date(2026, 3, 1)),
            intake=IntakeOptions(settle_seconds=0),
            run=RunOptions(shard_size=1, runner="dask", workers=2),
        )
        seconds = time.perf_counter() - started
    early = next(memory for done, memory in watched if done >= min(EARLY, shards))
    late = watched[-1][1]
    note = f"{shards / seconds:.0f} shards a second; proof, intake, page and commit are among it"
    memory = f"{early / 1e6:.0f} MB after {EARLY:,} shards, {late / 1e6:.0f} MB at the end of the night"
    return {
        "ten_thousand_shards_seconds": Measured(seconds, note),
        "ten_thousand_shards_server_memory": Measured(late / early, memory, watched),
    }


@contextmanager
def _watched(folder: Path) -> Iterator[list[tuple[int, int]]]:
    """Every few seconds: shards that are finished, and resident bytes of the server that this process has started."""
    seen: list[tuple[int, int]] = [(0, 0)]
    over = threading.Event()

    def watch() -> None:
        servers = [one for one in psutil.Process().children(recursive=True) if "server_main" in str(one.cmdline())]
        while not over.wait(5):
            at_work = [os.listdir(place) for place in folder.glob("results/staging/*/shards")]  # noqa: PTH208
            done = sum(name.endswith(".json") for names in at_work for name in names)
            seen.append((max(done, seen[-1][0]), sum(one.memory_info().rss for one in servers)))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


ROWS: Mapping[str, Row] = {"ten_thousand_shards": ten_thousand_shards}
