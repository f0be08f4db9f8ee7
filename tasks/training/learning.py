"""A phase of learning: epochs over batches, the best weights by validation loss, a checkpoint to go on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.progress import Progress
from tasks.machine import import_tensorflow
from tasks.training.checkpoint import Arrays, Checkpoint, seeds

# A checkpoint may cost as much as a short epoch. What a kill loses is made again, and alike.
CHECKPOINT_SECONDS = 2.0

Inputs = NDArray[np.float32]


@dataclass(frozen=True)
class Phase:
    """How long and how fast; `name` also names its random numbers and its checkpoint. What has `learned` before must
    not end worse than it begins.
    """

    name: str
    epochs: int
    learning_rate: float
    batch_size: int
    patience: int
    seed: int
    learned: bool = False


@dataclass(frozen=True)
class Sources:
    """Where the numbers come from: a training epoch's batches in the order of given positions, the held-out ones."""

    train: Callable[[int, NDArray[np.int64]], Iterator[Inputs]]
    train_labels: NDArray[np.int64]
    held: Callable[[], Iterator[Inputs]]
    held_labels: NDArray[np.int64]
    class_weights: NDArray[np.float32]


def learn(model: Any, phase: Phase, sources: Sources, work: Path, progress: Progress) -> list[dict[str, float]]:
    """Train in place; the weights of the lowest validation loss stay. One entry an epoch: loss, accuracy, val_….

    Epoch by epoch everything random is drawn from (seed, phase, epoch): stopped anywhere and taken up again from the
    checkpoint in `work`, a phase ends with the same weights.
    """
    state = Checkpoint.load(work, phase.name)
    if not state.finished:
        state = _epochs(model, phase, sources, state, work, progress)
    model.set_weights(state.best)
    return state.epochs


def forward(model: Any) -> Callable[[Inputs], Any]:
    """The model in inference mode as one graph for every number of images."""
    tf = import_tensorflow()
    spec = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
    graph = tf.function(lambda x: model(x, training=False), input_signature=[spec])

    def run(batch: Inputs) -> Any:
        return tf.nest.map_structure(lambda output: np.asarray(output.numpy()), graph(tf.constant(batch)))

    return run


def _epochs(
    model: Any, phase: Phase, sources: Sources, state: Checkpoint, work: Path, progress: Progress
) -> Checkpoint:
    import keras

    optimizer = keras.optimizers.Adam(phase.learning_rate)
    optimizer.build(model.trainable_variables)
    if state.weights:
        model.set_weights(state.weights)
        for variable, value in zip(optimizer.variables, state.optimizer, strict=True):
            variable.assign(value)
    step, answer = _step(model, optimizer), forward(model)
    if phase.learned and not state.best:
        state = Checkpoint(loss=_validated(answer, sources)["val_loss"], best=model.get_weights())
    n = len(sources.train_labels)
    written = time.monotonic()
    for epoch in range(len(state.epochs), phase.epochs):
        _reseed(model, phase, epoch)
        order = np.random.default_rng(seeds(phase.seed, phase.name, epoch)).permutation(n)
        loss = right = done = 0.0
        for x in sources.train(epoch, order):
            labels = sources.train_labels[order[int(done) : int(done) + len(x)]]
            one_loss, one_right = step(x, labels, sources.class_weights[labels])
            loss, right, done = loss + float(one_loss) * len(x), right + float(one_right), done + len(x)
            progress(phase.name, epoch * n + int(done), phase.epochs * n, f"epoch {epoch + 1}")
        logs = {"accuracy": right / n, "loss": loss / n, **_validated(answer, sources)}
        last = epoch + 1 == phase.epochs
        state = _judged(state, logs, model, phase, last)
        if not state.finished and time.monotonic() - written >= CHECKPOINT_SECONDS:
            _with_state(state, model, optimizer).save(work, phase.name)
            written = time.monotonic()
        progress(phase.name, (epoch + 1) * n, phase.epochs * n, f"epoch {epoch + 1}: {_told(logs)}")
        if state.finished:
            break
    state.save(work, phase.name)
    return state


def _step(model: Any, optimizer: Any) -> Callable[[Inputs, NDArray[np.int64], NDArray[np.float32]], tuple[Any, Any]]:
    """One batch forward and back: the mean weighted loss with its penalties, and how many were right.

    One graph for every number of images: the last batch of an epoch is a shorter one, and a network may take longer to
    trace than to train.
    """
    tf = import_tensorflow()
    import keras

    crossentropy = keras.losses.SparseCategoricalCrossentropy()
    shape = (None, *model.inputs[0].shape[1:])

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec(shape), tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None,))]
    )
    def step(x: Any, labels: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            probabilities = model(x, training=True)
            loss = crossentropy(labels, probabilities, sample_weight=weights)
            if model.losses:
                loss += tf.add_n(model.losses)
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        right = tf.reduce_sum(tf.cast(tf.argmax(probabilities, axis=1) == labels, tf.int64))
        return loss, right

    def run(x: Inputs, labels: NDArray[np.int64], weights: NDArray[np.float32]) -> tuple[Any, Any]:
        loss, right = step(tf.constant(x), tf.constant(labels), tf.constant(weights))
        return loss, right

    return run


def _judged(state: Checkpoint, logs: dict[str, float], model: Any, phase: Phase, last: bool) -> Checkpoint:
    """Early stopping: is this the lowest validation loss, and is there hope for a lower one?"""
    epochs = [*state.epochs, logs]
    if logs["val_loss"] < state.loss or not state.best:
        return Checkpoint(epochs, logs["val_loss"], 0, last, best=model.get_weights())
    waited = state.waited + 1
    return Checkpoint(epochs, state.loss, waited, last or waited >= phase.patience, best=state.best)


def _with_state(state: Checkpoint, model: Any, optimizer: Any) -> Checkpoint:
    variables: Arrays = [np.asarray(variable.numpy()) for variable in optimizer.variables]
    return Checkpoint(state.epochs, state.loss, state.waited, False, model.get_weights(), variables, state.best)


def _reseed(model: Any, phase: Phase, epoch: int) -> None:
    """Dropout counts its draws from the beginning of the process; here from the beginning of the epoch."""
    import keras

    for number, layer in enumerate(_layers(model)):
        for value in vars(layer).values():
            if isinstance(value, keras.random.SeedGenerator):
                value.state.assign(np.array(seeds(phase.seed, phase.name, epoch, number), np.uint32))


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _layers(layer)
        else:
            yield layer


def _validated(answer: Callable[[Inputs], Any], sources: Sources) -> dict[str, float]:
    loss = right = done = 0.0
    for x in sources.held():
        labels = sources.held_labels[int(done) : int(done) + len(x)]
        probabilities = answer(x)
        own = np.clip(probabilities[np.arange(len(x)), labels], 1e-7, 1).astype(np.float64)
        loss += float(-np.log(own).sum())
        right += float((probabilities.argmax(axis=1) == labels).sum())
        done += len(x)
    return {"val_loss": loss / done, "val_accuracy": right / done}


def _told(logs: dict[str, float]) -> str:
    return f"validation loss {logs['val_loss']:.3f}, accuracy {logs['val_accuracy']:.3f}"
