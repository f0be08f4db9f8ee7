"""OpenCV as decoder and resizer: what cv2.imread and cv2.resize do, as RGB.

Imported only where the knobs name it. One thread: an image is small, and processes × threads ≤ cores.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.reasons import Reason
from tasks.knobs import Decode
from tasks.refusal import ImageRefused

_FLAGS: Final = {
    "nearest": "INTER_NEAREST",
    "bilinear": "INTER_LINEAR",
    "bicubic": "INTER_CUBIC",
    "area": "INTER_AREA",
    "lanczos4": "INTER_LANCZOS4",
}


@lru_cache
def opencv() -> Any:
    """The module cv2 with one thread, and without the lines that it logs on broken files."""
    import cv2

    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def decoded(data: bytes, name: str, knobs: Decode) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, RGB, as cv2.imread gives it: alpha dropped, the high byte of 16 bits, the first frame, and EXIF
    orientation applied unless the knobs ignore it. `name`: the format. ImageRefused: OpenCV gives no pixels.
    """
    cv2 = opencv()
    grey = knobs.grey == "decoder"
    flags = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    if name == "JPEG" and knobs.jpeg_ratio > 1:  # of other formats OpenCV would make a resized copy
        flags = getattr(cv2, f"IMREAD_REDUCED_{'GRAYSCALE' if grey else 'COLOR'}_{knobs.jpeg_ratio}")
    if knobs.exif_orientation != "applied":
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as problem:
        raise ImageRefused(Reason.BROKEN_DATA, str(problem)) from problem
    if image is None:  # truncated, broken and unknown are one to it
        raise ImageRefused(Reason.BROKEN_DATA, "OpenCV gives no pixels for it")
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=-1)
    return np.ascontiguousarray(image[..., ::-1])


def resized(part: NDArray[Any], size: tuple[int, int], interpolation: str, *, half_pixel: bool) -> NDArray[Any]:
    """`part` (H, W, 3) uint8 or float32 → (height, width, 3) of its type; `size` is (width, height), as in OpenCV.

    INTER_NEAREST takes the pixel at the corner, INTER_NEAREST_EXACT the one at the centre.
    """
    cv2 = opencv()
    flag = "INTER_NEAREST_EXACT" if interpolation == "nearest" and half_pixel else _FLAGS[interpolation]
    return np.asarray(cv2.resize(np.ascontiguousarray(part), size, interpolation=getattr(cv2, flag)))
