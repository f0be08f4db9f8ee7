"""What a lens and an exposure do to detail: four kinds of blur.

Beyond the border the image is mirrored or repeated: no blur brings in black.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.fft
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tasks.corruptions.pixels import Pixels, rounded, scale_of

# A pixel of a kernel is sampled at so many points a side: a radius under one pixel is a weaker blur, not none.
_SUBSAMPLES: Final = 16
# Copies in a zoom blur: 2 to the power of this.
_ZOOM_DOUBLINGS: Final = 4
_WEIGHT_SUM: Final = 256


def gaussian_blur(pixels: Pixels, _: Generator, deviation: float) -> Pixels:
    """Gaussian blur of that standard deviation: a soft or greasy lens. Three box blurs, as Pillow approximates it."""
    blur = ImageFilter.GaussianBlur(deviation * scale_of(pixels))
    return np.array(Image.fromarray(pixels).filter(blur))


def defocus_blur(pixels: Pixels, _: Generator, radius: float) -> Pixels:
    """Every point becomes a disc of that radius: focus set to another distance."""
    disc = _disc(radius * scale_of(pixels))
    reach = disc.shape[0] // 2
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    size = [scipy.fft.next_fast_len(side, real=True) for side in padded.shape[:2]]
    planes = np.ascontiguousarray(padded.transpose(2, 0, 1), np.float32)
    spectrum = scipy.fft.rfft2(planes, size) * scipy.fft.rfft2(disc, size)
    height, width = pixels.shape[:2]
    blurred = scipy.fft.irfft2(spectrum, size)[:, 2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]
    return np.ascontiguousarray(rounded(blurred).transpose(1, 2, 0))


def motion_blur(pixels: Pixels, rng: Generator, radius: float, deviation: float) -> Pixels:
    """Points leave a trail of 2 · radius that fades with half a normal law of that deviation: the belt moved, or shook.

    The direction is drawn, at most 45° from the horizontal.
    """
    angle = rng.uniform(-np.pi / 4, np.pi / 4)
    scale = scale_of(pixels)
    steps = np.arange(max(1, round(2 * radius * scale)) + 1)
    law = np.exp(-0.5 * (steps / (deviation * scale)) ** 2)
    # Whole weights whose sum is exact: the same sum on every machine, and a white image stays white.
    weights = np.diff(np.rint(np.cumsum(law) / law.sum() * _WEIGHT_SUM), prepend=0).astype(np.uint16)
    down, right = (np.rint(steps * part).astype(int) for part in (np.sin(angle), np.cos(angle)))
    top, bottom = max(0, -down.min()), max(0, down.max())
    padded = np.pad(pixels, ((top, bottom), (0, right.max()), (0, 0)), mode="symmetric")
    height, width = pixels.shape[:2]
    total = np.full(pixels.shape, _WEIGHT_SUM // 2, np.uint16)
    weighted = np.empty_like(total)
    for y, x, weight in zip(down + top, right, weights, strict=True):
        if weight:
            np.multiply(padded[y : y + height, x : x + width], weight, out=weighted)
            total += weighted
    total >>= 8
    return total.astype(np.uint8)


def zoom_blur(pixels: Pixels, _: Generator, largest: float) -> Pixels:
    """The mean of sixteen enlargements about the centre, from none to the largest: the part came nearer.

    The factors are a geometric row, so that four means make the sixteen: of the image and itself enlarged by z, then of
    that and itself enlarged by z², z⁴, z⁸.
    """
    height, width = pixels.shape[:2]
    step = largest ** (1 / (2**_ZOOM_DOUBLINGS - 1))
    blurred = pixels
    for doubling in range(_ZOOM_DOUBLINGS):
        factor = step ** (2**doubling)
        left, top = width * (1 - 1 / factor) / 2, height * (1 - 1 / factor) / 2
        box = (left, top, width - left, height - top)
        nearer = Image.fromarray(blurred).resize((width, height), Image.Resampling.BILINEAR, box=box)
        # Rounded down and up in turn: always the same way would darken or brighten.
        total = blurred.astype(np.uint16) + np.asarray(nearer) + np.uint16(doubling % 2)
        blurred = (total >> 1).astype(np.uint8)
    return blurred


def _disc(radius: float) -> NDArray[np.float32]:
    """(2r + 1, 2r + 1): the share of each pixel that the disc covers; the sum is 1."""
    reach = int(np.ceil(radius - 0.5))
    side = (2 * reach + 1) * _SUBSAMPLES
    axis = (np.arange(side) + 0.5) / _SUBSAMPLES - (reach + 0.5)
    inside = axis[:, None] ** 2 + axis[None, :] ** 2 <= radius**2
    cover = inside.reshape(2 * reach + 1, _SUBSAMPLES, 2 * reach + 1, _SUBSAMPLES).mean(axis=(1, 3))
    return np.asarray(cover / cover.sum(), np.float32)
