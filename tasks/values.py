"""The last stage of preparation: 0 … 255 → the numbers the model was trained on, in float32 from the first step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.knobs import Values


def to_tensor(resized: NDArray[Any], values: Values, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """`resized` (h, w, 3) or (N, h, w, 3), uint8 or float32, 0 … 255 → float32 of the same shape; never in place.

    Every step is one IEEE float32 operation a number, so an image gives the same bits alone and in a batch.
    `preprocess_input` changes a float array in place (keras#11591); this copies first. layout=width_first exchanges
    the sides: (h, w, 3) → (w, h, 3). `out`, contiguous and of the result's shape, is filled and returned.
    """
    laid_out = _laid_out(resized, values)
    x = np.empty(laid_out.shape, np.float32) if out is None else out
    np.copyto(x, laid_out)
    for _ in range(values.times):
        if values.channel_order == "bgr":
            x[...] = x[..., ::-1].copy()
        if values.rescale != 1:
            x *= np.float32(values.rescale)
        if values.divide_by != 1:
            x /= np.float32(values.divide_by)
        if any(values.mean):
            x -= _a_channel(values.mean)
        if values.spread is not None:
            x /= _a_channel(values.spread)
        if values.rescale_after != 1:
            x *= np.float32(values.rescale_after)
    return x


def _a_channel(numbers: Sequence[float]) -> NDArray[np.float32] | np.float32:
    """One for each channel; where they are the same, one for all, which is several times as fast."""
    each = np.asarray(numbers, dtype=np.float32)
    return each if len(set(numbers)) > 1 else np.float32(numbers[0])


def _laid_out(resized: NDArray[Any], values: Values) -> NDArray[Any]:
    if values.layout == "channels_last":
        return resized
    if values.layout == "width_first":
        return resized.swapaxes(-3, -2)
    return np.ascontiguousarray(np.moveaxis(resized, -1, -3)).reshape(resized.shape)
