"""The network and how it learns: a head on features computed once, on images end to end, and in a second phase."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.progress import Progress
from darkroom.settings import HeadOptions, TrainingRecipe
from darkroom.storage import LocalStorage
from tasks.training.augmentation import augmenter
from tasks.training.checkpoint import seeds
from tasks.training.examples import BATCH, Changes, Examples
from tasks.training.learning import Phase, Sources, forward, learn
from tasks.training.rows import Rows

EMBEDDING = "embedding"
# Passes over the training images with other augmentation, each through the frozen backbone once: the head then learns
# from their features. More passes gain little and cost a pass each.
AUGMENTED_PASSES = 4
RECORD_SECONDS = 5.0


@dataclass
class History:
    """Epoch by epoch; `phase` says which."""

    epochs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, phase: str, logs: dict[str, float]) -> None:
        """One epoch."""
        self.epochs.append({"phase": phase, "epoch": len(self.epochs) + 1, **{k: round(v, 5) for k, v in logs.items()}})


def build_model(backbone: Any, classes: int, options: HeadOptions) -> Any:
    """Backbone → pooling → dense (L2) → dropout → softmax, in one functional model that loads in safe mode."""
    import keras
    from keras import layers

    pooled = layers.GlobalAveragePooling2D(name="pooling" if options.dense_units else EMBEDDING)(backbone.output)
    x = pooled
    if options.dense_units:
        x = layers.Dense(
            options.dense_units, "relu", kernel_regularizer=keras.regularizers.L2(options.l2), name=EMBEDDING
        )(x)
    x = layers.Dropout(options.dropout, name="dropout")(x)
    output = layers.Dense(classes, "softmax", name="probabilities")(x)
    return keras.Model(backbone.input, output, name="classifier")


def fit(
    model: Any, backbone: Any, train: Examples, held: Examples, recipe: TrainingRecipe, work: Path, progress: Progress
) -> History:
    """Train in place; the weights of the best validation loss stay. `work` keeps what is finished.

    A backbone with weights is frozen: its features are computed once (a few times with augmentation), and only the head
    learns. A backbone without learns end to end. The optional second phase unfreezes the top of a frozen backbone, and
    BatchNorm keeps the statistics that it will use on single images.
    """
    history = History()

    def told(phase: str, epochs: list[dict[str, float]]) -> None:
        for logs in epochs:
            history.add(phase, logs)

    options = recipe.head
    if recipe.weights == "none":
        phase = Phase("learn", options.epochs, options.learning_rate, options.batch_size, options.patience, recipe.seed)
        told("learn", learn(model, phase, _images(train, held, recipe, phase), work, progress))
        return history
    backbone.trainable = False
    phase = Phase("head", options.epochs, options.learning_rate, options.batch_size, options.patience, recipe.seed)
    head, sources = _head(model, backbone, train, held, recipe, phase, work, progress)
    told("head", learn(head, phase, sources, work, progress))
    tune = recipe.fine_tune
    if tune.layers:
        _unfreeze(backbone, tune.layers)
        phase = Phase("fine-tune", tune.epochs, tune.learning_rate, options.batch_size, options.patience, recipe.seed)
        told("fine-tune", learn(model, phase, _images(train, held, recipe, phase), work, progress))
    return history


def predict(
    model: Any, examples: Examples, work: Path, progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    """Probabilities (n, k) and embeddings (n, e), unaugmented; embeddings stay in `work`."""
    import keras

    both = keras.Model(model.input, [model.output, model.get_layer(EMBEDDING).output])
    tick = _counter("predict", len(examples.rows), "images", progress)
    probabilities, embeddings = _computed(work, "predicted", both, examples, None, [np.float32, np.float16], tick)
    return probabilities[:], embeddings.mapped()


def _images(train: Examples, held: Examples, recipe: TrainingRecipe, phase: Phase) -> Sources:
    """Tensors of images, other ones in each epoch where there is augmentation."""
    augment = augmenter(recipe.augmentation)

    def batches(epoch: int, order: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        changes = None if augment is None else Changes(augment, recipe.seed, phase.name, epoch)
        return train.batches(order, phase.batch_size, changes)

    return Sources(batches, train.labels, held.batches, held.labels, _class_weights(train.labels, recipe.head))


def _head(
    model: Any,
    backbone: Any,
    train: Examples,
    held: Examples,
    recipe: TrainingRecipe,
    phase: Phase,
    work: Path,
    progress: Progress,
) -> tuple[Any, Sources]:
    """The layers on top as a model of its own, and the features that it learns from."""
    import keras
    from keras import layers

    augment = augmenter(recipe.augmentation)
    passes = AUGMENTED_PASSES + 1 if augment else 1
    tick = _counter("features", len(train.rows) * passes + len(held.rows), "images through the backbone", progress)
    pooled = keras.Model(backbone.input, layers.GlobalAveragePooling2D()(backbone.output))
    stores = []
    for number in range(passes):
        changes = Changes(augment, recipe.seed, "features", number) if augment and number else None
        stores += _computed(work, f"features-{number}", pooled, train, changes, [np.float32], tick)
    (store_held,) = _computed(work, "features-held", pooled, held, None, [np.float32], tick)
    inputs = keras.Input(store_held.row_shape)
    y = inputs
    names = [layer.name for layer in model.layers]
    for layer in model.layers[names.index(_pooling(model)) + 1 :]:
        y = layer(y)

    def batches(epoch: int, order: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        # Every pass counts as a part of one epoch, so that an epoch is as many steps as images.
        drawn = np.random.default_rng(seeds(phase.seed, "passes", epoch)).integers(passes, size=len(order))
        for start in range(0, len(order), phase.batch_size):
            part = order[start : start + phase.batch_size]
            x = np.empty((len(part), *store_held.row_shape), np.float32)
            for number in np.unique(drawn[part]):
                x[drawn[part] == number] = stores[number][part[drawn[part] == number]]
            yield x

    def held_batches() -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(held.rows), 1024):
            yield store_held[start : start + 1024]

    weights = _class_weights(train.labels, recipe.head)
    return keras.Model(inputs, y), Sources(batches, train.labels, held_batches, held.labels, weights)


def _computed(
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


def _counter(stage: str, total: int, note: str, progress: Progress) -> Callable[[int], None]:
    done = 0

    def tick(images: int) -> None:
        nonlocal done
        done += images
        if images:
            progress(stage, done, total, note)

    return tick


def _unfreeze(backbone: Any, layers: int) -> None:
    from keras.layers import BatchNormalization

    backbone.trainable = True
    for number, layer in enumerate(backbone.layers):
        # A frozen BatchNormalization runs in inference mode: single images are what it will see (keras#12400).
        layer.trainable = number >= len(backbone.layers) - layers and not isinstance(layer, BatchNormalization)


def _pooling(model: Any) -> str:
    from keras.layers import GlobalAveragePooling2D

    return str([layer.name for layer in model.layers if isinstance(layer, GlobalAveragePooling2D)][-1])


def _class_weights(labels: NDArray[np.int64], options: HeadOptions) -> NDArray[np.float32]:
    """By class position; all 1 where rare classes are not weighed up."""
    counts = np.maximum(np.bincount(labels), 1)
    weights = len(labels) / (len(counts) * counts) if options.class_weights else np.ones(len(counts))
    return np.asarray(weights, np.float32)


def save(model: Any, path: Path) -> None:
    """As a .keras file."""
    model.save(path)
