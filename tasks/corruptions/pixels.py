"""Pixels: their type, how long a length of ImageNet-C is on them, and how values become pixels again."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (H, W, 3), RGB, contiguous

# ImageNet-C states radii for images of this side.
REFERENCE_SIDE: Final = 224
# The JPEG of jpeg_compression can be no larger.
LARGEST_SIDE: Final = 65_500
# On an image that is only a few pixels high every radius would be nothing.
_SMALLEST_SIDE: Final = 16


def scale_of(pixels: Pixels) -> float:
    """Pixels here for one pixel of ImageNet-C: the shorter side / 224, of at least 16 pixels.

    So a 64-pixel tensor and the 640 × 480 photo that it was made from lose about the same detail.
    """
    side: int = min(pixels.shape[:2])
    return max(_SMALLEST_SIDE, side) / REFERENCE_SIDE


def rounded(values: NDArray[Any]) -> Pixels:
    """Values of any range → uint8, clipped to 0 … 255."""
    whole: Pixels = np.rint(values).clip(0, 255).astype(np.uint8)
    return whole
