"""A bench for estimates of accuracy: what heads on a frozen backbone say of photos under every corruption.

The backbone sees each image under each corruption once; heads on its features are trained in seconds, so that several
splits can be tried. Images, too, are kept apart: those of the ladder are never those of a night.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.night import data
from darkroom import demo_world
from expectations.accuracy import learn_calibration
from expectations.class_mix import ClassMix, confusion_of
from expectations.estimates import Estimator, LadderOutputs, learn_estimator, read_ladder
from expectations.linear_head import fit_head, head_probabilities
from expectations.outliers import NearestNeighbours, normalised
from expectations.projection import learn_projection
from expectations.signs import Reading, Signs, in_spreads
from tasks.corruptions import KINDS, STRENGTHS, corrupt_batch
from tasks.preprocessing import ImageRefused, Preprocessing, prepare, to_tensor
from tasks.presets import preset
from tasks.training.ladder import properties_of

TRAINED, LADDER, NIGHT = 430, 300, 300
MIXED = 150  # images of a night with another class mix
SHORTER = 200  # the default of a training
SPLITS = int(os.environ.get("DARKROOM_BENCHMARK_SPLITS", "8"))
SEED = 7
_DENSE = 256


@dataclass(frozen=True)
class Seen:
    """Of m photos: what the frozen backbone gives under every condition, as they are first (c, m, f), the properties at
    the model's size (c, m, p), and the label of each; and the features of those that heads learn from.
    """

    kinds: tuple[str, ...]
    features: NDArray[np.float16]
    properties: NDArray[np.float32]
    labels: NDArray[np.int64]
    training: NDArray[np.float32]
    training_labels: NDArray[np.int64]
    training_properties: NDArray[np.float32]
    classes: tuple[str, ...]
    strange: NDArray[np.float32]


@cache
def seen() -> Seen:
    """Every photo decoded once, every corruption once: minutes."""
    photos = sorted((data() / "trashnet").rglob("*.jpg"))
    classes = tuple(sorted({photo.parent.name for photo in photos}))
    labels = np.array([classes.index(photo.parent.name) for photo in photos])
    pixels = np.stack([_resized(photo) for photo in photos])
    pooled = _pooled()

    def features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        tensors = (to_tensor(images[start : start + 64], _pinned().values) for start in range(0, len(images), 64))
        return np.concatenate([pooled(one) for one in tensors])

    order = np.random.default_rng(SEED).permutation(len(photos))
    train, held = np.sort(order[:TRAINED]), np.sort(order[TRAINED : TRAINED + LADDER + NIGHT])
    found, measured, kinds = [features(pixels[held])], [properties_of(pixels[held])], [""]
    for kind in KINDS:
        for strength in STRENGTHS:
            worse = corrupt_batch(pixels[held], kind, strength, SEED, ids=held.tolist())
            found.append(features(worse))
            measured.append(properties_of(worse))
            kinds.append(kind)
    return Seen(
        kinds=tuple(kinds),
        features=np.stack(found).astype(np.float16),
        properties=np.stack(measured),
        labels=labels[held],
        training=features(pixels[train]),
        training_labels=labels[train],
        training_properties=properties_of(pixels[train]),
        classes=classes,
        strange=features(np.stack(_strange())),
    )


@dataclass(frozen=True)
class Model:
    """A head on the frozen features: (n, f) → probabilities (n, k), embedding (n, e)."""

    dense: NDArray[np.float32] | None
    weights: NDArray[np.float32]
    scale: float

    def __call__(self, features: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n, f) → probabilities, embedding."""
        x = np.asarray(features, np.float32) * self.scale
        if self.dense is not None:
            x = np.maximum(x @ self.dense[:-1] + self.dense[-1], 0)
        return head_probabilities(x, self.weights), x


def trained(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, seed: int, *, dense: bool) -> Model:
    """As the recipes of this project: a softmax on the pooled features, or behind a dense layer (L2, dropout)."""
    scale = float(1 / np.linalg.norm(features, axis=1).mean())
    if not dense:
        return Model(None, fit_head(features * scale, labels, classes, seed=seed), scale)
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    hidden = layers.Dense(_DENSE, "relu", kernel_regularizer=keras.regularizers.L2(1e-3))
    out = layers.Dense(classes, "softmax")
    inputs = keras.Input(features.shape[1:])
    model = keras.Model(inputs, out(layers.Dropout(0.3)(hidden(inputs))))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(features, labels, epochs=40, batch_size=32, verbose=0)
    both = [
        np.vstack([weights, bias]).astype(np.float32) for weights, bias in (hidden.get_weights(), out.get_weights())
    ]
    return Model(both[0], both[1], 1.0)


@dataclass(frozen=True)
class Bench:
    """One split: the ladder's images, those of the nights, and what the model says of all of them."""

    outputs: LadderOutputs
    ladder: NDArray[np.int64]
    night: NDArray[np.int64]
    training_properties: NDArray[np.float32]
    classes: tuple[str, ...]

    def of(self, images: NDArray[np.int64], conditions: NDArray[np.bool_] | None = None) -> LadderOutputs:
        """Some images, under some conditions."""
        one = self.outputs
        kept = np.ones(len(one.kinds), bool) if conditions is None else conditions
        return LadderOutputs(
            tuple(kind for kind, keep in zip(one.kinds, kept, strict=True) if keep),
            one.probabilities[kept][:, images],
            one.embedding[kept][:, images],
            one.far[kept][:, images],
            one.properties[kept][:, images],
            one.labels[images],
        )

    def learned(self, without: str = "") -> Estimator:
        """The estimator of a bundle; one kind of corruption left out, if it is named."""
        kept = np.array([not without or kind != without for kind in self.outputs.kinds])
        outputs = self.of(self.ladder, kept)
        plain = self.of(self.ladder).probabilities[0]
        reading, ladder = read_ladder(outputs, _temperature(plain, outputs.labels), self.training_properties)
        own = [self.classes[label] for label in outputs.labels]
        mix = ClassMix(
            self.classes, confusion_of(own, [self.classes[one] for one in plain.argmax(axis=1)], self.classes)
        )
        found = learn_estimator(ladder, reading, mix, float(outputs.right[0].mean()), len(self.ladder), seed=0)
        assert found is not None
        return found

    def asked(self, reading: Reading, condition: int, images: NDArray[np.int64]) -> tuple[Signs, float]:
        """A night's signs, and how often it was right."""
        one = self.outputs
        signs = reading.images(
            one.probabilities[condition, images], one.embedding[condition, images], one.far[condition, images]
        )
        # Photos and the model's own size have other units: both are told from the same images as they are.
        centre, spread = one.properties[0, self.ladder].mean(axis=0), one.properties[0, self.ladder].std(axis=0)
        moved = in_spreads(one.properties[condition, images].astype(np.float64), centre, np.maximum(spread, 1e-3))
        predicted = np.bincount(one.probabilities[condition, images].argmax(axis=1), minlength=len(self.classes))
        right = float(one.right[condition, images].mean())
        return Signs(signs.sum(axis=0), moved.sum(axis=0), predicted, len(images)), right


@cache
def model_of(*, dense: bool, without: int = -1) -> Model:
    everything = seen()
    kept = everything.training_labels != without
    return trained(
        everything.training[kept], everything.training_labels[kept], len(everything.classes), SEED, dense=dense
    )


def neighbours_of(model: Model, held: NDArray[np.int64], without: int = -1) -> NearestNeighbours:
    """The bank is the training images, calibrated on some held-out ones."""
    everything = seen()
    kept = everything.training_labels != without
    bank = normalised(model(everything.training[kept])[1]).astype(np.float16)
    empty = NearestNeighbours(bank, np.zeros(0))
    return NearestNeighbours(bank, np.sort(empty.distance(model(everything.features[0, held])[1])))


def bench(model: Model, ladder: NDArray[np.int64], night: NDArray[np.int64], without: int = -1) -> Bench:
    """What a model says of every image under every condition; a class that it never saw is always wrong."""
    everything = seen()
    neighbours = neighbours_of(model, ladder, without)
    plain = np.concatenate([everything.training, everything.features[0, ladder].astype(np.float32)])
    projection = learn_projection(model(plain)[1])
    probabilities, embedding, far = [], [], []
    for features in everything.features:
        shares, places = model(features)
        probabilities.append(shares)
        embedding.append(projection.apply(places))
        far.append(neighbours.score(places))
    outputs = LadderOutputs(
        everything.kinds,
        np.stack(probabilities),
        np.stack(embedding),
        np.stack(far),
        everything.properties,
        np.where(everything.labels == without, -1, everything.labels),
    )
    return Bench(outputs, ladder, night, everything.training_properties, everything.classes)


@cache
def benches() -> tuple[Bench, ...]:
    """Both heads, and several splits of the held-out images."""
    everything = seen()
    found = []
    for number in range(SPLITS):
        model = model_of(dense=bool(number % 2))
        order = np.random.default_rng([SEED, number]).permutation(len(everything.labels))
        found.append(bench(model, order[:LADDER], np.sort(order[LADDER:])))
    return tuple(found)


def _temperature(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> float:
    """As the seal learns it."""
    names = [str(number) for number in range(probabilities.shape[1])]
    profile = pd.DataFrame(
        {
            "split": "validation",
            "probabilities": list(probabilities),
            "label": [names[label] for label in labels],
            "predicted_class": [names[place] for place in probabilities.argmax(axis=1)],
        }
    )
    return learn_calibration(profile, names).temperature


@cache
def _pinned() -> Preprocessing:
    return preset("load_img", size=(224, 224), interpolation="lanczos", values="mobilenet_v2")


def _resized(file: Path) -> NDArray[np.uint8]:
    prepared = prepare(file.read_bytes(), _pinned())
    return np.asarray(np.clip(np.rint(prepared.resized), 0, 255), np.uint8)


def _pooled() -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    import keras
    import tensorflow as tf

    file = data() / "backbones" / "mobilenet_v2_0.35_224_no_top.keras"
    backbone = keras.models.load_model(file, compile=False)
    network = keras.Model(backbone.inputs, keras.layers.GlobalAveragePooling2D()(backbone.outputs[0]))
    forward = tf.function(lambda tensors: network(tensors, training=False), reduce_retracing=True)
    return lambda tensors: np.asarray(forward(tf.constant(tensors)))


def _strange() -> list[NDArray[np.uint8]]:
    """Odd images that decode, and photos of the drawn world."""
    with TemporaryDirectory() as folder:
        demo_world.draw_training(Path(folder), images=60, seed=1)
        files = [*sorted((data() / "images" / "odd").iterdir()), *sorted(Path(folder).rglob("*.*"))]
        found = []
        for file in files:
            try:
                found.append(_resized(file))
            except (ImageRefused, OSError):
                continue
    return found
