"""What a sensor adds by chance: electronics, photons, dead and hot pixels, uneven gain.

The grain is one pixel, and on images of more than 224 pixels a side it grows with them: a grain of one pixel would be
averaged away when the image is reduced to a model's input. The amplitude is not a length and does not change.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import pdtr

from tasks.corruptions.pixels import Pixels, rounded, scale_of

# The law of shot noise is tabulated at so many quantiles.
_QUANTILE_BITS: Final = 12


def gaussian_noise(pixels: Pixels, rng: Generator, deviation: float) -> Pixels:
    """Normal noise of that standard deviation (share of full scale), whatever the light: the sensor's electronics."""
    noise = _grown(rng.standard_normal(_grains(pixels), dtype=np.float32), pixels)
    return rounded(pixels + noise * np.float32(255 * deviation))


def speckle_noise(pixels: Pixels, rng: Generator, deviation: float) -> Pixels:
    """Normal noise in proportion to the value: gain that differs from pixel to pixel, coherent light."""
    noise = _grown(rng.standard_normal(_grains(pixels), dtype=np.float32), pixels)
    return rounded(pixels * (1 + noise * np.float32(deviation)))


def shot_noise(pixels: Pixels, rng: Generator, photons: float) -> Pixels:
    """Poisson noise where white is so many photons: a short exposure, or high gain."""
    chance = _grown(rng.integers(0, 1 << _QUANTILE_BITS, _grains(pixels), dtype=np.uint16), pixels)
    position = pixels.astype(np.int32)
    position <<= _QUANTILE_BITS
    position |= chance
    return np.asarray(_shot_table(photons).take(position))


def impulse_noise(pixels: Pixels, rng: Generator, share: float) -> Pixels:
    """That share of the values is black or white: dead and hot pixels, a bad cable."""
    chance = _grown(rng.random(_grains(pixels), dtype=np.float32), pixels)
    noisy = pixels.copy()
    noisy[chance < share / 2] = 0
    noisy[chance >= 1 - share / 2] = 255
    return noisy


def _grains(pixels: Pixels) -> tuple[int, int, int]:
    """How many grains cover the image: as many as pixels, or fewer where a grain is larger than a pixel."""
    height, width = pixels.shape[:2]
    grain = max(1.0, scale_of(pixels))
    return int(np.ceil(height / grain)), int(np.ceil(width / grain)), 3


def _grown(noise: NDArray[Any], pixels: Pixels) -> NDArray[Any]:
    """Grains → (H, W, 3): every pixel takes the grain that it lies in."""
    height, width = pixels.shape[:2]
    grain = max(1.0, scale_of(pixels))
    if grain == 1:
        return noise
    rows, columns = (np.arange(side) / grain for side in (height, width))
    return noise.take(rows.astype(np.intp), axis=0).take(columns.astype(np.intp), axis=1)


@cache
def _shot_table(photons: float) -> Pixels:
    """(256 · 4096,): for every value and every quantile of its Poisson law, the value that the sensor reports."""
    quantiles = (np.arange(1 << _QUANTILE_BITS) + 0.5) / (1 << _QUANTILE_BITS)
    counts = np.arange(int(photons + 8 * np.sqrt(photons) + 10))
    table = np.empty((256, quantiles.size), np.uint8)
    for value in range(256):
        law = pdtr(counts, value / 255 * photons)
        table[value] = rounded(np.searchsorted(law, quantiles) * (255 / photons))
    table.setflags(write=False)  # shared by all callers
    return table.ravel()
