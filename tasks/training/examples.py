"""Images of a split as the model sees them: read, changed at random and scaled in batches, one ahead of the step."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.preprocessing import Preprocessing, to_tensor
from tasks.training.augmentation import Augment
from tasks.training.checkpoint import seeds
from tasks.training.rows import Rows

BATCH = 64
_AHEAD = 2

T = TypeVar("T")


@dataclass(frozen=True)
class Changes:
    """How a pass over images changes them; seed, phase and number of the pass, so that it can be repeated."""

    augment: Augment
    seed: int
    phase: str
    number: int


@dataclass(frozen=True)
class Examples:
    """Images of a split: `resized` rows (h, w, 3) on disk, the positions that count, and their labels as positions."""

    resized: Rows
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    preprocessing: Preprocessing

    def batches(
        self,
        which: NDArray[np.int64] | None = None,
        size: int = BATCH,
        changes: Changes | None = None,
        start: int = 0,
    ) -> Iterator[NDArray[np.float32]]:
        """Tensors (≤ size, h, w, 3) of the examples at `which` (all of them, in order), from batch `start` on.

        A batch's random changes depend on its number, not on the batches before it.
        """
        rows = self.rows if which is None else self.rows[which]
        return ahead(self._tensors(rows, size, changes, start))

    def _tensors(
        self, rows: NDArray[np.int64], size: int, changes: Changes | None, start: int
    ) -> Iterator[NDArray[np.float32]]:
        for number in range(start, -(-len(rows) // size)):
            images = self.resized[rows[number * size : (number + 1) * size]]
            if changes is not None:
                images = changes.augment(
                    images, seeds(changes.seed, f"augment {changes.phase}", changes.number, number)
                )
            yield to_tensor(images, self.preprocessing.values)


def ahead(source: Iterable[T]) -> Iterator[T]:
    """The same, made by a thread of its own while the caller works on what it has; at most two are waiting."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(kind: str, what: Any) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                waiting.put((kind, what), timeout=0.1)
                return True
        return False

    def make() -> None:
        try:
            for one in source:
                if not put("one", one):
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, what = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise what
            yield what
    finally:
        stopped.set()
        thread.join()
