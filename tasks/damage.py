"""What damage leaves in the pixels that a model sees: grain where a photo is smooth, soft edges, missing parts.

Measured at the model's own size, after geometry: one scale for every camera, and what the resize loses hurts nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]  # (h, w)

BLOCK: Final = 8
_FLAT: Final = 3.0  # levels of 255: what a JPEG leaves of one single colour
_LIVELY: Final = 0.3  # levels that differ even on white paper, photographed
_SMOOTH: Final = 0.2
_STRONGEST: Final = 0.995


def measure_damage(resized: NDArray[Any]) -> Mapping[str, float]:
    """`grain`, `edge_strength`, `missing_share` of (h, w, 3), 0 … 255."""
    pixels = np.asarray(resized, np.float32)
    luma = np.asarray(pixels @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)
    return {"grain": grain(luma), "edge_strength": edge_strength(luma), "missing_share": missing_share(pixels)}


def grain(luma: Plane) -> float:
    """Noise in grey levels where the picture is smoothest: the 20 % quantile over blocks of the deviation of the finest
    diagonal detail, which edges and texture hardly reach (after Donoho and Johnstone, Biometrika 81, 1994).
    """
    if min(luma.shape) < 2:
        return 0.0
    fine = (luma[:-1:2, :-1:2] - luma[1::2, :-1:2] - luma[:-1:2, 1::2] + luma[1::2, 1::2]) / 2
    return float(np.quantile(_blocks(np.square(fine), BLOCK // 2), _SMOOTH) ** 0.5)


def edge_strength(luma: Plane) -> float:
    """The strongest steps (99.5 % quantile) between neighbours over the contrast, along rows or columns, whichever
    is weaker: a lens out of focus softens both, a movement the one that it goes along.
    """
    if min(luma.shape) < 2:
        return 0.0
    strongest = min(float(np.quantile(np.abs(np.diff(luma, axis=axis)), _STRONGEST)) for axis in (0, 1))
    return strongest / (float(luma.std()) + 1)


def missing_share(pixels: NDArray[np.float32]) -> float:
    """Share of the frame, 0 … 1, that is one single colour from one of its sides inwards, as far as the rest is not.

    Where the data of a file ends, a decoder fills the rest: rows below, or columns where the image was turned. A
    drawing has flat sides as well, and is flat elsewhere, too.
    """
    return max(_missing_below(np.rot90(pixels, turns)) for turns in range(4))


def _missing_below(pixels: NDArray[np.float32]) -> float:
    colour = np.median(pixels[-1], axis=0)
    off = np.abs(pixels - colour).max(axis=(1, 2)) > _FLAT
    flat = int(np.argmax(off[::-1])) if off.any() else len(off)
    rest = pixels[: len(pixels) - flat].mean(axis=2)
    if min(rest.shape) < BLOCK:
        return flat / len(off)
    mean = _blocks(rest, BLOCK)
    spread = np.sqrt(np.maximum(_blocks(np.square(rest), BLOCK) - np.square(mean), 0))
    lively = float((spread > _LIVELY).mean())
    return flat / len(off) * max(0.0, 2 * lively - 1)


def _blocks(plane: NDArray[np.floating[Any]], side: int) -> NDArray[np.floating[Any]]:
    """Means of whole blocks."""
    side = min(side, *plane.shape)
    height, width = (length // side * side for length in plane.shape)
    return np.asarray(plane[:height, :width].reshape(height // side, side, width // side, side).mean(axis=(1, 3)))
