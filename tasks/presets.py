"""Complete preparations that reproduce, bit for bit, what people train with.

load_img                        keras.utils.load_img(…) + img_to_array
image_data_generator            ImageDataGenerator(rescale=…).flow_from_directory
image_dataset_from_directory    keras.utils.image_dataset_from_directory (format "tf")
opencv                          cv2.imread(…)[..., ::-1] + cv2.resize(…)
tf_image_resize                 tf.io.decode_image + tf.image.resize(…, antialias=…)
teachable_machine               ImageOps.fit(…, LANCZOS), x / 127.5 − 1: the code that exported models come with
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from darkroom.errors import WrongUse
from tasks.knobs import FORMATS, OPENCV_FORMATS, TENSORFLOW_FORMATS, Decode, Preprocessing, Values

_PILLOW_DECODE: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "decoder": "pillow",
        "dct_method": "accurate",
        "exif_orientation": "ignored",
        "alpha": "dropped",
        "palette": "colour",
        "sixteen_bit": "saturate",
        "float_pixels": "clipped",
        "cmyk": "as_decoder",
        "icc": "ignored",
        "grey": "no",
        "frame": "first",
        "truncated": "refused",
        "jpeg_ratio": 1,
        "thumbnail": 0,
        "reencoded": 0,
        "formats": FORMATS,
    }
)
_TENSORFLOW_DECODE: Final[Mapping[str, Any]] = {
    **_PILLOW_DECODE,
    "decoder": "tensorflow",
    "dct_method": "fast",
    "sixteen_bit": "high_byte",
    "float_pixels": "refused",
    "formats": TENSORFLOW_FORMATS,
}
_OPENCV_DECODE: Final[Mapping[str, Any]] = {
    **_PILLOW_DECODE,
    "decoder": "opencv",
    "exif_orientation": "applied",
    "sixteen_bit": "high_byte",
    "float_pixels": "refused",
    "formats": OPENCV_FORMATS,
}
_DECODE: Final = {"pillow": _PILLOW_DECODE, "tensorflow": _TENSORFLOW_DECODE, "opencv": _OPENCV_DECODE}
_IDENTITY: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "layout": "channels_last",
        "channel_order": "rgb",
        "rescale": 1.0,
        "divide_by": 1.0,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "rescale_after": 1.0,
        "times": 1,
    }
)
_SCALINGS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "identity": {},
        "tf": {"divide_by": 127.5, "mean": (1.0, 1.0, 1.0)},
        "torch": {"divide_by": 255.0, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        "caffe": {"channel_order": "bgr", "mean": (103.939, 116.779, 123.68)},
    }
)
# Which mode of `preprocess_input` the modules of keras.applications use (keras-applications#64); `identity` where the
# model scales itself and preprocess_input does nothing (keras#16081, #14950).
APPLICATION_MODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "convnext": "identity",
        "densenet": "torch",
        "efficientnet": "identity",
        "efficientnet_v2": "identity",
        "imagenet_utils": "caffe",
        "inception_resnet_v2": "tf",
        "inception_v3": "tf",
        "mobilenet": "tf",
        "mobilenet_v2": "tf",
        "mobilenet_v3": "identity",
        "nasnet": "tf",
        "resnet": "caffe",
        "resnet50": "caffe",
        "resnet_v2": "tf",
        "vgg16": "caffe",
        "vgg19": "caffe",
        "xception": "tf",
    }
)

PRESETS: Final = (
    "load_img",
    "image_data_generator",
    "image_dataset_from_directory",
    "tf_image_resize",
    "opencv",
    "teachable_machine",
)
_TENSORFLOW_PRESETS: Final = ("image_dataset_from_directory", "tf_image_resize")
_INTERPOLATION: Final = {  # the library's own default
    "load_img": "nearest",
    "image_data_generator": "nearest",
    "image_dataset_from_directory": "bilinear",
    "tf_image_resize": "bilinear",
    "opencv": "bilinear",
    "teachable_machine": "lanczos",
}


def preset(
    name: str,
    *,
    size: tuple[int, int],
    interpolation: str | None = None,
    fit: str | None = None,
    values: Values | str | None = None,
    **knobs: Any,
) -> Preprocessing:
    """The preparation `name` for a model of `size` (height, width), with any other knob set otherwise.

    interpolation and fit are the library's default where None. values: `Values`, a scaling (identity, tf, torch,
    caffe), or a module of keras.applications; identity where None (teachable_machine: tf).
    WrongUse: an unknown name, knob or value.
    """
    if name not in PRESETS:
        raise WrongUse(f"there is no preset {name!r}", expected=", ".join(PRESETS), found=name)
    library = "tensorflow" if name in _TENSORFLOW_PRESETS else "opencv" if name == "opencv" else "pillow"
    interpolation = interpolation or _INTERPOLATION[name]
    if values is None:
        values = "tf" if name == "teachable_machine" else "identity"
    if name == "teachable_machine":
        fit, box_rounding = fit or "crop", "exact"
    else:
        fit, box_rounding = fit or "squash", "float32" if library == "tensorflow" else "floor"
    stated = {
        "schema_version": 1,
        "decode": dict(_DECODE[library]),
        "geometry": {
            "width": size[1],
            "height": size[0],
            "fit": fit,
            "box_rounding": "floor" if box_rounding == "exact" and fit == "pad" else box_rounding,
            "zoom": 1.0,
            "resizer": library,
            "interpolation": interpolation,
            "antialias": library == "pillow" and interpolation != "nearest",
            "sampling_grid": "corner" if library == "opencv" and interpolation == "nearest" else "half_pixel",
            "rounding": "none" if library == "tensorflow" else "round",
            "pad_value": 0,
        },
        "values": dict(named_values(values) if isinstance(values, str) else values),
    }
    groups = [group for group in stated.values() if isinstance(group, dict)]
    for knob, value in knobs.items():
        group = next((group for group in groups if knob in group), None)
        if group is None:
            known = sorted(name for group in groups for name in group)
            raise WrongUse(f"there is no knob {knob!r}", expected=", ".join(known), found=knob)
        group[knob] = value
    return Preprocessing.parse(stated, source=None)


def pillow_decode(**knobs: Any) -> Decode:
    """Decode knobs as Keras' load_img has them, some set otherwise."""
    return Decode.model_validate({**_PILLOW_DECODE, **knobs})


def named_values(name: str, **knobs: Any) -> Values:
    """Values of a scaling (identity, tf, torch, caffe) or of a module of keras.applications, changed by knobs."""
    mode = APPLICATION_MODES.get(name, name)
    if mode not in _SCALINGS:
        known = sorted({*_SCALINGS, *APPLICATION_MODES})
        raise WrongUse(f"there are no values named {name!r}", expected=", ".join(known), found=name)
    return Values.model_validate({**_IDENTITY, **_SCALINGS[mode], **knobs})


def application_values(name: str) -> Values:
    """What keras.applications.<name>.preprocess_input does to an array of 0 … 255. WrongUse: no such module."""
    if name not in APPLICATION_MODES:
        known = ", ".join(APPLICATION_MODES)
        raise WrongUse(f"keras.applications has no module {name!r} that darkroom knows", expected=known, found=name)
    return named_values(name)


def generator_values(
    *,
    rescale: float | None = None,
    application: str | None = None,
    featurewise_mean: tuple[float, float, float] | None = None,
    featurewise_std: tuple[float, float, float] | None = None,
) -> Values:
    """What ImageDataGenerator.standardize does: preprocessing_function first, then rescale, then featurewise.

    The featurewise numbers are those the generator was fitted to; without them at serving every prediction is off
    (keras#3679, #6121). WrongUse: an application together with featurewise numbers (fold them into one yourself).
    """
    if application is not None and (featurewise_mean or featurewise_std):
        raise WrongUse("a preprocessing_function and featurewise numbers cannot both be pinned")
    if application is not None:
        return named_values(application, rescale_after=rescale or 1.0)
    # Keras divides by std + 1e-6, added in float32.
    spread = tuple(float(np.float32(value) + np.float32(1e-6)) for value in featurewise_std or ())
    return named_values(
        "identity",
        rescale=rescale or 1.0,
        mean=featurewise_mean or (0.0, 0.0, 0.0),
        std=spread or (1.0, 1.0, 1.0),
    )
