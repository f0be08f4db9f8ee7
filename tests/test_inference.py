"""One forward pass: what an engine gives, and what it refuses."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkroom.errors import Failed, UnsupportedModel, WrongUse
from tasks.inference import load_engine
from tasks.preprocessing import prepare
from tasks.presets import application_values, preset
from tests.tiny import SIZE, drawn, encoded, tiny_model, tiny_preprocessing


@pytest.fixture(scope="module")
def tensors() -> np.ndarray:
    return np.stack([prepare(encoded(drawn(i)), tiny_preprocessing()).tensor for i in range(70)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.keras")


def saved(folder: Path, layers: Callable[[Any], list[Any]], shape: tuple[int | None, ...] = (*SIZE, 3)) -> Path:
    import keras

    keras.utils.set_random_seed(1)
    keras.Sequential([keras.Input(shape), *layers(keras.layers)]).save(folder / "model.keras")
    return folder / "model.keras"


def test_one_image_gives_the_same_answer_alone_and_in_any_batch(model: Path, tensors: np.ndarray) -> None:
    engine = load_engine(model, "embedding")
    together = engine.run(tensors)
    for n in (1, 7, 32, 33):
        for start in range(0, 66, n):
            alone = engine.run(tensors[start : start + n])
            assert np.abs(alone.probabilities - together.probabilities[start : start + n]).max() <= 1e-5
            assert np.abs(alone.embedding - together.embedding[start : start + n]).max() <= 1e-3


def test_probabilities_and_embedding_come_from_one_pass_of_the_saved_model(model: Path, tensors: np.ndarray) -> None:
    import keras

    outputs = load_engine(model, "embedding").run(tensors)
    original = keras.saving.load_model(model)
    assert np.abs(outputs.probabilities - original(tensors, training=False).numpy()).max() <= 1e-5
    until_embedding = keras.Sequential([keras.Input((*SIZE, 3)), *original.layers[:3]])
    assert np.allclose(outputs.embedding, until_embedding(tensors).numpy(), atol=1e-3)
    assert outputs.probabilities.dtype == outputs.embedding.dtype == np.float32


def test_no_number_of_images_traces_the_model_again(model: Path, tensors: np.ndarray) -> None:
    traced = []
    engine = load_engine(model, "embedding")
    for n in (1, 2, 31, 32, 33, 70):
        engine.run(tensors[:n])
        traced.append(engine._forward.experimental_get_tracing_count())  # type: ignore[attr-defined]
    assert traced == [1] * 6


def test_dropout_and_augmentation_sleep_while_scoring(tmp_path: Path, tensors: np.ndarray) -> None:
    path = saved(
        tmp_path,
        lambda layers: [
            layers.RandomRotation(0.4),
            layers.RandomBrightness(0.5, value_range=(0, 1)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(8, name="embedding"),
            layers.BatchNormalization(),
            layers.Dropout(0.9),
            layers.Dense(3, activation="softmax"),
        ],
    )
    engine = load_engine(path, "embedding")
    assert np.array_equal(engine.run(tensors).probabilities, engine.run(tensors).probabilities)


POOLED = {
    "global pooling": (lambda layers: layers.GlobalAveragePooling2D(), False),
    "flatten": (lambda layers: layers.Flatten(), True),
}


@pytest.mark.parametrize(("pooling", "keras_fails"), POOLED.values(), ids=POOLED.keys())
def test_a_224_model_is_never_fed_images_of_256_and_darkroom_says_why(
    tmp_path: Path, pooling: Callable[[Any], Any], keras_fails: bool
) -> None:
    import keras

    path = saved(
        tmp_path,
        lambda layers: [
            layers.Conv2D(2, 3, strides=8),
            pooling(layers),
            layers.Dense(4, name="embedding"),
            layers.Dense(3, activation="softmax"),
        ],
        (224, 224, 3),
    )
    preprocessing = preset("load_img", size=(256, 256), interpolation="bilinear")
    too_large = prepare(encoded(drawn(1, (512, 384))), preprocessing).tensor[np.newaxis]
    if keras_fails:
        with pytest.raises(ValueError, match="incompatible"):
            keras.saving.load_model(path)(too_large)
    else:
        assert keras.saving.load_model(path)(too_large).shape == (1, 3)  # silent: the seed of many lost weeks
    with pytest.raises(WrongUse) as refused:
        load_engine(path, "embedding").run(too_large)
    message = str(refused.value)
    assert "224×224" in message
    assert "256×256" in message
    assert "global pooling" in message
    assert "Flatten" in message
    with pytest.raises(UnsupportedModel, match="do not agree on the size"):
        load_engine(path, "embedding", input_shape=preprocessing.input_shape)


def test_a_model_of_any_size_is_pinned_to_the_size_of_its_preprocessing(tmp_path: Path, tensors: np.ndarray) -> None:
    path = saved(
        tmp_path,
        lambda layers: [layers.GlobalAveragePooling2D(name="embedding"), layers.Dense(3, activation="softmax")],
        (None, None, 3),
    )
    with pytest.raises(UnsupportedModel, match="any size"):
        load_engine(path, "embedding")
    engine = load_engine(path, "embedding", input_shape=(*SIZE, 3))
    assert engine.run(tensors[:2]).probabilities.shape == (2, 3)
    with pytest.raises(WrongUse, match="trained on images of 40×56"):
        engine.run(np.ascontiguousarray(tensors[:, :32, :32]))


WRONG_TENSORS = {
    "one image without a batch": (lambda t: t[0], "a batch of images"),
    "channels first": (lambda t: np.moveaxis(t, 3, 1), "channels come last"),
    "sides swapped": (lambda t: np.swapaxes(t, 1, 2), "these have 56×40"),
    "uint8": (lambda t: t.astype(np.uint8), "found: uint8"),
    "float64": (lambda t: t.astype(np.float64), "found: float64"),
    "no image": (lambda t: t[:0], "no image"),
}


@pytest.mark.parametrize(("change", "says"), WRONG_TENSORS.values(), ids=WRONG_TENSORS.keys())
def test_what_did_not_come_from_the_preparation_is_refused(
    model: Path, tensors: np.ndarray, change: Callable[[np.ndarray], np.ndarray], says: str
) -> None:
    with pytest.raises(WrongUse, match=says):
        load_engine(model, "embedding").run(change(tensors))


def head(layers: Any, *last: Any) -> list[Any]:
    return [layers.GlobalAveragePooling2D(), layers.Dense(4, name="embedding"), *last]


NO_CLASSIFIERS = {
    "logits": (lambda layers: head(layers, layers.Dense(3)), UnsupportedModel, "not probabilities"),
    "one sigmoid": (lambda layers: head(layers, layers.Dense(1, activation="sigmoid")), UnsupportedModel, "sigmoid"),
    "a sigmoid a class": (
        lambda layers: head(layers, layers.Dense(3, activation="sigmoid")),
        UnsupportedModel,
        "multi-label",
    ),
    "a map of classes": (
        lambda layers: [layers.Conv2D(4, 1, name="embedding"), layers.Conv2D(3, 1, activation="softmax")],
        UnsupportedModel,
        "segmentation",
    ),
    "an embedding with places": (
        lambda layers: [
            layers.Conv2D(4, 1, name="embedding"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ],
        UnsupportedModel,
        "one row of numbers",
    ),
    "weights that diverged": (
        lambda layers: head(layers, layers.Rescaling(float("inf")), layers.Dense(3, activation="softmax")),
        Failed,
        "not finite",
    ),
}


@pytest.mark.parametrize(("layers", "kind", "says"), NO_CLASSIFIERS.values(), ids=NO_CLASSIFIERS.keys())
def test_outputs_that_are_no_probabilities_are_refused(
    tmp_path: Path, tensors: np.ndarray, layers: Any, kind: type[Exception], says: str
) -> None:
    engine = load_engine(saved(tmp_path, layers), "embedding")
    with pytest.raises(kind, match=says):
        engine.run(tensors[:3])


def _lambda(path: Path) -> None:
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2)]).save(path)


def _two_inputs(path: Path) -> None:
    import keras

    inputs = [keras.Input((*SIZE, 3)), keras.Input((*SIZE, 3))]
    keras.Model(inputs, keras.layers.Add()(inputs)).save(path)


def _grey(path: Path) -> None:
    saved(path.parent, lambda layers: [layers.Flatten(name="embedding"), layers.Dense(2)], (*SIZE, 1))


NO_MODELS = {
    "nothing": (lambda path: None, "no such file"),
    "a folder": (lambda path: path.mkdir(), "SavedModel"),
    "legacy HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "legacy HDF5"),
    "a Git LFS pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
    "something else": (lambda path: path.write_bytes(b"hello"), "5 bytes"),
    "code in a Lambda": (_lambda, "Lambda"),
    "two inputs": (_two_inputs, "2 inputs"),
    "grey images": (_grey, "RGB"),
}


@pytest.mark.parametrize(("make", "says"), NO_MODELS.values(), ids=NO_MODELS.keys())
def test_a_file_that_is_no_such_model_is_refused_for_what_it_is(
    tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    make(tmp_path / "model.keras")
    with pytest.raises(UnsupportedModel, match=says):
        load_engine(tmp_path / "model.keras", "embedding")


def test_a_missing_embedding_layer_is_named_beside_those_that_would_do(model: Path) -> None:
    with pytest.raises(UnsupportedModel, match="'features'") as refused:
        load_engine(model, "features")
    assert "embedding" in str(refused.value.found)


def test_ten_thousand_images_in_batches_need_no_more_memory_than_one_thousand(model: Path, tensors: np.ndarray) -> None:
    engine = load_engine(model, "embedding")
    rng = np.random.default_rng(0)

    def score(images: int) -> int:
        for _ in range(images // 50):
            engine.run(tensors[rng.integers(0, len(tensors), rng.integers(40, 60))])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    before = score(1_000)
    assert score(9_000) - before < 20_000_000


@pytest.mark.real_data
def test_real_photos_get_the_same_answer_alone_and_in_a_batch_of_32(
    data: Path, photos: list[Path], tmp_path: Path
) -> None:
    import keras

    keras.utils.set_random_seed(0)
    backbone = keras.saving.load_model(data / "backbones" / "mobilenet_v2_0.35_224_no_top.keras")
    pooled = keras.layers.GlobalAveragePooling2D(name="embedding")(backbone.output)
    keras.Model(backbone.input, keras.layers.Dense(6, activation="softmax")(pooled)).save(tmp_path / "model.keras")
    preprocessing = preset("load_img", size=(224, 224), interpolation="bilinear")
    preprocessing = preprocessing.with_knobs(**dict(application_values("mobilenet_v2")))
    tensors = np.stack([prepare(photo.read_bytes(), preprocessing).tensor for photo in photos[::32]])
    engine = load_engine(tmp_path / "model.keras", "embedding", input_shape=preprocessing.input_shape)
    together = engine.run(tensors).probabilities
    assert np.ptp(together, axis=0).max() > 0.1
    alone = np.concatenate([engine.run(tensor[np.newaxis]).probabilities for tensor in tensors])
    assert np.abs(alone - together).max() <= 1e-5
