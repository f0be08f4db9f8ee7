"""Fog: a bright veil of uneven thickness, as steam, dust or a misted window lay it over the picture."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from tasks.corruptions.pixels import Pixels, rounded

# ImageNet-C draws its clouds at this size; a larger image gets the same clouds, enlarged.
_LARGEST_MAP: Final = 256


def fog(pixels: Pixels, rng: Generator, amount: float, roughness: float) -> Pixels:
    """`amount` times clouds of 0 … 1 are added (white is 1), then the exposure adapts: the brightest stays in range.

    Each finer octave of the clouds is weaker by `roughness` squared.
    """
    height, width = pixels.shape[:2]
    clouds = _clouds(height, width, roughness, rng)
    brightest = float(pixels.max()) / 255
    dimmed = brightest / (brightest + amount)
    return rounded(pixels * np.float32(dimmed) + (clouds * np.float32(255 * amount * dimmed))[..., None])


def _clouds(height: int, width: int, roughness: float, rng: Generator) -> NDArray[np.float32]:
    """(H, W), 0 … 1, by midpoint displacement (Fournier, Fussell & Carpenter, CACM 25(6), 1982)."""
    octaves = min(_LARGEST_MAP.bit_length() - 1, (max(height, width) - 1).bit_length())
    clouds = np.zeros((2, 2), np.float32)
    for octave in range(octaves):
        clouds = _midpoints(clouds)
        clouds += rng.uniform(-1, 1, clouds.shape).astype(np.float32) * np.float32(roughness ** (-2 * octave))
    clouds = clouds[:-1, :-1] if octaves else clouds
    side = clouds.shape[0]
    share = min(1.0, side / max(height, width))
    fitted = Image.fromarray(clouds).resize(
        (width, height), Image.Resampling.BILINEAR, box=(0, 0, width * share, height * share)
    )
    sky = np.asarray(fitted)
    thinnest, thickest = sky.min(), sky.max()
    return np.asarray((sky - thinnest) / max(thickest - thinnest, np.float32(1e-6)), np.float32)


def _midpoints(coarse: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n + 1, n + 1) → (2n + 1, 2n + 1): a value halfway between every two."""
    side = 2 * coarse.shape[0] - 1
    fine = np.empty((side, side), np.float32)
    fine[::2, ::2] = coarse
    fine[1::2, ::2] = (coarse[:-1] + coarse[1:]) / 2
    fine[:, 1::2] = (fine[:, :-1:2] + fine[:, 2::2]) / 2
    return fine
