"""The same files and model by Ray Data, in a process of its own.

`python -m benchmarks.ray_peer MODEL FOLDER [FOLDER …]` prints one JSON object: seconds of each folder.
Ray is not among the extras: `pip install 'ray[data]'`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any

import numpy as np


class Predictor:
    """As Ray's guide to batch inference writes it: the model loaded once, called with a batch."""

    def __init__(self, model: str) -> None:
        import keras

        self.model = keras.saving.load_model(model, compile=False)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Prepared as the bundle has it, and answered."""
        tensors = np.asarray(batch["image"], np.float32) / 127.5 - 1
        return {"probabilities": self.model.predict(tensors, verbose=0)}


def main(model: str, folders: list[str]) -> None:
    """Each folder from its files to the last row of probabilities."""
    import ray

    ray.init(num_cpus=len(os.sched_getaffinity(0)), include_dashboard=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    seconds = []
    for folder in folders:
        started = time.perf_counter()
        images = ray.data.read_images(folder, size=(224, 224), mode="RGB")
        answers = images.map_batches(Predictor, fn_constructor_args=(model,), batch_size=32, concurrency=1)
        rows = sum(len(batch["probabilities"]) for batch in answers.iter_batches(batch_size=None))
        seconds.append(time.perf_counter() - started)
        print(f"{rows} rows in {seconds[-1]:.1f} s", file=sys.stderr)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
