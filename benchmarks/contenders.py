"""One training from files to a trained model, in a process of its own: by darkroom, or as the Keras guides write it.

`python -m benchmarks.contenders WAY FOLDER RECIPE` prints one JSON object: seconds, cpu_seconds, images, epochs and
val_accuracy. The clocks start when the libraries are imported. Processor time, of the children too, is what other work
on the machine disturbs less.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from darkroom.settings import TrainingRecipe


def by_darkroom(folder: Path, recipe: TrainingRecipe) -> dict[str, float]:
    """Decode once, measure every property, train, and predict every image: more than Keras is asked for."""
    from tasks.training import train_model

    with TemporaryDirectory() as work:
        started = time.perf_counter()
        model = train_model(folder, recipe, Path(work))
        seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "images": int((model.profile["split"] == "train").sum()),
        "epochs": len(model.history),
        "val_accuracy": float(model.history[-1]["val_accuracy"]),
    }


def by_keras(folder: Path, recipe: TrainingRecipe, *, cached: bool) -> dict[str, float]:
    """image_dataset_from_directory, augmentation layers in the map, prefetch, fit; maybe a cache in memory."""
    import keras
    import tensorflow as tf

    from tasks.training.backbone import build_backbone

    started = time.perf_counter()
    keras.utils.set_random_seed(recipe.seed)
    size = (recipe.image_size, recipe.image_size)
    train, held = keras.utils.image_dataset_from_directory(
        folder,
        validation_split=recipe.validation_share,
        subset="both",
        seed=recipe.seed,
        image_size=size,
        batch_size=recipe.head.batch_size,
        verbose=False,
    )
    classes, images = len(train.class_names), len(train.file_paths)
    if cached:
        train, held = train.cache().shuffle(images // recipe.head.batch_size), held.cache()
    layers = _augmentation(recipe)
    if layers:
        changes = keras.Sequential(layers)
        train = train.map(lambda x, y: (changes(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE)
    train, held = train.prefetch(tf.data.AUTOTUNE), held.prefetch(tf.data.AUTOTUNE)
    backbone = build_backbone(recipe)
    backbone.trainable = recipe.weights == "none"
    inputs = keras.Input((*size, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(backbone(x))
    if recipe.head.dense_units:
        penalty = keras.regularizers.L2(recipe.head.l2)
        x = keras.layers.Dense(recipe.head.dense_units, "relu", kernel_regularizer=penalty)(x)
    x = keras.layers.Dropout(recipe.head.dropout)(x)
    model = keras.Model(inputs, keras.layers.Dense(classes, "softmax")(x))
    model.compile(
        keras.optimizers.Adam(recipe.head.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    fitted = model.fit(train, validation_data=held, epochs=recipe.head.epochs, verbose=0)
    return {
        "seconds": time.perf_counter() - started,
        "images": images,
        "epochs": recipe.head.epochs,
        "val_accuracy": float(fitted.history["val_accuracy"][-1]),
    }


def _augmentation(recipe: TrainingRecipe) -> list[Any]:
    """The recipe's changes as Keras has them, with the same amounts."""
    import math

    from keras import layers

    options = recipe.augmentation
    fill = {"fill_mode": options.fill_mode}
    share = math.tan(math.radians(options.shear))
    found: list[Any] = []
    if options.horizontal_flip:
        found.append(layers.RandomFlip("horizontal"))
    if options.rotation:
        found.append(layers.RandomRotation(options.rotation / 360, **fill))
    if options.width_shift or options.height_shift:
        found.append(layers.RandomTranslation(options.height_shift, options.width_shift, **fill))
    if share:
        found.append(layers.RandomShear(share, 0.0, **fill))
    if options.zoom:
        found.append(layers.RandomZoom((-options.zoom, options.zoom), **fill))
    if options.brightness:
        found.append(layers.RandomBrightness(options.brightness))
    return found


WAYS: Mapping[str, Callable[[Path, TrainingRecipe], dict[str, float]]] = {
    "darkroom": by_darkroom,
    "keras": lambda folder, recipe: by_keras(folder, recipe, cached=False),
    "keras, cached": lambda folder, recipe: by_keras(folder, recipe, cached=True),
}

if __name__ == "__main__":
    import keras

    assert keras
    before = os.times()
    told = WAYS[sys.argv[1]](Path(sys.argv[2]), TrainingRecipe.model_validate_json(sys.argv[3]))
    after = os.times()
    print(json.dumps(told | {"cpu_seconds": sum(after[:4]) - sum(before[:4])}))
