"""The second stage of preparation: (H, W, 3) pixels → the model's size, cropped, padded or squashed as pinned.

One of the two rooms that may resize (the other is tasks.decode). TensorFlow and OpenCV are imported only where they are
the resizer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.knobs import Geometry


class _Box(NamedTuple):
    """The part of the image that is used, in its pixels; whole numbers except for box_rounding=exact."""

    left: float
    top: float
    width: float
    height: float


class _Place(NamedTuple):
    """Where in the target the resized part lies."""

    left: int
    top: int
    width: int
    height: int


def to_resized(pixels: NDArray[np.uint8] | Image.Image, geometry: Geometry) -> NDArray[Any]:
    """(H, W, 3) uint8, or an image of mode RGB → (height, width, 3), 0 … 255: uint8, or float32 where unrounded."""
    width, height = pixels.size if isinstance(pixels, Image.Image) else pixels.shape[1::-1]
    box = _zoomed(_crop(width, height, geometry), geometry)
    place = _place(box, geometry)
    resize = {"pillow": _pillow, "tensorflow": _tensorflow, "opencv": _opencv}[geometry.resizer]
    resized = _rounded(resize(pixels, box, place, geometry), geometry)
    if (place.width, place.height) == (geometry.width, geometry.height):
        return resized
    canvas = np.full((geometry.height, geometry.width, 3), geometry.pad_value, dtype=resized.dtype)
    canvas[place.top : place.top + place.height, place.left : place.left + place.width] = resized
    return canvas


def _crop(width: int, height: int, geometry: Geometry) -> _Box:
    """The whole image, or its largest centred part with the target's proportions."""
    if geometry.fit != "crop":
        return _Box(0, 0, width, height)
    to_width, to_height = geometry.width, geometry.height
    if geometry.box_rounding == "exact":  # as PIL.ImageOps.fit
        ratio = to_width / to_height
        if width / height == ratio:
            return _Box(0, 0, width, height)
        wide = width / height >= ratio
        part_width, part_height = (ratio * height, float(height)) if wide else (float(width), width / ratio)
        return _Box((width - part_width) * 0.5, (height - part_height) * 0.5, part_width, part_height)
    if geometry.box_rounding == "float32":  # as keras smart_resize on the TensorFlow backend
        fit_height = int(np.float32(width * to_height) / np.float32(to_width))
        fit_width = int(np.float32(height * to_width) / np.float32(to_height))
    else:  # as keras.utils.load_img(keep_aspect_ratio=True)
        fit_height = width * to_height // to_width
        fit_width = height * to_width // to_height
    # A line of 1 × 100,000 pixels would leave nothing: keras.utils.load_img fails there, smart_resize keeps one pixel.
    part_height = max(1, min(height, fit_height))
    part_width = max(1, min(width, fit_width))
    return _Box((width - part_width) // 2, (height - part_height) // 2, part_width, part_height)


def _zoomed(box: _Box, geometry: Geometry) -> _Box:
    if geometry.zoom == 1:
        return box
    width, height = box.width / geometry.zoom, box.height / geometry.zoom
    if geometry.box_rounding == "exact":
        return _Box(box.left + (box.width - width) / 2, box.top + (box.height - height) / 2, width, height)
    width, height = max(1, int(width)), max(1, int(height))
    return _Box(box.left + (box.width - width) // 2, box.top + (box.height - height) // 2, width, height)


def _place(box: _Box, geometry: Geometry) -> _Place:
    """The whole target, or where an image that keeps its proportions lies in it."""
    to_width, to_height = geometry.width, geometry.height
    if geometry.fit != "pad":
        return _Place(0, 0, to_width, to_height)
    width, height = int(box.width), int(box.height)
    if geometry.box_rounding == "float32":
        return _place_float32(width, height, to_width, to_height)
    if geometry.box_rounding == "round":  # as PIL.ImageOps.contain and pad
        if width / height > to_width / to_height:
            inner_width, inner_height = to_width, max(1, round(height / width * to_width))
        elif width / height < to_width / to_height:
            inner_width, inner_height = max(1, round(width / height * to_height)), to_height
        else:
            inner_width, inner_height = to_width, to_height
        left, top = round((to_width - inner_width) * 0.5), round((to_height - inner_height) * 0.5)
        return _Place(left, top, inner_width, inner_height)
    if width * to_height > height * to_width:
        inner_width, inner_height = to_width, max(1, height * to_width // width)
    else:
        inner_width, inner_height = max(1, width * to_height // height), to_height
    return _Place((to_width - inner_width) // 2, (to_height - inner_height) // 2, inner_width, inner_height)


def _place_float32(width: int, height: int, to_width: int, to_height: int) -> _Place:
    """As tf.image.resize_with_pad: the offset comes from the unrounded size, every step in float32."""
    real_width, real_height = np.float32(width), np.float32(height)
    real_to_width, real_to_height = np.float32(to_width), np.float32(to_height)
    ratio = max(real_width / real_to_width, real_height / real_to_height)
    inner_width, inner_height = real_width / ratio, real_height / ratio
    left = max(0, int(np.floor((real_to_width - inner_width) / np.float32(2))))
    top = max(0, int(np.floor((real_to_height - inner_height) / np.float32(2))))
    # resize_with_pad fails where a side becomes 0; one pixel is what the photo of a line deserves.
    return _Place(left, top, max(1, int(np.floor(inner_width))), max(1, int(np.floor(inner_height))))


def _pillow(pixels: NDArray[np.uint8] | Image.Image, box: _Box, place: _Place, geometry: Geometry) -> NDArray[Any]:
    """Antialiased (except nearest), rounded to uint8."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    resample = Image.Resampling[geometry.interpolation.upper()]
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    return np.asarray(image.resize((place.width, place.height), resample, box=corners))


def _tensorflow(pixels: NDArray[np.uint8] | Image.Image, box: _Box, place: _Place, geometry: Geometry) -> NDArray[Any]:
    """float32 as tf.image.resize gives it (nearest: uint8); the same kernels eagerly, in tf.data and in a batch."""
    import tensorflow as tf

    part = _part(pixels, box)
    size = (place.height, place.width)
    with tf.device("/CPU:0"):  # the GPU's kernels round differently
        if geometry.sampling_grid == "half_pixel":
            resized = tf.image.resize(part, size, method=geometry.interpolation, antialias=geometry.antialias)
            return _lent(resized)
        kernel = {
            "nearest": tf.raw_ops.ResizeNearestNeighbor,
            "bilinear": tf.raw_ops.ResizeBilinear,
            "bicubic": tf.raw_ops.ResizeBicubic,
        }[geometry.interpolation]
        aligned = geometry.sampling_grid == "align_corners"
        resized = kernel(images=part[None], size=size, align_corners=aligned, half_pixel_centers=False)
    return np.asarray(_lent(resized)[0])


def _lent(tensor: Any) -> NDArray[Any]:
    """Where TensorFlow has it, read-only: its own `numpy()` copies."""
    return np.asarray(memoryview(tensor))


def _opencv(pixels: NDArray[np.uint8] | Image.Image, box: _Box, place: _Place, geometry: Geometry) -> NDArray[Any]:
    """As cv2.resize; float32 where the image became so before it."""
    from tasks import opencv

    part: NDArray[Any] = _part(pixels, box)
    if geometry.rounding == "none":
        part = part.astype(np.float32)
    half_pixel = geometry.sampling_grid == "half_pixel"
    return opencv.resized(part, (place.width, place.height), geometry.interpolation, half_pixel=half_pixel)


def _part(pixels: NDArray[np.uint8] | Image.Image, box: _Box) -> NDArray[np.uint8]:
    left, top = int(box.left), int(box.top)
    return np.ascontiguousarray(np.asarray(pixels)[top : top + int(box.height), left : left + int(box.width)])


def _rounded(resized: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    if geometry.rounding == "none" or resized.dtype == np.uint8:
        return resized
    whole = np.rint(resized) if geometry.rounding == "round" else np.trunc(resized)
    return np.asarray(whole.clip(0, 255), dtype=np.uint8)
