"""Slight changes: what the next photo of the same thing might differ by; a steady answer does not mind them.

Applied at the model's own size, after geometry, as the ladder is: one stage for training photos and for a single image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]  # (h, w, 3), RGB

_CROP: Final = 0.06  # of each side
_SHIFT: Final = 0.04
_STOPS: Final = 0.2


@dataclass(frozen=True)
class SlightChange:
    """`what` ends the sentence "the image …"."""

    name: str
    what: str
    change: Callable[[Pixels], Pixels]


def _cropped(left: float, top: float, right: float, bottom: float) -> Callable[[Pixels], Pixels]:
    """Shares of width and height that are cut off each side; what is left fills the frame again."""

    def crop(pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, box=box))

    return crop


def _shifted(down: float, right: float) -> Callable[[Pixels], Pixels]:
    """Shares of height and width; the border is repeated."""

    def shift(pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        rows = np.clip(np.arange(height) - round(down * height), 0, height - 1)
        columns = np.clip(np.arange(width) - round(right * width), 0, width - 1)
        return np.asarray(pixels[rows][:, columns])

    return shift


def _exposed(stops: float) -> Callable[[Pixels], Pixels]:
    def expose(pixels: Pixels) -> Pixels:
        return np.asarray(np.clip(np.rint(pixels * np.float32(2**stops)), 0, 255), np.uint8)

    return expose


CHANGES: Final[tuple[SlightChange, ...]] = (
    SlightChange("crop", "cropped by 3 % all round", _cropped(*[_CROP / 2] * 4)),
    SlightChange("crop_top_left", "cropped by 6 % at the bottom and right", _cropped(0, 0, _CROP, _CROP)),
    SlightChange("crop_top_right", "cropped by 6 % at the bottom and left", _cropped(_CROP, 0, 0, _CROP)),
    SlightChange("crop_bottom_left", "cropped by 6 % at the top and right", _cropped(0, _CROP, _CROP, 0)),
    SlightChange("crop_bottom_right", "cropped by 6 % at the top and left", _cropped(_CROP, _CROP, 0, 0)),
    SlightChange("shift_left", "shifted by 4 % to the left", _shifted(0, -_SHIFT)),
    SlightChange("shift_right", "shifted by 4 % to the right", _shifted(0, _SHIFT)),
    SlightChange("shift_up", "shifted by 4 % upwards", _shifted(-_SHIFT, 0)),
    SlightChange("shift_down", "shifted by 4 % downwards", _shifted(_SHIFT, 0)),
    SlightChange("brighter", "brighter by a fifth of a stop", _exposed(_STOPS)),
    SlightChange("darker", "darker by a fifth of a stop", _exposed(-_STOPS)),
)


def slightly_changed(resized: NDArray[Any], changes: Sequence[SlightChange] = CHANGES) -> Pixels:
    """(h, w, 3), 0 … 255 → (changes, h, w, 3) uint8; values between whole numbers are rounded first."""
    pixels = np.ascontiguousarray(np.clip(np.rint(resized), 0, 255), np.uint8)
    return np.stack([one.change(pixels) for one in changes])
