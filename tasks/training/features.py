"""What a frozen backbone sees: features computed once and kept on disk, and a head that learns from them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.progress import Progress
from darkroom.settings import HeadOptions
from darkroom.storage import LocalStorage
from tasks.training.checkpoint import seeds
from tasks.training.examples import BATCH, Changes, Examples
from tasks.training.learning import Phase, Sources, forward
from tasks.training.rows import Rows

# Passes over the training images with other augmentation, each through the frozen backbone once: the head then learns
# from their features. More passes gain little and cost a pass each.
AUGMENTED_PASSES = 6
RECORD_SECONDS = 5.0
_HELD_BATCH = 1024


@dataclass(frozen=True)
class Features:
    """Features (f,) of training images, a store for each pass with other augmentation, and of held-out ones; which rows
    of the stores count, and their labels as positions.
    """

    passes: tuple[Rows, ...]
    train: NDArray[np.int64]
    held_store: Rows
    held: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    held_labels: NDArray[np.int64]

    def sources(self, phase: Phase, class_weights: NDArray[np.float32]) -> Sources:
        """As a phase of learning takes them."""

        def batches(epoch: int, order: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
            # Every pass counts as a part of one epoch, so that an epoch is as many steps as images.
            drawn = np.random.default_rng(seeds(phase.seed, "passes", epoch)).integers(
                len(self.passes), size=len(order)
            )
            for start in range(0, len(order), phase.batch_size):
                part = order[start : start + phase.batch_size]
                x = np.empty((len(part), *self.held_store.row_shape), np.float32)
                for number in np.unique(drawn[part]):
                    mine = drawn[part] == number
                    x[mine] = self.passes[number][self.train[part[mine]]]
                yield x

        def held_batches() -> Iterator[NDArray[np.float32]]:
            for start in range(0, len(self.held), _HELD_BATCH):
                yield self.held_store[self.held[start : start + _HELD_BATCH]]

        return Sources(batches, self.train_labels, held_batches, self.held_labels, class_weights)


def pooled(backbone: Any) -> Any:
    """Images → features (f,), averaged over the map."""
    import keras
    from keras import layers

    return keras.Model(backbone.input, layers.GlobalAveragePooling2D()(backbone.output))


def head_of(model: Any) -> Any:
    """The layers behind the pooling as a model of its own, which shares their weights: (f,) → probabilities."""
    import keras
    from keras.layers import GlobalAveragePooling2D

    place = max(number for number, layer in enumerate(model.layers) if isinstance(layer, GlobalAveragePooling2D))
    inputs = keras.Input(model.layers[place].output.shape[1:])
    y = inputs
    for layer in model.layers[place + 1 :]:
        y = layer(y)
    return keras.Model(inputs, y)


def computed(
    work: Path,
    name: str,
    model: Any,
    examples: Examples,
    changes: Changes | None,
    dtypes: list[Any],
    tick: Callable[[int], None],
) -> list[Rows]:
    """A model's outputs for all examples, on disk; goes on after the rows that an earlier process has finished."""
    storage = LocalStorage(work.absolute())
    record = storage.peek(f"{name}.json")
    finished = 0 if record is None else int(json.loads(record)["rows"])
    outputs = [tuple(output.shape[1:]) for output in model.outputs]
    stores = [
        Rows(work / f"{name}-{number}.rows", shape, dtype, finished)
        for number, (shape, dtype) in enumerate(zip(outputs, dtypes, strict=True))
    ]
    tick(finished)
    if finished == len(examples.rows):
        return stores

    def write() -> None:
        for store in stores:
            store.sync()
        storage.write(f"{name}.json", json.dumps({"rows": len(stores[0])}).encode())

    run = forward(model)
    written = time.monotonic()
    for batch in examples.batches(changes=changes, start=finished // BATCH):
        answers = run(batch)
        for store, answer in zip(stores, answers if isinstance(answers, list | tuple) else [answers], strict=True):
            store.append(answer)
        if time.monotonic() - written >= RECORD_SECONDS and len(stores[0]) < len(examples.rows):
            write()
            written = time.monotonic()
        tick(len(batch))
    write()
    return stores


def counter(stage: str, total: int, note: str, progress: Progress) -> Callable[[int], None]:
    """Tells the progress of a stage, so many images at a time."""
    done = 0

    def tick(images: int) -> None:
        nonlocal done
        done += images
        if images:
            progress(stage, done, total, note)

    return tick


def class_weights(labels: NDArray[np.int64], options: HeadOptions) -> NDArray[np.float32]:
    """By class position; all 1 where rare classes are not weighed up."""
    counts = np.maximum(np.bincount(labels), 1)
    weights = len(labels) / (len(counts) * counts) if options.class_weights else np.ones(len(counts))
    return np.asarray(weights, np.float32)
