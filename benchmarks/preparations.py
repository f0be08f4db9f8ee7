"""What is promised of inferring a preparation: the truth is in the stated set, which is small and not falsely certain.

Part of the topic `diagnose`. The learning rate of expectations.preparation was chosen on validation photos of one
half of trashnet; these rows take theirs from the other half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Measured, Row
from benchmarks.night import data
from tasks.inference import BATCH, Outputs
from tasks.knobs import Preprocessing
from tasks.preprocessing import prepare
from tasks.presets import preset
from tasks.published import knob_families, scaled

_SIZE = (224, 224)
_VALIDATION = 150
_HALVES, _SPLITS = 99, (1, 2)
_CLOSER = 256 / 224


def truths() -> list[Preprocessing]:
    """Twelve preparations as people train with them, right and wrong for the backbone."""
    stated: list[tuple[str, str, str, Mapping[str, Any]]] = [
        ("load_img", "tf", "rgb", {"interpolation": "bilinear"}),
        ("image_dataset_from_directory", "tf", "rgb", {}),
        ("opencv", "tf", "bgr", {}),
        ("image_data_generator", "unit", "rgb", {}),
        ("image_dataset_from_directory", "unit", "rgb", {"fit": "crop"}),
        ("image_dataset_from_directory", "identity", "rgb", {}),
        ("load_img", "torch", "rgb", {"interpolation": "bilinear", "fit": "crop", "zoom": _CLOSER}),
        ("load_img", "caffe", "bgr", {}),
        ("teachable_machine", "tf", "rgb", {}),
        ("opencv", "unit", "bgr", {}),
        ("load_img", "tf", "rgb", {}),
        ("tf_image_resize", "tf", "rgb", {"fit": "pad"}),
    ]
    return [preset(name, size=_SIZE, values=scaled(s, order), **knobs) for name, s, order, knobs in stated]


def inferred_preparations() -> Mapping[str, Measured]:
    """Twelve heads on the frozen 0.35 backbone, each inferred from 150 photos that it did not learn from."""
    from flows.preparing import infer_preparation

    paths = sorted((data() / "trashnet").rglob("*.jpg"))
    names, labels = np.unique([path.parent.name for path in paths], return_inverse=True)
    others = np.random.default_rng(_HALVES).permutation(len(paths))[515:]
    held, small, scaling, certain, channels, false, told = [], [], 0, 0, 0, 0, []
    backbone = Backbone()
    for number, truth in enumerate(truths()):
        seed = _SPLITS[number % len(_SPLITS)]
        validation = np.sort(np.random.default_rng(seed).choice(others, _VALIDATION, replace=False))
        train = np.setdiff1d(np.arange(len(paths)), validation)
        x = backbone.features(np.stack([prepare(paths[row].read_bytes(), truth).tensor for row in train]))
        engine = HeadEngine(backbone, _head(x, labels[train], len(names), number))
        found = infer_preparation(
            engine, [paths[row].read_bytes() for row in validation], labels[validation], size=_SIZE, progress=_silent
        )
        true = knob_families(truth)
        digests = {one.digest for one in found.plausible}
        row = next((row for row in found.rows if row.preprocessing.digest == truth.digest), None)
        held.append(truth.digest in digests)
        small.append(found.groups)
        scaling += found.certainty("scaling").value == true["scaling"]
        certain += found.certainty("scaling").certain
        order = found.certainty("channel_order")
        channels += order.value == true["channel_order"]
        false += sum(one.certain and one.value != true[one.family] for one in found.certainties)
        told.append(
            {
                "truth": true,
                "in_set": held[-1],
                "groups": found.groups,
                "weight": None if row is None else row.found.weight,
                "passes": found.passes,
                "said": found.as_text(),
            }
        )
        print(f"  {true}: in the set {held[-1]}, {found.groups} groups; {found.passes} passes; {found.as_text()}")
    note = f"{len(held)} heads, {_VALIDATION} validation photos"
    return {
        "inferred_truth_in_set": Measured(sum(held), note, told, _SPLITS),
        "inferred_median_set": Measured(float(np.median(small)), f"groups: {small}", small, _SPLITS),
        "inferred_scaling_named": Measured(scaling, f"certain of it: {certain}", [], _SPLITS),
        "inferred_channel_order": Measured(channels, note, [], _SPLITS),
        "inferred_falsely_certain": Measured(false, "over every family of knobs", [], _SPLITS),
    }


def waste_preparation() -> Mapping[str, Measured]:
    """The Teachable Machine model without a stated preparation, on the 720 photos of its classes."""
    from flows.preparing import infer_preparation

    folder = data() / "adopt" / "waste"
    classes = [line.split(" ", 1)[1] for line in (folder / "labels.txt").read_text().splitlines() if line.strip()]
    paths = [path for name in classes for path in sorted((data() / "trashnet" / name).glob("*.jpg"))]
    labels = np.array([classes.index(path.parent.name) for path in paths])
    found = infer_preparation(
        legacy_engine(folder / "keras_model.h5"),
        [path.read_bytes() for path in paths],
        labels,
        size=_SIZE,
        origin="teachable machine",
        progress=_silent,
    )
    right = {"scaling": "tf", "channel_order": "rgb"}
    sure = [found.certainty(family) for family in right]
    squash = found.better is not None and knob_families(_some(found.better_preprocessing))["fit"] == "squash"
    low = found.better.difference.low if found.better is not None else float("nan")
    print(f"  {found.as_text()}")
    said = [found.as_text(), [(row.found.name, row.found.accuracy.value, row.found.weight) for row in found.rows]]
    return {
        "waste_scaling_and_order_certain": Measured(
            sum(one.certain and one.value == right[one.family] for one in sure), f"{found.passes} passes", said
        ),
        "waste_squash_beats_crop": Measured(float(squash), found.as_text(), said),
        "waste_difference_low": Measured(low, "lower end of the interval of the difference", said),
    }


@dataclass
class Backbone:
    """The frozen backbone, pooled; a tensor that it has seen is not computed again."""

    known: dict[bytes, NDArray[np.float16]] = field(default_factory=dict)

    def features(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 1280) of tensors (n, 224, 224, 3)."""
        keys = [hashlib.blake2b(tensor.tobytes(), digest_size=16).digest() for tensor in tensors]
        new = [row for row, key in enumerate(keys) if key not in self.known]
        for start in range(0, len(new), BATCH):
            rows = new[start : start + BATCH]
            computed = _forward()(tensors[rows])
            self.known.update(zip((keys[row] for row in rows), computed.astype(np.float16), strict=True))
        return np.stack([self.known[key] for key in keys]).astype(np.float32)


@dataclass(frozen=True)
class HeadEngine:
    """A trained head on the frozen backbone."""

    backbone: Backbone
    head: Any
    name: str = "head"
    input_shape: tuple[int, int, int] = (*_SIZE, 3)

    def run(self, tensors: NDArray[np.float32]) -> Outputs:
        """Outputs of tensors (n, 224, 224, 3)."""
        x = self.backbone.features(tensors)
        return Outputs(np.asarray(self.head(x, training=False), np.float32), x)


@dataclass(frozen=True)
class _Legacy:
    """A legacy model, run as it is by tf_keras."""

    model: Any
    name: str = "tf_keras"
    input_shape: tuple[int, int, int] = (*_SIZE, 3)

    def run(self, tensors: NDArray[np.float32]) -> Outputs:
        parts = [np.asarray(self.model(tensors[start : start + BATCH])) for start in range(0, len(tensors), BATCH)]
        probabilities = np.concatenate(parts).astype(np.float32)
        return Outputs(probabilities, probabilities)


def legacy_engine(path: Path) -> Any:
    """The engine of a Teachable Machine export."""
    import tensorflow as tf
    import tf_keras

    model = tf_keras.models.load_model(path, compile=False)
    signature = [tf.TensorSpec((None, *_SIZE, 3), tf.float32)]
    return _Legacy(tf.function(lambda x: model(x, training=False), input_signature=signature))


@cache
def _forward() -> Any:
    import keras
    import tensorflow as tf

    path = data() / "backbones" / "mobilenet_v2_0.35_224_no_top.keras"
    backbone = keras.saving.load_model(path, compile=False, safe_mode=True)
    signature = [tf.TensorSpec((None, *_SIZE, 3), tf.float32)]
    pooled = tf.function(lambda x: tf.reduce_mean(backbone(x, training=False), (1, 2)), input_signature=signature)
    return lambda tensors: pooled(tensors).numpy()


def _head(x: NDArray[np.float32], y: NDArray[np.int64], classes: int, seed: int) -> Any:
    import keras

    keras.utils.set_random_seed(seed)
    head = keras.Sequential(
        [
            keras.Input((x.shape[1],)),
            keras.layers.Dense(256, "relu", kernel_regularizer=keras.regularizers.L2(1e-3)),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(classes, "softmax"),
        ]
    )
    head.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    head.fit(x, y, epochs=40, batch_size=32, verbose=0)
    return head


def _some(found: Preprocessing | None) -> Preprocessing:
    assert found is not None
    return found


def _silent(stage: str, done: int, total: int, note: str) -> None:
    """Nobody watches a benchmark."""


ROWS: Mapping[str, Row] = {
    "inferred_preparations": inferred_preparations,
    "waste_preparation": waste_preparation,
}
