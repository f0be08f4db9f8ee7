"""What a phase of learning needs to go on where it was killed: weights, optimizer, the best weights, the epochs.

No stream of random numbers is in it: every one is drawn from (seed, phase, epoch, …), see `seeds`.
"""

from __future__ import annotations

import io
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import StorageError
from darkroom.storage import LocalStorage

Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """A phase after its `epochs`, one entry an epoch. `best` are the weights of the lowest validation loss so far,
    which is `loss`; `waited` epochs have passed since. A `finished` phase keeps only `best`.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    loss: float = float("inf")
    waited: int = 0
    finished: bool = False
    weights: Arrays = field(default_factory=list)
    optimizer: Arrays = field(default_factory=list)
    best: Arrays = field(default_factory=list)

    def save(self, work: Path, phase: str) -> None:
        """Complete or not at all, and on disk when this returns: `work`/<phase>.npz."""
        arrays: dict[str, Any] = {
            f"{part}-{number}": array
            for part in ("weights", "optimizer", "best")
            for number, array in enumerate(getattr(self, part))
        }
        told = {"epochs": self.epochs, "loss": self.loss, "waited": self.waited, "finished": self.finished}
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, told=np.frombuffer(json.dumps(told).encode(), np.uint8), **arrays)
        LocalStorage(work.absolute()).write(f"{phase}.npz", file.getvalue())

    @classmethod
    def load(cls, work: Path, phase: str) -> Checkpoint:
        """What an earlier process has left; a fresh one where there is nothing.

        Raises: StorageError where it cannot be read.
        """
        data = LocalStorage(work.absolute()).peek(f"{phase}.npz")
        if data is None:
            return cls()
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                told = json.loads(stored["told"].tobytes())
                return cls(
                    **told,
                    weights=_numbered(stored, "weights"),
                    optimizer=_numbered(stored, "optimizer"),
                    best=_numbered(stored, "best"),
                )
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise StorageError(
                "A checkpoint of the training cannot be read.",
                file=work / f"{phase}.npz",
                found=error,
                todo=f"remove {work} and train again",
            ) from error


def seeds(seed: int, phase: str, *numbers: int) -> tuple[int, int]:
    """Two seeds of 31 bits for one place of the training, such as (seed, "augment", epoch, batch)."""
    state = np.random.SeedSequence([seed, zlib.crc32(phase.encode()), *numbers]).generate_state(2) >> 1
    return int(state[0]), int(state[1])


def _numbered(stored: Any, part: str) -> Arrays:
    names = [name for name in stored.files if name.rpartition("-")[0] == part]
    return [stored[name] for name in sorted(names, key=lambda name: int(name.rpartition("-")[2]))]
