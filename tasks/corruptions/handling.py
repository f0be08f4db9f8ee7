"""What happens to a picture on its way: fewer pixels, harder compression, a camera that hangs askew."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.random import Generator
from PIL import Image

from tasks.corruptions.pixels import Pixels, scale_of

_LARGEST_BORDER: Final = 256


def pixelate(pixels: Pixels, _: Generator, share: float) -> Pixels:
    """Reduced to that share of its width and height by averaging, and enlarged again: a camera of fewer pixels.

    A block is 1 / share pixels on an image of 224; what it has beyond one pixel is a length, and scaled.
    """
    height, width = pixels.shape[:2]
    block = 1 + (1 / share - 1) * scale_of(pixels)
    few = (max(1, round(width / block)), max(1, round(height / block)))
    reduced = Image.fromarray(pixels).resize(few, Image.Resampling.BOX)
    return np.array(reduced.resize((width, height), Image.Resampling.NEAREST))


def jpeg_compression(pixels: Pixels, _: Generator, quality: float) -> Pixels:
    """Through a JPEG of that quality, colour at half the resolution. Its blocks are of 8 pixels on every image."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(quality), subsampling="4:2:0")
    with Image.open(buffer) as decoded:
        return np.array(decoded)


def rotation(pixels: Pixels, rng: Generator, degrees: float) -> Pixels:
    """Turned about its centre, one way or the other by chance; the corners are filled with the mirrored image."""
    height, width = pixels.shape[:2]
    angle = np.deg2rad(degrees * rng.choice((-1, 1)))
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    beside = _border(width, width * cosine + height * abs(sine))
    above = _border(height, height * cosine + width * abs(sine))
    padded = np.pad(pixels, ((above, above), (beside, beside), (0, 0)), mode="symmetric")
    x, y = width / 2, height / 2
    inverse = (
        cosine, sine, x + beside - cosine * x - sine * y,
        -sine, cosine, y + above + sine * x - cosine * y,
    )  # fmt: skip
    turned = Image.fromarray(padded).transform(
        (width, height), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR
    )
    return np.array(turned)


def _border(side: int, turned: float) -> int:
    """Pixels to mirror beside a side of which the turned frame sees `turned`.

    Bounded, or a line of 1 × 60,000 pixels would need gigabytes; what lies beyond is black.
    """
    needed = max(0, int(np.ceil((turned - side) / 2))) + 1
    return min(max(side, _LARGEST_BORDER), needed)
