"""The pinned knobs, the one function they configure, and that there is no second one."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pydantic import ValidationError

from darkroom.errors import WrongUse
from darkroom.reasons import Reason
from tasks.knobs import TENSORFLOW_INTERPOLATIONS, Decode, Geometry, Preprocessing, Values
from tasks.preprocessing import ImageRefused, Limits, array_digest, prepare, to_resized, to_tensor
from tasks.presets import APPLICATION_MODES, application_values, named_values, preset

SIZE = (48, 64)
PINNED = preset("load_img", size=SIZE, interpolation="bilinear", values="mobilenet_v2")


def _photo(width: int = 90, height: int = 50, kind: str = "PNG") -> bytes:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([x * 7 % 256, y * 5 % 256, (x ^ y) % 256], axis=-1).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, kind)
    return held.getvalue()


# ---- the knobs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Decode, Geometry, Values, Preprocessing])
def test_no_knob_has_a_default(model: type[Any]) -> None:
    assert all(field.is_required() for field in model.model_fields.values())


def test_a_knob_has_one_name_in_all_groups() -> None:
    names = [name for model in (Decode, Geometry, Values) for name in model.model_fields]
    assert len(set(names)) == len(names)
    assert set(PINNED.knobs()) == set(names)


def test_every_knob_is_explained() -> None:
    for model in (Decode, Geometry, Values):
        text = model.__doc__ or ""
        plain = {"width", "height", "layout", "pad_value", "resizer"}  # the name says it
        assert not [name for name in model.model_fields if name not in text and name not in plain]


def test_a_saved_preprocessing_states_every_knob_and_comes_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.json"
    PINNED.save(path)
    stated = json.loads(path.read_text())
    assert {name for group in ("decode", "geometry", "values") for name in stated[group]} == set(PINNED.knobs())
    assert Preprocessing.load(path) == PINNED
    assert Preprocessing.load(path).digest == PINNED.digest


def test_the_digest_is_of_the_knobs_and_not_of_the_spacing(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.json"
    path.write_text(json.dumps(PINNED.model_dump(mode="json"), indent=7, sort_keys=False))
    assert Preprocessing.load(path).digest == PINNED.digest
    assert len(PINNED.digest) == 64


def test_the_digest_stays_what_it_was() -> None:
    """Bundles of earlier versions name it: a knob that is added or renamed needs schema_version 2 and a way across."""
    assert PINNED.digest == preset("load_img", size=SIZE, interpolation="bilinear", values="tf").digest
    assert PINNED.with_knobs(formats=["JPEG"]).digest == (
        "07e44870936ca8b3ea3aa818ff1b324a1ac3df9e82b28e424f7496fae944304a"
    )


@pytest.mark.parametrize("knob", sorted(PINNED.knobs()))
def test_a_missing_knob_is_an_error_that_names_it(tmp_path: Path, knob: str) -> None:
    stated = PINNED.model_dump(mode="json")
    for group in ("decode", "geometry", "values"):
        stated[group].pop(knob, None)
    path = tmp_path / "preprocessing.json"
    path.write_text(json.dumps(stated))
    with pytest.raises(WrongUse, match=f"{knob} is missing") as wrong:
        Preprocessing.load(path)
    assert wrong.value.file == str(path)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown value": ({"alpha": "on_pink"}, "on_white"),
    "unknown knob": ({"sharpen": True}, "interpolation"),
    "no height": ({"height": 0}, "greater than or equal to 1"),
    "std of zero": ({"std": (1, 0, 1)}, "must not be 0"),
    "not a number": ({"rescale": float("nan")}, "finite"),
    "a format twice": ({"formats": ["PNG", "PNG"]}, "twice"),
    "no format": ({"formats": []}, "at least 1"),
    "a format that nobody decodes": ({"formats": ["EPS"]}, "JPEG"),
    "Pillow has one DCT": ({"dct_method": "fast"}, "accurate"),
    "Pillow antialiases": ({"antialias": False}, "True"),
    "Pillow does not, for nearest": ({"interpolation": "nearest"}, "False"),
    "TensorFlow drops alpha": ({"decoder": "tensorflow", "alpha": "on_white"}, "dropped"),
    "OpenCV drops alpha": (
        {"decoder": "opencv", "alpha": "on_white", "sixteen_bit": "high_byte", "float_pixels": "refused"},
        "dropped",
    ),
    "OpenCV reads no icons": (
        {"decoder": "opencv", "sixteen_bit": "high_byte", "float_pixels": "refused", "formats": ["ICO"]},
        "TIFF",
    ),
    "OpenCV never antialiases": ({"resizer": "opencv"}, "False"),
    "OpenCV has its own filters": ({"resizer": "opencv", "interpolation": "hamming", "antialias": False}, "lanczos4"),
    "OpenCV does not truncate": ({"resizer": "opencv", "antialias": False, "rounding": "truncate"}, "none"),
    "OpenCV crops whole pixels": (
        {"resizer": "opencv", "antialias": False, "fit": "crop", "box_rounding": "exact"},
        "whole pixels",
    ),
    "a crop cannot be rounded like a pad": ({"fit": "crop", "box_rounding": "round"}, "exact"),
}


@pytest.mark.parametrize(("change", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_knob_that_cannot_be_is_an_error_that_names_what_can(change: dict[str, Any], says: str) -> None:
    with pytest.raises(WrongUse) as wrong:
        PINNED.with_knobs(**change)
    assert says in str(wrong.value)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema_version": 2}', "null"])
def test_what_is_no_preprocessing_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "preprocessing.json"
    path.write_text(content)
    with pytest.raises(WrongUse):
        Preprocessing.load(path)


def test_a_preprocessing_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        PINNED.geometry.width = 5  # type: ignore[misc]


def test_a_variant_differs_in_what_it_says() -> None:
    variant = PINNED.with_knobs(channel_order="bgr", interpolation="bicubic")
    assert PINNED.differences(variant) == {"channel_order": ("rgb", "bgr"), "interpolation": ("bilinear", "bicubic")}
    assert variant.digest != PINNED.digest
    assert PINNED.differences(PINNED) == {}


# ---- the one function ----------------------------------------------------------------------------------------------


def test_every_stage_has_the_shape_that_it_promises() -> None:
    prepared = prepare(_photo(), PINNED)
    assert prepared.pixels.shape == (50, 90, 3)
    assert prepared.resized.shape == prepared.tensor.shape == PINNED.input_shape == (48, 64, 3)
    assert (prepared.pixels.dtype, prepared.resized.dtype, prepared.tensor.dtype) == (np.uint8, np.uint8, np.float32)
    assert -1 <= prepared.tensor.min() < prepared.tensor.max() <= 1


def test_a_refusal_comes_through_with_its_reason() -> None:
    for data, limits, reason in (
        (b"", Limits(), Reason.EMPTY_FILE),
        (_photo(), Limits(max_pixels=99), Reason.TOO_MANY_PIXELS),
    ):
        with pytest.raises(ImageRefused) as refused:
            prepare(data, PINNED, limits)
        assert refused.value.reason is reason


def test_the_same_bytes_give_the_same_digests_here_and_in_a_new_process(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.json"
    for number, pinned in enumerate((PINNED, preset("image_dataset_from_directory", size=SIZE, values="resnet50"))):
        pinned.save(path)
        (tmp_path / "photo.jpg").write_bytes(_photo(kind="JPEG"))
        script = (
            "import sys; from pathlib import Path; from tasks.preprocessing import *;"
            "p = prepare(Path(sys.argv[1]).read_bytes(), Preprocessing.load(Path(sys.argv[2])));"
            "print(array_digest(p.pixels), array_digest(p.tensor), 'tensorflow' in sys.modules)"
        )
        there = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "photo.jpg"), str(path)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent.parent,
        ).stdout.split()
        here = prepare((tmp_path / "photo.jpg").read_bytes(), pinned)
        assert there == [array_digest(here.pixels), array_digest(here.tensor), str(number == 1)]


def test_the_pillow_path_imports_no_tensorflow() -> None:
    assert not PINNED.needs_tensorflow
    assert preset("tf_image_resize", size=SIZE).needs_tensorflow
    assert preset("tf_image_resize", size=SIZE, decoder="pillow", dct_method="accurate").needs_tensorflow
    assert preset("opencv", size=SIZE).needs_opencv
    assert not preset("opencv", size=SIZE).needs_tensorflow
    assert not PINNED.needs_opencv


VALUES = {name: application_values(name) for name in APPLICATION_MODES} | {
    "rescale": named_values("identity", rescale=1 / 255),
    "twice": named_values("tf", times=2),
    "forgotten": named_values("caffe", times=0),
    "reshaped": named_values("torch", layout="channels_first"),
    "after": named_values("torch", rescale_after=0.3, channel_order="bgr"),
}


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.float32]),
        st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.just(3)),
        elements={"min_value": 0, "max_value": 255},
    ),
    st.sampled_from(sorted(VALUES)),
)
def test_one_image_gives_the_same_bits_alone_and_in_a_batch(batch: np.ndarray, name: str) -> None:
    before = batch.copy()
    together = to_tensor(batch, VALUES[name])
    alone = np.stack([to_tensor(image, VALUES[name]) for image in batch])
    assert together.tobytes() == alone.tobytes()
    assert together.dtype == np.float32
    assert np.array_equal(batch, before)  # never in place


def test_wrong_values_are_expressed_by_their_knobs() -> None:
    pixels = np.full((1, 1, 3), (255, 51, 0), np.uint8)
    rescaled = to_tensor(pixels, named_values("identity", divide_by=255.0)).ravel()
    assert rescaled.tolist() == [1.0, np.float32(0.2), 0.0]
    assert np.allclose(to_tensor(pixels, named_values("tf", times=2)).ravel(), (rescaled * 2 - 1) / 127.5 - 1)
    assert to_tensor(pixels, named_values("tf", times=0)).ravel().tolist() == [255, 51, 0]
    assert np.allclose(to_tensor(pixels, named_values("tf", rescale=1 / 255)).ravel(), rescaled / 127.5 - 1)
    assert to_tensor(pixels, named_values("identity", channel_order="bgr")).ravel().tolist() == [0, 51, 255]


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(
        [
            ("squash", "floor"),
            ("crop", "floor"),
            ("crop", "float32"),
            ("crop", "exact"),
            ("pad", "floor"),
            ("pad", "float32"),
            ("pad", "round"),
        ]
    ),
    st.sampled_from([1.0, 1.15, 3.0]),
)
def test_any_size_becomes_the_models_size(width: int, height: int, fit: tuple[str, str], zoom: float) -> None:
    geometry = PINNED.with_knobs(fit=fit[0], box_rounding=fit[1], zoom=zoom).geometry
    resized = to_resized(np.full((height, width, 3), 77, np.uint8), geometry)
    assert resized.shape == (48, 64, 3)
    assert set(np.unique(resized)) <= ({0, 77} if fit[0] == "pad" else {77})


def test_a_squash_a_crop_and_a_pad_differ_where_they_should() -> None:
    """A red stripe at the left of a wide photo: the crop loses it, the pad keeps it below a border."""
    pixels = np.zeros((50, 200, 3), np.uint8)
    pixels[:, :20] = (255, 0, 0)
    squash, crop, pad = (
        to_resized(pixels, PINNED.with_knobs(width=64, height=64, fit=fit, pad_value=9).geometry)
        for fit in ("squash", "crop", "pad")
    )
    assert squash[32, 2, 0] == pad[32, 2, 0] == 255
    assert crop[..., 0].max() == 0
    assert pad[0, 2].tolist() == [9, 9, 9]


def test_rows_and_columns_may_be_exchanged() -> None:
    swapped = PINNED.with_knobs(layout="width_first", width=48, height=64)
    assert swapped.input_shape == PINNED.input_shape
    tensor = prepare(_photo(), swapped).tensor
    assert tensor.shape == (48, 64, 3)
    assert np.array_equal(tensor.transpose(1, 0, 2), prepare(_photo(), PINNED.with_knobs(width=48, height=64)).tensor)


def test_channels_first_may_be_reshaped_where_they_should_be_transposed() -> None:
    pixels = prepare(_photo(), PINNED).resized
    reshaped = to_tensor(pixels, named_values("identity", layout="channels_first"))
    assert np.array_equal(reshaped.reshape(3, 48, 64), pixels.transpose(2, 0, 1))


def test_zoom_looks_closer_at_the_middle() -> None:
    pixels = np.zeros((100, 120, 3), np.uint8)
    pixels[30:70, 40:80] = 255
    near = to_resized(pixels, PINNED.with_knobs(zoom=3.0).geometry)
    assert near[2:-2, 2:-2].min() == 255


@pytest.mark.parametrize("interpolation", TENSORFLOW_INTERPOLATIONS)
@pytest.mark.parametrize("rounding", ["none", "round", "truncate"])
def test_rounding_after_a_resize_gives_bytes_or_leaves_floats(interpolation: str, rounding: str) -> None:
    pixels = prepare(_photo(), PINNED).pixels
    plain = preset("tf_image_resize", size=SIZE, interpolation=interpolation)
    resized = to_resized(pixels, plain.with_knobs(rounding=rounding).geometry)
    whole = rounding != "none" or interpolation == "nearest"
    assert resized.dtype == (np.uint8 if whole else np.float32)
    assert np.abs(resized - to_resized(pixels, plain.geometry).clip(0, 255)).max() <= (1 if whole else 99)


def test_an_arrays_digest_is_of_its_type_shape_and_numbers() -> None:
    array = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert array_digest(array) == array_digest(array.astype(">f4")) == array_digest(np.asfortranarray(array))
    others = [array.reshape(3, 4), array.astype(np.float64), array + 1]
    assert array_digest(array) not in {array_digest(other) for other in others}


# ---- no second way -------------------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parent.parent
# Rooms that may open or resize an image, and why.
MAY = {
    "tasks/decode.py": "the decoder: opens files, shrinks thumbnails for people",
    "tasks/geometry.py": "the resizer",
    "tasks/opencv.py": "OpenCV, for the decoder and the resizer",
    "tasks/corruptions": "harms pixels that are resized already, by shrinking them and saving them badly",
    "tasks/slight_changes.py": "crops pixels that are resized already, to see how the answer moves",
    "tasks/thumbnails.py": "small pictures for people, of pixels that are resized already",
    "tasks/report/sheet.py": "small pictures for people, put together to one",
    "tasks/report/diagnosis_page.py": "small pictures for people, of tensors",
    "tasks/call_main.py": "gives somebody's own function the Pillow image or the array that it asks for",
    "darkroom/demo_world": "draws the demo's photos; what it draws is saved and read like anybody's",
}
FORBIDDEN_CALLS = {
    "resize", "thumbnail", "draft", "exif_transpose", "smart_resize", "resize_with_pad", "crop_and_resize",
    "load_img", "img_to_array", "array_to_img", "imread", "imdecode", "preprocess_input",
    "decode_image", "decode_jpeg", "decode_png", "decode_gif", "decode_bmp", "decode_webp", "decode_and_crop_jpeg",
    "image_dataset_from_directory", "flow_from_directory", "ImageDataGenerator", "Resizing", "CenterCrop",
}  # fmt: skip
FORBIDDEN_IMPORTS = {"cv2", "imageio", "skimage", "torchvision", "imread"}


def _second_ways(source: str) -> Iterator[tuple[int, str]]:
    """Where a file opens, decodes, resizes or scales images by other means than tasks.preprocessing."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").split(".")[0]]
            # thumbnail is also the name of our own function: imported from its room it is the one way
            if not (node.module or "").startswith("tasks"):
                yield from ((node.lineno, alias.name) for alias in node.names if alias.name in FORBIDDEN_CALLS)
        else:
            names = []
        yield from ((node.lineno, name) for name in names if name in FORBIDDEN_IMPORTS)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            opens = node.func.attr == "open" and owner.split(".")[-1] in ("Image", "pil_image")
            if opens or node.func.attr in FORBIDDEN_CALLS:
                yield node.lineno, f"{owner}.{node.func.attr}"


def test_there_is_no_second_way_from_bytes_to_a_tensor() -> None:
    found = []
    for package in ("darkroom", "flows", "tasks", "expectations"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not any(name == room or name.startswith(f"{room}/") for room in MAY):
                found += [f"{name}:{line} {what}" for line, what in _second_ways(path.read_text(encoding="utf-8"))]
    assert not found, f"images are prepared by tasks.preprocessing.prepare alone; may otherwise: {MAY}"


@pytest.mark.parametrize(
    "source",
    [
        "from PIL import Image\nImage.open(path)",
        "import PIL.Image\nPIL.Image.open(path)",
        "image.resize((224, 224))",
        "import tensorflow as tf\ntf.io.decode_jpeg(data)",
        "tf.image.resize(x, size)",
        "import cv2",
        "from keras.utils import load_img",
        "keras.utils.image_dataset_from_directory(folder)",
        "keras.applications.resnet50.preprocess_input(x)",
        "from keras.applications.resnet50 import preprocess_input as scale",
        "layers.Resizing(224, 224)",
    ],
)
def test_a_second_way_would_be_found(source: str) -> None:
    assert list(_second_ways(source))


@pytest.mark.parametrize("source", ["path.open()", "with open(path) as f: pass", "from tasks.decode import thumbnail"])
def test_ordinary_code_is_not_taken_for_one(source: str) -> None:
    assert not list(_second_ways(source))
