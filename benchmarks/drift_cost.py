"""All statistics of a night of 100,000 images, in a process of its own: seconds and peak memory, as JSON."""

from __future__ import annotations

import json
import resource
import time
from datetime import date, timedelta

import numpy as np
import pandas as pd

from benchmarks.unchanged import World, bundle, draw, frame
from expectations.alarms import Earlier, compare
from expectations.drift import night_drift
from expectations.slices import NO_SLICES, Slices

IMAGES, SHARD, EARLIER, FOLDERS = 100_000, 2_000, 365, 40


def main() -> None:
    """Sketch shard by shard, with slices; compare as a whole, by slice and across a year of nights."""
    random = np.random.default_rng(11)
    world = World(10, 0.3)
    reference = bundle(world, random, 2000, 0.25)
    first = date(2025, 1, 1)
    shards = {}
    for number in range(2):
        rows = frame({key: column[0] for key, column in draw(world, random, 1, SHARD).items()})
        folder = random.integers(0, FOLDERS, SHARD)
        rows["path"] = [f"line-{where}/{number}-{k}.jpg" for k, where in enumerate(folder)]
        rows["content_id"] = [f"{number:08x}{k:08x}" for k in range(SHARD)]
        rows["camera"] = np.where(folder % 2, "Camera A", "Camera B")
        shards[number] = rows
    one = night_drift(reference, reference.sketch(shards[0]))
    earlier = pd.concat([one.assign(night=first + timedelta(days=k)) for k in range(EARLIER)], ignore_index=True)

    started = time.perf_counter()
    sketch, slices = reference.empty_sketch(), NO_SLICES
    for number in range(IMAGES // SHARD):
        rows = shards[number % 2]
        sketch = sketch.merge(reference.sketch(rows))
        slices = slices.merge(Slices.of(rows, reference))
    compared = compare(reference, sketch, slices, first + timedelta(days=EARLIER), Earlier(earlier))
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "seconds": seconds,
                "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "images": sketch.rows,
                "metrics": len(compared.whole),
                "slices": compared.slices.compared,
                "nights": len(compared.across.nights),
            }
        )
    )


if __name__ == "__main__":
    main()
