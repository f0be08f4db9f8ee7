"""The catalogue of plausible mistakes: for a pinned preparation, each way in which people prepare an image otherwise.

A row says what went wrong in words that end a sentence ("the images were …"), and which issue it is known from
(`repository#number`, or the paper).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from tasks.knobs import Preprocessing, Values
from tasks.presets import named_values
from tasks.values import to_tensor
from tasks.variants.variant import Stage, Variant, applied

Row = tuple[str, str, Mapping[str, Any], str, str]

_DECODE: Final[tuple[Row, ...]] = (
    ("decoder", "pillow", {"decoder": "pillow"}, "decoded by Pillow", "tensorflow#24893"),
    ("decoder", "tensorflow", {"decoder": "tensorflow", "dct_method": "fast"},
     "decoded by tf.io with its fast inverse DCT", "tensorflow#11623"),
    ("decoder", "tensorflow_accurate", {"decoder": "tensorflow", "dct_method": "accurate"},
     "decoded by tf.io with its accurate inverse DCT", "tensorflow#55138"),
    ("decoder", "opencv", {"decoder": "opencv"}, "decoded by OpenCV", "tensorflow#24893"),
    ("dct_method", "fast", {"dct_method": "fast"}, "decoded with the fast inverse DCT", "tensorflow#11623"),
    ("dct_method", "accurate", {"dct_method": "accurate"}, "decoded with the accurate inverse DCT", "tensorflow#55138"),
    ("exif_orientation", "applied", {"exif_orientation": "applied"}, "turned as EXIF says", "tensorflow#49834"),
    ("exif_orientation", "ignored", {"exif_orientation": "ignored"}, "not turned as EXIF says", "tensorflow#49834"),
    ("exif_orientation", "clockwise", {"exif_orientation": "clockwise"}, "turned by 90° clockwise", "yolov5#405"),
    ("exif_orientation", "anticlockwise", {"exif_orientation": "anticlockwise"},
     "turned by 90° anticlockwise", "yolov5#405"),
    ("alpha", "dropped", {"alpha": "dropped"}, "with what lies under transparent pixels showing", "DIGITS#85"),
    ("alpha", "on_white", {"alpha": "on_white"}, "with transparency composited on white", "DIGITS#85"),
    ("alpha", "on_black", {"alpha": "on_black"}, "with transparency composited on black", "DIGITS#85"),
    ("palette", "index", {"palette": "index"}, "with a palette's indices for grey values", ""),
    ("palette", "colour", {"palette": "colour"}, "with a palette's colours", ""),
    ("sixteen_bit", "high_byte", {"sixteen_bit": "high_byte"}, "with the high byte of 16 bits", "tensorflow#15681"),
    ("sixteen_bit", "saturate", {"sixteen_bit": "saturate"}, "with 16 bits saturated at 255", "tensorflow#2619"),
    ("cmyk", "inverted", {"cmyk": "inverted"}, "with inks inverted", "pytorch/vision#6538"),
    ("cmyk", "as_decoder", {"cmyk": "as_decoder"}, "with inks as the decoder converts them", "pytorch/vision#6538"),
    ("icc", "to_srgb", {"icc": "to_srgb"}, "with the colour profile converted to sRGB", ""),
    ("icc", "ignored", {"icc": "ignored"}, "with the colour profile ignored", ""),
    ("grey", "no", {"grey": "no"}, "in colour instead of grey", ""),
    ("grey", "luma", {"grey": "luma"}, "in grey, made from the colours", ""),
    ("grey", "decoder", {"grey": "decoder"}, "in grey, as the decoder makes it", ""),
    ("jpeg_ratio", "1", {"jpeg_ratio": 1}, "decoded at full size", "arXiv 2307.00280"),
    ("jpeg_ratio", "2", {"jpeg_ratio": 2}, "decoded at half size", "arXiv 2307.00280"),
    ("jpeg_ratio", "4", {"jpeg_ratio": 4}, "decoded at a quarter of its size", "arXiv 2307.00280"),
    ("jpeg_ratio", "8", {"jpeg_ratio": 8}, "decoded at an eighth of its size", "arXiv 2307.00280"),
    ("thumbnail", "0", {"thumbnail": 0}, "taken from the original instead of a thumbnail", "arXiv 2307.00280"),
    ("thumbnail", "128", {"thumbnail": 128}, "taken from a thumbnail of 128 pixels", "arXiv 2307.00280"),
    ("thumbnail", "256", {"thumbnail": 256}, "taken from a thumbnail of 256 pixels", "arXiv 2307.00280"),
    ("reencoded", "0", {"reencoded": 0}, "taken from the original instead of a copy saved again", "arXiv 2307.00280"),
    ("reencoded", "50", {"reencoded": 50}, "saved again as a JPEG of quality 50", "arXiv 2307.00280"),
    ("reencoded", "75", {"reencoded": 75}, "saved again as a JPEG of quality 75", "arXiv 2307.00280"),
    ("reencoded", "95", {"reencoded": 95}, "saved again as a JPEG of quality 95", "arXiv 2307.00280"),
    ("truncated", "padded", {"truncated": "padded"}, "with what a truncated file lacks filled in", "keras#19026"),
    ("truncated", "refused", {"truncated": "refused"}, "with truncated files refused", "keras#19026"),
)  # fmt: skip

_FILTERS: Final = {
    "nearest": "no filter: the nearest pixel",
    "bilinear": "the bilinear filter",
    "bicubic": "the bicubic filter",
    "box": "the box filter",
    "hamming": "the Hamming filter",
    "lanczos": "the LANCZOS filter",
    "area": "the area filter",
    "lanczos3": "the LANCZOS filter of radius 3",
    "lanczos4": "the LANCZOS filter of radius 4",
    "lanczos5": "the LANCZOS filter of radius 5",
    "gaussian": "the Gaussian filter",
    "mitchellcubic": "the Mitchell filter",
}


def _tensorflow(interpolation: str = "bilinear", **knobs: Any) -> Mapping[str, Any]:
    """tf.image.resize with its defaults, some set otherwise."""
    grid = {"antialias": False, "rounding": "none", "sampling_grid": "half_pixel"}
    return {"resizer": "tensorflow", "interpolation": interpolation, **grid, **knobs}


def _opencv(interpolation: str, **knobs: Any) -> Mapping[str, Any]:
    """cv2.resize of a uint8 image."""
    grid = "corner" if interpolation == "nearest" else "half_pixel"
    plain = {"antialias": False, "rounding": "round", "sampling_grid": grid}
    return {"resizer": "opencv", "interpolation": interpolation, **plain, **knobs}


def _pillow(interpolation: str) -> Mapping[str, Any]:
    return {"resizer": "pillow", "interpolation": interpolation, "antialias": interpolation != "nearest"}


# One a library and filter as people meet them: a library comes with its own antialias, rounding and grid.
_RESIZERS: Final[tuple[Row, ...]] = (
    ("resizer", "pillow", _pillow("bilinear"), "resized by Pillow, bilinear", "pytorch/vision#2950"),
    ("resizer", "pillow_nearest", _pillow("nearest"),
     "resized by Pillow to the nearest pixel, the default of load_img", "keras PR#7975"),
    ("resizer", "pillow_bicubic", _pillow("bicubic"),
     "resized by Pillow, bicubic, the default of Image.resize", "keras PR#7975"),
    ("resizer", "pillow_lanczos", _pillow("lanczos"), "resized by Pillow with LANCZOS", "keras PR#7975"),
    ("resizer", "tensorflow", _tensorflow(),
     "resized by tf.image, bilinear without antialias, the default of image_dataset_from_directory",
     "tensorflow#6720"),
    ("resizer", "tensorflow_antialias", _tensorflow(antialias=True),
     "resized by tf.image, bilinear with antialias", "tensorflow#6720"),
    ("resizer", "tensorflow_truncated", _tensorflow(rounding="truncate"),
     "resized by tf.image, bilinear, and cast to uint8", "tensorflow#6720"),
    ("resizer", "tensorflow_nearest", _tensorflow("nearest"),
     "resized by tf.image to the nearest pixel", "tensorflow#6720"),
    ("resizer", "tensorflow_bicubic", _tensorflow("bicubic"), "resized by tf.image, bicubic", "tensorflow#6720"),
    ("resizer", "tensorflow_area", _tensorflow("area"), "resized by tf.image, area", "tensorflow#6720"),
    ("resizer", "tensorflow_lanczos3", _tensorflow("lanczos3"),
     "resized by tf.image, lanczos3 without antialias", "tensorflow#6720"),
    ("resizer", "opencv", _opencv("bilinear"), "resized by OpenCV, INTER_LINEAR", "opencv#25620"),
    ("resizer", "opencv_nearest", _opencv("nearest"), "resized by OpenCV, INTER_NEAREST", "opencv#25620"),
    ("resizer", "opencv_bicubic", _opencv("bicubic"), "resized by OpenCV, INTER_CUBIC", "opencv#25620"),
    ("resizer", "opencv_area", _opencv("area"), "resized by OpenCV, INTER_AREA", "opencv#25620"),
    ("resizer", "opencv_lanczos4", _opencv("lanczos4"), "resized by OpenCV, INTER_LANCZOS4", "opencv#25620"),
    ("sampling_grid", "corner", _tensorflow(sampling_grid="corner"),
     "resized by TensorFlow 1, bilinear, pixels taken at their corners", "tensorflow#44038"),
    ("sampling_grid", "align_corners", _tensorflow(sampling_grid="align_corners"),
     "resized by TensorFlow 1, bilinear, with align_corners", "tensorflow#44038"),
)  # fmt: skip

_GEOMETRY: Final[tuple[Row, ...]] = (
    ("antialias", "on", {"antialias": True}, "resized with antialias", "tensorflow#6720"),
    ("antialias", "off", {"antialias": False}, "resized without antialias", "tensorflow#6720"),
    ("rounding", "none", {"rounding": "none"}, "not rounded after the resize", "pytorch/vision#2950"),
    ("rounding", "round", {"rounding": "round"}, "rounded to uint8 after the resize", "pytorch/vision#2950"),
    ("rounding", "truncate", {"rounding": "truncate"}, "cast to uint8 after the resize", "pytorch/vision#2950"),
    ("fit", "squash", {"fit": "squash"}, "squashed into the frame instead of keeping its proportions", "keras#9049"),
    ("fit", "crop", {"fit": "crop"}, "cropped to its centre", "keras#9049"),
    ("fit", "pad", {"fit": "pad", "pad_value": 0}, "padded with black to keep its proportions", "keras#9049"),
    ("fit", "pad_grey", {"fit": "pad", "pad_value": 114}, "padded with grey to keep its proportions", "yolov5#405"),
    ("fit", "pad_white", {"fit": "pad", "pad_value": 255}, "padded with white to keep its proportions", "keras#9049"),
    ("zoom", "1", {"zoom": 1.0}, "without the zoom", "arXiv 1906.06423"),
    ("zoom", "1.14", {"zoom": 256 / 224}, "zoomed: resized to 256 for each 224, then cropped", "arXiv 1906.06423"),
    ("zoom", "1.33", {"zoom": 4 / 3}, "zoomed by a third", "arXiv 1906.06423"),
)  # fmt: skip

_BOXES: Final[tuple[Row, ...]] = (
    ("box_rounding", "floor", {"box_rounding": "floor"}, "with the crop rounded as load_img does", ""),
    ("box_rounding", "float32", {"box_rounding": "float32"}, "with the crop rounded as TensorFlow does", ""),
    ("box_rounding", "round", {"box_rounding": "round"}, "with the frame rounded as ImageOps.pad does", ""),
    ("box_rounding", "exact", {"box_rounding": "exact"}, "with the crop exact as in ImageOps.fit", ""),
)

_SCALING_KNOBS: Final = ("rescale", "divide_by", "mean", "std", "rescale_after", "times")
_SCALINGS: Final[tuple[tuple[str, Values, str, str], ...]] = (
    ("identity", named_values("identity"), "not scaled at all (0 … 255)", "keras#16081"),
    ("unit", named_values("identity", divide_by=255.0), "scaled to 0 … 1 (x/255)", "keras-applications#64"),
    ("tf", named_values("tf"), "scaled to −1 … 1 (x/127.5 − 1)", "keras-applications#64"),
    ("torch", named_values("torch"), "scaled by ImageNet's mean and standard deviation", "keras-applications#64"),
    ("caffe", named_values("caffe"), "blue first, with ImageNet's mean taken off (caffe)", "keras-applications#64"),
    ("symmetric", named_values("identity", divide_by=128.0, mean=(1.0, 1.0, 1.0)),
     "scaled by x/128 − 1", "keras-applications#64"),
    ("centred", named_values("identity", divide_by=255.0, mean=(0.5, 0.5, 0.5)),
     "scaled to −0.5 … 0.5 (x/255 − 0.5)", "keras-applications#64"),
    ("unit_256", named_values("identity", divide_by=256.0), "scaled by x/256", "keras-applications#64"),
)  # fmt: skip

_VALUES: Final[tuple[Row, ...]] = (
    ("channel_order", "bgr", {"channel_order": "bgr"}, "with channels in the order blue, green, red", ""),
    ("channel_order", "rgb", {"channel_order": "rgb"}, "with channels in the order red, green, blue", ""),
    ("layout", "channels_first", {"layout": "channels_first"},
     "laid out channels first and reshaped instead of transposed", ""),
)  # fmt: skip

_MODEL: Final[tuple[Row, ...]] = (
    ("training", "active", {}, "with dropout and augmentation active (training=True)", "tensorflow#44614"),
    ("batch_norm", "batch", {}, "with BatchNormalization on the statistics of the batch", "keras#4290"),
    ("precision", "float16", {}, "with weights rounded to float16", "tensorflow#45568"),
    ("precision", "bfloat16", {}, "with weights rounded to bfloat16", "tensorflow#45568"),
    ("precision", "mixed_float16", {}, "computed in mixed precision (float16)", "tensorflow#45568"),
    ("precision", "mixed_bfloat16", {}, "computed in mixed precision (bfloat16)", "tensorflow#45568"),
    ("precision", "int8", {}, "with weights rounded to 8 bits, as a converted copy has them", ""),
)


def catalogue(pinned: Preprocessing) -> tuple[Variant, ...]:
    """Every variant of a pinned preparation, stage by stage, none that prepares as pinned; always in one order."""
    found: list[Variant] = []
    seen = {_effect(pinned)}
    for variant in _candidates(pinned):
        made = applied(pinned, [variant])
        if variant.stage == "model":
            found.append(variant)
        elif made is not None and _effect(made) not in seen:
            seen.add(_effect(made))
            found.append(variant)
    return tuple(found)


def _candidates(pinned: Preprocessing) -> Iterator[Variant]:
    for row in _DECODE:
        # OpenCV applies EXIF unless it is told not to
        yield _variant("decode", row, {"exif_orientation": "applied"} if row[1] == "opencv" else {})
    geometry = pinned.geometry
    for name, words in _FILTERS.items():
        told = f"resized with {words}"
        yield _variant("geometry", ("interpolation", name, {"interpolation": name}, told, "keras PR#7975"))
    for row in _RESIZERS:
        # Of the pinned library the filters are above; its usual defaults as a whole are met nevertheless.
        if row[2]["resizer"] != geometry.resizer or row[0] == "sampling_grid" or row[1].endswith(_OWN_WAYS):
            yield _variant("geometry", row)
    boxes = _BOXES if geometry.fit != "squash" or geometry.zoom != 1 else ()
    for row in (*_GEOMETRY, *boxes):
        yield _variant("geometry", row)
    yield _sides_swapped(pinned)
    for name, values, what, issue in _SCALINGS:
        changes = {knob: getattr(values, knob) for knob in _SCALING_KNOBS}
        yield _variant("values", ("scaling", name, changes, what, issue), _channel_order(pinned.values, name))
    yield _variant("values", ("scaling", "twice", {"times": 2}, "scaled twice", "keras#11591"))
    yield from _mixed_scalings(pinned.values)
    for row in _VALUES:
        yield _variant("values", row)
    for row in _MODEL:
        yield _variant("model", row)


_OWN_WAYS: Final = ("_antialias", "_truncated")


def _variant(stage: Stage, row: Row, carries: Mapping[str, Any] | None = None) -> Variant:
    knob, value, changes, what, issue = row
    return Variant(knob, value, stage, changes, what, issue, carries or {})


def _channel_order(values: Values, scaling: str) -> Mapping[str, Any]:
    """Caffe's mean comes with blue first; who forgets it forgets its order, too."""
    if scaling == "caffe":
        return {"channel_order": "bgr"}
    return {"channel_order": "rgb"} if values == named_values("caffe") else {}


def _mixed_scalings(values: Values) -> Iterator[Variant]:
    """x/255 before or behind the pinned scaling: what [0, 1] into preprocess_input is, and `rescale` with one."""
    before = {"rescale": values.rescale / 255}
    yield _variant("values", ("scaling", "unit_first", before, "scaled to 0 … 1 before its own scaling", "keras#11591"))
    after = {"rescale_after": values.rescale_after / 255}
    yield _variant("values", ("scaling", "unit_last", after, "divided by 255 after its own scaling", "keras PR#7248"))


def _sides_swapped(pinned: Preprocessing) -> Variant:
    """(width, height) where (height, width) is meant; Pillow and OpenCV name them in the other order than NumPy."""
    width, height = pinned.geometry.width, pinned.geometry.height
    swapped = {"layout": "width_first"} | ({} if width == height else {"width": height, "height": width})
    row = ("sides", "swapped", swapped, "with rows and columns exchanged", "")
    return _variant("values" if width == height else "geometry", row)


# Every value in every channel, and no two channels alike: two scalings that agree here agree everywhere.
_RAMP: Final = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) ^ 0x55], axis=-1).astype(np.uint8)
_GRID: Final = _RAMP.reshape(8, 32, 3)


def _effect(preprocessing: Preprocessing) -> tuple[object, ...]:
    """Equal for two that make the same tensor of every image."""
    geometry = preprocessing.geometry.model_dump()
    if geometry["fit"] != "pad":
        geometry.pop("pad_value")
        if geometry["fit"] == "squash" and geometry["zoom"] == 1:
            geometry.pop("box_rounding")
    # Off the grid of what is rounded, so that x × (1/255) and x ÷ 255 fall on one side of it
    tensor = np.round(to_tensor(_GRID, preprocessing.values).astype(np.float64) + 1.7e-5, 4)
    return (preprocessing.decode, tuple(geometry.items()), tensor.tobytes())
