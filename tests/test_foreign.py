"""Other people's models: what a file really is, what is refused, and what is kept answers as the original does."""

from __future__ import annotations

import csv
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from darkroom.errors import UnsupportedModel, WrongUse
from tasks import graphs
from tasks.consent import code_in
from tasks.foreign import (
    ForeignModel,
    check_outputs_on,
    findings_of_model,
    labels_beside,
    open_foreign,
    read_labels,
)
from tasks.foreign.graph_reading import GraphReading
from tasks.foreign.opening import SAME_MODEL
from tasks.foreign.origin import origin_of
from tasks.inference import load_engine
from tasks.machine import import_tensorflow
from tasks.preprocessing import prepare
from tasks.presets import APPLICATION_MODES, preset
from tests.tiny import drawn

tf = import_tensorflow()
import tf_keras  # noqa: E402

# What people bring was saved in formats that Keras warns of.
pytestmark = [
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*softmax over axis -1 of a tensor of shape:UserWarning"),
]

SIZE = (24, 32)
SHAPE = (*SIZE, 3)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Pictures, 0 … 255."""
    return np.stack([np.asarray(drawn(seed, SIZE[::-1]), dtype=np.float32) for seed in range(9)])


# -- what people bring -------------------------------------------------------------------------------------------------


def body(k: Any, image: Any) -> Any:
    """Layers whose weights are not what a new layer would have, statistics of BatchNormalization among them."""
    x = k.layers.Conv2D(6, 5, strides=2, name="stem")(image)
    x = k.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = k.layers.BatchNormalization(name="bn")(x)
    x = k.layers.ReLU(6.0)(x)
    return k.layers.GlobalAveragePooling2D(name="pool")(x)


def filled(model: Any) -> Any:
    rng = np.random.default_rng(7)

    def fill(weight: np.ndarray) -> np.ndarray:
        if weight.dtype.kind != "f":
            return weight
        values = rng.normal(0, 0.3, weight.shape)
        return np.abs(values) + 0.5 if weight.ndim == 1 else values

    model.set_weights([fill(np.asarray(weight)) for weight in model.get_weights()])
    return model


def classifier(k: Any, *last: Any, scale: bool = True) -> Any:
    image = k.Input(SHAPE)
    x = k.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image) if scale else image
    x = k.layers.RandomFlip(name="flip")(x)
    x = k.layers.Dropout(0.5)(body(k, x))
    for layer in last:
        x = layer(x)
    return filled(k.Model(image, x))


def nested(k: Any, units: int = 3) -> Any:
    """As transfer learning is taught: a backbone, called as a layer."""
    inner = k.Input(SHAPE)
    backbone = k.Model(inner, body(k, k.layers.Rescaling(1 / 255)(inner)), name="backbone")
    image = k.Input(SHAPE)
    x = backbone(image, training=False)
    return filled(k.Model(image, k.layers.Dense(units, activation="softmax")(x)))


def teachable(k: Any) -> Any:
    """The structure of a Teachable Machine export."""
    image = k.Input(SHAPE)
    x = k.layers.DepthwiseConv2D(3, name="block_1_depthwise")(k.layers.Conv2D(6, 3, strides=2)(image))
    backbone = k.Model(image, k.layers.BatchNormalization()(x), name="model1")
    seen = k.Sequential([backbone, k.layers.GlobalAveragePooling2D()])
    head = k.Sequential(
        [
            k.Input((6,)),
            k.layers.Dense(10, activation="relu", name="dense_Dense1"),
            k.layers.Dense(4, activation="softmax", use_bias=False, name="dense_Dense2"),
        ]
    )
    return filled(k.Sequential([k.Input(SHAPE), seen, head]))


def arithmetic(k: Any) -> Any:
    """preprocess_input between two layers."""
    image = k.Input(SHAPE)
    return filled(k.Model(image, k.layers.Dense(3, activation="softmax")(body(k, image / 127.5 - 1.0))))


def flipped(k: Any) -> Any:
    """The channels turned round between two layers: an operation that Keras 3 has no counterpart for."""
    image = k.Input(SHAPE)
    return filled(k.Model(image, k.layers.Dense(3, activation="softmax")(body(k, image[..., ::-1] - 100.0))))


def dense(k: Any, units: int, activation: str | None) -> Any:
    return classifier(k, k.layers.Dense(5, name="features"), k.layers.Dense(units, activation=activation))


def saved(model: Any, path: Path) -> Path:
    model.save(path)
    return path


def exported(model: Any, path: Path) -> Path:
    model.export(path, verbose=False)
    return path


def zipped(model: Any, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(saved(model, path.with_name("original.h5")), "keras_model.h5")
        archive.writestr("labels.txt", "0 a\n1 b\n2 c\n3 d\n")
    return path


BROUGHT: dict[str, tuple[Callable[[], Any], str, Callable[[Any, Path], Path], str, str, int]] = {
    # what: model, file, how it is saved, what is kept, outputs, classes
    "a legacy h5": (lambda: dense(tf_keras, 3, "softmax"), "m.h5", saved, "model.keras", "softmax", 3),
    "HDF5 named .keras": (
        lambda: dense(tf_keras, 3, "softmax"),
        "m.keras",
        lambda model, path: saved(model, path.with_suffix(".h5")).rename(path),
        "model.keras",
        "softmax",
        3,
    ),
    "a legacy h5 with one sigmoid": (
        lambda: dense(tf_keras, 1, "sigmoid"),
        "m.hdf5",
        lambda model, path: saved(model, path.with_suffix(".h5")).rename(path),
        "model.keras",
        "sigmoid",
        2,
    ),
    "a legacy h5 with logits": (lambda: dense(tf_keras, 4, None), "m.h5", saved, "model.keras", "logits", 4),
    "a legacy h5 with one logit": (lambda: dense(tf_keras, 1, None), "m.h5", saved, "model.keras", "logits", 2),
    "a legacy h5 with a backbone in it": (lambda: nested(tf_keras), "m.h5", saved, "model.keras", "softmax", 3),
    "a legacy h5 with arithmetic": (lambda: arithmetic(tf_keras), "m.h5", saved, "model.keras", "softmax", 3),
    "a legacy h5 with an operation": (lambda: flipped(tf_keras), "m.h5", saved, "model.pb", "softmax", 3),
    "Teachable Machine": (lambda: teachable(tf_keras), "keras_model.h5", saved, "model.keras", "softmax", 4),
    "Teachable Machine's zip": (lambda: teachable(tf_keras), "converted.zip", zipped, "model.keras", "softmax", 4),
    "a .keras": (lambda: dense(keras, 3, "softmax"), "m.keras", saved, "model.keras", "softmax", 3),
    "a .keras with one sigmoid": (lambda: dense(keras, 1, "sigmoid"), "m.keras", saved, "model.keras", "sigmoid", 2),
    "a .keras with logits": (lambda: dense(keras, 3, None), "m.keras", saved, "model.keras", "logits", 3),
    "a .keras with a backbone in it": (lambda: nested(keras), "m.keras", saved, "model.keras", "softmax", 3),
    "a .keras with arithmetic": (lambda: arithmetic(keras), "m.keras", saved, "model.keras", "softmax", 3),
    "an h5 of Keras 3": (lambda: dense(keras, 3, "softmax"), "m.h5", saved, "model.keras", "softmax", 3),
    "a SavedModel of tf_keras": (lambda: dense(tf_keras, 3, "softmax"), "m", saved, "model.pb", "softmax", 3),
    "a SavedModel of Keras 3": (lambda: arithmetic(keras), "m", exported, "model.pb", "softmax", 3),
}


def as_probabilities(raw: np.ndarray, outputs: str) -> np.ndarray:
    if outputs == "softmax":
        return raw
    if raw.shape[1] == 1:
        p = raw if outputs == "sigmoid" else 1 / (1 + np.exp(-raw))
        return np.concatenate([1 - p, p], axis=1)
    return np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("make", "file", "save", "kept", "outputs", "classes"), BROUGHT.values(), ids=BROUGHT.keys())
def test_what_people_bring_is_kept_and_answers_as_the_original(
    tmp_path: Path,
    images: np.ndarray,
    make: Callable[[], Any],
    file: str,
    save: Callable[[Any, Path], Path],
    kept: str,
    outputs: str,
    classes: int,
) -> None:
    model = make()
    path = save(model, tmp_path / file)
    opened = open_foreign(path, tmp_path / "work")
    assert (opened.saved.name, opened.outputs, opened.classes) == (kept, outputs, classes)
    assert opened.input_shape == SHAPE
    assert opened.difference <= SAME_MODEL
    engine = load_engine(opened.saved, opened.embedding_layer)
    expected = as_probabilities(np.asarray(model(images, training=False)), outputs)
    assert np.ptp(expected, axis=0).max() > 0.01  # answers that differ, or the comparison would prove nothing
    given = engine.run(images)
    assert np.abs(given.probabilities - expected).max() <= 1e-5
    alone = np.concatenate([engine.run(image[np.newaxis]).probabilities for image in images])
    assert np.abs(alone - expected).max() <= 1e-5
    assert given.embedding.ndim == 2
    check_outputs_on(given.probabilities)


def test_a_zip_of_teachable_machine_brings_its_labels_and_is_known(tmp_path: Path) -> None:
    opened = open_foreign(zipped(teachable(tf_keras), tmp_path / "converted_keras.zip"), tmp_path / "work")
    assert opened.origin == "teachable machine"
    assert opened.labels is not None
    assert read_labels(opened.labels, opened.classes) == ("a", "b", "c", "d")
    assert opened.embedding_layer == "dense_Dense1"


@pytest.mark.real_data
def test_a_users_teachable_machine_model_answers_as_their_own_code(data: Path, tmp_path: Path) -> None:
    opened = open_foreign(data / "adopt" / "waste" / "keras_model.h5", tmp_path)
    assert opened.origin == "teachable machine"
    assert opened.difference <= SAME_MODEL
    assert opened.labels is not None
    classes = read_labels(opened.labels, opened.classes)
    preprocessing = preset("teachable_machine", size=(224, 224))
    engine = load_engine(opened.saved, opened.embedding_layer, input_shape=preprocessing.input_shape)
    with (data / "adopt" / "waste" / "predictions_reference.csv").open() as file:
        rows = list(csv.DictReader(file))
    tensors = np.stack([prepare((data / row["path"]).read_bytes(), preprocessing).tensor for row in rows])
    theirs = np.asarray([[float(row[name]) for name in classes] for row in rows])
    assert len(rows) == 120
    assert np.abs(engine.run(tensors).probabilities - theirs).max() <= 1e-4


# -- what a file really is ---------------------------------------------------------------------------------------------


def _truncated_zip(path: Path) -> Path:
    whole = saved(dense(keras, 3, "softmax"), path.with_name("whole.keras")).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def _truncated_hdf5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["numbers"] = np.zeros(10_000)
    path.write_bytes(path.read_bytes()[:20_000])
    return path


def _weights(path: Path) -> Path:
    dense(tf_keras, 3, "softmax").save_weights(path)
    return path


def _weights_keras3(path: Path) -> Path:
    dense(keras, 3, "softmax").save_weights(path)
    return path


def _hdf5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["numbers"] = np.zeros(3)
    return path


def _linked(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{}"
        file["weights"] = h5py.ExternalLink("/etc/passwd", "/")
    return path


def _written(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


def _in_zip(*names: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")
        return path

    return write


def _folder(*names: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.mkdir()
        for name in names:
            (path / name).write_bytes(b"x")
        return path

    return write


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 2453432\n"
REFUSED: dict[str, tuple[Callable[[Path], Path], str, str, str]] = {
    # what: how it is made, file, what the error says it is, and what to do
    "nothing": (lambda path: path, "m.h5", "no such file", "path"),
    "an empty file": (_written(b""), "m.keras", "an empty file", "again"),
    "a Git LFS pointer": (_written(LFS), "m.h5", "Git LFS pointer", "git lfs pull"),
    "a web page": (_written(b"\n<!DOCTYPE html><html>404"), "m.h5", "a web page", "browser"),
    "TensorFlow Lite": (_written(b"\x1c\0\0\0TFL3" + bytes(50)), "m.h5", "TensorFlow Lite", "Keras"),
    "ONNX": (_written(b"\x08\x08\x12\x07pytorch" + bytes(50)), "m.onnx", "ONNX", "converted"),
    "PyTorch's zip": (_in_zip("model/data.pkl", "model/data/0"), "m.pt", "PyTorch", "convert"),
    "PyTorch's pickle": (_written(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."), "m.pth", "PyTorch", "convert"),
    "a pickle": (_written(pickle.dumps({"a": 1})), "m.pkl", "a pickle", "never unpickles"),
    "a joblib pickle": (_written(b"\x80\x04\x95\0\0\0\0\0\0\0\0sklearn.svm"), "m.joblib", "joblib", "never unpickles"),
    "JSON": (_written(b'{"a": 1}'), "m.json", "a JSON file", "save"),
    "an architecture": (_written(b'{"class_name": "Model", "config": {}}'), "m.json", "without weights", "save"),
    "TensorFlow.js' JSON": (_written(b'{"modelTopology": {}}'), "model.json", "TensorFlow.js", "save"),
    "a TensorFlow.js folder": (_folder("model.json", "group1-shard1of1.bin"), "m", "TensorFlow.js", "Keras"),
    "a .pb alone": (_written(b"\n\x05graph"), "frozen.pb", "alone", "SavedModel"),
    "saved_model.pb alone": (_written(b"\x08\x01\x12"), "saved_model.pb", "without its weights", "folder"),
    "half of a SavedModel": (_folder("saved_model.pb"), "m", "without variables", "whole folder"),
    "an empty folder": (_folder(), "m", "an empty folder", "name a model"),
    "a folder with a model in it": (_folder("a.h5", "b.txt"), "m", "holds a.h5", "name one"),
    "an unpacked .keras": (_folder("config.json", "model.weights.h5"), "m", "unpacked", "itself"),
    "a cut .keras": (_truncated_zip, "m.keras", "the first", "again"),
    "a cut HDF5": (_truncated_hdf5, "m.h5", "20,000 bytes", "again"),
    "weights alone": (_weights, "m.h5", "weights without a model", "build the model"),
    "weights of Keras 3 alone": (_weights_keras3, "m.weights.h5", "weights without a model", "build the model"),
    "HDF5 of something else": (_hdf5, "m.h5", "HDF5 with numbers", "save"),
    "HDF5 that reads other files": (_linked, "m.h5", "/etc/passwd", "trust"),
    "a zip of something else": (_in_zip("a.jpg"), "m.keras", "a zip archive with a.jpg", "unpack"),
    "a zip that writes outside": (_in_zip("../keras_model.h5"), "m.zip", "../keras_model.h5", "trust"),
    "NumPy's arrays": (_in_zip("weights.npy"), "m.npz", "NumPy", "save"),
    "something else": (_written(b"hello"), "m.h5", "5 bytes", "bring"),
}


@pytest.mark.parametrize(("make", "file", "found", "todo"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_keras_model_is_refused_for_what_it_is(
    tmp_path: Path, make: Callable[[Path], Path], file: str, found: str, todo: str
) -> None:
    (tmp_path / "theirs").mkdir()
    path = make(tmp_path / "theirs" / file)
    with pytest.raises(UnsupportedModel) as refused:
        open_foreign(path, tmp_path / "work")
    assert found in str(refused.value.found)
    assert refused.value.todo is not None
    assert todo in refused.value.todo
    assert refused.value.expected is not None
    assert not (tmp_path / "keras_model.h5").exists()


def two_inputs(k: Any) -> Any:
    pair = [k.Input(SHAPE), k.Input(SHAPE)]
    x = k.layers.GlobalAveragePooling2D()(k.layers.Add()(pair))
    return k.Model(pair, k.layers.Dense(3, activation="softmax")(x))


def small(k: Any, *layers: Any, shape: tuple[int | None, ...] = SHAPE) -> Any:
    return k.Sequential([k.Input(shape), k.layers.GlobalAveragePooling2D(), *layers])


def by_chance(k: Any) -> Any:
    image = k.Input(SHAPE)
    x = k.layers.Dropout(0.5)(body(k, image), training=True)
    return k.Model(image, k.layers.Dense(3, activation="softmax")(x))


NO_CLASSIFIERS = {
    "a sigmoid a class": (lambda k: small(k, k.layers.Dense(3, activation="sigmoid")), "multi-label"),
    "a softmax over one": (lambda k: small(k, k.layers.Dense(1, activation="softmax")), "whatever the image"),
    "a regression": (lambda k: small(k, k.layers.Dense(3, activation="relu")), "neither probabilities nor logits"),
    "two inputs": (two_inputs, "not one image in"),
    "grey images": (lambda k: small(k, k.layers.Dense(3, activation="softmax"), shape=(*SIZE, 1)), "RGB"),
    "a map": (lambda k: k.Sequential([k.Input(SHAPE), k.layers.Conv2D(3, 1, activation="softmax")]), "one number a"),
}


@pytest.mark.parametrize(("make", "says"), NO_CLASSIFIERS.values(), ids=NO_CLASSIFIERS.keys())
@pytest.mark.parametrize("library", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_what_is_no_classifier_of_exclusive_classes_is_refused(
    tmp_path: Path, library: Any, make: Callable[[Any], Any], says: str
) -> None:
    path = saved(make(library), tmp_path / ("m.h5" if library is tf_keras else "m.keras"))
    with pytest.raises(UnsupportedModel, match=says):
        open_foreign(path, tmp_path / "work")


def test_dropout_that_is_active_while_the_model_predicts_is_refused(tmp_path: Path) -> None:
    # In Keras 3 it cannot be: training=False of the whole model is stronger than training=True of a layer.
    with pytest.raises(UnsupportedModel, match="random numbers while it predicts"):
        open_foreign(saved(by_chance(tf_keras), tmp_path / "m.h5"), tmp_path / "work")


def test_an_export_of_keras_3_in_which_augmentation_stays_awake_is_refused(tmp_path: Path) -> None:
    # model.export traces the model as if it were called without `training`, and RandomFlip is awake then.
    with pytest.raises(UnsupportedModel, match="random numbers while it predicts"):
        open_foreign(exported(dense(keras, 3, "softmax"), tmp_path / "m"), tmp_path / "work")


# -- code in models ----------------------------------------------------------------------------------------------------


def with_lambdas(k: Any, *names: str) -> Any:
    image = k.Input(SHAPE)
    x = image
    for name in names:
        x = k.layers.Lambda(lambda value: value / 255.0, output_shape=SHAPE, name=name)(x)
    return filled(k.Model(image, k.layers.Dense(3, activation="softmax")(body(k, x))))


@pytest.mark.parametrize(("library", "file"), [(tf_keras, "m.h5"), (keras, "m.keras")], ids=["h5", "keras"])
def test_a_lambda_is_refused_until_it_is_named_and_then_no_code_is_kept(
    tmp_path: Path, images: np.ndarray, library: Any, file: str
) -> None:
    model = with_lambdas(library, "scale", "again")
    path = saved(model, tmp_path / file)
    for consent in ((), ("Lambda:scale",), ("scale", "again"), ("Lambda:scale", "tests:again"), ("Lambda",)):
        with pytest.raises(UnsupportedModel, match="Lambda layer") as refused:
            open_foreign(path, tmp_path / "work", consent=consent)
        assert "'Lambda:" in str(refused.value.todo)
    opened = open_foreign(path, tmp_path / "work", consent=("Lambda:scale", "Lambda:again"))
    assert opened.saved.name == "model.pb"
    assert b"lambda value" not in opened.saved.read_bytes()
    answers = load_engine(opened.saved, opened.embedding_layer).run(images)
    assert np.abs(answers.probabilities - np.asarray(model(images, training=False))).max() <= 1e-5


def test_the_code_of_a_refused_lambda_never_ran(tmp_path: Path) -> None:
    ran = str(tmp_path / "ran")

    def mark(value: Any) -> Any:
        from pathlib import Path

        Path(ran).write_text("ran")
        return value

    image = tf_keras.Input(SHAPE)
    x = tf_keras.layers.Lambda(mark, name="mark")(image)
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    path = saved(tf_keras.Model(image, tf_keras.layers.Dense(3, activation="softmax")(x)), tmp_path / "m.h5")
    Path(ran).unlink()
    with pytest.raises(UnsupportedModel, match="mark"):
        open_foreign(path, tmp_path / "work")
    assert not Path(ran).exists()


THEIRS = """
import tf_keras

class Doubled(tf_keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2.0

class Other(tf_keras.layers.Layer):
    pass
"""


def test_a_class_of_somebodys_own_runs_only_where_it_is_named(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_layers.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    import their_layers  # type: ignore[import-not-found]

    model = classifier(tf_keras, their_layers.Doubled(name="double"), tf_keras.layers.Dense(3, activation="softmax"))
    path = saved(model, tmp_path / "m.h5")
    for consent in ((), ("Lambda:double",), ("their_layers:Other",)):
        with pytest.raises(UnsupportedModel, match="'Doubled'"):
            open_foreign(path, tmp_path / "work", consent=consent)
    with pytest.raises(WrongUse, match="cannot be imported"):
        open_foreign(path, tmp_path / "work", consent=("their_missing_layers:Doubled",))
    opened = open_foreign(path, tmp_path / "work", consent=("their_layers:Doubled",))
    assert opened.saved.name == "model.pb"
    answers = load_engine(opened.saved, opened.embedding_layer).run(images)
    assert np.abs(answers.probabilities - np.asarray(model(images, training=False))).max() <= 1e-5


@pytest.mark.parametrize("function", ["io.write_file", "load_library", "raw_ops.ReadFile", "compat.v1.py_func"])
def test_a_function_of_tensorflow_that_acts_is_refused_before_the_model_is_loaded(
    tmp_path: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(arithmetic(tf_keras), tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"]
        assert '"math.truediv"' in config
        file.attrs["model_config"] = config.replace('"math.truediv"', f'"{function}"')
    monkeypatch.setattr("tasks.foreign.opening.load_legacy", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(UnsupportedModel, match=function):
        open_foreign(path, tmp_path / "work")


@pytest.mark.parametrize(
    "symbol", ["io.gfile.remove", "io.TFRecordWriter", "load_op_library", "keras.backend.set_floatx"]
)
@pytest.mark.parametrize("kind", ["ClassMethod", "TFOpLambda"])
def test_a_layer_that_calls_what_it_is_told_to_does_not_run(tmp_path: Path, kind: str, symbol: str) -> None:
    path = saved(arithmetic(tf_keras), tmp_path / "m.h5")
    victim = tmp_path / "kept.txt"
    victim.write_text("kept")
    told = {"cls_symbol": symbol, "method_name": "__call__"} if kind == "ClassMethod" else {"function": symbol}
    layer = {
        "class_name": kind,
        "module": "tf_keras.src.layers.core.tf_op_layer",
        "config": {"name": "odd", "trainable": True, "dtype": "float32", **told},
        "name": "odd",
        "inbound_nodes": [[["_CONSTANT_VALUE", -1, str(victim), {"kwargs": {}}]]],
    }
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"].append(layer)
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(UnsupportedModel, match="would run"):
        open_foreign(path, tmp_path / "work")
    assert victim.read_text() == "kept"


@pytest.mark.parametrize("kind", ["TFSMLayer", "TorchModuleWrapper", "StringLookup", "__lambda__"])
@pytest.mark.parametrize("where", ["layers", "compile_config"])
def test_layers_that_load_other_files_are_code_wherever_they_are(kind: str, where: str) -> None:
    inner = {"class_name": kind, "config": {"name": "odd", "filepath": "elsewhere"}}
    assert [code.name for code in code_in({"class_name": "Sequential", "config": {where: [inner]}})] == [kind]


class Calls(keras.layers.Layer):  # type: ignore[misc]
    """A layer that calls Python."""

    def call(self, inputs: Any) -> Any:
        return tf.ensure_shape(tf.py_function(lambda x: pytest.fail("it ran"), [inputs], tf.float32), inputs.shape)


def test_a_model_that_would_call_python_is_not_even_run(tmp_path: Path) -> None:
    model = small(keras, Calls(), keras.layers.Dense(3, activation="softmax"))
    with pytest.raises(UnsupportedModel, match="PyFunc"):
        graphs.freeze_keras(model, SHAPE, "float32", tmp_path)


class Served(tf.Module):
    """A SavedModel of functions."""

    def __init__(self, act: Callable[[Any], Any]) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.random.stateless_normal((3, 4), seed=(1, 2)))
        self.act = act

    @tf.function(input_signature=[tf.TensorSpec((None, *SHAPE), tf.float32)])
    def __call__(self, image: Any) -> Any:
        return tf.nn.softmax(tf.matmul(tf.reduce_mean(self.act(image), (1, 2)), self.weights))


def _write(image: Any) -> Any:
    tf.io.write_file("written by a model", tf.strings.as_string(tf.reduce_sum(image)))
    return image


ACTING = {
    "writes files": (_write, "WriteFile"),
    "reads files": (
        lambda image: image + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32),
        "ReadFile",
    ),
    "calls Python": (lambda image: tf.ensure_shape(tf.py_function(abs, [image], tf.float32), image.shape), "PyFunc"),
}


@pytest.mark.parametrize(("act", "operation"), ACTING.values(), ids=ACTING.keys())
def test_a_savedmodel_that_does_more_than_compute_is_refused_by_the_operation(
    tmp_path: Path, act: Callable[[Any], Any], operation: str
) -> None:
    module = Served(act)
    tf.saved_model.save(module, tmp_path / "m", signatures=module.__call__.get_concrete_function())
    with pytest.raises(UnsupportedModel, match=operation):
        open_foreign(tmp_path / "m", tmp_path / "work")


def test_a_savedmodel_that_draws_random_numbers_or_serves_two_things_is_refused(tmp_path: Path) -> None:
    chance = Served(lambda image: image * tf.random.uniform(tf.shape(image)))
    tf.saved_model.save(chance, tmp_path / "chance", signatures=chance.__call__.get_concrete_function())
    with pytest.raises(UnsupportedModel, match="random numbers"):
        open_foreign(tmp_path / "chance", tmp_path / "work")

    module = Served(lambda image: image)
    first = module.__call__.get_concrete_function()
    second = tf.function(lambda x: x + 1.0).get_concrete_function(tf.TensorSpec((None, 4), tf.float32))
    tf.saved_model.save(module, tmp_path / "two", signatures={"classify": first, "other": second})
    with pytest.raises(UnsupportedModel, match="classify, other"):
        open_foreign(tmp_path / "two", tmp_path / "work")


def test_without_tf_keras_a_legacy_model_that_keras_cannot_load_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(arithmetic(tf_keras), tmp_path / "m.h5")
    monkeypatch.setitem(__import__("sys").modules, "tf_keras", None)
    with pytest.raises(UnsupportedModel) as refused:
        open_foreign(path, tmp_path / "work")
    assert "darkroom[legacy]" in str(refused.value.todo)


# -- what is said of a model -------------------------------------------------------------------------------------------


def kinds(opened: ForeignModel) -> set[str]:
    return {finding.kind for finding in opened.findings}


def test_scaling_inside_is_told_with_its_numbers_however_it_was_written(tmp_path: Path) -> None:
    for make in (lambda: arithmetic(tf_keras), lambda: dense(tf_keras, 3, "softmax"), lambda: arithmetic(keras)):
        model = make()
        frozen = graphs.freeze_keras(model, SHAPE, "float32", tmp_path)
        scaling = GraphReading(frozen, tmp_path).scaling()
        assert scaling is not None
        assert scaling.scale == pytest.approx((1 / 127.5,))
        assert scaling.offset == pytest.approx((-1.0,))
    image = keras.Input(SHAPE)
    x = keras.layers.Normalization(mean=(120.0, 110.0, 100.0), variance=(400.0, 900.0, 1600.0))(image)
    scaling = GraphReading(graphs.freeze_keras(keras.Model(image, x), SHAPE, "float32", tmp_path), tmp_path).scaling()
    assert scaling is not None
    assert scaling.scale == pytest.approx((1 / 20, 1 / 30, 1 / 40))
    assert scaling.offset == pytest.approx((-6.0, -110 / 30, -2.5))
    nothing = GraphReading(graphs.freeze_keras(small(keras), SHAPE, "float32", tmp_path), tmp_path)
    assert nothing.scaling() is None


def test_sleeping_dropout_and_augmentation_number_types_and_any_size_are_findings(tmp_path: Path) -> None:
    opened = open_foreign(saved(dense(keras, 3, "softmax"), tmp_path / "a.keras"), tmp_path / "a")
    assert {"scaling inside", "dropout", "augmentation", "last activation"} <= kinds(opened)
    assert "flip" in " ".join(finding.sentence for finding in opened.findings)

    mixed = small(keras, keras.layers.Dense(4, dtype="mixed_float16"), keras.layers.Dense(3, activation="softmax"))
    assert "mixed_float16" in " ".join(finding.sentence for finding in findings_of_model(mixed))

    layers = keras.layers.Dense(4), keras.layers.Dense(3, activation="softmax")
    sizeless = open_foreign(saved(small(keras, *layers, shape=(None, None, 3)), tmp_path / "b.keras"), tmp_path / "b")
    assert sizeless.input_shape == (None, None, 3)
    assert "any size" in kinds(sizeless)


def test_batch_normalization_on_the_statistics_of_its_batch_is_a_finding(tmp_path: Path) -> None:
    image = tf_keras.Input(SHAPE)
    x = tf_keras.layers.GlobalAveragePooling2D()(tf_keras.layers.Conv2D(4, 3)(image))
    x = tf_keras.layers.BatchNormalization()(x, training=True)
    model = filled(tf_keras.Model(image, tf_keras.layers.Dense(3, activation="softmax")(x)))
    opened = open_foreign(saved(model, tmp_path / "m.h5"), tmp_path / "work")
    assert "batch statistics" in kinds(opened)


def test_a_backbone_of_keras_applications_is_known_from_its_name_or_its_layers() -> None:
    backbone = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None, pooling="avg")
    layers = {layer.name for layer in backbone.layers}
    assert origin_of(layers | {backbone.name}, None, Path("m")) == "mobilenet_v2"
    assert origin_of(layers, None, Path("m")) == "mobilenet_v2"
    assert origin_of({"conv", "resnet_like_block", "my_mobilenet"}, None, Path("m")) is None


NAMED = {
    "mobilenet_1.00_224": "mobilenet",
    "mobilenetv2_0.35_224": "mobilenet_v2",
    "MobileNetV3Small": "mobilenet_v3",
    "efficientnetb0": "efficientnet",
    "efficientnetv2-b0": "efficientnet_v2",
    "resnet50": "resnet50",
    "resnet101": "resnet",
    "resnet50v2": "resnet_v2",
    "vgg16": "vgg16",
    "inception_v3": "inception_v3",
    "inception_resnet_v2": "inception_resnet_v2",
    "NASNet": "nasnet",
    "convnext_tiny": "convnext",
    "densenet121": "densenet",
    "xception": "xception",
}


@pytest.mark.parametrize(("name", "module"), NAMED.items(), ids=NAMED.keys())
def test_a_nested_model_is_known_by_the_name_that_keras_applications_gave_it(name: str, module: str) -> None:
    assert module in APPLICATION_MODES
    assert origin_of({"input_layer", name, "dense"}, None, Path("m")) == module


# -- labels ------------------------------------------------------------------------------------------------------------

LABELS = {
    "Teachable Machine": ("0 plastic\n1 glass bottle\n2 metal\n", ("plastic", "glass bottle", "metal")),
    "out of order": ("1 glass\n0 plastic\n", ("plastic", "glass")),
    "one a line": ("plastic\r\nglass\r\n\r\n", ("plastic", "glass")),
    "names that begin with numbers": ("10 mm\n2 mm\n", ("10 mm", "2 mm")),
    "with a byte order mark": ("\ufeff0 plastic\n1 glass\n", ("plastic", "glass")),
    "a JSON list": ('["b", "a"]', ("b", "a")),
    "index to name": ('{"1": "a", "0": "b"}', ("b", "a")),
    "class_indices": ('{"a": 1, "b": 0}', ("b", "a")),
    "metadata": ('{"tmVersion": "2.4", "labels": ["b", "a"]}', ("b", "a")),
}


@pytest.mark.parametrize(("content", "names"), LABELS.values(), ids=LABELS.keys())
def test_labels_are_read_in_the_order_of_the_outputs(tmp_path: Path, content: str, names: tuple[str, ...]) -> None:
    (tmp_path / "labels").write_text(content, encoding="utf-8")
    assert read_labels(tmp_path / "labels", len(names)) == names


WRONG_LABELS = {
    "one too few": ("a\nb\n", "same number"),
    "a name twice": ("a\nb\na\n", "named twice"),
    "indices with a gap": ('{"a": 0, "b": 1, "c": 3}', "which class is which"),
    "broken JSON": ('["a", ', "no valid JSON"),
    "nothing": ("", "no name"),
}


@pytest.mark.parametrize(("content", "says"), WRONG_LABELS.values(), ids=WRONG_LABELS.keys())
def test_labels_that_would_name_the_wrong_class_are_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "labels.txt").write_text(content)
    with pytest.raises(WrongUse, match=says):
        read_labels(tmp_path / "labels.txt", 3)


def test_labels_are_found_beside_a_file_and_in_or_beside_a_folder(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    assert labels_beside(tmp_path / "saved") is None
    (tmp_path / "labels.txt").write_text("a\nb\n")
    assert labels_beside(tmp_path / "saved") == labels_beside(tmp_path / "m.h5") == tmp_path / "labels.txt"
    (tmp_path / "saved" / "metadata.json").write_text(json.dumps({"labels": ["a"]}))
    assert labels_beside(tmp_path / "saved") == tmp_path / "saved" / "metadata.json"
