"""The last stage of preparation: 0 … 255 → the numbers the model was trained on, in float32 from the first step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.knobs import Values


def to_tensor(resized: NDArray[Any], values: Values) -> NDArray[np.float32]:
    """`resized` (h, w, 3) or (N, h, w, 3), uint8 or float32, 0 … 255 → float32 of the same shape; never in place.

    Every step is one IEEE float32 operation a number, so an image gives the same bits alone and in a batch.
    `preprocess_input` changes a float array in place (keras#11591); this copies first. layout=width_first exchanges
    the sides: (h, w, 3) → (w, h, 3).
    """
    x = np.array(_laid_out(resized, values), dtype=np.float32, order="C")
    for _ in range(values.times):
        if values.channel_order == "bgr":
            x = np.ascontiguousarray(x[..., ::-1])
        if values.rescale != 1:
            x *= np.float32(values.rescale)
        if values.divide_by != 1:
            x /= np.float32(values.divide_by)
        if any(values.mean):
            x -= np.asarray(values.mean, dtype=np.float32)
        if values.spread is not None:
            x /= np.asarray(values.spread, dtype=np.float32)
        if values.rescale_after != 1:
            x *= np.float32(values.rescale_after)
    return x


def _laid_out(resized: NDArray[Any], values: Values) -> NDArray[Any]:
    if values.layout == "channels_last":
        return resized
    if values.layout == "width_first":
        return resized.swapaxes(-3, -2)
    return np.ascontiguousarray(np.moveaxis(resized, -1, -3)).reshape(resized.shape)
