"""A variant, and how one or two of them change a pinned preparation.

A variant *sets* some knobs, and *carries* others that those usually come with: a decoder its way with 16 bits, a
scaling its order of channels. What is carried gives way to what another variant sets, and what then cannot be (Pillow
without antialias) to what the library does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final, Literal

from darkroom.errors import WrongUse
from tasks.knobs import (
    OPENCV_FORMATS,
    OPENCV_INTERPOLATIONS,
    PILLOW_INTERPOLATIONS,
    TENSORFLOW_FORMATS,
    TENSORFLOW_INTERPOLATIONS,
    Preprocessing,
)

Stage = Literal["decode", "geometry", "values", "model"]
_INTERPOLATIONS: Final = {
    "pillow": PILLOW_INTERPOLATIONS,
    "tensorflow": TENSORFLOW_INTERPOLATIONS,
    "opencv": OPENCV_INTERPOLATIONS,
}


@dataclass(frozen=True)
class Variant:
    """A plausible mistake. `changes`: the knobs that it sets (none at stage model); `carries`: those that come along
    where nobody sets them; `what`: what went wrong, for a sentence; `issue`: where somebody met it, or empty.
    """

    knob: str
    value: str
    stage: Stage
    changes: Mapping[str, Any] = field(hash=False)
    what: str
    issue: str
    carries: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """`knob=value`."""
        return f"{self.knob}={self.value}"


def applied(pinned: Preprocessing, variants: Sequence[Variant]) -> Preprocessing | None:
    """The pinned preparation with these mistakes in it; those of the model change nothing here.

    None: they cannot be combined. Two of one knob, two that set one knob otherwise, two of the model, what a decoder or
    a resizer cannot do, or a mistake that does nothing beside the others.
    """
    names = [variant.knob for variant in variants]
    if len(set(names)) != len(names) or sum(variant.stage == "model" for variant in variants) > 1:
        return None
    prepared = [variant for variant in variants if variant.stage != "model"]
    if any(_contradict(one, other) for one, other in combinations(prepared, 2)):
        return None
    made = _made(pinned, prepared)
    if made is None or len(prepared) < 2:
        return made
    without = (_made(pinned, [other for other in prepared if other is not one]) for one in prepared)
    return None if made in without else made


def _contradict(one: Variant, other: Variant) -> bool:
    return any(knob in other.changes and other.changes[knob] != value for knob, value in one.changes.items())


def _made(pinned: Preprocessing, variants: Sequence[Variant]) -> Preprocessing | None:
    set_ = {knob: value for variant in variants for knob, value in variant.changes.items()}
    carried = {knob: value for variant in variants for knob, value in variant.carries.items() if knob not in set_}
    knobs = {**pinned.knobs(), **carried, **set_}
    _as_the_decoder_does(knobs)
    as_pinned = pinned.geometry.resizer == "opencv" and pinned.geometry.interpolation == "nearest"
    _as_the_resizer_does(knobs, grid_is_set="sampling_grid" in {**carried, **set_} or as_pinned)
    if any(knobs[knob] != value for knob, value in set_.items()):
        return None
    try:
        return pinned.with_knobs(**knobs)
    except WrongUse:
        return None


def _as_the_decoder_does(knobs: dict[str, Any]) -> None:
    """What TensorFlow and OpenCV cannot do otherwise; what Pillow's one inverse DCT is."""
    if knobs["decoder"] != "tensorflow":
        knobs["dct_method"] = "accurate"
    if knobs["decoder"] == "pillow":
        return
    readable = TENSORFLOW_FORMATS if knobs["decoder"] == "tensorflow" else OPENCV_FORMATS
    knobs.update(
        alpha="dropped",
        palette="colour",
        sixteen_bit="high_byte",
        float_pixels="refused",
        cmyk="as_decoder",
        icc="ignored",
        truncated="refused",
        formats=tuple(name for name in knobs["formats"] if name in readable),
    )


def _as_the_resizer_does(knobs: dict[str, Any], *, grid_is_set: bool) -> None:
    """What the resizer, the filter and the fit leave no choice about."""
    resizer, nearest = knobs["resizer"], knobs["interpolation"] == "nearest"
    if knobs["interpolation"] not in _INTERPOLATIONS[resizer]:
        return  # an error, which with_knobs tells
    if resizer == "pillow":
        knobs.update(antialias=not nearest, sampling_grid="half_pixel", rounding="round")
    elif resizer == "opencv":
        knobs["antialias"] = False
        if knobs["rounding"] == "truncate":
            knobs["rounding"] = "round"
        if not nearest:
            knobs["sampling_grid"] = "half_pixel"
        elif not grid_is_set:
            knobs["sampling_grid"] = "corner"
    elif knobs["antialias"] or knobs["interpolation"] not in ("nearest", "bilinear", "bicubic"):
        knobs["sampling_grid"] = "half_pixel"
    if knobs["fit"] == "pad" and knobs["box_rounding"] == "exact":
        knobs["box_rounding"] = "round"
    elif knobs["fit"] != "pad" and knobs["box_rounding"] == "round":
        knobs["box_rounding"] = "exact"
    if resizer != "pillow" and knobs["box_rounding"] == "exact":
        knobs["box_rounding"] = "float32" if resizer == "tensorflow" else "floor"
