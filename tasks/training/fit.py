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
from tasks.training.features import AUGMENTED_PASSES, EMBEDDING, Features, Head, class_weights, head_of, pooled
from tasks.training.learning import Phase, Sources, learn
from tasks.training.outputs import batches_of, computed, counter
from tasks.training.rows import Rows


@dataclass
class History:
    """Epoch by epoch; `phase` says which."""

    epochs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, phase: str, logs: dict[str, float]) -> None:
        """One epoch."""
        self.epochs.append({"phase": phase, "epoch": len(self.epochs) + 1, **{k: round(v, 5) for k, v in logs.items()}})


@dataclass(frozen=True)
class Fitted:
    """How the learning went. Of a backbone that came with weights: its `features` of every decoded image, as it came;
    and as long as nothing in it was changed, the `head` on them.
    """

    history: History
    features: Rows | None = None
    head: Head | None = None


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
    """Train in place; of each phase the weights of its best validation loss stay. `work` keeps what is finished.

    A backbone with weights is frozen: its features are computed once (a few times with augmentation), and only the head
    learns. A backbone without learns end to end. The second phase unfreezes the top of a frozen backbone, and
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
        return Fitted(history)
    backbone.trainable = False
    head, phase = head_of(model), head_phase(options, recipe.seed)
    features = _features(backbone, train, recipe, work, progress)
    told("head", learn(head.probabilities, phase, features.sources(train, held, phase, options), work, progress))
    if not recipe.fine_tunes:
        return Fitted(history, features.plain, head)
    tune = recipe.fine_tune
    _unfreeze(backbone, tune.layers)
    phase = Phase("fine-tune", tune.epochs, tune.learning_rate, options.batch_size, options.patience, recipe.seed, True)
    told("fine-tune", learn(model, phase, _images(train, held, recipe, phase), work, progress))
    return Fitted(history, features.plain)


def head_phase(options: HeadOptions, seed: int) -> Phase:
    """How the layers on top learn."""
    return Phase("head", options.epochs, options.learning_rate, options.batch_size, options.patience, seed)


def predict(
    model: Any, examples: Examples, work: Path, progress: Progress, fitted: Fitted | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    """Probabilities (n, k) and embeddings (n, e), unaugmented; embeddings stay in `work`.

    Where its learning left features, no image goes through the backbone again.
    """
    import keras

    tick = counter("predict", len(examples.rows), "images", progress)
    if fitted is not None and fitted.features is not None and fitted.head is not None:
        both, make = fitted.head.both, batches_of(fitted.features, examples.rows)
    else:
        both = keras.Model(model.input, [model.output, model.get_layer(EMBEDDING).output])
        make = examples.batches
    outputs = computed(work, "predicted", both, len(examples.rows), make, [np.float32, np.float16], tick)
    return outputs[0][:], outputs[1].mapped()


def _images(train: Examples, held: Examples, recipe: TrainingRecipe, phase: Phase) -> Sources:
    """Tensors of images, other ones in each epoch where there is augmentation."""
    augment = augmenter(recipe.augmentation)

    def batches(epoch: int, order: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        return train.batches(order, phase.batch_size, _changes(augment, recipe, phase.name, epoch))

    return Sources(batches, train.labels, held.batches, held.labels, class_weights(train.labels, recipe.head))


def _features(backbone: Any, train: Examples, recipe: TrainingRecipe, work: Path, progress: Progress) -> Features:
    """Of every decoded image, and of the training images changed at random."""
    augment = augmenter(recipe.augmentation)
    passes = AUGMENTED_PASSES if augment else 0
    everything = len(train.resized)
    whole = Examples(train.resized, np.arange(everything), np.zeros(everything, np.int64), train.preprocessing)
    total = everything + len(train.rows) * passes
    tick = counter("features", total, "images through the backbone", progress)
    network = pooled(backbone)
    (plain,) = computed(work, "features", network, everything, whole.batches, [np.float32], tick)
    augmented = []
    for number in range(passes):
        changed = partial(train.batches, changes=_changes(augment, recipe, "features", number))
        augmented += computed(work, f"features-{number}", network, len(train.rows), changed, [np.float32], tick)
    return Features(plain, tuple(augmented), np.arange(len(train.rows)))


def _changes(augment: Augment | None, recipe: TrainingRecipe, phase: str, number: int) -> Changes | None:
    return None if augment is None else Changes(augment, recipe.seed, phase, number)


def _unfreeze(backbone: Any, layers: int) -> None:
    from keras.layers import BatchNormalization

    backbone.trainable = True
    for number, layer in enumerate(backbone.layers):
        # A frozen BatchNormalization runs in inference mode: single images are what it will see (keras#12400).
        layer.trainable = number >= len(backbone.layers) - layers and not isinstance(layer, BatchNormalization)


def save(model: Any, path: Path) -> None:
    """As a .keras file."""
    model.save(path)
