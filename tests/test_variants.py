"""The catalogue of plausible mistakes, how two of them are one preparation, and that a replay is what it replays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.errors import WrongUse
from tasks.inference import Engine, Outputs, load_engine
from tasks.knobs import Preprocessing
from tasks.preprocessing import ImageRefused, prepare
from tasks.presets import PRESETS, preset
from tasks.variants import NotShown, Replay, Variant, applied, catalogue
from tasks.variants.table import variants_table
from tests.tiny import ODD, SIZE, drawn, encoded

ROOT = Path(__file__).parent.parent
PINNED = {
    f"{name}, {fit}": preset(name, size=SIZE, fit=fit, values="tf")
    for name in PRESETS
    for fit in ("squash", "crop", "pad")
} | {
    "caffe": preset("load_img", size=SIZE, interpolation="bilinear", values="caffe"),
    "identity": preset("image_dataset_from_directory", size=SIZE),
    "unit": preset("opencv", size=SIZE, interpolation="nearest", divide_by=255.0),
    "teachable machine": preset("teachable_machine", size=SIZE),
    "applies EXIF and profiles": preset("load_img", size=SIZE, exif_orientation="applied", icc="to_srgb", values="tf"),
}
LOAD_IMG = preset("load_img", size=SIZE, interpolation="bilinear", values="tf")
CATALOGUES = [(pinned, catalogue(pinned)) for pinned in PINNED.values()]
pinned_ones = pytest.mark.parametrize("pinned", PINNED.values(), ids=PINNED.keys())


def named(pinned: Preprocessing, *names: str) -> list[Variant]:
    known = {variant.name: variant for variant in catalogue(pinned)}
    return [known[name] for name in names]


def changed(pinned: Preprocessing, *names: str) -> dict[str, Any]:
    """What these variants change: knob → its new value."""
    made = applied(pinned, named(pinned, *names))
    assert made is not None
    return {knob: now for knob, (_, now) in pinned.differences(made).items()}


# ---- the catalogue -------------------------------------------------------------------------------------------------


@pinned_ones
def test_there_are_forty_mistakes_or_more_each_with_a_name_of_its_own(pinned: Preprocessing) -> None:
    variants = catalogue(pinned)
    assert len(variants) >= 40
    assert len({variant.name for variant in variants}) == len(variants)
    assert {variant.stage for variant in variants} == {"decode", "geometry", "values", "model"}
    assert all(variant.name == f"{variant.knob}={variant.value}" and variant.what for variant in variants)
    assert catalogue(pinned) == variants


@pinned_ones
def test_every_mistake_can_be_made_and_none_is_how_it_is_pinned(pinned: Preprocessing) -> None:
    made = {variant.name: applied(pinned, [variant]) for variant in catalogue(pinned) if variant.stage != "model"}
    assert not [name for name, preprocessing in made.items() if preprocessing is None]
    assert pinned not in made.values()
    assert len(set(made.values())) == len(made)
    assert all(one is not None and one.input_shape == pinned.input_shape for one in made.values())


@pinned_ones
def test_a_mistake_sets_what_it_says(pinned: Preprocessing) -> None:
    for variant in catalogue(pinned):
        made = applied(pinned, [variant])
        assert made is not None
        assert {knob: made.knobs()[knob] for knob in variant.changes} == dict(variant.changes)
        assert not variant.changes if variant.stage == "model" else variant.changes


MET: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "the default of load_img": (
        "load_img, bilinear", ("interpolation=nearest",), {"interpolation": "nearest", "antialias": False},
    ),
    "image_dataset_from_directory": (
        "load_img, bilinear", ("resizer=tensorflow",),
        {"resizer": "tensorflow", "antialias": False, "rounding": "none"},
    ),
    "load_img instead of a dataset": (
        "image_dataset_from_directory", ("resizer=pillow_nearest",),
        {"resizer": "pillow", "interpolation": "nearest", "rounding": "round"},
    ),
    "cv2.resize": ("load_img, bilinear", ("resizer=opencv",), {"resizer": "opencv", "antialias": False}),
    "INTER_NEAREST": (
        "opencv", ("interpolation=nearest",), {"interpolation": "nearest", "sampling_grid": "corner"},
    ),
    "cv2.imread": (
        "load_img, bilinear", ("decoder=opencv", "channel_order=bgr"),
        {"channel_order": "bgr", "decoder": "opencv", "exif_orientation": "applied", "sixteen_bit": "high_byte",
         "float_pixels": "refused", "formats": ("JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")},
    ),
    "load_img instead of cv2.imread": (
        "opencv", ("decoder=pillow",),
        {"decoder": "pillow", "exif_orientation": "ignored", "sixteen_bit": "saturate", "float_pixels": "clipped"},
    ),
    "x/255": ("teachable_machine", ("scaling=unit",), {"divide_by": 255.0, "mean": (0.0, 0.0, 0.0)}),
    "BGR": ("teachable_machine", ("channel_order=bgr",), {"channel_order": "bgr"}),
    "a nearest squash": (
        "teachable_machine", ("fit=squash", "interpolation=nearest"),
        {"fit": "squash", "interpolation": "nearest", "antialias": False},
    ),
    "a crop by another library": (
        "teachable_machine", ("resizer=opencv", "scaling=unit"),
        {"resizer": "opencv", "interpolation": "bilinear", "antialias": False, "box_rounding": "floor",
         "divide_by": 255.0, "mean": (0.0, 0.0, 0.0)},
    ),
    "caffe comes with its order": (
        "load_img, bilinear", ("scaling=caffe",),
        {"divide_by": 1.0, "mean": (103.939, 116.779, 123.68), "channel_order": "bgr"},
    ),
    "rows and columns": (
        "load_img, bilinear", ("sides=swapped",), {"layout": "width_first", "width": 40, "height": 56},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "variants", "change"), MET.values(), ids=MET.keys())
def test_a_mistake_is_the_one_that_people_make(name: str, variants: tuple[str, ...], change: dict[str, Any]) -> None:
    kind, _, interpolation = name.partition(", ")
    values = None if kind == "teachable_machine" else "tf"
    assert changed(preset(kind, size=SIZE, interpolation=interpolation or None, values=values), *variants) == change


def test_who_forgets_caffe_forgets_its_order_too() -> None:
    assert changed(PINNED["caffe"], "scaling=unit")["channel_order"] == "rgb"
    assert "channel_order" not in changed(LOAD_IMG.with_knobs(channel_order="bgr"), "scaling=unit")


CONFLICTS: dict[str, tuple[str, str]] = {
    "one knob twice": ("scaling=unit", "scaling=torch"),
    "one word twice": ("resizer=opencv", "resizer=tensorflow"),
    "a filter that the library brings": ("resizer=opencv", "interpolation=nearest"),
    "what TensorFlow cannot": ("decoder=tensorflow", "alpha=on_white"),
    "what comes along": ("scaling=caffe", "channel_order=bgr"),
    "two of the model": ("training=active", "precision=float16"),
}


@pytest.mark.parametrize("names", CONFLICTS.values(), ids=CONFLICTS.keys())
def test_two_that_cannot_be_combined_are_none(names: tuple[str, str]) -> None:
    assert applied(LOAD_IMG, named(LOAD_IMG, *names)) is None
    assert applied(LOAD_IMG, named(LOAD_IMG, *reversed(names))) is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_two_mistakes_are_both_there_whichever_comes_first(data: st.DataObject) -> None:
    pinned, variants = data.draw(st.sampled_from(CATALOGUES))
    one, other = data.draw(st.lists(st.sampled_from(variants), min_size=2, max_size=2, unique=True))
    made = applied(pinned, [one, other])
    assert made == applied(pinned, [other, one])
    if made is None:
        return
    for knob, value in (one.changes | other.changes).items() if one.changes else other.changes.items():
        assert made.knobs()[knob] == value
    if "model" not in (one.stage, other.stage):
        assert made not in (pinned, applied(pinned, [one]), applied(pinned, [other]))


def test_no_mistake_is_as_it_is_pinned() -> None:
    assert applied(LOAD_IMG, []) == LOAD_IMG


def test_the_documents_have_the_catalogue_as_it_is() -> None:
    assert variants_table() in (ROOT / "docs/variants.md").read_text()


# ---- the replay ----------------------------------------------------------------------------------------------------


def _model(path: Path, *, batch_norm: bool = True, dropout: float = 0.5) -> Path:
    import keras

    keras.utils.set_random_seed(3)
    inner = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(6, 5, strides=3, activation="relu")]
        + ([keras.layers.BatchNormalization()] if batch_norm else []),
        name="backbone",
    )
    inner.trainable = False
    photo = keras.Input((*SIZE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.DepthwiseConv2D(3)(inner(photo)))
    hidden = keras.layers.Dense(8, activation="tanh", name="embedding")(pooled)
    weak = keras.layers.Dropout(dropout)(hidden)
    keras.Model(photo, keras.layers.Dense(4, activation="softmax")(weak)).save(path)
    return path


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load_engine(_model(tmp_path_factory.mktemp("model") / "model.keras"), "embedding")


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    """Ordinary photos, odd ones, a broken one; more than a batch."""
    photos = [encoded(drawn(seed, (90 + seed, 60)), quality=90) for seed in range(28)]
    return [*photos, *(make() for make in ODD.values()), photos[0][:900]]


@pytest.fixture(scope="module")
def replay(engine: Engine, files: list[bytes]) -> Replay:
    return Replay(engine, files, LOAD_IMG)


def _by_hand(engine: Engine, files: list[bytes], preprocessing: Preprocessing) -> np.ndarray:
    rows = []
    for data in files:
        try:
            rows.append(engine.run(prepare(data, preprocessing).tensor[None]).probabilities[0])
        except ImageRefused:
            rows.append(np.full(4, np.nan, np.float32))
    return np.stack(rows)


def test_the_replay_of_the_pinned_preparation_is_prepare_and_the_engine(
    replay: Replay, engine: Engine, files: list[bytes]
) -> None:
    found = replay.probabilities(LOAD_IMG)
    assert found.dtype == np.float32
    assert np.allclose(found, _by_hand(engine, files, LOAD_IMG), atol=2e-6, equal_nan=True)
    assert np.isnan(found).any(axis=1).tolist() == [False] * (len(files) - 1) + [True]


@pytest.mark.parametrize("variant", [v for v in catalogue(LOAD_IMG) if v.stage != "model"], ids=lambda v: v.name)
def test_the_replay_of_a_variant_is_that_preparation(
    replay: Replay, engine: Engine, files: list[bytes], variant: Variant
) -> None:
    some = [0, 5, *range(28, len(files))]
    preprocessing = applied(LOAD_IMG, [variant])
    assert preprocessing is not None
    tensors = replay.tensors(preprocessing, some)
    for tensor, data in zip(tensors, [files[row] for row in some], strict=True):
        try:
            assert tensor.tobytes() == prepare(data, preprocessing).tensor.tobytes()
        except ImageRefused:
            assert np.isnan(tensor).all()
    by_hand = _by_hand(engine, [files[row] for row in some], preprocessing)
    assert np.allclose(replay.of([variant], some), by_hand, atol=2e-6, equal_nan=True)


def test_memory_changes_no_number(engine: Engine, files: list[bytes]) -> None:
    two = [variant for variant in catalogue(LOAD_IMG) if variant.name in ("grey=luma", "scaling=torch", "fit=crop")]
    preprocessings = [LOAD_IMG, *(made for one in two if (made := applied(LOAD_IMG, [one])) is not None)]
    forgetful = Replay(engine, files, LOAD_IMG, memory=1)
    kept = Replay(engine, files, LOAD_IMG)
    rows = [3, 3, 37, 0, 38]
    for preprocessing in (*preprocessings, *reversed(preprocessings)):
        assert np.array_equal(kept.tensors(preprocessing, rows), forgetful.tensors(preprocessing, rows), equal_nan=True)
        assert np.allclose(
            kept.probabilities(preprocessing, rows),
            forgetful.probabilities(preprocessing, rows),
            atol=2e-6,
            equal_nan=True,
        )
    together = kept.all_probabilities(preprocessings, rows)
    assert together.shape == (4, 5, 4)
    assert np.array_equal(together[1], kept.probabilities(preprocessings[1], rows), equal_nan=True)
    kept.forget()
    assert np.array_equal(together, kept.all_probabilities(preprocessings, rows), equal_nan=True)


class _Counting:
    """An engine that counts what it computes."""

    name = "counting"
    input_shape = (*SIZE, 3)

    def __init__(self) -> None:
        self.computed = 0

    def run(self, tensors: np.ndarray) -> Outputs:
        assert len(tensors) <= 32
        self.computed += len(tensors)
        mean = 0.5 + tensors.mean(axis=(1, 2, 3)) / 600
        return Outputs(np.stack([mean, 1 - mean], axis=1).astype(np.float32), mean[:, None].astype(np.float32))


def test_each_stage_is_computed_once(files: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.variants import replay as room

    seen: list[tuple[str, int]] = []

    def counted(stage: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any) -> Any:
            seen.append((stage, 1))
            return real(first, *rest)

        return call

    monkeypatch.setattr(room, "decode", counted("decode", room.decode))
    monkeypatch.setattr(room, "to_resized", counted("resize", room.to_resized))
    engine = _Counting()
    replay = Replay(engine, files[:20], LOAD_IMG)
    wanted = ["scaling=unit", "channel_order=bgr", "interpolation=bicubic", "icc=to_srgb"]
    told: list[tuple[int, int]] = []
    made = [one for variant in named(LOAD_IMG, *wanted) if (one := applied(LOAD_IMG, [variant])) is not None]
    replay.all_probabilities([LOAD_IMG, *made], progress=lambda _, done, total, __: told.append((done, total)))
    counts = {stage: sum(1 for one, _ in seen if one == stage) for stage in ("decode", "resize")}
    assert counts == {"decode": 2 * 20, "resize": 3 * 20}  # as pinned, and with profiles; and bicubic
    assert engine.computed == 1 + 4 * 20  # one to learn the classes; a profile that is not there changes nothing
    assert told[-1] == (100, 100)
    assert np.array_equal(replay.of(named(LOAD_IMG, "icc=to_srgb")), replay.probabilities(LOAD_IMG))


def test_what_an_engine_cannot_show_is_said(files: list[bytes], tmp_path: Path) -> None:
    plain = load_engine(_model(tmp_path / "plain.keras", batch_norm=False, dropout=0.0), "embedding")
    replay = Replay(plain, files[:2], LOAD_IMG)
    training, batch_norm, rounded = named(LOAD_IMG, "training=active", "batch_norm=batch", "precision=float16")
    assert replay.not_shown(training) == "no layer of the model does otherwise in training"
    assert replay.not_shown(batch_norm) == "the model has no BatchNormalization"
    assert replay.not_shown(rounded) is None
    assert replay.not_shown(named(LOAD_IMG, "scaling=unit")[0]) is None
    with pytest.raises(NotShown, match="batch_norm=batch cannot be shown: the model has no BatchNormalization"):
        replay.of([batch_norm])
    other = Replay(_Counting(), files[:2], LOAD_IMG)
    assert "counting does not hold a Keras model" in str(other.not_shown(rounded))
    with pytest.raises(NotShown):
        other.model_variant(rounded)


def test_dropout_that_is_active_is_seeded_and_changes_answers(engine: Engine, files: list[bytes]) -> None:
    (training,) = named(LOAD_IMG, "training=active")
    replay = Replay(engine, files, LOAD_IMG, seed=1)
    first, again = replay.of([training]), replay.of([training])
    assert first is not None
    assert np.array_equal(first, again, equal_nan=True)
    assert np.nanmax(np.abs(first - replay.probabilities(LOAD_IMG))) > 1e-2
    assert not np.allclose(first, Replay(engine, files, LOAD_IMG, seed=2).of([training]), equal_nan=True)


def test_batch_normalization_on_a_batch_makes_an_image_depend_on_its_neighbours(
    engine: Engine, files: list[bytes]
) -> None:
    (batch_norm,) = named(LOAD_IMG, "batch_norm=batch")
    replay = Replay(engine, files, LOAD_IMG)
    alone, together = replay.model_variant(batch_norm, [0]), replay.model_variant(batch_norm, [0, 1, 2])
    assert not np.allclose(alone[0], together[0], atol=1e-4)
    assert np.array_equal(together, replay.model_variant(batch_norm, [0, 1, 2]))  # moving statistics play no part
    assert np.isnan(replay.model_variant(batch_norm, [0, len(files) - 1])).any(axis=1).tolist() == [False, True]
    _as_keras_in_training(engine, replay, together)


def _as_keras_in_training(engine: Engine, replay: Replay, found: np.ndarray) -> None:
    """The same by Keras itself: its BatchNormalization made trainable, its dropout made none."""
    import keras

    model = keras.models.clone_model(engine.model)  # type: ignore[attr-defined]
    model.set_weights(engine.model.get_weights())  # type: ignore[attr-defined]
    model.get_layer("backbone").layers[-1].trainable = True
    next(layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)).rate = 0.0
    theirs = model(replay.tensors(LOAD_IMG, [0, 1, 2]), training=True)[0]
    assert np.allclose(found, theirs, atol=1e-5)


PRECISIONS = {"float16": 1e-2, "bfloat16": 0.1, "mixed_float16": 1e-2, "mixed_bfloat16": 0.1, "int8": 0.1}


@pytest.mark.parametrize(("value", "most"), PRECISIONS.items(), ids=PRECISIONS.keys())
def test_less_precision_moves_probabilities_a_little_and_leaves_the_model_as_it_was(
    engine: Engine, files: list[bytes], value: str, most: float
) -> None:
    replay = Replay(engine, files[:12], LOAD_IMG)
    before = replay.probabilities(LOAD_IMG)
    found = replay.of(named(LOAD_IMG, f"precision={value}"))
    assert found is not None
    assert 0 < np.abs(found - before).max() < most
    assert np.allclose(found.sum(axis=1), 1, atol=1e-3)
    replay.forget()
    assert np.array_equal(Replay(engine, files[:12], LOAD_IMG).probabilities(LOAD_IMG), before)


def test_a_mistake_of_the_model_and_one_of_the_preparation_are_replayed_together(
    engine: Engine, files: list[bytes]
) -> None:
    replay = Replay(engine, files[:6], LOAD_IMG)
    both = replay.of(named(LOAD_IMG, "batch_norm=batch", "channel_order=bgr"))
    assert both is not None
    for alone in ("batch_norm=batch", "channel_order=bgr"):
        assert not np.allclose(both, replay.of(named(LOAD_IMG, alone)), atol=1e-4)
    assert replay.of(named(LOAD_IMG, "scaling=unit", "scaling=torch")) is None


def test_what_cannot_be_replayed_is_an_error_that_says_why(replay: Replay) -> None:
    with pytest.raises(WrongUse, match="another size") as wrong:
        replay.probabilities(LOAD_IMG.with_knobs(width=57))
    assert "(40, 56, 3)" in str(wrong.value)
    with pytest.raises(WrongUse, match="no such image"):
        replay.probabilities(LOAD_IMG, [0, 99])


def test_a_preparation_by_opencv_works_in_a_process_that_can_be_killed(tmp_path: Path) -> None:
    from tasks.workers import Arrived, DecodePool, Job, Wanted

    pinned = preset("opencv", size=SIZE, values="tf")
    data = encoded(drawn(4))
    with DecodePool(pinned, Wanted(properties=False), processes=1) as pool:
        (found,) = pool.run([Job(0, data=data)])
    assert isinstance(found, Arrived)
    assert found.tensor is not None
    assert found.tensor.tobytes() == prepare(data, pinned).tensor.tobytes()


def test_a_preparation_without_opencv_does_not_import_it() -> None:
    code = (
        "import sys; from tests.tiny import *; prepare(encoded(drawn(1)), tiny_preprocessing());"
        "import tasks.variants; print('cv2' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False"]


@pytest.mark.real_data
def test_libraries_write_nothing_to_the_terminal_about_odd_files(
    engine: Engine, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = [file.read_bytes() for file in sorted((data / "images" / "odd").iterdir()) if b"tif" in file.name.encode()]
    replay = Replay(engine, odd, LOAD_IMG)
    for decoder in ("pillow", "opencv"):
        variant = next((one for one in catalogue(LOAD_IMG) if one.name == f"decoder={decoder}"), None)
        replay.tensors(LOAD_IMG if variant is None else applied(LOAD_IMG, [variant]) or LOAD_IMG)
    assert len(odd) > 5
    assert capfd.readouterr().err == ""
