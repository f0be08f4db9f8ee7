"""How long a length of ImageNet-C is on an image of another size."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (H, W, 3), RGB, contiguous

# ImageNet-C states radii for images of this side.
REFERENCE_SIDE: Final = 224
# On an image that is only a few pixels high every radius would be nothing.
_SMALLEST_SIDE: Final = 16


def scale_of(pixels: Pixels) -> float:
    """Pixels here for one pixel of ImageNet-C: the shorter side / 224, of at least 16 pixels.

    So a 64-pixel tensor and the 640 × 480 photo that it was made from lose about the same detail.
    """
    return max(_SMALLEST_SIDE, min(pixels.shape[:2])) / REFERENCE_SIDE
