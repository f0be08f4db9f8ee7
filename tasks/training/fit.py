"""The head and how it learns: on features computed once, on images end to end, and in a second phase."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.progress import Progress
from darkroom.settings import HeadOptions, TrainingRecipe
from tasks.preprocessing import Preprocessing, to_tensor
from tasks.training.augmentation import augment, augmenter

EMBEDDING = "embedding"
# Passes over the training images with other augmentation, each through the frozen backbone once: the head then learns
# from their features. More passes gain little and cost a pass each.
AUGMENTED_PASSES = 4
_BATCH = 64


@dataclass(frozen=True)
class Examples:
    """Images of a split: `resized` (n, h, w, 3) on disk, the rows that count, and their labels as positions."""

    resized: NDArray[Any]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    preprocessing: Preprocessing

    def batches(self, size: int = _BATCH, steps: list[Any] | None = None) -> Iterator[NDArray[np.float32]]:
        """Tensors in order, augmented where steps are given."""
        for start in range(0, len(self.rows), size):
            yield self.tensors(self.rows[start : start + size], steps)

    def tensors(self, rows: NDArray[np.int64], steps: list[Any] | None = None) -> NDArray[np.float32]:
        """(len(rows), h, w, 3), as the model sees them."""
        resized = self.resized[np.sort(rows)][np.argsort(np.argsort(rows))]
        return to_tensor(augment(resized, steps) if steps else resized, self.preprocessing.values)


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
    model: Any, backbone: Any, train: Examples, held: Examples, recipe: TrainingRecipe, progress: Progress
) -> History:
    """Train in place; the weights of the best validation loss stay.

    A backbone with weights is frozen: its features are computed once (a few times with augmentation), and only the head
    learns. A backbone without learns end to end. The optional second phase unfreezes the top of a frozen backbone, and
    BatchNorm keeps the statistics that it will use on single images.
    """
    history = History()
    weights = _class_weights(train.labels) if recipe.head.class_weights else None
    if recipe.weights == "none":
        _end_to_end(
            model,
            train,
            held,
            recipe,
            recipe.head.learning_rate,
            recipe.head.epochs,
            weights,
            history,
            progress,
            "learn",
        )
    else:
        _head(model, backbone, train, held, recipe, weights, history, progress)
        if recipe.fine_tune.layers:
            _unfreeze(backbone, recipe.fine_tune.layers)
            tune = recipe.fine_tune
            _end_to_end(
                model, train, held, recipe, tune.learning_rate, tune.epochs, weights, history, progress, "fine-tune"
            )
    return history


def predict(model: Any, examples: Examples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (n, k) and embeddings (n, e), unaugmented, in batches."""
    import keras

    both = keras.Model(model.input, [model.output, model.get_layer(EMBEDDING).output])
    outputs = [[np.asarray(part) for part in both.predict_on_batch(batch)] for batch in examples.batches()]
    probabilities, embeddings = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
    return probabilities, embeddings


def features(backbone: Any, examples: Examples, steps: list[Any] | None, tick: Callable[[int], None]) -> Any:
    """Pooled features (n, c) of a frozen backbone."""
    import keras
    from keras import layers

    pooled = keras.Model(backbone.input, layers.GlobalAveragePooling2D()(backbone.output))
    parts = []
    for batch in examples.batches(steps=steps):
        parts.append(np.asarray(pooled.predict_on_batch(batch)))
        tick(len(batch))
    return np.concatenate(parts)


def _head(
    model: Any,
    backbone: Any,
    train: Examples,
    held: Examples,
    recipe: TrainingRecipe,
    weights: dict[int, float] | None,
    history: History,
    progress: Progress,
) -> None:
    import keras

    backbone.trainable = False
    steps = augmenter(recipe.augmentation, recipe.seed) if recipe.augmentation.active else None
    passes = AUGMENTED_PASSES if steps else 0
    total = len(train.rows) * (passes + 1) + len(held.rows)
    done = 0

    def tick(images: int) -> None:
        nonlocal done
        done += images
        progress("features", done, total, "images through the backbone")

    x = [features(backbone, train, None, tick)] + [features(backbone, train, steps, tick) for _ in range(passes)]
    x_held = features(backbone, held, None, tick)
    inputs = keras.Input(x_held.shape[1:])
    y = inputs
    for layer in model.layers[[layer.name for layer in model.layers].index(_pooling(model)) + 1 :]:
        y = layer(y)
    head = keras.Model(inputs, y)
    head.compile(
        keras.optimizers.Adam(recipe.head.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    # Every pass counts as a part of one epoch, so that an epoch is as many steps as images.
    rounds = np.random.default_rng(recipe.seed)
    best = _Best(recipe.head.patience)
    for epoch in range(recipe.head.epochs):
        drawn = np.stack(x)[rounds.integers(len(x), size=len(train.rows)), np.arange(len(train.rows))]
        fitted = head.fit(
            drawn, train.labels, batch_size=recipe.head.batch_size, epochs=1, verbose=0,
            class_weight=weights, validation_data=(x_held, held.labels),
        )  # fmt: skip
        logs = {name: float(values[-1]) for name, values in fitted.history.items()}
        history.add("head", logs)
        progress("head", epoch + 1, recipe.head.epochs, _told(logs))
        if best.enough(logs["val_loss"], head):
            break
    best.restore(head)


def _end_to_end(
    model: Any,
    train: Examples,
    held: Examples,
    recipe: TrainingRecipe,
    learning_rate: float,
    epochs: int,
    weights: dict[int, float] | None,
    history: History,
    progress: Progress,
    phase: str,
) -> None:
    import keras

    steps = augmenter(recipe.augmentation, recipe.seed) if recipe.augmentation.active else None
    model.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    random = np.random.default_rng(recipe.seed)
    best = _Best(recipe.head.patience)
    size = recipe.head.batch_size
    for epoch in range(epochs):
        order = random.permutation(len(train.rows))
        for start in range(0, len(order), size):
            part = order[start : start + size]
            sample = None if weights is None else np.array([weights[label] for label in train.labels[part].tolist()])
            logs = model.train_on_batch(
                train.tensors(train.rows[part], steps), train.labels[part], sample_weight=sample, return_dict=True
            )
            progress(phase, epoch * len(order) + start + len(part), epochs * len(order), f"epoch {epoch + 1}")
        logs = {name: float(value) for name, value in logs.items()} | _validated(model, held)
        history.add(phase, logs)
        progress(phase, (epoch + 1) * len(order), epochs * len(order), f"epoch {epoch + 1}: {_told(logs)}")
        if best.enough(logs["val_loss"], model):
            break
    best.restore(model)


def _validated(model: Any, held: Examples) -> dict[str, float]:
    probabilities = np.concatenate([np.asarray(model.predict_on_batch(batch)) for batch in held.batches()])
    own = np.clip(probabilities[np.arange(len(held.labels)), held.labels], 1e-7, 1)
    return {
        "val_loss": float(-np.log(own).mean()),
        "val_accuracy": float((probabilities.argmax(axis=1) == held.labels).mean()),
    }


class _Best:
    """Early stopping: the weights of the lowest validation loss, and when to give up hope for a lower one."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.loss = np.inf
        self.waited = 0
        self.weights: list[Any] | None = None

    def enough(self, loss: float, model: Any) -> bool:
        if loss < self.loss:
            self.loss, self.waited, self.weights = loss, 0, model.get_weights()
            return False
        self.waited += 1
        return self.waited >= self.patience

    def restore(self, model: Any) -> None:
        if self.weights is not None:
            model.set_weights(self.weights)


def _unfreeze(backbone: Any, layers: int) -> None:
    from keras.layers import BatchNormalization

    backbone.trainable = True
    for number, layer in enumerate(backbone.layers):
        # A frozen BatchNormalization runs in inference mode: single images are what it will see (keras#12400).
        layer.trainable = number >= len(backbone.layers) - layers and not isinstance(layer, BatchNormalization)


def _pooling(model: Any) -> str:
    from keras.layers import GlobalAveragePooling2D

    return str([layer.name for layer in model.layers if isinstance(layer, GlobalAveragePooling2D)][-1])


def _class_weights(labels: NDArray[np.int64]) -> dict[int, float]:
    counts = np.bincount(labels)
    return {label: float(len(labels) / (len(counts) * max(count, 1))) for label, count in enumerate(counts)}


def _told(logs: dict[str, float]) -> str:
    return f"validation loss {logs['val_loss']:.3f}, accuracy {logs['val_accuracy']:.3f}"


def save(model: Any, path: Path) -> None:
    """As a .keras file."""
    model.save(path)
