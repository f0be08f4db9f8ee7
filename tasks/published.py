"""The preparations that people train with, as candidates for a model that comes without one.

A candidate is a geometry with its decoder (how a file becomes an image of the model's size) and a scaling with an order
of channels (what numbers it becomes). The geometries are those of the five presets and of what tutorials do with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tasks.knobs import Preprocessing, Values
from tasks.presets import APPLICATION_MODES, named_values, preset

SCALINGS: Final = ("tf", "unit", "identity", "torch", "caffe")
ORDERS: Final = ("rgb", "bgr")
# Resize(256) and CenterCrop(224), and the same for other sizes: the largest centred part, made 256 / 224 closer.
_CLOSER: Final = 256 / 224
# What libraries do where nobody asks for another thing.
_DEFAULTS: Final[tuple[Mapping[str, Any], ...]] = (
    {"name": "load_img", "interpolation": "bilinear"},
    {"name": "load_img"},
    {"name": "image_dataset_from_directory"},
    {"name": "opencv"},
    {"name": "load_img", "interpolation": "bicubic"},
)
_GEOMETRIES: Final[tuple[Mapping[str, Any], ...]] = (
    *_DEFAULTS,
    {"name": "teachable_machine"},
    {"name": "load_img", "interpolation": "bilinear", "fit": "crop"},
    {"name": "image_dataset_from_directory", "fit": "crop"},
    {"name": "load_img", "interpolation": "bilinear", "fit": "pad"},
    {"name": "tf_image_resize", "fit": "pad"},
    {"name": "load_img", "interpolation": "bilinear", "fit": "crop", "zoom": _CLOSER},
    {"name": "load_img", "fit": "crop"},
    {"name": "load_img", "interpolation": "lanczos"},
    {"name": "tf_image_resize", "antialias": True},
    {"name": "tf_image_resize", "interpolation": "nearest"},
    {"name": "opencv", "interpolation": "area"},
)
_IN_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "identity": "no scaling (0 to 255)",
        "unit": "scaling to [0, 1]",
        "tf": "scaling to [−1, 1]",
        "torch": "scaling to [0, 1], then by ImageNet's mean and spread",
        "caffe": "ImageNet's mean subtracted",
    }
)


def scaled(scaling: str, order: str | None = None) -> Values:
    """Values of a scaling: identity, unit (x / 255), tf (x / 127.5 − 1), torch, caffe; in its own order of channels or
    in `order`. WrongUse: no such scaling.
    """
    own = named_values("identity", rescale=1 / 255) if scaling == "unit" else named_values(scaling)
    return own if order is None else Values.model_validate({**dict(own), "channel_order": order})


def scaling_of(values: Values) -> str:
    """The scaling's word, whatever the order of channels; `own` for one that has none."""
    for scaling in SCALINGS:
        if scaled(scaling, values.channel_order) == values:
            return scaling
    # x · (1/255) and x / 255 are one scaling, and one float operation apart.
    divided = named_values("identity", divide_by=255.0, channel_order=values.channel_order)
    return "unit" if values == divided else "own"


def scaling_in_words(scaling: str) -> str:
    """For a sentence."""
    return _IN_WORDS.get(scaling, f"the scaling {scaling}")


def in_words(preparation: Preprocessing) -> str:
    """A name that says what differs between candidates; other knobs are in a digest of eight letters."""
    parts = knob_families(preparation)
    antialias = "" if parts.pop("antialias") == "yes" else " without antialias"
    geometry = f"{preparation.geometry.resizer} {parts['interpolation']}{antialias}, {parts['fit']}"
    return f"{parts['scaling']} {parts['channel_order']}, {parts['decoder']}, {geometry} ({preparation.digest[:8]})"


def published_values(origin: str | None) -> str | None:
    """The scaling that the makers of a model publish; None where its origin says nothing."""
    if origin is None:
        return None
    return "tf" if origin == "teachable machine" else APPLICATION_MODES.get(origin)


def geometries(size: tuple[int, int], origin: str | None = None) -> tuple[Preprocessing, ...]:
    """Every published geometry and decoder for a model of `size` (height, width), values left at 0 … 255; that of the
    model's origin comes first, and then the most common.
    """
    stated = [preset(size=size, values="identity", **knobs) for knobs in _GEOMETRIES]
    if origin == "teachable machine":
        own = preset("teachable_machine", size=size, values="identity")
        stated = [own, *(one for one in stated if one != own)]
    return tuple(dict.fromkeys(stated))


def commonness(preparation: Preprocessing, origin: str | None = None) -> float:
    """How many people train with a geometry and decoder, against the most common ones; whatever the values. A guess: 1
    for the defaults of libraries and what the model's origin publishes, a third for what else is published, a tenth
    for the rest.
    """
    height, width, _ = preparation.input_shape
    published = [(one.decode, one.geometry) for one in geometries((height, width), origin)]
    usual = len(_DEFAULTS) + (origin == "teachable machine")
    ours = preparation.decode, preparation.geometry
    return 1.0 if ours in published[:usual] else 1 / 3 if ours in published else 0.1


def knob_families(preparation: Preprocessing) -> dict[str, str]:
    """What a person would ask about a preparation: scaling, channel_order, fit, interpolation, antialias, decoder."""
    geometry, values = preparation.geometry, preparation.values
    closer = f" {geometry.zoom:.3g} times closer" if geometry.zoom != 1 else ""
    return {
        "scaling": scaling_of(values),
        "channel_order": values.channel_order,
        "fit": geometry.fit + closer,
        "interpolation": geometry.interpolation,
        "antialias": "yes" if geometry.antialias else "no",
        "decoder": preparation.decode.decoder,
    }
