"""A network's answers for many images, computed once and kept on disk, from where an earlier process was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.progress import Progress
from darkroom.storage import LocalStorage
from tasks.training.examples import BATCH
from tasks.training.learning import forward
from tasks.training.rows import Rows

RECORD_SECONDS = 5.0


def batches_of(rows: Rows, which: NDArray[np.int64]) -> Callable[..., Iterator[NDArray[np.float32]]]:
    """Some rows in batches, from batch `start` on."""

    def batches(size: int = BATCH, start: int = 0) -> Iterator[NDArray[np.float32]]:
        for number in range(start, -(-len(which) // size)):
            yield rows[which[number * size : (number + 1) * size]]

    return batches


def computed(
    work: Path,
    name: str,
    model: Any,
    total: int,
    batches: Callable[..., Iterator[NDArray[np.float32]]],
    dtypes: list[Any],
    tick: Callable[[int], None],
) -> list[Rows]:
    """A model's outputs for `total` inputs, on disk; goes on after the rows that an earlier process has finished."""
    storage = LocalStorage(work.absolute())
    record = storage.peek(f"{name}.json")
    finished = 0 if record is None else int(json.loads(record)["rows"])
    outputs = [tuple(output.shape[1:]) for output in model.outputs]
    stores = [
        Rows(work / f"{name}-{number}.rows", shape, dtype, finished)
        for number, (shape, dtype) in enumerate(zip(outputs, dtypes, strict=True))
    ]
    tick(finished)
    if finished == total:
        return stores

    def write() -> None:
        for store in stores:
            store.sync()
        storage.write(f"{name}.json", json.dumps({"rows": len(stores[0])}).encode())

    run = forward(model)
    written = time.monotonic()
    for batch in batches(start=finished // BATCH):
        answers = run(batch)
        for store, answer in zip(stores, answers if isinstance(answers, list | tuple) else [answers], strict=True):
            store.append(answer)
        if time.monotonic() - written >= RECORD_SECONDS and len(stores[0]) < total:
            write()
            written = time.monotonic()
        tick(len(batch))
    write()
    return stores


def counter(stage: str, total: int, note: str, progress: Progress) -> Callable[[int], None]:
    """Progress of a stage, told by how many images more."""
    done = 0

    def tick(images: int) -> None:
        nonlocal done
        done += images
        if images:
            progress(stage, done, total, note)

    return tick
