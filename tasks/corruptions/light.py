"""What lamp, exposure and colour processing do: brightness, darkness, contrast, white balance, colourfulness.

Light is taken as value to the power 2.2: a factor on light is a factor on values, too.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from tasks.corruptions.pixels import Pixels, rounded

_GAMMA: Final = 2.2
_VALUES: Final = np.arange(256, dtype=np.float64)
_LUMA: Final = (0.299, 0.587, 0.114)  # ITU-R BT.601


def brightness(pixels: Pixels, _: Generator, more: float) -> Pixels:
    """HSV's value raised by that share of full scale: overexposed. Hue and saturation stay where nothing clips."""
    value = np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2]).astype(np.float32)
    raised = np.minimum(value + np.float32(255 * more), 255)
    factor = raised / np.maximum(value, 1)
    brighter = pixels * factor[..., None]
    black = value == 0  # no hue to keep
    brighter[black] = raised[black][:, None]
    return rounded(brighter)


def darkness(pixels: Pixels, _: Generator, stops: float) -> Pixels:
    """The light halved so many times: a dimmed lamp, before a camera that does not adapt."""
    return _mapped(pixels, [_VALUES * 2 ** (-stops / _GAMMA)] * 3)


def contrast(pixels: Pixels, _: Generator, factor: float) -> Pixels:
    """The distance of each channel from its mean times the factor: stray light, haze on a window."""
    means = pixels.reshape(-1, 3).mean(axis=0)
    return _mapped(pixels, [mean + (_VALUES - mean) * factor for mean in means])


def colour_cast(pixels: Pixels, rng: Generator, stops: float) -> Pixels:
    """So many stops between the gains of red and blue: white balance for another lamp, warm or cold by chance."""
    gain = 2 ** (rng.choice((-1, 1)) * stops / 2 / _GAMMA)
    return _mapped(pixels, [_VALUES * gain, _VALUES, _VALUES / gain])


def colourfulness(pixels: Pixels, _: Generator, factor: float) -> Pixels:
    """The distance of each value from the pixel's luminance times the factor: 0 is grey, 1 as it was."""
    luminance = _LUMA[0] * pixels[..., 0] + _LUMA[1] * pixels[..., 1] + _LUMA[2] * pixels[..., 2]
    grey = luminance.astype(np.float32)[..., None]
    return rounded(grey + (pixels - grey) * np.float32(factor))


def _mapped(pixels: Pixels, curves: list[NDArray[np.float64]]) -> Pixels:
    """Each channel through its curve of 256 values."""
    table = rounded(np.concatenate(curves))
    return np.array(Image.fromarray(pixels).point(table.tolist()))
