"""The network and how it learns: a head on features computed once, on images end to end, and in a second phase."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.progress import Progress
from darkroom.settings import HeadOptions, TrainingRecipe
from tasks.training.augmentation import Augment, augmenter
from tasks.training.checkpoint import seeds
from tasks.training.examples import Changes, Examples
from tasks.training.learning import Phase, Sources, learn
from tasks.training.outputs import batches_of, computed, counter
from tasks.training.rows import Rows

EMBEDDING = "embedding"
# Passes over the training images with other augmentation, each through the frozen backbone once: the head then learns
# from their features. More passes gain little and cost a pass each.
AUGMENTED_PASSES = 4


@dataclass
class History:
    """Epoch by epoch; `phase` says which."""

    epochs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, phase: str, logs: dict[str, float]) -> None:
        """One epoch."""
        self.epochs.append({"phase": phase, "epoch": len(self.epochs) + 1, **{k: round(v, 5) for k, v in logs.items()}})


@dataclass(frozen=True)
class Features:
    """Pooled features of every decoded image by a backbone that stayed as it was, unaugmented; and the head on them,
    which gives probabilities, or `both` those and the embedding.
    """

    rows: Rows
    head: Any
    both: Any


@dataclass(frozen=True)
class Fitted:
    """How the learning went. `features` are there as long as nothing in the backbone was changed."""

    history: History
    features: Features | None


def build_model(backbone: Any, classes: int, options: HeadOptions, seed: int) -> Any:
    """Backbone → pooling → dense (L2) → dropout → softmax, in one functional model that loads in safe mode."""
    import keras
    from keras import initializers, layers

    def initial(number: int) -> Any:
        return initializers.GlorotUniform(seed=seeds(seed, "initial head", number)[0])

    pooled = layers.GlobalAveragePooling2D(name="pooling" if options.dense_units else EMBEDDING)(backbone.output)
    x = pooled
    if options.dense_units:
        x = layers.Dense(
            options.dense_units,
            "relu",
            kernel_initializer=initial(0),
            kernel_regularizer=keras.regularizers.L2(options.l2),
            name=EMBEDDING,
        )(x)
    x = layers.Dropout(options.dropout, seed=seeds(seed, "initial head", 1)[0], name="dropout")(x)
    output = layers.Dense(classes, "softmax", kernel_initializer=initial(2), name="probabilities")(x)
    return keras.Model(backbone.input, output, name="classifier")


def fit(
    model: Any, backbone: Any, train: Examples, held: Examples, recipe: TrainingRecipe, work: Path, progress: Progress
) -> Fitted:
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
        return Fitted(history, None)
    backbone.trainable = False
    phase = Phase("head", options.epochs, options.learning_rate, options.batch_size, options.patience, recipe.seed)
    features, sources = _head(model, backbone, train, held, recipe, phase, work, progress)
    told("head", learn(features.head, phase, sources, work, progress))
    tune = recipe.fine_tune
    if not tune.layers:
        return Fitted(history, features)
    _unfreeze(backbone, tune.layers)
    phase = Phase("fine-tune", tune.epochs, tune.learning_rate, options.batch_size, options.patience, recipe.seed)
    told("fine-tune", learn(model, phase, _images(train, held, recipe, phase), work, progress))
    return Fitted(history, None)


def predict(
    model: Any, examples: Examples, work: Path, progress: Progress, features: Features | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    """Probabilities (n, k) and embeddings (n, e), unaugmented; embeddings stay in `work`.

    Where there are features, no image goes through the backbone again.
    """
    import keras

    tick = counter("predict", len(examples.rows), "images", progress)
    if features is None:
        both = keras.Model(model.input, [model.output, model.get_layer(EMBEDDING).output])
        make = examples.batches
    else:
        both, make = features.both, batches_of(features.rows, examples.rows)
    outputs = computed(work, "predicted", both, len(examples.rows), make, [np.float32, np.float16], tick)
    return outputs[0][:], outputs[1].mapped()


def _images(train: Examples, held: Examples, recipe: TrainingRecipe, phase: Phase) -> Sources:
    """Tensors of images, other ones in each epoch where there is augmentation."""
    augment = augmenter(recipe.augmentation)

    def batches(epoch: int, order: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        return train.batches(order, phase.batch_size, _changes(augment, recipe, phase.name, epoch))

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
) -> tuple[Features, Sources]:
    """The layers on top as a model of its own, and the features that it learns from."""
    import keras
    from keras import layers

    augment = augmenter(recipe.augmentation)
    passes = AUGMENTED_PASSES if augment else 0
    everything = len(train.resized)
    whole = Examples(train.resized, np.arange(everything), np.zeros(everything, np.int64), train.preprocessing)
    total = everything + len(train.rows) * passes
    tick = counter("features", total, "images through the backbone", progress)
    pooled = keras.Model(backbone.input, layers.GlobalAveragePooling2D()(backbone.output))
    (plain,) = computed(work, "features", pooled, everything, whole.batches, [np.float32], tick)
    augmented = []
    for number in range(passes):
        changed = partial(train.batches, changes=_changes(augment, recipe, "features", number))
        augmented += computed(work, f"features-{number}", pooled, len(train.rows), changed, [np.float32], tick)
    inputs = embedding = y = keras.Input(plain.row_shape)
    names = [layer.name for layer in model.layers]
    for layer in model.layers[names.index(_pooling(model)) + 1 :]:
        y = layer(y)
        embedding = y if layer.name == EMBEDDING else embedding

    def batches(epoch: int, order: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        # Every pass counts as a part of one epoch, so that an epoch is as many steps as images.
        drawn = np.random.default_rng(seeds(phase.seed, "passes", epoch)).integers(passes + 1, size=len(order))
        for start in range(0, len(order), phase.batch_size):
            part, of = (numbers[start : start + phase.batch_size] for numbers in (order, drawn))
            x = np.empty((len(part), *plain.row_shape), np.float32)
            x[of == 0] = plain[train.rows[part[of == 0]]]
            for number in range(passes):
                x[of == number + 1] = augmented[number][part[of == number + 1]]
            yield x

    held_batches = partial(batches_of(plain, held.rows), size=1024)
    weights = _class_weights(train.labels, recipe.head)
    return Features(plain, keras.Model(inputs, y), keras.Model(inputs, [y, embedding])), Sources(
        batches, train.labels, held_batches, held.labels, weights
    )


def _changes(augment: Augment | None, recipe: TrainingRecipe, phase: str, number: int) -> Changes | None:
    return None if augment is None else Changes(augment, recipe.seed, phase, number)


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
