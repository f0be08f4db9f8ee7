"""The network and how it learns: a head on features computed once, on images end to end, and in a second phase."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.progress import Progress
from darkroom.settings import HeadOptions, TrainingRecipe
from tasks.training.augmentation import augmenter
from tasks.training.examples import Changes, Examples
from tasks.training.features import (
    AUGMENTED_PASSES,
    Features,
    class_weights,
    computed,
    counter,
    head_of,
    pooled,
)
from tasks.training.learning import Phase, Sources, learn

EMBEDDING = "embedding"


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

    x = layers.GlobalAveragePooling2D(name="pooling" if options.dense_units else EMBEDDING)(backbone.output)
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
    phase = head_phase(options, recipe.seed)
    head, sources = _head(model, backbone, train, held, recipe, phase, work, progress)
    told("head", learn(head, phase, sources, work, progress))
    tune = recipe.fine_tune
    if tune.layers:
        _unfreeze(backbone, tune.layers)
        phase = Phase("fine-tune", tune.epochs, tune.learning_rate, options.batch_size, options.patience, recipe.seed)
        told("fine-tune", learn(model, phase, _images(train, held, recipe, phase), work, progress))
    return history


def head_phase(options: HeadOptions, seed: int) -> Phase:
    """How the layers on top learn."""
    return Phase("head", options.epochs, options.learning_rate, options.batch_size, options.patience, seed)


def predict(
    model: Any, examples: Examples, work: Path, progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    """Probabilities (n, k) and embeddings (n, e), unaugmented; embeddings stay in `work`."""
    import keras

    both = keras.Model(model.input, [model.output, model.get_layer(EMBEDDING).output])
    tick = counter("predict", len(examples.rows), "images", progress)
    probabilities, embeddings = computed(work, "predicted", both, examples, None, [np.float32, np.float16], tick)
    return probabilities[:], embeddings.mapped()


def _images(train: Examples, held: Examples, recipe: TrainingRecipe, phase: Phase) -> Sources:
    """Tensors of images, other ones in each epoch where there is augmentation."""
    augment = augmenter(recipe.augmentation)

    def batches(epoch: int, order: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        changes = None if augment is None else Changes(augment, recipe.seed, phase.name, epoch)
        return train.batches(order, phase.batch_size, changes)

    return Sources(batches, train.labels, held.batches, held.labels, class_weights(train.labels, recipe.head))


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
    augment = augmenter(recipe.augmentation)
    passes = AUGMENTED_PASSES + 1 if augment else 1
    tick = counter("features", len(train.rows) * passes + len(held.rows), "images through the backbone", progress)
    network = pooled(backbone)
    stores = []
    for number in range(passes):
        changes = Changes(augment, recipe.seed, "features", number) if augment and number else None
        stores += computed(work, f"features-{number}", network, train, changes, [np.float32], tick)
    (store_held,) = computed(work, "features-held", network, held, None, [np.float32], tick)
    features = Features(
        tuple(stores), np.arange(len(train.rows)), store_held, np.arange(len(held.rows)), train.labels, held.labels
    )
    return head_of(model), features.sources(phase, class_weights(train.labels, recipe.head))


def _unfreeze(backbone: Any, layers: int) -> None:
    from keras.layers import BatchNormalization

    backbone.trainable = True
    for number, layer in enumerate(backbone.layers):
        # A frozen BatchNormalization runs in inference mode: single images are what it will see (keras#12400).
        layer.trainable = number >= len(backbone.layers) - layers and not isinstance(layer, BatchNormalization)


def save(model: Any, path: Path) -> None:
    """As a .keras file."""
    model.save(path)
