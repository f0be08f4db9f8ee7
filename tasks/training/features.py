"""What a frozen backbone sees: features computed once and kept on disk, and the head that learns from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.settings import HeadOptions
from tasks.training.checkpoint import seeds
from tasks.training.examples import Examples
from tasks.training.learning import Phase, Sources
from tasks.training.outputs import batches_of
from tasks.training.rows import Rows

EMBEDDING = "embedding"
# Passes over the training images with other augmentation, each through the frozen backbone once: the head then learns
# from their features. More passes gain little and cost a pass each.
AUGMENTED_PASSES = 6
_HELD_BATCH = 1024


@dataclass(frozen=True)
class Head:
    """The layers behind the pooling as a model: features (f,) → probabilities, or `both` those and the embedding."""

    probabilities: Any
    both: Any


@dataclass(frozen=True)
class Features:
    """Pooled features (f,): `plain` of every decoded image, `augmented` a store for each pass, in whose rows the
    training images are at `places`.
    """

    plain: Rows
    augmented: tuple[Rows, ...]
    places: NDArray[np.int64]

    def sources(self, train: Examples, held: Examples, phase: Phase, options: HeadOptions) -> Sources:
        """As a phase of learning takes them. A pass is a part of an epoch: an epoch is as many steps as images."""

        def batches(epoch: int, order: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
            drawn = np.random.default_rng(seeds(phase.seed, "passes", epoch)).integers(
                len(self.augmented) + 1, size=len(order)
            )
            for start in range(0, len(order), phase.batch_size):
                part, of = (numbers[start : start + phase.batch_size] for numbers in (order, drawn))
                x = np.empty((len(part), *self.plain.row_shape), np.float32)
                x[of == 0] = self.plain[train.rows[part[of == 0]]]
                for number, store in enumerate(self.augmented, start=1):
                    x[of == number] = store[self.places[part[of == number]]]
                yield x

        held_batches = partial(batches_of(self.plain, held.rows), size=_HELD_BATCH)
        return Sources(batches, train.labels, held_batches, held.labels, class_weights(train.labels, options))


def pooled(backbone: Any) -> Any:
    """Images → features (f,), averaged over the map."""
    import keras
    from keras import layers

    return keras.Model(backbone.input, layers.GlobalAveragePooling2D()(backbone.output))


def head_of(model: Any) -> Head:
    """The head of a whole network; they share their weights."""
    import keras
    from keras.layers import GlobalAveragePooling2D

    place = max(number for number, layer in enumerate(model.layers) if isinstance(layer, GlobalAveragePooling2D))
    inputs = embedding = y = keras.Input(model.layers[place].output.shape[1:])
    for layer in model.layers[place + 1 :]:
        y = layer(y)
        embedding = y if layer.name == EMBEDDING else embedding
    return Head(keras.Model(inputs, y), keras.Model(inputs, [y, embedding]))


def class_weights(labels: NDArray[np.int64], options: HeadOptions) -> NDArray[np.float32]:
    """By class position; all 1 where rare classes are not weighed up."""
    counts = np.maximum(np.bincount(labels), 1)
    weights = len(labels) / (len(counts) * counts) if options.class_weights else np.ones(len(counts))
    return np.asarray(weights, np.float32)
